static int decode(int n) { /* runs
    on */
    return n;
}
