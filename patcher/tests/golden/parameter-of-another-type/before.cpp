struct batch_v2 { int n; };
struct context {
    int decode(const batch_v2 & batch);
};
int context::decode(const batch_v2 & batch) {
    return batch.n;
}
