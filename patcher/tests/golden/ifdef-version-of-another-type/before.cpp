#ifdef WIDE
int decode(long n) {
    return int(n);
}
#else
int decode(int n) {
    return n;
}
#endif
