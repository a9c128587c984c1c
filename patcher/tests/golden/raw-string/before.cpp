static const char * pattern = R"re(static int quantize(int n) { "} )re";
static int quantize(int n) {
    const char * s = R"(unbalanced { ")";
    return n + (s == pattern);
}
