struct batch { int n; };
static int decode_impl(int lctx, struct batch inp_batch) {
    LLAMA_OTEL_SPAN(inp_batch.n);
    return lctx + inp_batch.n;
}
