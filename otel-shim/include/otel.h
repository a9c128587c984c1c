#pragma once

// LLAMA_OTEL_* macros: what is inserted into llama.cpp.
//
// Compiled in with LLAMA_OTEL=1; otherwise every macro is empty and nothing else is declared.
// Needs C++17 and the standard library only: no OpenTelemetry, no Rust, no llama.cpp header.
//
//   LLAMA_OTEL_SPAN("name")                          a span from here to the end of the enclosing block
//   LLAMA_OTEL_SPAN_AT(DECODE, "name")               the same, from that level of detail on (METRICS, REQUEST, DECODE, OP)
//   LLAMA_OTEL_SPAN_IF(condition, DECODE, "name")    the same, only if the condition holds
//   LLAMA_OTEL_SPAN_TIMED(DECODE, "name", METRIC)    the same; its duration goes to that histogram too, at every level of detail
//   LLAMA_OTEL_SPAN_ONCE(DECODE, "name", METRIC)     the same, but nothing directly inside a span of that name
//   LLAMA_OTEL_SPAN_EXPORT_IF(condition)             below DECODE, the current span is exported only if this holds or it failed
//   LLAMA_OTEL_ADD_ATTRIBUTE("key", value)           bool, integer, enum, floating point or string; on the current span
//   LLAMA_OTEL_ADD_ATTRIBUTES("key", value, …)       several at once
//   LLAMA_OTEL_SET_ERROR("what happened")            the current span failed; or ("error.type", "what happened")
//   LLAMA_OTEL_SET_DECODE_STATUS(code)               return code of llama_decode / llama_encode
//   LLAMA_OTEL_SET_GGML_STATUS(status)               ggml_status
//   LLAMA_OTEL_METRIC(METRIC, value, "key", value, …)  one measurement
//   LLAMA_OTEL_RECORD_MODEL_LOAD_TIME(seconds) …     the measurements that have a name of their own, below
//
// Arguments are evaluated only if they are recorded. The current span is the innermost one open on this thread.
// Attribute values are copied; keys and names must be string literals. Durations are seconds, sizes bytes.

#if defined(LLAMA_OTEL) && LLAMA_OTEL

#include "otel-backend.h"
#include "otel-registry.h"

#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

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

#if defined(__GNUC__)
#    define LLAMA_OTEL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#    define LLAMA_OTEL_UNLIKELY(x) (x)
#endif

#define LLAMA_OTEL_MAX_ATTRS   32
#define LLAMA_OTEL_MAX_STRINGS 1536 // bytes of all string values of one record
#define LLAMA_OTEL_MAX_STRING  256  // bytes of one

#define LLAMA_OTEL_FLUSH_TIMEOUT_MS 2000 // longest that llama_backend_free waits for the receiver

extern "C" {
// The registered backend decides; with none, everything below is inert.
LLAMA_OTEL_API extern llama_otel_control llama_otel_ctl;

// false if one is registered already or the ABI differs; `backend` must live as long as the process
LLAMA_OTEL_API bool llama_otel_register(const llama_otel_backend * backend);
// starts the backend, once; called by llama_backend_init and by the first model load
LLAMA_OTEL_API void llama_otel_start(void);
// milliseconds; false if something could not be delivered in that time
LLAMA_OTEL_API bool llama_otel_flush(uint32_t timeout_ms);
LLAMA_OTEL_API bool llama_otel_shutdown(uint32_t timeout_ms);
// switches the level of detail while running; no effect before the backend has started
LLAMA_OTEL_API void llama_otel_set_detail(uint32_t detail);
}

inline bool llama_otel_on() noexcept {
    return LLAMA_OTEL_UNLIKELY(llama_otel_ctl.detail.load(std::memory_order_relaxed) != LLAMA_OTEL_DETAIL_OFF);
}

// keys are kept by address, so they must be literals
template <typename Key> constexpr const char * llama_otel_key(const Key & key) noexcept {
    static_assert(std::is_array_v<Key>, "LLAMA_OTEL: an attribute key must be a string literal");
    return key;
}

