#ifdef FAST
int decode(int n) {
    if (n < 0) {
        LLAMA_OTEL_SPAN("f");
        return -1;
    }
    LLAMA_OTEL_SPAN("f");
    return n;
}
#else
int decode(int n) {
    if (n < 0) {
        LLAMA_OTEL_SPAN("f");
        return -2;
    }
    LLAMA_OTEL_SPAN("f");
    return n + 1;
}
#endif
