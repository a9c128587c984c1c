#pragma once

// The contexts that exist, found by their address or by that of their memory.

#include "counts.h"
#include "generation.h"

#include <thread>

constexpr size_t LLAMA_OTEL_N_CONTEXTS = 256; // that have a slot

// Plain data: when the process ends, other threads may be at work with it, so nothing of it is ever destroyed by itself.
struct llama_otel_context {
    std::atomic<const void *> address; // null: the slot is free
    std::atomic<const void *> memory;  // llama_memory_t, null if the tree has none
    std::atomic<int64_t>      id;
    std::atomic<int64_t>      decode_mean_ns; // of batches without prompt tokens
    std::atomic<bool>         decoding;
    std::atomic<int64_t>      n_ctx;   // window that each sequence has, 0: not known, or the slot is free
    std::atomic<int64_t>      longest; // positions of it that the longest sequence takes
    llama_otel_batch_counts * counts;  // of the slot, by phase

    std::atomic<bool>         taken; // by whoever uses what is below: the context's thread, or the end of telemetry
    llama_otel_sequences *                sequences; // null: there was no memory for it
    llama_otel_batch_kind                 batch;     // the one that is being decoded
    int64_t                               batch_start_ns;
    int64_t                               n_tokens;
    int64_t                               n_outputs;
    int64_t                               n_queued_decode; // of the tokens that llama.cpp counts as queued, those that were generated
    bool                                  queued_prefill;  // and whether there are prompt tokens among them
    bool                                  queued;
    bool                                  queued_before;   // before the batch that is being decoded: if it fails, it is measured as failed
};

// What belongs to a slot's context is used by this thread, until the end of the enclosing block. Only the end of telemetry makes it wait.
class llama_otel_slot_use {
public:
    explicit llama_otel_slot_use(llama_otel_context & slot) noexcept : slot(slot) {
        while (slot.taken.exchange(true, std::memory_order_acquire)) {
            std::this_thread::yield();
        }
    }
    ~llama_otel_slot_use() { slot.taken.store(false, std::memory_order_release); }

    llama_otel_slot_use(const llama_otel_slot_use &) = delete;
    llama_otel_slot_use & operator=(const llama_otel_slot_use &) = delete;

private:
    llama_otel_context & slot;
};

// the context that this thread last gave a batch, null if there is none or it is gone
const void * llama_otel_current_context() noexcept;

// the counts of that batch, null if its context has no slot
llama_otel_batch_counts * llama_otel_current_counts() noexcept;

// The batch on this span has ended: `error` is null or the type of its error. Called by the span's end.
void llama_otel_batch_ended(llama_otel_context & context, llama_otel_buffer<llama_otel_span_record> & span, const char * error) noexcept;
