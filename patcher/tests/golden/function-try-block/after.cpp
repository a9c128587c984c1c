struct base { base() {} };
struct context : base {
    context() try : base() {
        LLAMA_OTEL_SPAN("f");
        init();
    } catch (...) {
    }
    void init() {}
};