// A record, its attributes, and the bytes of their strings: filled in place, handed over as two ranges of memory.
template <typename Record> struct llama_otel_buffer {
    Record          record;
    llama_otel_attr attrs[LLAMA_OTEL_MAX_ATTRS];
    char            strings[LLAMA_OTEL_MAX_STRINGS];
    uint32_t        n_strings;

    size_t size() const noexcept { return sizeof(Record) + record.n_attrs * sizeof(llama_otel_attr); }

    // false: no room, the attribute is left out
    template <typename T> bool put(const char * key, const T & value) noexcept {
        if constexpr (std::is_same_v<T, bool>) {
            return put_int(key, LLAMA_OTEL_TYPE_BOOL, value);
        } else if constexpr (std::is_unsigned_v<T>) {
            constexpr uint64_t max = std::numeric_limits<int64_t>::max();
            return put_int(key, LLAMA_OTEL_TYPE_INT, (int64_t) (value < max ? value : max));
        } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
            return put_int(key, LLAMA_OTEL_TYPE_INT, (int64_t) value);
        } else if constexpr (std::is_floating_point_v<T>) {
            if (llama_otel_attr * attr = next(key, LLAMA_OTEL_TYPE_DOUBLE)) {
                attr->value.d = (double) value;
                return true;
            }
            return false;
        } else if constexpr (std::is_convertible_v<const T &, const char *>) {
            const char * text = value;
            return put_string(key, text ? std::string_view(text) : std::string_view());
        } else if constexpr (std::is_convertible_v<const T &, std::string_view>) {
            return put_string(key, value);
        } else {
            static_assert(!sizeof(T), "LLAMA_OTEL: an attribute value must be a bool, an integer, an enum, a floating-point number or a string");
        }
    }

    // {0, 0} if there is no room
    llama_otel_str copy(std::string_view text) noexcept {
        const size_t length = text.size() < LLAMA_OTEL_MAX_STRING ? text.size() : LLAMA_OTEL_MAX_STRING;
        if (n_strings + length > LLAMA_OTEL_MAX_STRINGS) {
            return { 0, 0 };
        }
        memcpy(strings + n_strings, text.data(), length);
        n_strings += (uint32_t) length;
        return { (uint32_t) (n_strings - length), (uint32_t) length };
    }

private:
    llama_otel_attr * next(const char * key, llama_otel_type type) noexcept {
        // keys are literals: the same line gives the same address, and its last value stands
        for (uint16_t i = 0; i < record.n_attrs; i++) {
            if (attrs[i].key == key) {
                attrs[i].type = type;
                return &attrs[i];
            }
        }
        if (record.n_attrs == LLAMA_OTEL_MAX_ATTRS) {
            return nullptr;
        }
        llama_otel_attr * attr = &attrs[record.n_attrs++];
        attr->key      = key;
        attr->type     = type;
        attr->reserved = 0;
        return attr;
    }

    bool put_int(const char * key, llama_otel_type type, int64_t value) noexcept {
        if (llama_otel_attr * attr = next(key, type)) {
            attr->value.i = value;
            return true;
        }
        return false;
    }

    bool put_string(const char * key, std::string_view value) noexcept {
        const llama_otel_str text = copy(value);
        if (text.length == 0 && !value.empty()) {
            return false;
        }
        if (llama_otel_attr * attr = next(key, LLAMA_OTEL_TYPE_STRING)) {
            attr->value.s = text;
            return true;
        }
        return false;
    }
};

// A span: opened by its constructor, ended and handed to the backend by its destructor. Lives on the stack of one thread.
class llama_otel_span {
public:
    enum kind : uint8_t {
        ORDINARY,
        ONCE, // no span if the innermost one has the same name
    };

    // `metric` takes the duration, LLAMA_OTEL_NO_METRIC: none does
    llama_otel_span(const char * name, llama_otel_detail level, uint16_t metric = LLAMA_OTEL_NO_METRIC, kind kind = ORDINARY) noexcept {
        if (LLAMA_OTEL_UNLIKELY(llama_otel_on())) {
            begin(name, level, metric, kind);
        }
    }

    llama_otel_span(bool wanted, const char * name, llama_otel_detail level) noexcept {
        if (LLAMA_OTEL_UNLIKELY(wanted && llama_otel_on())) {
            begin(name, level, LLAMA_OTEL_NO_METRIC, ORDINARY);
        }
    }

    ~llama_otel_span() {
        if (LLAMA_OTEL_UNLIKELY(state != STATE_OFF)) {
            end();
        }
    }

    llama_otel_span(const llama_otel_span &) = delete;
    llama_otel_span & operator=(const llama_otel_span &) = delete;

    void add() noexcept {}

    template <typename Key, typename T, typename... Rest> void add(const Key & key, const T & value, const Rest &... rest) noexcept {
        data.record.n_attrs_dropped += !data.put(llama_otel_key(key), value);
        add(rest...);
    }

