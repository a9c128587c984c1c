#define FAST
#ifdef FAST
int decode(int n) {
    return n;
}
#endif
