#pragma once

// Memory by device and kind: what ggml's buffers are and were, from the two places where every buffer comes and goes.
// Included by otel.h; the ledger is in memory.cpp.

#include <cstddef>
#include <cstdint>

// What is allocated on this thread until the end of the enclosing block is of this kind (a literal); the innermost one counts.
class llama_otel_memory_kind {
public:
    LLAMA_OTEL_API explicit llama_otel_memory_kind(const char * kind) noexcept;
    LLAMA_OTEL_API ~llama_otel_memory_kind();

    llama_otel_memory_kind(const llama_otel_memory_kind &) = delete;
    llama_otel_memory_kind & operator=(const llama_otel_memory_kind &) = delete;

private:
    const char * outer;
};

// One request for a buffer, until the end of the enclosing block. A buffer type may fulfil it with a buffer of another type: the
// outermost request names the device. One that no buffer comes of has failed.
class llama_otel_allocation {
public:
    // `device` null: telemetry is off
    LLAMA_OTEL_API llama_otel_allocation(const char * device, size_t size) noexcept;
    LLAMA_OTEL_API ~llama_otel_allocation();

    llama_otel_allocation(const llama_otel_allocation &) = delete;
    llama_otel_allocation & operator=(const llama_otel_allocation &) = delete;

private:
    friend void llama_otel_buffer_allocated(const void * buffer, const char * device, size_t size) noexcept;

    const char *            device;
    size_t                  size;
    bool                    fulfilled = false;
    llama_otel_allocation * outer     = nullptr;
};

// a buffer and the name of its type, which must live only during the call
LLAMA_OTEL_API void llama_otel_buffer_allocated(const void * buffer, const char * device, size_t size) noexcept;
// does nothing for a buffer that was allocated while telemetry was off
LLAMA_OTEL_API void llama_otel_buffer_freed(const void * buffer) noexcept;

// The cells of one pool of a context's memory; `owner` is the cache that counts them. Outside of a batch, only of a cache whose
// context is known.
LLAMA_OTEL_API void llama_otel_cells(const void * owner, const char * pool, int64_t used, int64_t total, bool in_batch) noexcept;
// the context is gone, and its cells with it
LLAMA_OTEL_API void llama_otel_cells_gone(int64_t context_id) noexcept;

// what a device has and has left, as its backend says
LLAMA_OTEL_API void llama_otel_device_memory(const char * device, const char * type, size_t free, size_t total) noexcept;

// nothing is counted twice: telemetry begins anew, and what is held now is reported as if it had just been allocated
LLAMA_OTEL_API void llama_otel_memory_restarted() noexcept;
