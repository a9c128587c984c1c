struct context {
    int decode(int n) const noexcept(sizeof(int) == 4);
    ~context() noexcept;
};
int context::decode(int n) const noexcept(sizeof(int) == 4) {
    return n;
}
context::~context() noexcept {
}
extern "C" int public_decode(int n) noexcept {
    return context().decode(n);
}
