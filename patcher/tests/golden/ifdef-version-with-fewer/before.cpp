// Two lines in all, which is what the point declares; but no program has both.
#ifdef FAST
int decode(int n) {
    if (n < 0) {
        return (-1);
    }
    return n;
}
#else
int decode(int n) {
    if (n < 0) {
        return (-2);
    }
    return n + 1;
}
#endif
