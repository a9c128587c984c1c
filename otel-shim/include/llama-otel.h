#pragma once

// The interface for programs: C99 and C++, nothing but fixed-width integers. What is inserted into llama.cpp is otel.h.
//
// All functions may be called from any thread, at any time, also before llama_backend_init and after llama_backend_free;
// none throws, and none aborts. Only llama_otel_flush and llama_otel_shutdown wait, at most for the time that they are given.
// A string is copied; NULL and "" mean the same.

#include <stdbool.h>
#include <stdint.h>

#if defined(LLAMA_OTEL_SHARED) && defined(_WIN32)
#    ifdef LLAMA_OTEL_BUILD
#        define LLAMA_OTEL_API __declspec(dllexport)
#    else
#        define LLAMA_OTEL_API __declspec(dllimport)
#    endif
#elif defined(LLAMA_OTEL_SHARED)
#    define LLAMA_OTEL_API __attribute__((visibility("default")))
#else
#    define LLAMA_OTEL_API
#endif

#ifdef __cplusplus
#    define LLAMA_OTEL_ENUM_U32 : uint32_t
#    define LLAMA_OTEL_NOEXCEPT noexcept
extern "C" {
#else
#    define LLAMA_OTEL_ENUM_U32
#    define LLAMA_OTEL_NOEXCEPT
#endif

struct llama_context;

// how much is recorded; a span or metric names the least level at which it exists
enum llama_otel_detail LLAMA_OTEL_ENUM_U32 {
    LLAMA_OTEL_DETAIL_OFF     = 0,
    LLAMA_OTEL_DETAIL_METRICS = 1,
    LLAMA_OTEL_DETAIL_REQUEST = 2,
    LLAMA_OTEL_DETAIL_DECODE  = 3,
    LLAMA_OTEL_DETAIL_OP      = 4,
};

enum llama_otel_result LLAMA_OTEL_ENUM_U32 {
    LLAMA_OTEL_OK                  = 0,
    LLAMA_OTEL_INVALID_TRACEPARENT = 1, // nothing is set, and what was set before is cleared: no request joins another one's trace
    LLAMA_OTEL_INVALID_TRACESTATE  = 2, // the parent is set, without a trace state
    LLAMA_OTEL_INVALID_BAGGAGE     = 3, // the parent is set, without baggage
    LLAMA_OTEL_NO_ROOM             = 4, // no memory, or 4,096 contexts and sequences have a parent; nothing is set
};

// Whether telemetry runs: an OTEL_* variable or the program asked for it.
LLAMA_OTEL_API bool llama_otel_is_active(void);

// Switches the level of detail (llama_otel_detail; greater values count as OP). Spans that are open keep theirs. Without
// effect while telemetry does not run. OFF records nothing until another level is set.
LLAMA_OTEL_API void llama_otel_set_detail(uint32_t detail);
LLAMA_OTEL_API uint32_t llama_otel_get_detail(void);

// false: nothing leaves the process from now on, and no span is recorded; metrics go on being counted, so that their sums
// are right later. true: exports, and starts telemetry with the defaults of OTEL_* if it does not run (after
// llama_backend_init or a model load). Returns whether telemetry is now as it was asked for.
LLAMA_OTEL_API bool llama_otel_set_export(bool on);

// Delivers what was recorded so far; waits at most `timeout_ms` milliseconds. false: something was refused or not
// delivered in that time. true also if telemetry does not run.
LLAMA_OTEL_API bool llama_otel_flush(uint32_t timeout_ms);

// The same, then ends telemetry: no thread, no socket is left. The next llama_backend_init starts anew.
LLAMA_OTEL_API bool llama_otel_shutdown(uint32_t timeout_ms);

// What was lost since the process started, in items (spans, metrics, log records); NULL: of every signal ("traces",
// "metrics", "logs"), for every reason ("ring_full", "thread_limit",
// "queue_full", "export_failed", "shutdown").
LLAMA_OTEL_API uint64_t llama_otel_dropped(const char * signal, const char * reason);

// The calling thread's deadline, in milliseconds from now; 0: none. Every operation that this thread ends later is counted as timed
// out, and one that its abort callback stops has the error type `timeout`. Nothing is stopped by it.
LLAMA_OTEL_API void llama_otel_set_deadline(uint64_t timeout_ms) LLAMA_OTEL_NOEXCEPT;

// The parent of what llama.cpp does, by W3C Trace Context and W3C Baggage: the values of the headers `traceparent`,
// `tracestate` and `baggage` (the latter two may be NULL). A NULL traceparent takes the parent away.
//
// The most specific one counts: of the sequence (llama_generation spans, and batches of that sequence alone), of the
// context, of the calling thread. It counts for spans that are opened from now on and have no open span of llama.cpp's
// around them. Its sampled flag decides (OTEL_TRACES_SAMPLER=parentbased_…, the default). The trace state stands on every
// span below it, cut at a whole member to 256 bytes; of the baggage, on its direct children, the entries that
// LLAMA_OTEL_BAGGAGE_ATTRIBUTES names. A context's and its sequences' parents end with llama_free.
LLAMA_OTEL_API enum llama_otel_result llama_otel_set_traceparent(const char * traceparent, const char * tracestate, const char * baggage);
LLAMA_OTEL_API enum llama_otel_result llama_otel_set_context_traceparent(
    const struct llama_context * context, const char * traceparent, const char * tracestate, const char * baggage);
LLAMA_OTEL_API enum llama_otel_result llama_otel_set_sequence_traceparent(
    const struct llama_context * context, int32_t seq_id, const char * traceparent, const char * tracestate, const char * baggage);

#ifdef __cplusplus
}
#endif
