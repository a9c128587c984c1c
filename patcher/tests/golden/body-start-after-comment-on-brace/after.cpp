static int decode(int n) { // { not a brace
    LLAMA_OTEL_SPAN("f");
    // first a comment
    return n;
}
