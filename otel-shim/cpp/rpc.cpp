// The trace across ggml's RPC: what a client puts behind a graph, and what a server takes from there (otel-rpc.h).

#include "propagation.h"

#include <cstdio>

namespace {

constexpr char   MAGIC[]     = "LLOTELTP"; // with its zero, which the traceparent overwrites
constexpr size_t N_MAGIC     = sizeof(MAGIC) - 1;
constexpr size_t TRACEPARENT = 55;

static_assert(N_MAGIC + TRACEPARENT + 1 == LLAMA_OTEL_RPC_TRAILER, "a trailer is all of it");

// the innermost span that has a place in a trace and is certain to be exported; null if there is none
const llama_otel_span_record * carried() noexcept {
    constexpr uint32_t WANTED = LLAMA_OTEL_PROPAGATOR_TRACECONTEXT | LLAMA_OTEL_PROPAGATOR_RPC;
    // below, a batch is exported only if it turns out to be slow or to fail
    if (llama_otel_ctl.detail.load(std::memory_order_relaxed) < LLAMA_OTEL_DETAIL_DECODE || (llama_otel_ctl.propagators.load(std::memory_order_relaxed) & WANTED) != WANTED) {
        return nullptr;
    }
    const llama_otel_span * span = llama_otel_open_span();
    while (span && !span->traced_record()) {
        span = span->enclosing();
    }
    return span && (span->traced_record()->flags & LLAMA_OTEL_FLAG_EXPORT) ? span->traced_record() : nullptr;
}

} // namespace

bool llama_otel_rpc_carries() noexcept { return carried() != nullptr; }

bool llama_otel_rpc_trailer(uint8_t * out) noexcept {
    const llama_otel_span_record * span = carried();
    if (!span) {
        return false;
    }
    memcpy(out, MAGIC, N_MAGIC);
    snprintf(reinterpret_cast<char *>(out) + N_MAGIC, TRACEPARENT + 1, "00-%016llx%016llx-%016llx-01",
        (unsigned long long) span->trace_id_hi, (unsigned long long) span->trace_id_lo, (unsigned long long) span->span_id);
    return true;
}

const char * llama_otel_rpc_traceparent(const uint8_t * trailer, size_t size) noexcept {
    const bool is_ours = size == LLAMA_OTEL_RPC_TRAILER && memcmp(trailer, MAGIC, N_MAGIC) == 0 && trailer[size - 1] == 0;
    return is_ours ? reinterpret_cast<const char *>(trailer) + N_MAGIC : nullptr;
}

void * llama_otel_rpc_enter(const char * traceparent) noexcept {
    uint32_t result = LLAMA_OTEL_OK;
    return llama_otel_swap_parent(llama_otel_make_parent(traceparent, nullptr, nullptr, true, &result));
}

void llama_otel_rpc_leave(void * before) noexcept { llama_otel_free_parent(llama_otel_swap_parent(before)); }
