static const char * pattern = R"re(static int quantize(int n) { "} )re";
static int quantize(int n) {
    LLAMA_OTEL_SPAN("f");
    const char * s = R"(unbalanced { ")";
    return n + (s == pattern);
}
