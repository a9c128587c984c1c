// Stands in for the real header when the golden cases are compiled: every macro uses its arguments, so that a
// captured name that does not exist at that place is an error.
#pragma once

template <typename... T> inline void llama_otel_use(const T &...) {}

#define LLAMA_OTEL_SPAN(...)   llama_otel_use(__VA_ARGS__)
#define LLAMA_OTEL_USE(...)    llama_otel_use(__VA_ARGS__)
#define LLAMA_OTEL_STATUS(...) llama_otel_use(__VA_ARGS__)
