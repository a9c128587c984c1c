#if 0 // the old one, don't use it
int decode(int n) {
    if (n) {
        return 1;
    }
#else
int decode(int n) {
    LLAMA_OTEL_STATUS(n);
    return n;
}
#endif
