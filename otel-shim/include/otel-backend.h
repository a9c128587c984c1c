#pragma once

// The ABI between the runtime (otel.cpp) and a telemetry backend (the Rust shim, opentelemetry-cpp, a test).
// Records are plain data: a fixed head, then `n_attrs` attributes, then the bytes of the strings they refer to.
// Nothing here knows Rust, cxx or OpenTelemetry.

#include <atomic>
#include <cstddef>
#include <cstdint>

#define LLAMA_OTEL_ABI_VERSION 1

// how much is recorded; a span or metric names the least level at which it exists
enum llama_otel_detail : uint32_t {
    LLAMA_OTEL_DETAIL_OFF     = 0,
    LLAMA_OTEL_DETAIL_METRICS = 1,
    LLAMA_OTEL_DETAIL_REQUEST = 2,
    LLAMA_OTEL_DETAIL_DECODE  = 3,
    LLAMA_OTEL_DETAIL_OP      = 4,
};

enum llama_otel_type : uint32_t {
    LLAMA_OTEL_TYPE_BOOL   = 0,
    LLAMA_OTEL_TYPE_INT    = 1,
    LLAMA_OTEL_TYPE_DOUBLE = 2,
    LLAMA_OTEL_TYPE_STRING = 3,
};

enum llama_otel_flag : uint8_t {
    LLAMA_OTEL_FLAG_EXPORT        = 1, // export the span; without it only its duration metric is wanted
    LLAMA_OTEL_FLAG_ERROR         = 2,
    LLAMA_OTEL_FLAG_REMOTE_PARENT = 4,
};

enum llama_otel_capture : uint32_t {
    LLAMA_OTEL_CAPTURE_MODEL_PATH = 1,
};

// a range of the string bytes that follow the attributes
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
    } value;
    uint32_t type; // llama_otel_type
    uint32_t reserved;
};

static_assert(sizeof(llama_otel_attr) == 24, "the Rust side reads this layout");

#define LLAMA_OTEL_NO_METRIC 0xffffu

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
    uint16_t       n_attrs;
    uint16_t       n_attrs_dropped;
    uint8_t        flags; // llama_otel_flag
    uint8_t        reserved;
};

static_assert(sizeof(llama_otel_span_record) == 72, "the Rust side reads this layout");

// one measurement: the instrument kind (counter, histogram, gauge, …) is the registry's
struct llama_otel_metric_record {
    double   value;
    uint16_t metric; // llama_otel_metric
    uint16_t n_attrs;
    uint32_t reserved;
};

static_assert(sizeof(llama_otel_metric_record) == 16, "the Rust side reads this layout");

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
};

// Every function may be called from any thread, and none throws, blocks on the network, or aborts.
struct llama_otel_backend {
    uint32_t abi_version;          // LLAMA_OTEL_ABI_VERSION
    uint64_t registry_fingerprint; // LLAMA_OTEL_REGISTRY_FINGERPRINT: which number is which metric

    // reads its configuration; sets control->detail if telemetry is wanted. Called again after shutdown.
    void (*start)(llama_otel_control * control);
    // takes a finished record: head and attributes are contiguous (`size` bytes), strings follow
    void (*span)  (const llama_otel_span_record   * record, size_t size, const char * strings, size_t strings_size);
    void (*metric)(const llama_otel_metric_record * record, size_t size, const char * strings, size_t strings_size);
    // true if all that was recorded before the call has reached the receiver
    bool (*flush)   (uint32_t timeout_ms);
    bool (*shutdown)(uint32_t timeout_ms);
};
