namespace a::b {
namespace {
int decode(int n) {
    LLAMA_OTEL_SPAN("f");
    return n;
}
}
int use() {
    return decode(1);
}
}
int decode(int n) {
    return a::b::use() + n;
}