    void export_if(bool condition) noexcept { may_skip = !condition; }

    // exported all the same if it takes more than four times the mean of its like, which is kept in `running_mean` (ns)
    void export_if_slow(std::atomic<int64_t> * running_mean) noexcept { this->running_mean = running_mean; }

    // error texts of this span show the file name only of this path, which must outlive the span
    void set_private_path(std::string_view path) noexcept { private_path = path; }

    bool recording() const noexcept { return state == STATE_RECORDING; }

private:
    friend llama_otel_span * llama_otel_current_span() noexcept;
    friend void llama_otel_set_error(std::string_view type, std::string_view message) noexcept;

    enum : uint8_t {
        STATE_OFF,  // telemetry was off when the span was opened
        STATE_MUTE, // keeps its place among the open spans, records nothing
        STATE_RECORDING,
    };

    LLAMA_OTEL_API void begin(const char * name, llama_otel_detail level, uint16_t metric, kind kind) noexcept;
    LLAMA_OTEL_API void end() noexcept;

    void join_trace(struct llama_otel_thread & t) noexcept;

    uint8_t           state    = STATE_OFF;
    bool              may_skip = false;
    bool              in_trace = false;
    std::atomic<int64_t> * running_mean = nullptr;
    int               n_exceptions;
    llama_otel_span * outer;
    std::string_view  private_path;
    llama_otel_buffer<llama_otel_span_record> data;
};

// the innermost span open on this thread if it records, else null
LLAMA_OTEL_API llama_otel_span * llama_otel_current_span() noexcept;

inline llama_otel_span * llama_otel_recording_span() noexcept { return llama_otel_on() ? llama_otel_current_span() : nullptr; }

LLAMA_OTEL_API void llama_otel_set_error(std::string_view type, std::string_view message) noexcept;

// the fallback that the OpenTelemetry conventions name for an error without a type
inline void llama_otel_set_error(std::string_view message) noexcept { llama_otel_set_error("_OTHER", message); }

// return code of llama_decode and llama_encode: 0 ok, 1 no KV slot, 2 aborted, -1 invalid batch, -2 allocation, -3 compute
LLAMA_OTEL_API void llama_otel_set_decode_status(int code) noexcept;
LLAMA_OTEL_API void llama_otel_set_ggml_status(int status) noexcept;

// Hands over one measurement; called only while telemetry is on.
LLAMA_OTEL_API void llama_otel_submit(const llama_otel_buffer<llama_otel_metric_record> & data) noexcept;

inline void llama_otel_put_all(llama_otel_buffer<llama_otel_metric_record> &) noexcept {}

template <typename Key, typename T, typename... Rest>
void llama_otel_put_all(llama_otel_buffer<llama_otel_metric_record> & data, const Key & key, const T & value, const Rest &... rest) noexcept {
    data.put(llama_otel_key(key), value);
    llama_otel_put_all(data, rest...);
}

template <typename V, typename... Attrs> void llama_otel_measure(llama_otel_metric metric, V value, const Attrs &... attrs) noexcept {
    static_assert(std::is_arithmetic_v<V>, "LLAMA_OTEL: a measurement must be a number");
    llama_otel_buffer<llama_otel_metric_record> data;
    data.record    = { (double) value, metric, 0, 0 };
    data.n_strings = 0;
    llama_otel_put_all(data, attrs...);
    llama_otel_submit(data);
}

// a batch that passed validation, on the current span; `context` becomes this thread's current one
LLAMA_OTEL_API void llama_otel_batch(const void * context, int64_t n_tokens, int64_t n_outputs) noexcept;

// A context's number, counted from 1 in this process; 0 for one that was created while telemetry was off.
LLAMA_OTEL_API int64_t llama_otel_new_context_id(const void * context) noexcept;
LLAMA_OTEL_API int64_t llama_otel_current_context_id() noexcept;

// a context whose destructor runs, on the current span
LLAMA_OTEL_API void llama_otel_context_destroyed(const void * context, int64_t n_evaluated, int64_t t_eval_us) noexcept;

// the current span is a model load that failed or was cancelled
LLAMA_OTEL_API void llama_otel_model_failed(std::string_view type, std::string_view message) noexcept;

// names of llama.cpp's and ggml's enumerators
LLAMA_OTEL_API const char * llama_otel_split_mode(int mode) noexcept;
LLAMA_OTEL_API const char * llama_otel_device_type(int type) noexcept;

