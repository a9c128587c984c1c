int decode(int n) {
#ifdef PERF
    LLAMA_OTEL_SPAN("f");
    n += 1;
#endif
    return n;
}
