#pragma once

// LLAMA_OTEL_* macros: what is inserted into llama.cpp.
//
// Compiled in with LLAMA_OTEL=1; otherwise every macro is empty and nothing else is declared.
// Needs C++17 and the standard library only: no OpenTelemetry, no Rust, no llama.cpp header. A C file gets otel-c.h.
//
//   LLAMA_OTEL_SPAN("name")                          a span from here to the end of the enclosing block
//   LLAMA_OTEL_SPAN_AT(DECODE, "name")               the same, from that level of detail on (METRICS, REQUEST, DECODE, OP)
//   LLAMA_OTEL_SPAN_IF(condition, DECODE, "name")    the same, only if the condition holds
//   LLAMA_OTEL_SPAN_WAIT(condition, DECODE, "name")  the same, only if a device still computes as well
//   LLAMA_OTEL_SPAN_TIMED(DECODE, "name", METRIC)    the same; its duration goes to that histogram too, at every level of detail
//   LLAMA_OTEL_SPAN_ONCE(DECODE, "name", METRIC)     the same, but nothing directly inside a span of that name
//   LLAMA_OTEL_SPAN_DROP_IF(condition)               if this holds, the current span and its duration are not recorded
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

#include "otel-c.h"

#ifdef __cplusplus

#include "otel-backend.h"
#include "otel-registry.h"

#include <chrono>
#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#if defined(__GNUC__)
#    define LLAMA_OTEL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#    define LLAMA_OTEL_UNLIKELY(x) (x)
#endif

#define LLAMA_OTEL_MAX_ATTRS   32
#define LLAMA_OTEL_MAX_LINKS   16
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
}

// short names, which are nearly always the same literal or differ at once: a call of strcmp would take longer
inline bool llama_otel_is(const char * a, const char * b) noexcept {
    while (a != b && *a == *b && *a) {
        a++;
        b++;
    }
    return a == b || *a == *b;
}

inline bool llama_otel_on() noexcept {
    return LLAMA_OTEL_UNLIKELY(llama_otel_ctl.detail.load(std::memory_order_relaxed) != LLAMA_OTEL_DETAIL_OFF);
}

// keys are kept by address, so they must be literals
template <typename Key> constexpr const char * llama_otel_key(const Key & key) noexcept {
    static_assert(std::is_array_v<Key>, "LLAMA_OTEL: an attribute key must be a string literal");
    return key;
}

// a string value of static storage, which is not copied
struct llama_otel_literal {
    const char * text;
};

struct llama_otel_value {
    llama_otel_type                   type;
    decltype(llama_otel_attr::value)  value;
};

template <typename T> constexpr bool llama_otel_is_text = !std::is_arithmetic_v<T> && !std::is_enum_v<T> && !std::is_same_v<T, llama_otel_literal>;

// what is not a text as an attribute has it
template <typename T> llama_otel_value llama_otel_encode(const T & value) noexcept {
    llama_otel_value encoded;
    if constexpr (std::is_same_v<T, bool>) {
        encoded.type    = LLAMA_OTEL_TYPE_BOOL;
        encoded.value.i = value;
    } else if constexpr (std::is_unsigned_v<T>) {
        constexpr uint64_t max = std::numeric_limits<int64_t>::max();
        encoded.type    = LLAMA_OTEL_TYPE_INT;
        encoded.value.i = (int64_t) (value < max ? value : max);
    } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
        encoded.type    = LLAMA_OTEL_TYPE_INT;
        encoded.value.i = (int64_t) value;
    } else if constexpr (std::is_floating_point_v<T>) {
        encoded.type    = LLAMA_OTEL_TYPE_DOUBLE;
        encoded.value.d = (double) value;
    } else {
        encoded.type          = LLAMA_OTEL_TYPE_LITERAL;
        encoded.value.literal = value.text;
    }
    return encoded;
}

// a text, cut to LLAMA_OTEL_MAX_STRING bytes
template <typename T> std::string_view llama_otel_text(const T & value) noexcept {
    std::string_view text;
    if constexpr (std::is_convertible_v<const T &, const char *>) {
        if (const char * start = value) {
            text = start;
        }
    } else if constexpr (std::is_convertible_v<const T &, std::string_view>) {
        text = value;
    } else {
        static_assert(!sizeof(T), "LLAMA_OTEL: an attribute value must be a bool, an integer, an enum, a floating-point number or a string");
    }
    return text.size() <= LLAMA_OTEL_MAX_STRING ? text : std::string_view(text.data(), LLAMA_OTEL_MAX_STRING);
}

