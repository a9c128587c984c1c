#ifdef WIDE
int decode(long n) {
#else
int decode(int n) {
#endif
    return (int) n;
}
