struct backend { int id; };
struct registry {
    backend * last = nullptr;

    void register_backend(backend * reg) {
        if (!reg) {
            return;
        }
        last = reg;
    }
};
