struct context;
struct batch { int n; };
int decode(
        struct context * ctx,
          struct batch   batch_inp) {
    return ctx ? batch_inp.n : 0;
}
