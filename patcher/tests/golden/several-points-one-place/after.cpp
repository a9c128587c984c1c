int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    LLAMA_OTEL_USE(n);
    return n;
}
