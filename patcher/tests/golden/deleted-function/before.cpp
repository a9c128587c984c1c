struct context {
    context() = default;
    context(const context &) = delete;
    int decode(int n) = delete;
    int decode(long n) { return (int) n; }
};
int decode(double n) = delete;
