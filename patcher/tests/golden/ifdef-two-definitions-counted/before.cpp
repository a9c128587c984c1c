#ifdef FAST
int decode(int n) {
    if (n < 0) {
        return -1;
    }
    return n;
}
#else
int decode(int n) {
    if (n < 0) {
        return -2;
    }
    return n + 1;
}
#endif
