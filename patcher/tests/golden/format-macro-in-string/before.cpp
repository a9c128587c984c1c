#include <cinttypes>
#include <cstdio>
static int report(int64_t n) {
    std::printf("%s: %" PRId64 " tokens\n", __func__, n);
    return 0;
}
