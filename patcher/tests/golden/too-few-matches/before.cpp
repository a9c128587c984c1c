int decode(int n) {
    n += 1;
    n += 2;
    return n;
}
