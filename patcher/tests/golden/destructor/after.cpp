struct context {
    ~context();
};
context::~context() {
    LLAMA_OTEL_SPAN("f");
}
