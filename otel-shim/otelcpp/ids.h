#pragma once

// The runtime's ids as those of opentelemetry-cpp: the same bytes, the highest first.

#include "compat.h"

#include "opentelemetry/trace/span_id.h"
#include "opentelemetry/trace/trace_id.h"

#include <cstdint>

namespace llama_otel_cpp {

inline otel::trace::TraceId trace_id(uint64_t hi, uint64_t lo) {
    uint8_t bytes[otel::trace::TraceId::kSize];
    for (int i = 0; i < 8; i++) {
        bytes[i]     = (uint8_t) (hi >> (56 - 8 * i));
        bytes[8 + i] = (uint8_t) (lo >> (56 - 8 * i));
    }
    return otel::trace::TraceId(bytes);
}

inline otel::trace::SpanId span_id(uint64_t id) {
    uint8_t bytes[otel::trace::SpanId::kSize];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t) (id >> (56 - 8 * i));
    }
    return otel::trace::SpanId(bytes);
}

} // namespace llama_otel_cpp