inline bool llama_otel_path_wanted() noexcept {
    return (llama_otel_ctl.capture.load(std::memory_order_relaxed) & LLAMA_OTEL_CAPTURE_MODEL_PATH) != 0;
}

// tokens whose evaluation has ended and the time since it was begun, from where llama.cpp itself accounts for them
LLAMA_OTEL_API void llama_otel_evaluated(int64_t n_tokens, int64_t elapsed_us) noexcept;

// Bytes that `owner` holds on a device, by kind: absolute; what is exported is the difference to the last call.
LLAMA_OTEL_API void llama_otel_memory_held(const void * owner, const char * device, const char * kind, size_t bytes) noexcept;
// returns the bytes that it held
LLAMA_OTEL_API size_t llama_otel_memory_released(const void * owner) noexcept;

#include "otel-llama.h"

//
// macros
//

#define LLAMA_OTEL_CONCAT_(a, b) a##b
#define LLAMA_OTEL_CONCAT(a, b)  LLAMA_OTEL_CONCAT_(a, b)

#define LLAMA_OTEL_IF_ON(call) \
    do {                       \
        if (llama_otel_on()) { \
            call;              \
        }                      \
    } while (0)

#define LLAMA_OTEL_WITH_SPAN(call)                                        \
    do {                                                                  \
        if (llama_otel_span * otel_span_ = llama_otel_recording_span()) { \
            otel_span_->call;                                             \
        }                                                                 \
    } while (0)

#define LLAMA_OTEL_START()                          llama_otel_start()
#define LLAMA_OTEL_FLUSH()                          LLAMA_OTEL_IF_ON(llama_otel_flush(LLAMA_OTEL_FLUSH_TIMEOUT_MS))

#define LLAMA_OTEL_OPEN(...)                        llama_otel_span LLAMA_OTEL_CONCAT(otel_span_, __COUNTER__)(__VA_ARGS__)
#define LLAMA_OTEL_SPAN(name)                       LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_REQUEST)
#define LLAMA_OTEL_SPAN_AT(level, name)             LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_##level)
#define LLAMA_OTEL_SPAN_IF(condition, level, name)  LLAMA_OTEL_OPEN((condition), "" name, LLAMA_OTEL_DETAIL_##level)
#define LLAMA_OTEL_SPAN_TIMED(level, name, metric)  LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_##level, LLAMA_OTEL_METRIC_##metric)
#define LLAMA_OTEL_SPAN_ONCE(level, name, metric)   LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_##level, LLAMA_OTEL_METRIC_##metric, llama_otel_span::ONCE)
#define LLAMA_OTEL_SPAN_EXPORT_IF(condition)        LLAMA_OTEL_WITH_SPAN(export_if(condition))
#define LLAMA_OTEL_ADD_ATTRIBUTE(key, value)        LLAMA_OTEL_WITH_SPAN(add(key, value))
#define LLAMA_OTEL_ADD_ATTRIBUTES(...)              LLAMA_OTEL_WITH_SPAN(add(__VA_ARGS__))
#define LLAMA_OTEL_SET_ERROR(...)                   LLAMA_OTEL_IF_ON(llama_otel_set_error(__VA_ARGS__))
#define LLAMA_OTEL_SET_DECODE_STATUS(code)          LLAMA_OTEL_IF_ON(llama_otel_set_decode_status(code))
#define LLAMA_OTEL_SET_GGML_STATUS(status)          LLAMA_OTEL_IF_ON(llama_otel_set_ggml_status((int) (status)))

#define LLAMA_OTEL_METRIC(metric, ...)              LLAMA_OTEL_IF_ON(llama_otel_measure(LLAMA_OTEL_METRIC_##metric, __VA_ARGS__))
#define LLAMA_OTEL_RECORD_MODEL_LOAD_TIME(seconds)  LLAMA_OTEL_METRIC(LLAMA_MODEL_LOAD_DURATION, seconds)
#define LLAMA_OTEL_RECORD_TOKEN_TIME(seconds)       LLAMA_OTEL_METRIC(GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN, seconds)
#define LLAMA_OTEL_RECORD_BATCH_SIZE(n_tokens)      LLAMA_OTEL_METRIC(LLAMA_DECODE_BATCH_SIZE, n_tokens)
#define LLAMA_OTEL_RECORD_MEMORY_USAGE(bytes)       LLAMA_OTEL_METRIC(LLAMA_MEMORY_USAGE, bytes)
#define LLAMA_OTEL_INCREMENT_TOKENS(n)              LLAMA_OTEL_METRIC(LLAMA_TOKEN_COUNT, n)

