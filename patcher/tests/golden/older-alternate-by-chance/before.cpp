struct batch { int n; };
struct batch_ext { int n; };
struct context { int run(const batch_ext & batch); int decode(const batch & batch); };

int context::run(const batch_ext & batch) {
    return batch.n;
}

int context::decode(const batch & b) {
    batch_ext ext { b.n };
    return run(ext);
}
