struct base { base() {} };
struct context : base {
    context() try : base() {
        init();
    } catch (...) {
    }
    void init() {}
};
