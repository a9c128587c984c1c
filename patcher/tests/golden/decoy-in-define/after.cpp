#define DECODE \
    int decode(int n) { \
        return n; \
    }
int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    return n;
}
