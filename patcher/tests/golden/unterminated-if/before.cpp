int encode(int n) {
    return n;
}
int decode(int n) {
#if FAST
    n += 1;
    return n;
}
