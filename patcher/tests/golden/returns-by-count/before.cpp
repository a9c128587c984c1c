int decode(int n) {
    if (n == 0) {
        return -1;
    }
    if (n < 0) { // bad
        return -2;
    }
    return 0;
}
