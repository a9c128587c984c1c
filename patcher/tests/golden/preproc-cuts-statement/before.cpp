int decode(int n) {
    n += 1;
#ifdef A
    if (n > 1) {
#else
    if (n > 2) {
#endif
        n += 2;
    }
    return n;
}
