static int compute(int n) { return n; }
static int decode(int n) {
    // compute(n);
    const char * s = "auto status = compute(";
    auto status = compute(n);
    return status + (s != nullptr);
}
