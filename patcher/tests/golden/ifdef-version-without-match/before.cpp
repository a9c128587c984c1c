#ifdef FAST
int decode(int n) {
    return n;
}
#else
int decode(int n) {
    return (n + 1);
}
#endif
