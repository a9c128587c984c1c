int decode(int n) {
    n += 1;
#endif
    return n;
}
