#pragma once

// The trace across ggml's RPC: 64 bytes behind the graph that a client sends, for whoever takes them. Every server reads as much
// of a graph's message as the graph needs, so one without telemetry does not notice. Only in ggml-rpc.cpp; included by otel.h.

#include <cstdint>
#include <cstring>
#include <vector>

#define LLAMA_OTEL_RPC_TRAILER 64 // bytes: eight that name it, a W3C traceparent of 55, a zero

// Writes the innermost span of this thread, which becomes the parent; false: there is none to carry, or it is not wanted
// (LLAMA_OTEL_PROPAGATE_RPC).
LLAMA_OTEL_API bool llama_otel_rpc_trailer(uint8_t * out) noexcept;
// the traceparent in a trailer, null if it is none
LLAMA_OTEL_API const char * llama_otel_rpc_traceparent(const uint8_t * trailer, size_t size) noexcept;
// whether the next graph would carry one
LLAMA_OTEL_API bool llama_otel_rpc_carries() noexcept;
// The parent of what this thread opens from now on; null: none. What was given before comes back by the second.
LLAMA_OTEL_API void * llama_otel_rpc_enter(const char * traceparent) noexcept;
LLAMA_OTEL_API void   llama_otel_rpc_leave(void * before) noexcept;

// a graph's message, with the trailer behind it
inline void llama_otel_rpc_carry(std::vector<uint8_t> & message) {
    uint8_t trailer[LLAMA_OTEL_RPC_TRAILER];
    if (llama_otel_rpc_trailer(trailer)) {
        message.insert(message.end(), trailer, trailer + sizeof(trailer));
    }
}

// the same for one of `new uint8_t[*size]`
inline void llama_otel_rpc_carry(uint8_t *& message, size_t * size) {
    uint8_t trailer[LLAMA_OTEL_RPC_TRAILER];
    if (llama_otel_rpc_trailer(trailer)) {
        uint8_t * longer = new uint8_t[*size + sizeof(trailer)];
        memcpy(longer, message, *size);
        memcpy(longer + *size, trailer, sizeof(trailer));
        delete[] message;
        message = longer;
        *size += sizeof(trailer);
    }
}

// What a server takes from behind a graph's message: for the block, the parent of its spans.
class llama_otel_rpc_parent {
public:
    // `end`: of what the graph itself takes
    llama_otel_rpc_parent(const std::vector<uint8_t> & message, const void * end) noexcept {
        if (!llama_otel_on()) {
            return;
        }
        const uint8_t * trailer = static_cast<const uint8_t *>(end);
        const char * traceparent = llama_otel_rpc_traceparent(trailer, (size_t) (message.data() + message.size() - trailer));
        if (traceparent) {
            given  = true;
            before = llama_otel_rpc_enter(traceparent);
        }
    }
    ~llama_otel_rpc_parent() {
        if (given) {
            llama_otel_rpc_leave(before);
        }
    }
    llama_otel_rpc_parent(const llama_otel_rpc_parent &) = delete;
    llama_otel_rpc_parent & operator=(const llama_otel_rpc_parent &) = delete;

    bool is_given() const noexcept { return given; }

private:
    bool   given  = false;
    void * before = nullptr;
};
