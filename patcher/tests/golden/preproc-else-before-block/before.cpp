int load(int n) {
#ifdef METAL
    if (n > 1) {
        n += 1;
    } else
#endif
    {
        n += 2;
    }
    return n;
}
