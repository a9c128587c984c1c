struct cache { int n; };
struct context { cache kv; };
static void cache_clear(struct cache & c) {
    c.n = 0;
}
void cache_clear(struct context * ctx) {
    cache_clear(ctx->kv);
}
