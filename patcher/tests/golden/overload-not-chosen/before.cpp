static int decode(int n) {
    return n;
}
static int decode(long n) {
    return 1;
}
