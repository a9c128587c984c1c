struct context {
    int decode(int n) const noexcept(sizeof(int) == 4);
    ~context() noexcept;
};
int context::decode(int n) const noexcept(sizeof(int) == 4) {
    LLAMA_OTEL_SPAN(n);
    return n;
}
context::~context() noexcept {
    LLAMA_OTEL_SPAN("free");
}
extern "C" int public_decode(int n) noexcept {
    LLAMA_OTEL_SPAN(n);
    return context().decode(n);
}
