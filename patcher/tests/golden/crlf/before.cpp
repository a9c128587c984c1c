static int decode(int n) {
    n += 1;
    return n;
}
