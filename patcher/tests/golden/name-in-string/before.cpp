#include <cstdio>
static const char * help = "int decode(int n) {\n return 1; }";
static int decode(int n) {
    std::printf("%s: decode() { failed }\n", help);
    return n;
}
