#pragma once

// What is the same with nearly every token is counted where it happens and told when the backend asks for it: records of it
// would take longer than all else that is recorded of a batch. Nothing of it is lost when a ring is full.

#include "runtime.h"

#include <atomic>

// numbers below this are counted each for itself, others are recorded
constexpr int64_t LLAMA_OTEL_N_SMALL = 16;

// The batches of one context that are in one phase. Written by the thread that has the context, read by the one that asks.
struct llama_otel_batch_counts {
    struct of_number {
        std::atomic<uint32_t> sizes;     // batches of that many tokens
        std::atomic<uint32_t> sequences; // batches that served that many
    };

    std::atomic<uint64_t> n_tokens;
    std::atomic<uint64_t> n_reused; // graphs
    of_number             small[LLAMA_OTEL_N_SMALL];
};

// Both phases of the context that has that slot: prefill, decode. They go on when another one takes it.
llama_otel_batch_counts * llama_otel_counts_of(size_t slot) noexcept;

// counts more of something that only this thread counts
template <typename T> void llama_otel_count(std::atomic<T> & counter, T n = 1) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

// the device computed for that long; `device` is copied
void llama_otel_count_busy(const char * device, int64_t ns) noexcept;