inline size_t llama_otel_n_links(const llama_otel_span_record & record) noexcept { return record.n_links; }
inline size_t llama_otel_n_links(const llama_otel_event_record &) noexcept { return 0; }

// A record, its attributes and links, and the bytes of their strings: filled in place, handed over as two ranges of memory.
template <typename Record> struct llama_otel_buffer {
    Record          record;
    llama_otel_attr attrs[LLAMA_OTEL_MAX_ATTRS];
    char            strings[LLAMA_OTEL_MAX_STRINGS];
    uint32_t        n_strings;

    size_t size() const noexcept { return sizeof(Record) + (record.n_attrs + llama_otel_n_links(record)) * sizeof(llama_otel_attr); }

    // false: no room, the attribute is left out
    template <typename T> bool put(const char * key, const T & value) noexcept {
        // keys are literals: the same line gives the same address, and its last value stands
        size_t i = 0;
        while (i < record.n_attrs && attrs[i].key != key) {
            i++;
        }
        return set(i, key, value);
    }

    // the same for a key that is not there yet
    template <typename T> bool append(const char * key, const T & value) noexcept { return set(record.n_attrs, key, value); }

    // spans only; a link takes the room of an attribute, from the end on until pack_links
    void link(const llama_otel_link & link) noexcept {
        if (record.n_links < LLAMA_OTEL_MAX_LINKS && record.n_attrs + record.n_links < LLAMA_OTEL_MAX_ATTRS) {
            record.n_links++;
            memcpy(static_cast<void *>(&attrs[LLAMA_OTEL_MAX_ATTRS - record.n_links]), &link, sizeof(link));
        } else {
            record.n_links_dropped += record.n_links_dropped < std::numeric_limits<uint16_t>::max();
        }
    }

    // moves the links behind the attributes, where the backend looks for them; nothing is added after this
    void pack_links() noexcept {
        memmove(static_cast<void *>(&attrs[record.n_attrs]), &attrs[LLAMA_OTEL_MAX_ATTRS - record.n_links], record.n_links * sizeof(llama_otel_link));
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
    template <typename T> bool set(size_t i, const char * key, const T & value) noexcept {
        if (i == record.n_attrs && record.n_attrs + llama_otel_n_links(record) == LLAMA_OTEL_MAX_ATTRS) {
            return false;
        }
        llama_otel_value encoded;
        if constexpr (llama_otel_is_text<T>) {
            const std::string_view text = llama_otel_text(value);
            encoded.type    = LLAMA_OTEL_TYPE_STRING;
            encoded.value.s = copy(text);
            if (encoded.value.s.length == 0 && !text.empty()) {
                return false;
            }
        } else {
            encoded = llama_otel_encode(value);
        }
        attrs[i] = { key, encoded.value, encoded.type, 0 };
        record.n_attrs += i == record.n_attrs;
        return true;
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
        if (!data.put(llama_otel_key(key), value)) {
            data.record.n_attrs_dropped += data.record.n_attrs_dropped < std::numeric_limits<uint8_t>::max();
        }
        add(rest...);
    }

    void export_if(bool condition) noexcept { may_skip = !condition; }

    // exported all the same if it takes more than four times the mean of its like, which is kept in `running_mean` (ns)
    void export_if_slow(std::atomic<int64_t> * running_mean) noexcept { this->running_mean = running_mean; }

    // error texts of this span show the file name only of this path, which must outlive the span
    void set_private_path(std::string_view path) noexcept { private_path = path; }

    // as if it had never been opened, its duration included
    void drop() noexcept {
        data.record.metric = LLAMA_OTEL_NO_METRIC;
        data.record.flags &= (uint8_t) ~LLAMA_OTEL_FLAG_EXPORT;
    }

    // a physical batch within this one, and one whose graph is that of the batch before
    void count_ubatch() noexcept { n_ubatches++; }
    void count_reused_graph() noexcept { n_reused++; }

    // a buffer that was allocated within this one
    void count_allocated(size_t bytes) noexcept { n_allocated += (int64_t) bytes; }

    // whether the cells of a pool belong on it: those of the full one stand before those of another
    bool takes_cells_of(bool full) noexcept {
        full_pool = full_pool || full;
        return full || !full_pool;
    }

    bool recording() const noexcept { return state == STATE_RECORDING; }

    // it is a batch of that context, which is told when it ends
    void watch(struct llama_otel_context * context) noexcept { this->context = context; }

    // Takes its place in the trace that was given to this context (and, unless it is -1, this sequence), of which it is
    // known only now. Nothing if it has a parent among the open spans.
    void adopt(const void * context, int32_t seq) noexcept;

    // it ends now, which is known without another look at the clock
    void end_at(int64_t ns) noexcept { ended_ns = ns; }

    const char * name() const noexcept { return data.record.name; }

    // of one that records
    int64_t start_ns() const noexcept { return data.record.start_ns; }

    // the one in which it was opened, null if in none
    llama_otel_span * enclosing() const noexcept { return outer; }

    // what it hands over, null if it has no place in a trace
    const llama_otel_span_record * traced_record() const noexcept { return in_trace ? &data.record : nullptr; }

private:
    friend llama_otel_span * llama_otel_current_span() noexcept;
    friend void llama_otel_set_error(std::string_view type, std::string_view message) noexcept;
    friend std::string_view llama_otel_private_path() noexcept;
    friend void llama_otel_set_batch_error(const char * type, const char * message) noexcept;

    enum : uint8_t {
        STATE_OFF,  // telemetry was off when the span was opened
        STATE_MUTE, // keeps its place among the open spans, records nothing
        STATE_RECORDING,
    };

    LLAMA_OTEL_API void begin(const char * name, llama_otel_detail level, uint16_t metric, kind kind) noexcept;
    LLAMA_OTEL_API void end() noexcept;
    void finish() noexcept;

    void join_trace(struct llama_otel_thread & t) noexcept;
    void join_given(struct llama_otel_thread & t, const struct llama_otel_parent & parent) noexcept;

    struct text { // a std::string_view that nobody initialises
        const char * data;
        size_t       size;

        text & operator=(std::string_view other) noexcept {
            data = other.data();
            size = other.size();
            return *this;
        }
        operator std::string_view() const noexcept { return { data, size }; }
        bool empty() const noexcept { return size == 0; }
    };

    uint8_t           state = STATE_OFF; // all that is written while telemetry is off; begin() sets the others
    bool              may_skip;
    bool              in_trace;
    bool              root;  // no span of llama.cpp's is around it
    bool              full_pool;
    const char *      error; // type of a batch's error
    struct llama_otel_context * context;
    int64_t           n_ubatches;
    int64_t           n_reused;
    int64_t           n_allocated;
    int64_t           ended_ns; // 0: not known beforehand
    int               n_exceptions;
    std::atomic<int64_t> * running_mean;
    llama_otel_span * outer;
    text              private_path;
    llama_otel_buffer<llama_otel_span_record> data;
};

// the innermost span open on this thread if it records, else null
LLAMA_OTEL_API llama_otel_span * llama_otel_current_span() noexcept;

// the same whether or not it records
LLAMA_OTEL_API llama_otel_span * llama_otel_open_span() noexcept;

inline llama_otel_span * llama_otel_recording_span() noexcept { return llama_otel_on() ? llama_otel_current_span() : nullptr; }

LLAMA_OTEL_API void llama_otel_set_error(std::string_view type, std::string_view message) noexcept;

// the fallback that the OpenTelemetry conventions name for an error without a type
inline void llama_otel_set_error(std::string_view message) noexcept { llama_otel_set_error("_OTHER", message); }

// return code of llama_decode and llama_encode: 0 ok, 1 no KV slot, 2 aborted, -1 invalid batch, -2 allocation, -3 compute
LLAMA_OTEL_API void llama_otel_set_decode_status(int code) noexcept;
// the same by error type, which must be a literal; it stands in llama.decode.status too
LLAMA_OTEL_API void llama_otel_set_batch_error(const char * type, const char * message) noexcept;
LLAMA_OTEL_API void llama_otel_set_ggml_status(int status) noexcept;

// Where the next measurement of this thread is written: the head, the record and its attributes, then the bytes of its strings, to
// whole words, of at most `size` bytes in all. Null while another one is written, which a signal handler may find: it records nothing then.
// Called only while telemetry is on.
LLAMA_OTEL_API llama_otel_entry * llama_otel_reserve(size_t size) noexcept;
// It is complete.
LLAMA_OTEL_API void llama_otel_commit(llama_otel_entry * entry) noexcept;

// the attributes of a measurement as they are written
struct llama_otel_attr_writer {
    llama_otel_attr * next;
    char *            strings;
    uint32_t          n_strings;

    void put() noexcept {}

    // bytes of the strings, filled up to whole words; there must be room for one more
    uint32_t end() noexcept {
        if (n_strings % 8 != 0) {
            memset(strings + n_strings, 0, 8);
        }
        return (n_strings + 7) & ~7u;
    }

    template <typename Key, typename T, typename... Rest> void put(const Key & key, const T & value, const Rest &... rest) noexcept {
        llama_otel_attr & attr = *next++;
        attr.key      = llama_otel_key(key);
        attr.reserved = 0;
        if constexpr (llama_otel_is_text<T>) {
            const std::string_view text = llama_otel_text(value);
            memcpy(strings + n_strings, text.data(), text.size());
            attr.type    = LLAMA_OTEL_TYPE_STRING;
            attr.value.s = { n_strings, (uint32_t) text.size() };
            n_strings += (uint32_t) text.size();
        } else {
            const llama_otel_value encoded = llama_otel_encode(value);
            attr.type  = encoded.type;
            attr.value = encoded.value;
        }
        put(rest...);
    }
};

template <typename Record> void llama_otel_put_all(llama_otel_buffer<Record> &) noexcept {}

template <typename Record, typename Key, typename T, typename... Rest>
void llama_otel_put_all(llama_otel_buffer<Record> & data, const Key & key, const T & value, const Rest &... rest) noexcept {
    data.put(llama_otel_key(key), value);
    llama_otel_put_all(data, rest...);
}

template <typename V, typename... Attrs> void llama_otel_measure(llama_otel_metric metric, V value, const Attrs &... attrs) noexcept {
    static_assert(std::is_arithmetic_v<V>, "LLAMA_OTEL: a measurement must be a number");
    constexpr size_t n_attrs = sizeof...(attrs) / 2;
    constexpr size_t size    = sizeof(llama_otel_metric_record) + n_attrs * sizeof(llama_otel_attr);
    llama_otel_entry * head = llama_otel_reserve(sizeof(llama_otel_entry) + size + n_attrs * LLAMA_OTEL_MAX_STRING + 8);
    if (!head) {
        return;
    }
    auto * record = new (head + 1) llama_otel_metric_record{ (double) value, metric, n_attrs, 1 };
    auto * first  = reinterpret_cast<llama_otel_attr *>(record + 1);
    llama_otel_attr_writer writer = { first, reinterpret_cast<char *>(first + n_attrs), 0 };
    writer.put(attrs...);
    new (head) llama_otel_entry{ LLAMA_OTEL_ENTRY_METRIC, (uint32_t) size, writer.end(), 0 };
    llama_otel_commit(head);
}

// Fills in time and span, and hands it over.
LLAMA_OTEL_API void llama_otel_submit_event(llama_otel_buffer<llama_otel_event_record> & data) noexcept;

// an event of the innermost exported span
template <typename Name, typename... Attrs> void llama_otel_event(const Name & name, const Attrs &... attrs) noexcept {
    llama_otel_buffer<llama_otel_event_record> data;
    data.record      = {};
    data.record.name = llama_otel_key(name);
    data.n_strings   = 0;
    llama_otel_put_all(data, attrs...);
    llama_otel_submit_event(data);
}

// Graphs, operations and devices; ops.cpp.
// A graph, from its first split on to the end of its last one, of which the clock is not read again: when it begins (of
// std::chrono::steady_clock), and its figures when it has ended.
LLAMA_OTEL_API int64_t llama_otel_graph_begins() noexcept;
LLAMA_OTEL_API void llama_otel_graph_computed(const char * phase, int64_t n_nodes, int64_t n_splits, int64_t start_ns) noexcept;
LLAMA_OTEL_API void llama_otel_graph_reused() noexcept;
// whether the operations that follow are timed through the scheduler's callback; `free`: that changes nothing about how they are computed
LLAMA_OTEL_API bool llama_otel_ops_by_callback(bool begin, bool free) noexcept;

// what begins in a physical batch whose graph is not used again
enum llama_otel_graph_phase { LLAMA_OTEL_GRAPH_BUILD, LLAMA_OTEL_GRAPH_ALLOC, LLAMA_OTEL_GRAPH_READY };

LLAMA_OTEL_API void llama_otel_graph_step(llama_otel_graph_phase step) noexcept;
LLAMA_OTEL_API int64_t llama_otel_split_begins() noexcept;
LLAMA_OTEL_API void llama_otel_device_submitted(const void * backend, const char * device, int64_t start_ns, bool goes_on) noexcept;
LLAMA_OTEL_API void llama_otel_device_waited(const void * backend) noexcept;
// whether one was given work that has not been waited for; true where the tree does not tell
LLAMA_OTEL_API bool llama_otel_devices_busy() noexcept;

// a batch as the runtime sees it; pointers may be null as in llama_batch
struct llama_otel_batch_view {
    int64_t                 n_tokens;
    int64_t                 n_outputs;
    const int32_t *         pos;
    const int32_t *         n_seq_id;
    const int32_t * const * seq_id;
    const int8_t *          output;
    int32_t                 first_pos;  // without `pos`: of the first token, and by how much it rises; 0: behind what the sequence has
    int32_t                 pos_step;
    int32_t                 all_seq_id; // without `seq_id`
    bool                    embeddings; // outputs are embeddings, nothing is sampled from them
};

// a batch that passed validation, on the current span; `context` becomes this thread's current one
LLAMA_OTEL_API void llama_otel_batch(const void * context, const llama_otel_batch_view & batch) noexcept;
LLAMA_OTEL_API void llama_otel_encode_batch(const void * context, int64_t n_tokens) noexcept;

// A new context's number, counted from 1 in this process. `memory` is its llama_memory_t if the tree has them, `model` the
// name of its model, `n_ctx` the window of each of its sequences (0: not known).
LLAMA_OTEL_API int64_t llama_otel_new_context(const void * context, const void * memory, const char * model, int64_t n_ctx) noexcept;
// 0 for one that was created while telemetry was off
LLAMA_OTEL_API int64_t llama_otel_context_id(const void * context) noexcept;
LLAMA_OTEL_API int64_t llama_otel_current_context_id() noexcept;
// `llama.decode.phase` of the batch that this thread last gave a context
LLAMA_OTEL_API const char * llama_otel_current_phase() noexcept;

// a context whose destructor runs, on the current span
LLAMA_OTEL_API void llama_otel_context_destroyed(const void * context, int64_t n_evaluated, int64_t t_eval_us) noexcept;

// What llama_memory_* does to the sequences of a context, which is named by its own address or by that of its memory.
// Positions as there: ranges are half open, a negative bound is none, a negative sequence is every one.
LLAMA_OTEL_API void llama_otel_seq_clear(const void * owner) noexcept;
LLAMA_OTEL_API void llama_otel_seq_rm   (const void * owner, int32_t seq, int32_t p0, int32_t p1) noexcept;
LLAMA_OTEL_API void llama_otel_seq_cp   (const void * owner, int32_t from, int32_t to, int32_t p0, int32_t p1) noexcept;
LLAMA_OTEL_API void llama_otel_seq_keep (const void * owner, int32_t seq) noexcept;
LLAMA_OTEL_API void llama_otel_seq_add  (const void * owner, int32_t seq, int32_t p0, int32_t p1, int32_t delta) noexcept;
LLAMA_OTEL_API void llama_otel_seq_div  (const void * owner, int32_t seq, int32_t p0, int32_t p1, int32_t divisor) noexcept;
// the content of a sequence (negative: of all) came from a saved state and now ends at this position (-1: empty or not known)
LLAMA_OTEL_API void llama_otel_state_loaded(const void * owner, int32_t seq, int32_t last) noexcept;
// bytes of a state, on the current span if it is one that saves or restores it
LLAMA_OTEL_API void llama_otel_state_size(size_t bytes) noexcept;

// a physical batch, whose span is the current one or is not recorded
LLAMA_OTEL_API void llama_otel_ubatch(int64_t n_tokens) noexcept;

// the current span is a model load that failed or was cancelled
LLAMA_OTEL_API void llama_otel_model_failed(std::string_view type, std::string_view message) noexcept;

// names of llama.cpp's and ggml's enumerators
LLAMA_OTEL_API const char * llama_otel_split_mode(int mode) noexcept;
LLAMA_OTEL_API const char * llama_otel_device_type(int type) noexcept;

inline bool llama_otel_path_wanted() noexcept {
    return (llama_otel_ctl.capture.load(std::memory_order_relaxed) & LLAMA_OTEL_CAPTURE_MODEL_PATH) != 0;
}

// Tokens (at least one) whose evaluation has ended now, from where llama.cpp itself accounts for them, and when it began. `now_us` and `start_us`
// are of ggml_time_us, `now_ns` is the same instant on the runtime's own clock.
LLAMA_OTEL_API void llama_otel_evaluated(const void * context, int64_t n_tokens, int64_t start_us, int64_t now_ns, int64_t now_us) noexcept;

#if defined(__linux__) // one clock, read once
#    define LLAMA_OTEL_TIME_US(now_ns) ((now_ns) / 1000)
#else
#    define LLAMA_OTEL_TIME_US(now_ns) ggml_time_us()
#endif

// Bytes that `owner` holds on a device, by kind: absolute. What its spans say; the metrics come from the buffers (otel-memory.h).
LLAMA_OTEL_API void llama_otel_memory_held(const void * owner, const char * device, const char * kind, size_t bytes) noexcept;
// returns the bytes that it held
LLAMA_OTEL_API size_t llama_otel_memory_released(const void * owner) noexcept;

// size of a model that is loaded, until it is freed
LLAMA_OTEL_API void llama_otel_model_held(const void * model, const char * name, size_t bytes) noexcept;
LLAMA_OTEL_API void llama_otel_model_freed(const void * model) noexcept;

#include "otel-memory.h"
#include "otel-ggml.h"
#include "otel-llama.h"
#include "otel-rpc.h"

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
#define LLAMA_OTEL_SPAN_WAIT(condition, level, name) LLAMA_OTEL_SPAN_IF(llama_otel_on() && (condition) && llama_otel_devices_busy(), level, name)
#define LLAMA_OTEL_SPAN_TIMED(level, name, metric)  LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_##level, LLAMA_OTEL_METRIC_##metric)
#define LLAMA_OTEL_SPAN_ONCE(level, name, metric)   LLAMA_OTEL_OPEN("" name, LLAMA_OTEL_DETAIL_##level, LLAMA_OTEL_METRIC_##metric, llama_otel_span::ONCE)
#define LLAMA_OTEL_SPAN_EXPORT_IF(condition)        LLAMA_OTEL_WITH_SPAN(export_if(condition))
#define LLAMA_OTEL_SPAN_DROP_IF(condition)                            \
    do {                                                              \
        llama_otel_span * otel_span_ = llama_otel_recording_span();   \
        if (otel_span_ && (condition)) {                              \
            otel_span_->drop();                                       \
        }                                                             \
    } while (0)
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
#define LLAMA_OTEL_EVALUATED(context, n_tokens, start_us)                                               \
    do {                                                                                               \
        if (llama_otel_on() && (n_tokens) > 0) {                                                       \
            const int64_t otel_now_ = llama_otel_now_ns();                                             \
            llama_otel_evaluated(context, n_tokens, start_us, otel_now_, LLAMA_OTEL_TIME_US(otel_now_)); \
        }                                                                                              \
    } while (0)
#define LLAMA_OTEL_BATCH(context, batch, n_tokens, n_outputs, embeddings) LLAMA_OTEL_IF_ON(llama_otel_decode_batch(context, batch, n_tokens, n_outputs, embeddings))
#define LLAMA_OTEL_ENCODE_BATCH(context, n_tokens)            LLAMA_OTEL_IF_ON(llama_otel_encode_batch(context, n_tokens))
#define LLAMA_OTEL_SEQ_CLEAR(owner)                           LLAMA_OTEL_IF_ON(llama_otel_seq_clear(owner))
#define LLAMA_OTEL_SEQ_RM(owner, seq, p0, p1)                 llama_otel_removal otel_removal_(owner, seq, p0, p1)
#define LLAMA_OTEL_SEQ_CP(owner, from, to, p0, p1)            LLAMA_OTEL_IF_ON(llama_otel_seq_cp(owner, from, to, p0, p1))
#define LLAMA_OTEL_SEQ_KEEP(owner, seq)                       LLAMA_OTEL_IF_ON(llama_otel_seq_keep(owner, seq))
#define LLAMA_OTEL_SEQ_ADD(owner, seq, p0, p1, delta)         LLAMA_OTEL_IF_ON(llama_otel_seq_add(owner, seq, p0, p1, delta))
#define LLAMA_OTEL_SEQ_DIV(owner, seq, p0, p1, divisor)       LLAMA_OTEL_IF_ON(llama_otel_seq_div(owner, seq, p0, p1, divisor))
#define LLAMA_OTEL_CONTEXT_DESTROYED(context, n, t_us)        LLAMA_OTEL_IF_ON(llama_otel_context_destroyed(context, n, t_us))
#define LLAMA_OTEL_MODEL_FAILED(type, message)      LLAMA_OTEL_IF_ON(llama_otel_model_failed(type, message))
#define LLAMA_OTEL_MODEL_REQUEST(file, params)      LLAMA_OTEL_IF_ON(llama_otel_model_request(file, params))
#define LLAMA_OTEL_MODEL_LOADED(model, loader)      LLAMA_OTEL_IF_ON(llama_otel_model_loaded(model, loader))
#define LLAMA_OTEL_CONTEXT_CREATED(context)         LLAMA_OTEL_IF_ON(llama_otel_context_created(context))
#define LLAMA_OTEL_MODEL_DATA(tensors)              LLAMA_OTEL_IF_ON(llama_otel_model_data(tensors))
#define LLAMA_OTEL_CONTEXT_REQUEST(params)          LLAMA_OTEL_IF_ON(llama_otel_context_request(params))
#define LLAMA_OTEL_MODEL_FREED(model)               LLAMA_OTEL_IF_ON(llama_otel_model_freed(model))
#define LLAMA_OTEL_UBATCH(n_tokens)                 LLAMA_OTEL_IF_ON(llama_otel_ubatch(n_tokens))
#define LLAMA_OTEL_STATE_SAVE(context, seq, path)   llama_otel_state_scope otel_state_("llama_state_save", false, context, seq, path)
#define LLAMA_OTEL_STATE_LOAD(context, seq, path)   llama_otel_state_scope otel_state_("llama_state_load", true, context, seq, path)
#define LLAMA_OTEL_STATE_SIZE(bytes)                LLAMA_OTEL_IF_ON(llama_otel_state_size(bytes))
#define LLAMA_OTEL_SAMPLER_APPLY(sampler, tokens)   llama_otel_sampling otel_sampling_(sampler, tokens)
#define LLAMA_OTEL_SAMPLER_CHAIN(samplers)          LLAMA_OTEL_IF_ON(llama_otel_sampler_chain(samplers))
#define LLAMA_OTEL_KV_CELLS(owner, streams, pool)   LLAMA_OTEL_IF_ON(llama_otel_kv_cells(owner, streams, pool, true))
#define LLAMA_OTEL_KV_CELLS_AFTER(streams, pool)    LLAMA_OTEL_AT_EXIT(LLAMA_OTEL_IF_ON(llama_otel_kv_cells(this, streams, pool, false)))
#define LLAMA_OTEL_KV_POOL(pool, streams, layers)   LLAMA_OTEL_AT_EXIT(LLAMA_OTEL_IF_ON(llama_otel_kv_pool(pool, streams, layers)))
#define LLAMA_OTEL_DEVICE(device)                   LLAMA_OTEL_IF_ON(llama_otel_device(device))
#define LLAMA_OTEL_DEVICES()                        LLAMA_OTEL_IF_ON(llama_otel_devices(ggml_backend_reg_count(), ggml_backend_dev_count(), ggml_backend_dev_get))
#define LLAMA_OTEL_DEVICE_MEMORY()                  LLAMA_OTEL_IF_ON(llama_otel_measure_device_memories(ggml_backend_dev_count(), ggml_backend_dev_get))

// guards: until the end of the enclosing block
#define LLAMA_OTEL_GUARD                            LLAMA_OTEL_CONCAT(otel_guard_, __COUNTER__)
#define LLAMA_OTEL_AT_EXIT(statement)               const llama_otel_at_exit LLAMA_OTEL_GUARD([&]() noexcept { statement; })
#define LLAMA_OTEL_MEMORY_KIND(kind)                const llama_otel_memory_kind LLAMA_OTEL_GUARD("" kind)
#define LLAMA_OTEL_ALLOCATION(buft, size)           const llama_otel_allocation LLAMA_OTEL_GUARD(llama_otel_on() && (buft) ? ggml_backend_buft_name(buft) : nullptr, size)
#define LLAMA_OTEL_BUFFER(buffer, buft, size)       LLAMA_OTEL_IF_ON(llama_otel_buffer_made(buffer, buft, size))
#define LLAMA_OTEL_BUFFER_FREED(buffer)             llama_otel_buffer_freed(buffer)
#define LLAMA_OTEL_GRAPH(sched, graph)              const llama_otel_graph LLAMA_OTEL_GUARD(sched, graph)
#define LLAMA_OTEL_GRAPH_REUSED()                   LLAMA_OTEL_IF_ON(llama_otel_graph_reused())
#define LLAMA_OTEL_GRAPH_STEP(step)                 LLAMA_OTEL_IF_ON(llama_otel_graph_step(LLAMA_OTEL_GRAPH_##step))
#define LLAMA_OTEL_SPLIT(sched, backend)            const llama_otel_split LLAMA_OTEL_GUARD(sched, backend, [](int op) { return LLAMA_OTEL_IS_WORK(op); })
#define LLAMA_OTEL_WAIT(backend)                    const llama_otel_wait LLAMA_OTEL_GUARD(backend)
#define LLAMA_OTEL_RPC_CARRY(...)                   LLAMA_OTEL_IF_ON(llama_otel_rpc_carry(__VA_ARGS__))
#define LLAMA_OTEL_RPC_WHOLE(reuse)                 LLAMA_OTEL_IF_ON((reuse) = (reuse) && !llama_otel_rpc_carries())
#define LLAMA_OTEL_RPC_GRAPH(message, end, n_nodes, backend)                              \
    const llama_otel_rpc_parent otel_rpc_parent_(message, end);                           \
    LLAMA_OTEL_SPAN_IF(otel_rpc_parent_.is_given(), DECODE, "llama_rpc_graph_compute");   \
    LLAMA_OTEL_ADD_ATTRIBUTES("llama.graph.nodes", n_nodes, "llama.device.name", ggml_backend_name(backend))

#endif // __cplusplus

#else // the empty twins: what is left is an empty statement, so that the object code is upstream's

#define LLAMA_OTEL_START(...)
#define LLAMA_OTEL_FLUSH(...)
#define LLAMA_OTEL_SPAN(...)
#define LLAMA_OTEL_SPAN_AT(...)
#define LLAMA_OTEL_SPAN_IF(...)
#define LLAMA_OTEL_SPAN_WAIT(...)
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
#define LLAMA_OTEL_ENCODE_BATCH(...)
#define LLAMA_OTEL_SEQ_CLEAR(...)
#define LLAMA_OTEL_SEQ_RM(...)
#define LLAMA_OTEL_SEQ_CP(...)
#define LLAMA_OTEL_SEQ_KEEP(...)
#define LLAMA_OTEL_SEQ_ADD(...)
#define LLAMA_OTEL_SEQ_DIV(...)
#define LLAMA_OTEL_CONTEXT_DESTROYED(...)
#define LLAMA_OTEL_MODEL_FAILED(...)
#define LLAMA_OTEL_MODEL_REQUEST(...)
#define LLAMA_OTEL_MODEL_LOADED(...)
#define LLAMA_OTEL_CONTEXT_CREATED(...)
#define LLAMA_OTEL_MODEL_DATA(...)
#define LLAMA_OTEL_CONTEXT_REQUEST(...)
#define LLAMA_OTEL_MODEL_FREED(...)
#define LLAMA_OTEL_UBATCH(...)
#define LLAMA_OTEL_STATE_SAVE(...)
#define LLAMA_OTEL_STATE_LOAD(...)
#define LLAMA_OTEL_STATE_SIZE(...)
#define LLAMA_OTEL_SAMPLER_APPLY(...)
#define LLAMA_OTEL_SAMPLER_CHAIN(...)
#define LLAMA_OTEL_SPAN_DROP_IF(...)
#define LLAMA_OTEL_KV_CELLS(...)
#define LLAMA_OTEL_DEVICE(...)
#define LLAMA_OTEL_DEVICES(...)
#define LLAMA_OTEL_KV_CELLS_AFTER(...)
#define LLAMA_OTEL_KV_POOL(...)
#define LLAMA_OTEL_DEVICE_MEMORY(...)
#define LLAMA_OTEL_MEMORY_KIND(...)
#define LLAMA_OTEL_ALLOCATION(...)
#define LLAMA_OTEL_BUFFER(...)
#define LLAMA_OTEL_BUFFER_FREED(...)
#define LLAMA_OTEL_GRAPH(...)
#define LLAMA_OTEL_GRAPH_REUSED(...)
#define LLAMA_OTEL_GRAPH_STEP(...)
#define LLAMA_OTEL_SPLIT(...)
#define LLAMA_OTEL_WAIT(...)
#define LLAMA_OTEL_RPC_CARRY(...)
#define LLAMA_OTEL_RPC_WHOLE(...)
#define LLAMA_OTEL_RPC_GRAPH(...)
#define LLAMA_OTEL_LOG(...)
#define LLAMA_OTEL_OPS(...)
#define LLAMA_OTEL_OP(...)
#define LLAMA_OTEL_OPS_END(...)

#endif
