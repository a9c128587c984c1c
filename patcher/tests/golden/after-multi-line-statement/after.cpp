static int make(int a, int b) { return a + b; }
static int create(int n) {
    int memory = 0;
    if (n > 1) {
        memory = make(n,
            n + 1); // both
        LLAMA_OTEL_SPAN(memory);
    }
    return memory;
}
