struct context {
    ~context();
};
context::~context() = default;
