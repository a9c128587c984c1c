static int decode(int n) {
#ifdef WITH_LOG
    n += 1;
#endif
    return n;
}
