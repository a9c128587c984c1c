#pragma once

// The ABI between the runtime (otel.cpp) and a telemetry backend (the Rust shim, opentelemetry-cpp, a test).
// Records are plain data: a fixed head, then `n_attrs` attributes, then (spans only) `n_links` links; the strings that they
// refer to are a second range of memory.
// Nothing here knows Rust, cxx or OpenTelemetry.

#include "llama-otel.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

#define LLAMA_OTEL_ABI_VERSION 7

enum llama_otel_type : uint32_t {
    LLAMA_OTEL_TYPE_BOOL   = 0,
    LLAMA_OTEL_TYPE_INT    = 1,
    LLAMA_OTEL_TYPE_DOUBLE = 2,
    LLAMA_OTEL_TYPE_STRING = 3,
    LLAMA_OTEL_TYPE_LITERAL = 4, // a string too, of static storage
};

enum llama_otel_flag : uint8_t {
    LLAMA_OTEL_FLAG_EXPORT        = 1, // export the span; without it only its duration metric is wanted
    LLAMA_OTEL_FLAG_ERROR         = 2,
    LLAMA_OTEL_FLAG_REMOTE_PARENT = 4,
    LLAMA_OTEL_FLAG_LOCAL_ROOT    = 8,  // no span of the runtime's is its parent
    LLAMA_OTEL_FLAG_TRACESTATE    = 16, // the last attribute is its trace state
};

// which headers of llama_otel_set_traceparent count (OTEL_PROPAGATORS), and whether ggml's RPC carries one (LLAMA_OTEL_PROPAGATE_RPC)
enum llama_otel_propagator : uint32_t {
    LLAMA_OTEL_PROPAGATOR_TRACECONTEXT = 1,
    LLAMA_OTEL_PROPAGATOR_BAGGAGE      = 2,
    LLAMA_OTEL_PROPAGATOR_RPC          = 4,
};

enum llama_otel_capture : uint32_t {
    LLAMA_OTEL_CAPTURE_MODEL_PATH = 1,
};

// a range of the bytes of a record's strings
struct llama_otel_str {
    uint32_t offset;
    uint32_t length;
};

struct llama_otel_attr {
    const char * key; // NUL-terminated, static storage
    union {
        int64_t        i;
        double         d;
        llama_otel_str s;
        const char *   literal; // NUL-terminated
    } value;
    uint32_t type; // llama_otel_type
    uint32_t reserved;
};

static_assert(sizeof(llama_otel_attr) == 24, "the Rust side reads this layout");

// another span that a span has to do with: of a generation the batches that served it, of a batch its generations
struct llama_otel_link {
    uint64_t trace_id_hi;
    uint64_t trace_id_lo;
    uint64_t span_id;
};

static_assert(sizeof(llama_otel_link) == sizeof(llama_otel_attr), "links take the room that attributes leave");

#define LLAMA_OTEL_NO_METRIC 0xffffu

// the key of a span's trace state, which is its last attribute if the span has LLAMA_OTEL_FLAG_TRACESTATE
#define LLAMA_OTEL_KEY_TRACESTATE "llama.otel.tracestate"

// the span of the program's that is current on the calling thread, as the backend knows it
struct llama_otel_host_span {
    uint64_t trace_id_hi;
    uint64_t trace_id_lo;
    uint64_t span_id; // 0: there is none
    uint8_t  sampled;
    uint8_t  remote;
    uint16_t n_tracestate;
    char     tracestate[256]; // the first n_tracestate bytes of it
};

static_assert(sizeof(llama_otel_host_span) == 288, "the Rust side writes this layout");

// an ended span
struct llama_otel_span_record {
    const char *   name; // NUL-terminated, static storage
    uint64_t       trace_id_hi;
    uint64_t       trace_id_lo;
    uint64_t       span_id;
    uint64_t       parent_span_id; // 0: a root
    int64_t        start_ns;       // of std::chrono::steady_clock
    int64_t        end_ns;
    llama_otel_str message;        // error text, empty if there is none
    uint16_t       metric;         // histogram that takes the duration (seconds), or LLAMA_OTEL_NO_METRIC
    uint16_t       n_links_dropped;
    uint8_t        n_attrs;
    uint8_t        n_attrs_dropped;
    uint8_t        n_links;
    uint8_t        flags; // llama_otel_flag
};

static_assert(sizeof(llama_otel_span_record) == 72, "the Rust side reads this layout");

// a measurement: the instrument kind (counter, histogram, gauge, …) is the registry's
struct llama_otel_metric_record {
    double   value;
    uint16_t metric; // llama_otel_metric
    uint16_t n_attrs;
    uint32_t n_times; // that it was measured, in a row: for histograms
};

static_assert(sizeof(llama_otel_metric_record) == 16, "the Rust side reads this layout");

// What heads a record among several of them: the record (with its attributes and links) and its strings follow, then the next
// head. Nothing is aligned.
struct llama_otel_entry {
    uint32_t kind;    // llama_otel_entry_kind
    uint32_t record;  // bytes
    uint32_t strings; // bytes
    uint32_t reserved;
};

