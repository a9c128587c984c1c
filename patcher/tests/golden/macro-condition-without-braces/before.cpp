#define IF(x) if (x)
int decode(int n) {
    IF(n)
    n += 1;
    return n;
}
