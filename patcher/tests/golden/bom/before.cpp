static int decode(int n) {
    return n;
}
