// The loops that `cargo xtask bench macros` measures, where no backend is registered: a test counts their instructions.
// `loops span|attributes|metric N`

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" {
void llama_otel_bench_allocated() {}
void llama_otel_bench_start();
void llama_otel_bench_span(uint64_t n);
void llama_otel_bench_attributes(uint64_t n);
void llama_otel_bench_metric(uint64_t n);
}

int main(int argc, char ** argv) {
    const std::string name = argc > 2 ? argv[1] : "";
    const auto        loop = name == "span" ? llama_otel_bench_span : name == "attributes" ? llama_otel_bench_attributes : name == "metric" ? llama_otel_bench_metric : nullptr;
    if (!loop) {
        fprintf(stderr, "usage: loops span|attributes|metric N\n");
        return 2;
    }
    llama_otel_bench_start(); // finds nobody
    loop(strtoull(argv[2], nullptr, 10));
    printf("{}\n");
    return 0;
}
