static int decode(int n) {
    LLAMA_OTEL_SPAN("f");
#ifdef WITH_LOG
    n += 1;
#endif
    return n;
}