enum llama_otel_entry_kind : uint32_t {
    LLAMA_OTEL_ENTRY_SPAN   = 1,
    LLAMA_OTEL_ENTRY_METRIC = 2,
    LLAMA_OTEL_ENTRY_EVENT  = 3,
};

static_assert(sizeof(llama_otel_entry) == 16, "the Rust side reads this layout");

#define LLAMA_OTEL_SEVERITY_ERROR 17 // OpenTelemetry's number

// Something that happened at one instant: an event of a span, a record of the log, or both.
struct llama_otel_event_record {
    const char *   name; // NUL-terminated, static storage
    uint64_t       trace_id_hi;
    uint64_t       trace_id_lo;
    uint64_t       span_id;  // the exported span that was open, 0: none was. It ends after this, on the same thread
    int64_t        time_ns;  // of std::chrono::steady_clock
    llama_otel_str message;  // of the log, empty for other events
    uint16_t       n_attrs;
    uint16_t       severity; // of the log, 0: not a record of the log
    uint32_t       reserved;
};

static_assert(sizeof(llama_otel_event_record) == 56, "the Rust side reads this layout");

// what the runtime and its backend share; owned by the runtime, lives as long as the process
struct llama_otel_control {
    std::atomic<uint32_t> detail;           // llama_otel_detail; the one word that an inactive macro reads
    std::atomic<uint32_t> capture;          // llama_otel_capture: what may leave the process only if it was asked for
    std::atomic<uint64_t> sample_threshold; // a new trace is sampled if the upper 63 bits of its id's lower half are below this
    int64_t            (* now_ns)(void);    // std::chrono::steady_clock, the clock of the records
    const char *          llama_version;    // the strings are never null
    const char *          llama_commit;
    const char *          ggml_version;
    int64_t               llama_build_number;
    const char *          ggml_backends;    // names of the backends that are compiled in, separated by commas

    // what the backend decides about parents
    std::atomic<uint32_t> parent_based; // 1: the flag of a given parent decides about sampling, 0: sample_threshold alone
    std::atomic<uint32_t> propagators;  // llama_otel_propagator
    std::atomic<const char * const *> baggage_keys; // null, or those whose entries become attributes: static storage, null at the end
    std::atomic<void (*)(llama_otel_host_span * out)> host_span; // null, or asked where the program gave no parent

    // Parents for a backend's own interface. Strings as for llama_otel_set_traceparent; `result` takes a llama_otel_result.
    void * (* make_parent)(const char * traceparent, const char * tracestate, const char * baggage, bool remote, uint32_t * result); // null: invalid
    void * (* swap_parent)(void * parent); // of the calling thread; takes `parent` and gives back what was there (both may be null)
    void   (* free_parent)(void * parent);
    uint32_t (* set_parent)(const void * context, int32_t seq, void * parent); // takes `parent`; null: takes the parent away

    // Ends the generations of the contexts that are alive, which hands over their spans on the calling thread. The backend calls
    // it when it is shut down or the process ends, with `detail` off, before its last delivery.
    void   (* end_generations)(void);

    // Hands over what the runtime still holds back of the calling thread, which is in a span; called before a delivery.
    void   (* hand_over)(void);

    // Tells what is kept up to date rather than recorded every time: each such gauge by a call of `tell` on the calling thread, a
    // record of `size` bytes with its attributes, and no strings. Called by one thread at a time, before metrics are collected and
    // after the records that were there have been taken.
    void   (* observe)(void (* tell)(void * to, const llama_otel_metric_record * record, size_t size), void * to);

    // Tells in the same way what was counted since it was last called, by whichever thread: called as often as records are taken, and
    // before a delivery.
    void   (* counted)(void (* tell)(void * to, const llama_otel_metric_record * record, size_t size), void * to);
};

// Every function may be called from any thread, and none throws, blocks on the network, or aborts.
struct llama_otel_backend {
    uint32_t abi_version;          // LLAMA_OTEL_ABI_VERSION
    uint64_t registry_fingerprint; // LLAMA_OTEL_REGISTRY_FINGERPRINT: which number is which metric

    // reads its configuration; sets control->detail if telemetry is wanted. Called again after shutdown.
    void (*start)(llama_otel_control * control);
    // takes a finished record: head, attributes and links are contiguous (`size` bytes)
    void (*span)  (const llama_otel_span_record   * record, size_t size, const char * strings, size_t strings_size);
    void (*metric)(const llama_otel_metric_record * record, size_t size, const char * strings, size_t strings_size);
    // null: not wanted
    void (*event) (const llama_otel_event_record  * record, size_t size, const char * strings, size_t strings_size);
    // several records of the calling thread at once, each headed by a llama_otel_entry; null: they are handed over one by one
    void (*entries)(const void * entries, size_t size);
    // true if all that was recorded before the call has reached the receiver
    bool (*flush)   (uint32_t timeout_ms);
    bool (*shutdown)(uint32_t timeout_ms);

    // called once, when the backend is registered; null: not wanted
    void (*attach)(llama_otel_control * control);
    // as the functions of llama-otel.h; null: not supported
    void     (*set_detail)(uint32_t detail);
    bool     (*set_export)(bool on);
    bool     (*is_active)(void);
    uint64_t (*dropped)(const char * signal, const char * reason);
};
