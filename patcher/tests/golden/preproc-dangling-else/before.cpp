int load(int n) {
    if (n > 1) {
        n += 1;
    }
#ifdef METAL
    else {
        n += 2;
    }
#endif
    return n;
}
