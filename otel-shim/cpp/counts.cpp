// What is counted rather than recorded: of the batches of each context, and of each device.

#include "counts.h"
#include "context.h"

namespace {

// A backend that was stopped may still be asking when the next one begins to: each count is told to one of them.
std::atomic<bool> is_telling{ false };

// What the backend has been told; used by the one thread that asks.
struct told_counts {
    uint64_t n_tokens;
    uint64_t n_reused;
    struct {
        uint32_t sizes;
        uint32_t sequences;
    } small[LLAMA_OTEL_N_SMALL];
};

struct alignas(64) slot_counts {
    llama_otel_batch_counts of[2];
    std::atomic<bool>       is_used;
    told_counts             told[2];
};

slot_counts counts[LLAMA_OTEL_N_CONTEXTS];

// A device is found by its name, which is copied: a backend that is unloaded takes its own with it.
struct device_slot {
    std::atomic<int>     state; // FREE, then TAKEN, then READY for ever
    char                 name[64];
    std::atomic<int64_t> busy_ns;
    int64_t              told_ns;
};

enum : int { FREE, TAKEN, READY };

device_slot devices[32];

device_slot * find_device(const char * name) noexcept {
    for (device_slot & slot : devices) {
        int state = slot.state.load(std::memory_order_acquire);
        if (state == FREE && strlen(name) < sizeof(slot.name) && slot.state.compare_exchange_strong(state, TAKEN)) {
            strcpy(slot.name, name);
            slot.state.store(READY, std::memory_order_release);
            return &slot;
        }
        if (state == READY && llama_otel_is(slot.name, name)) {
            return &slot;
        }
    }
    return nullptr; // a long name, or more devices than anybody has
}

// `now - told` of what only grows, which wraps around
template <typename T> T news(const std::atomic<T> & now, T & told) noexcept {
    const T n = now.load(std::memory_order_relaxed) - told;
    told += n;
    return n;
}

void tell(const llama_otel_observer & observer, const llama_otel_batch_counts & now, told_counts & told, llama_otel_literal phase) noexcept {
    if (const uint64_t n = news(now.n_tokens, told.n_tokens)) {
        observer.measured(LLAMA_OTEL_METRIC_LLAMA_TOKEN_COUNT, (double) n, 1, "llama.decode.phase", phase);
    }
    if (const uint64_t n = news(now.n_reused, told.n_reused)) {
        observer.measured(LLAMA_OTEL_METRIC_LLAMA_GRAPH_COMPUTE_REUSES, (double) n, 1, "llama.decode.phase", phase);
    }
    for (int64_t i = 0; i < LLAMA_OTEL_N_SMALL; i++) {
        if (const uint32_t n = news(now.small[i].sizes, told.small[i].sizes)) {
            observer.measured(LLAMA_OTEL_METRIC_LLAMA_DECODE_BATCH_SIZE, (double) i, n, "llama.decode.phase", phase);
        }
        if (const uint32_t n = news(now.small[i].sequences, told.small[i].sequences)) {
            observer.measured(LLAMA_OTEL_METRIC_LLAMA_DECODE_SEQUENCES, (double) i, n, "llama.decode.phase", phase);
        }
    }
}

} // namespace

llama_otel_batch_counts * llama_otel_counts_of(size_t slot) noexcept {
    counts[slot].is_used.store(true, std::memory_order_relaxed);
    return counts[slot].of;
}

void llama_otel_count_busy(const char * device, int64_t ns) noexcept {
    if (ns <= 0) {
        return;
    }
    if (device_slot * slot = find_device(device)) {
        slot->busy_ns.fetch_add(ns, std::memory_order_relaxed); // several contexts may compute on it
    } else {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DEVICE_BUSY_TIME, (double) ns * 1e-9, "llama.device.name", device);
    }
}

void llama_otel_tell_counts(void (* tell_one)(void *, const llama_otel_metric_record *, size_t), void * to) noexcept {
    if (is_telling.exchange(true, std::memory_order_acquire)) {
        return;
    }
    const llama_otel_observer observer = { tell_one, to };
    for (slot_counts & slot : counts) {
        if (slot.is_used.load(std::memory_order_relaxed)) {
            tell(observer, slot.of[0], slot.told[0], { "prefill" });
            tell(observer, slot.of[1], slot.told[1], { "decode" });
        }
    }
    for (device_slot & slot : devices) {
        if (slot.state.load(std::memory_order_acquire) != READY) {
            continue;
        }
        if (const int64_t ns = news(slot.busy_ns, slot.told_ns)) {
            observer.measured(LLAMA_OTEL_METRIC_LLAMA_DEVICE_BUSY_TIME, (double) ns * 1e-9, 1, "llama.device.name", llama_otel_literal{ slot.name });
        }
    }
    is_telling.store(false, std::memory_order_release);
}
