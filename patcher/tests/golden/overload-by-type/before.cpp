struct batch { int n; };
struct batch_ext { int n; };
struct context {
    int decode(const batch & b);
    int decode(const batch_ext & b);
};
int context::decode(const batch & b) {
    return decode(batch_ext { b.n });
}
int context::decode(const struct batch_ext & batch_inp) {
    return batch_inp.n;
}
