// What is measured: each macro in a loop of its own, as it stands in llama.cpp. Called from src/hot/work.rs.

#include "otel.h"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__GNUC__)
#    define NOINLINE __attribute__((noinline))
#else
#    define NOINLINE
#endif

// the loop stays, and nothing moves across an iteration
#define KEEP(value) asm volatile("" : : "r"(value) : "memory")

#define LOOP(name, ...)                                            \
    extern "C" NOINLINE void llama_otel_bench_##name(uint64_t n) { \
        for (uint64_t i = 0; i < n; i++) {                         \
            KEEP(i);                                               \
            __VA_ARGS__;                                           \
        }                                                          \
    }

LOOP(empty, (void) 0)
LOOP(clock, KEEP(std::chrono::steady_clock::now().time_since_epoch().count()))
LOOP(span, LLAMA_OTEL_SPAN("llama_decode"))
LOOP(span_below_detail, LLAMA_OTEL_SPAN_AT(OP, "llama_ubatch"))
LOOP(span_with_attributes, LLAMA_OTEL_SPAN("llama_decode");
     LLAMA_OTEL_ADD_ATTRIBUTES("llama.batch.n_tokens", i, "llama.kv_cache.utilization", 0.5, "llama.graph.reused", true, "llama.decode.phase", "decode"))
LOOP(attributes, LLAMA_OTEL_ADD_ATTRIBUTES("llama.batch.n_tokens", i, "llama.kv_cache.utilization", 0.5, "llama.graph.reused", true, "llama.decode.phase", "decode"))
LOOP(metric, LLAMA_OTEL_INCREMENT_TOKENS(1))
LOOP(metric_with_attribute, LLAMA_OTEL_METRIC(LLAMA_TOKEN_COUNT, 1, "llama.decode.phase", "decode"))

// below a parent of whose trace nothing is recorded
extern "C" void llama_otel_bench_span_not_sampled(uint64_t n) {
    llama_otel_set_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", nullptr, nullptr);
    llama_otel_bench_span(n);
    llama_otel_set_traceparent(nullptr, nullptr, nullptr);
}

extern "C" void llama_otel_bench_start() { LLAMA_OTEL_START(); }

// allocations of the C++ side are counted together with Rust's

extern "C" void llama_otel_bench_allocated();

void * operator new(size_t size) {
    llama_otel_bench_allocated();
    if (void * memory = malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}

void * operator new[](size_t size) { return operator new(size); }

void operator delete(void * memory) noexcept { free(memory); }
void operator delete[](void * memory) noexcept { free(memory); }
void operator delete(void * memory, size_t) noexcept { free(memory); }
void operator delete[](void * memory, size_t) noexcept { free(memory); }
