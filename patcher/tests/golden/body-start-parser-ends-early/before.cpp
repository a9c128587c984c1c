bool load(int n) {
    for (int i = 0; i < n; i++) {
        if (n > 1) {
            n = 2;
        }
#ifdef GPU
        else if (n > 0) {
            n = 1;
        }
#endif
        else {
            n = 3;
        }
    }
    return n > 0;
}

int other(int n) {
    return n;
}
