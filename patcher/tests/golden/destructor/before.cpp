struct context {
    ~context();
};
context::~context() {
}
