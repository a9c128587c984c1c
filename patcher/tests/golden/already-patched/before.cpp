int decode(int n) {
    LLAMA_OTEL_SPAN("old");
    return n;
}
