#define DECODE \
    int decode(int n) { \
        return n; \
    }
int decode(int n) {
    return n;
}
