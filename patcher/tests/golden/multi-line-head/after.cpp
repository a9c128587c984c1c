struct context;
struct batch { int n; };
int decode(
        struct context * ctx,
          struct batch   batch_inp) {
    LLAMA_OTEL_SPAN(batch_inp.n);
    return ctx ? batch_inp.n : 0;
}
