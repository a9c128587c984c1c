#pragma once

// W3C Trace Context and W3C Baggage: strict parsers of the three headers.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct llama_otel_traceparent {
    uint64_t trace_id_hi;
    uint64_t trace_id_lo;
    uint64_t span_id;
    bool     sampled;
};

// https://www.w3.org/TR/trace-context/#traceparent-header; false: not a valid one. A version above 00 may have more behind
// its flags, separated by "-", which is ignored.
bool llama_otel_parse_traceparent(std::string_view text, llama_otel_traceparent & out) noexcept;

// https://www.w3.org/TR/trace-context/#tracestate-header; on success `out` holds the members, cut at a whole one to
// `max_bytes`. Empty is valid. May throw std::bad_alloc.
bool llama_otel_parse_tracestate(std::string_view text, size_t max_bytes, std::string & out);

// https://www.w3.org/TR/baggage/: keys and percent-decoded values, properties left out. false: malformed, or more than 64
// entries or 8,192 bytes. May throw std::bad_alloc.
bool llama_otel_parse_baggage(std::string_view text, std::vector<std::pair<std::string, std::string>> & out);