// what points insert: an act of llama.cpp's that has its own function above or in otel-llama.h
#define LLAMA_OTEL_PRIVATE_PATH(path)               LLAMA_OTEL_WITH_SPAN(set_private_path(path))
#define LLAMA_OTEL_EVALUATED(n_tokens, elapsed_us)  LLAMA_OTEL_IF_ON(llama_otel_evaluated(n_tokens, elapsed_us))
#define LLAMA_OTEL_BATCH(context, n_tokens, n_outputs)        LLAMA_OTEL_IF_ON(llama_otel_batch(context, n_tokens, n_outputs))
#define LLAMA_OTEL_CONTEXT_DESTROYED(context, n, t_us)        LLAMA_OTEL_IF_ON(llama_otel_context_destroyed(context, n, t_us))
#define LLAMA_OTEL_MODEL_FAILED(type, message)      LLAMA_OTEL_IF_ON(llama_otel_model_failed(type, message))
#define LLAMA_OTEL_MODEL_REQUEST(file, params)      LLAMA_OTEL_IF_ON(llama_otel_model_request(file, params))
#define LLAMA_OTEL_MODEL_LOADED(model, loader)      LLAMA_OTEL_IF_ON(llama_otel_model_loaded(model, loader))
#define LLAMA_OTEL_CONTEXT_CREATED(context)         LLAMA_OTEL_IF_ON(llama_otel_context_created(context))
#define LLAMA_OTEL_MEMORY_RELEASED(owner)           LLAMA_OTEL_IF_ON(llama_otel_memory_released(owner))
#define LLAMA_OTEL_KV_CELLS(streams, pool)          LLAMA_OTEL_IF_ON(llama_otel_kv_cells(streams, pool))
#define LLAMA_OTEL_DEVICE(device)                   LLAMA_OTEL_IF_ON(llama_otel_device(device))
#define LLAMA_OTEL_DEVICES()                        LLAMA_OTEL_IF_ON(llama_otel_devices(ggml_backend_dev_count(), ggml_backend_dev_get))

#else // the empty twins: what is left is an empty statement, so that the object code is upstream's

#define LLAMA_OTEL_START(...)
#define LLAMA_OTEL_FLUSH(...)
#define LLAMA_OTEL_SPAN(...)
#define LLAMA_OTEL_SPAN_AT(...)
#define LLAMA_OTEL_SPAN_IF(...)
#define LLAMA_OTEL_SPAN_TIMED(...)
#define LLAMA_OTEL_SPAN_ONCE(...)
#define LLAMA_OTEL_SPAN_EXPORT_IF(...)
#define LLAMA_OTEL_ADD_ATTRIBUTE(...)
#define LLAMA_OTEL_ADD_ATTRIBUTES(...)
#define LLAMA_OTEL_SET_ERROR(...)
#define LLAMA_OTEL_SET_DECODE_STATUS(...)
#define LLAMA_OTEL_SET_GGML_STATUS(...)
#define LLAMA_OTEL_METRIC(...)
#define LLAMA_OTEL_RECORD_MODEL_LOAD_TIME(...)
#define LLAMA_OTEL_RECORD_TOKEN_TIME(...)
#define LLAMA_OTEL_RECORD_BATCH_SIZE(...)
#define LLAMA_OTEL_RECORD_MEMORY_USAGE(...)
#define LLAMA_OTEL_INCREMENT_TOKENS(...)
#define LLAMA_OTEL_PRIVATE_PATH(...)
#define LLAMA_OTEL_EVALUATED(...)
#define LLAMA_OTEL_BATCH(...)
#define LLAMA_OTEL_CONTEXT_DESTROYED(...)
#define LLAMA_OTEL_MODEL_FAILED(...)
#define LLAMA_OTEL_MODEL_REQUEST(...)
#define LLAMA_OTEL_MODEL_LOADED(...)
#define LLAMA_OTEL_CONTEXT_CREATED(...)
#define LLAMA_OTEL_MEMORY_RELEASED(...)
#define LLAMA_OTEL_KV_CELLS(...)
#define LLAMA_OTEL_DEVICE(...)
#define LLAMA_OTEL_DEVICES(...)

#endif
