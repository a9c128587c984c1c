#include <cstdio>
#if FAST
#include <cstdlib>
int decode(int n) {
    return n;
}
