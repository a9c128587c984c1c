struct batch { int n; };
static int decode_impl(int lctx, struct batch inp_batch) {
    return lctx + inp_batch.n;
}
