static int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    n += 1;
    LLAMA_OTEL_STATUS(n);
    return n;
}
