struct backend { int id; };
struct registry {
    backend * last = nullptr;

    void register_backend(backend * reg) {
        LLAMA_OTEL_SPAN(reg);
        if (!reg) {
            return;
        }
        last = reg;
    }
};
