static int compute(int n) { return n; }
static int decode(int n) {
    // compute(n);
    const char * s = "auto status = compute(";
    LLAMA_OTEL_SPAN("f");
    auto status = compute(n);
    return status + (s != nullptr);
}
