#ifdef FAST
int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    return n;
}
#else
int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    return n + 1;
}
#endif
