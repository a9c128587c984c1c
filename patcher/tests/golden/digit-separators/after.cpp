static int limit(int n) {
    int big = 1'000'000;
    char quote = '\'';
    LLAMA_OTEL_SPAN("f");
    return big + n + quote;
}
