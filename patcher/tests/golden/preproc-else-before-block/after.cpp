int load(int n) {
#ifdef METAL
    if (n > 1) {
        n += 1;
    } else
#endif
    {
        LLAMA_OTEL_SPAN("f");
        n += 2;
    }
    return n;
}
