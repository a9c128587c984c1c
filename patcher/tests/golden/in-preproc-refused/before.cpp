int decode(int n) {
#ifdef PERF
    n += 1;
#endif
    return n;
}
