int decode(int n) {
    if (n)
        return 1;
    return 0;
}
