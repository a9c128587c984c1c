// café ÿþ
static const char * name = "café";
static int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    return n + (name != nullptr);
}
