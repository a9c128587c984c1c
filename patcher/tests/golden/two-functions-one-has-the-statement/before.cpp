int run(int n);

int decode(int n) {
    const int ret = run(n);
    return ret;
}

int decode(int n, int more) {
    return decode(n + more);
}
