int decode(int n) {
    auto next = [&](int k) {
        if (k > 1) {
            return 1;
        }
        return 2;
    };
    struct local {
        int get() {
            return 3;
        }
    };
    n = next(n) + local().get();
    LLAMA_OTEL_STATUS(0);
    return 0;
}
