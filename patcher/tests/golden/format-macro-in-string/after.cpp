#include <cinttypes>
#include <cstdio>
static int report(int64_t n) {
    std::printf("%s: %" PRId64 " tokens\n", __func__, n);
    LLAMA_OTEL_SPAN("f");
    return 0;
}
