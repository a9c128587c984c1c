// The runtime behind otel.h: the stack of open spans, their ids, and the one backend that takes what they record.

#include "context.h"
#include "log.h"
#include "propagation.h"

#include <cstdio>
#include <ctime>
#include <exception>
#include <map>
#include <mutex>
#include <random>
#include <tuple>

#if defined(__GLIBCXX__)
#    include <cxxabi.h>
#endif

#ifndef LLAMA_OTEL_LLAMA_VERSION
#    define LLAMA_OTEL_LLAMA_VERSION "unknown"
#endif
#ifndef LLAMA_OTEL_LLAMA_COMMIT
#    define LLAMA_OTEL_LLAMA_COMMIT "unknown"
#endif
#ifndef LLAMA_OTEL_GGML_VERSION
#    define LLAMA_OTEL_GGML_VERSION "unknown"
#endif
#ifndef LLAMA_OTEL_LLAMA_BUILD_NUMBER
#    define LLAMA_OTEL_LLAMA_BUILD_NUMBER 0
#endif
#ifndef LLAMA_OTEL_GGML_BACKENDS
#    define LLAMA_OTEL_GGML_BACKENDS ""
#endif

int64_t llama_otel_now_ns(void) noexcept {
#if defined(__linux__)
    // the same clock, without the call in between: it is read six times for a token
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
#else
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

llama_otel_control llama_otel_ctl = {
    { LLAMA_OTEL_DETAIL_OFF },
    { 0 },
    { UINT64_MAX },
    llama_otel_now_ns,
    LLAMA_OTEL_LLAMA_VERSION,
    LLAMA_OTEL_LLAMA_COMMIT,
    LLAMA_OTEL_GGML_VERSION,
    LLAMA_OTEL_LLAMA_BUILD_NUMBER,
    LLAMA_OTEL_GGML_BACKENDS,
    { 1 },
    { LLAMA_OTEL_PROPAGATOR_TRACECONTEXT | LLAMA_OTEL_PROPAGATOR_BAGGAGE },
    { nullptr },
    { nullptr },
    llama_otel_make_parent,
    llama_otel_swap_parent,
    llama_otel_free_parent,
    llama_otel_set_parent,
    llama_otel_end_generations,
    llama_otel_hand_over,
    llama_otel_observe,
    llama_otel_tell_counts,
};

// a strong reference, so that a link without the backend fails instead of being silent
#if defined(LLAMA_OTEL_BACKEND_RUST)
extern "C" const llama_otel_backend * llama_otel_backend_rust(void); // defined by the otel-shim crate
#    define LLAMA_OTEL_BUILT_FOR llama_otel_backend_rust
#elif defined(LLAMA_OTEL_BACKEND_CPP)
extern "C" const llama_otel_backend * llama_otel_backend_cpp(void); // defined by the library llama-otel-cpp
#    define LLAMA_OTEL_BUILT_FOR llama_otel_backend_cpp
#endif

// plain data, so that no thread pays for a constructor or a destructor
struct llama_otel_thread {
    llama_otel_span * innermost;
    uint64_t          trace_id_hi;
    uint64_t          trace_id_lo;
    uint64_t          span_id; // of the innermost exported span
    uint64_t          random;  // state of the id generator, 0: not seeded
    const int *       n_uncaught; // exceptions, as the C++ library counts them for the thread; null: not asked for yet
    bool              sampled;    // of the open trace
    int64_t           deadline_ns; // what this thread does shall have ended by then, 0: none
    const llama_otel_origin * origin; // of the open trace, kept

    // what was recorded in the open spans: handed over together, which costs little more than one record by itself
    bool              is_holding;
    uint32_t          n_held; // bytes
    alignas(8) unsigned char held[LLAMA_OTEL_MAX_HELD]; // entries, each of whole words
};

namespace {

// What lasts longer than this hands over what was recorded in it, so that nothing is late by more.
constexpr int64_t MAX_HELD_NS = 1000000;

std::atomic<const llama_otel_backend *> backend{ nullptr };

thread_local llama_otel_thread thread;

// splitmix64, seeded from the system once per thread: ids need uniqueness, not secrecy
uint64_t next_random(llama_otel_thread & t) noexcept {
    if (LLAMA_OTEL_UNLIKELY(t.random == 0)) {
        uint64_t seed = (uint64_t) llama_otel_now_ns() ^ (uint64_t) (uintptr_t) &t;
        try {
            std::random_device device;
            seed ^= ((uint64_t) device() << 32) | device();
        } catch (...) { // the clock and the address of the thread's state must do
        }
        t.random = seed | 1;
    }
    uint64_t z = (t.random += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return z ? z : 1;
}

// std::uncaught_exceptions without the calls that it takes, of which a batch would need four: the library's own counter, which lies
// where the Itanium C++ ABI says (2.2.2, __cxa_eh_globals)
inline int n_uncaught(llama_otel_thread & t) noexcept {
#if defined(__GLIBCXX__)
    if (LLAMA_OTEL_UNLIKELY(!t.n_uncaught)) {
        struct globals {
            void * caught;
            int    n_uncaught;
        };
        t.n_uncaught = &reinterpret_cast<const globals *>(abi::__cxa_get_globals())->n_uncaught;
    }
    return *t.n_uncaught;
#else
    (void) t;
    return std::uncaught_exceptions();
#endif
}

bool is_sampled(uint64_t trace_id_lo) noexcept {
    return (trace_id_lo >> 1) < llama_otel_ctl.sample_threshold.load(std::memory_order_relaxed);
}

// whole words, several at a time; the call of memcpy would take longer
inline unsigned char * copy_words(unsigned char * to, const void * from, size_t size) noexcept {
    const unsigned char * word = static_cast<const unsigned char *>(from);
    for (; size >= 32; size -= 32, word += 32, to += 32) {
        memcpy(to, word, 32);
    }
    for (; size != 0; size -= 8, word += 8, to += 8) {
        memcpy(to, word, 8);
    }
    return to;
}

constexpr uint32_t whole_words(uint32_t bytes) noexcept { return (bytes + 7) & ~7u; }

// whether records wait until the spans of this thread end; else there are none, or the backend takes records one by one
inline bool is_held_back(const llama_otel_thread & t, const llama_otel_backend * b) noexcept { return (t.innermost || t.n_held > 0) && b->entries; }

// room for `size` bytes in what is held back; null: a signal handler interrupts one that is written
inline unsigned char * reserve(llama_otel_thread & t, size_t size) noexcept {
    if (t.is_holding) {
        return nullptr;
    }
    if (t.n_held + size > sizeof(t.held)) {
        llama_otel_hand_over();
    }
    t.is_holding = true;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return t.held + t.n_held;
}

inline void release(llama_otel_thread & t, uint32_t n_held) noexcept {
    t.n_held = n_held;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    t.is_holding = false;
}

template <typename Record> void hold(llama_otel_thread & t, llama_otel_entry_kind kind, const llama_otel_buffer<Record> & data) noexcept {
    const llama_otel_entry head = { kind, (uint32_t) data.size(), whole_words(data.n_strings), 0 };
    const size_t           size = sizeof(head) + head.record + head.strings;
    unsigned char * to = reserve(t, size);
    if (!to) {
        return;
    }
    memcpy(to, &head, sizeof(head));
    unsigned char * strings = copy_words(to + sizeof(head), &data.record, head.record);
    if (head.strings > 0) {
        memset(strings + head.strings - 8, 0, 8);
        memcpy(strings, data.strings, data.n_strings);
    }
    release(t, t.n_held + (uint32_t) size);
}

// slower than four times the mean of those before, which takes this one in
bool is_slow(std::atomic<int64_t> & running_mean, int64_t ns) noexcept {
    const int64_t mean = running_mean.load(std::memory_order_relaxed);
    running_mean.store(mean == 0 ? ns : mean + (ns - mean) / 16, std::memory_order_relaxed);
    return mean != 0 && ns > 4 * mean;
}

} // namespace

void llama_otel_hand_over_after(int64_t ns) noexcept {
    if (ns > MAX_HELD_NS) {
        llama_otel_hand_over();
    }
}

void llama_otel_hand_over() noexcept {
    llama_otel_thread & t = thread;
    if (t.n_held == 0 || t.is_holding) {
        return;
    }
    const uint32_t size = t.n_held;
    t.n_held = 0;
    if (const llama_otel_backend * b = backend.load(std::memory_order_acquire)) {
        b->entries(t.held, size);
    }
}

void llama_otel_observe(void (* tell)(void *, const llama_otel_metric_record *, size_t), void * to) noexcept {
    const llama_otel_observer observer = { tell, to };
    llama_otel_observe_cells(observer);
    llama_otel_observe_contexts(observer);
}

uint64_t llama_otel_next_id() noexcept { return next_random(thread); }

bool llama_otel_is_sampled(uint64_t trace_id_lo) noexcept { return is_sampled(trace_id_lo); }

//
// backend
//

bool llama_otel_register(const llama_otel_backend * candidate) {
    const llama_otel_backend * none = nullptr;
    if (!candidate || candidate->abi_version != LLAMA_OTEL_ABI_VERSION || candidate->registry_fingerprint != LLAMA_OTEL_REGISTRY_FINGERPRINT ||
        !backend.compare_exchange_strong(none, candidate)) {
        return false;
    }
    if (candidate->attach) {
        candidate->attach(&llama_otel_ctl);
    }
    return true;
}

#ifdef LLAMA_OTEL_BUILT_FOR
// before main, so that a program can give parents and providers before its first call of llama.cpp
static const bool registered = llama_otel_register(LLAMA_OTEL_BUILT_FOR());
#endif

void llama_otel_start(void) {
#ifdef LLAMA_OTEL_BUILT_FOR
    if (!registered && !backend.load()) {
        static const int once = fprintf(stderr, "llama-otel: telemetry is off: the backend was built from another version of otel-backend.h\n");
        (void) once;
    }
#endif
    if (const llama_otel_backend * b = backend.load()) {
        const bool was_on = llama_otel_on();
        b->start(&llama_otel_ctl);
        if (!was_on && llama_otel_on()) {
            llama_otel_memory_restarted();
        }
    }
}

// The mark of an instrumented library. Its name tells the version of the ABI: what needs another one, or meets upstream's own
// library, does not link. Its text is found in a program's file too.
#define LLAMA_OTEL_MARK_TEXT_(version) "llama-otel: instrumented, ABI " #version ", llama.cpp " LLAMA_OTEL_LLAMA_VERSION ", " LLAMA_OTEL_LLAMA_COMMIT "."
#define LLAMA_OTEL_MARK_NAME_(version) llama_otel_instrumented_abi_##version
#define LLAMA_OTEL_MARK_(version) \
    extern "C" LLAMA_OTEL_API const char * LLAMA_OTEL_MARK_NAME_(version)(void) { return LLAMA_OTEL_MARK_TEXT_(version); }
#define LLAMA_OTEL_MARK(version) LLAMA_OTEL_MARK_(version)
LLAMA_OTEL_MARK(LLAMA_OTEL_ABI_VERSION)

bool llama_otel_flush(uint32_t timeout_ms) {
    llama_otel_hand_over();
    const llama_otel_backend * b = backend.load();
    return !b || b->flush(timeout_ms);
}

bool llama_otel_shutdown(uint32_t timeout_ms) {
    llama_otel_hand_over();
    llama_otel_ctl.detail.store(LLAMA_OTEL_DETAIL_OFF);
    const llama_otel_backend * b = backend.load();
    return !b || b->shutdown(timeout_ms);
}

void llama_otel_set_detail(uint32_t detail) {
    const llama_otel_backend * b = backend.load();
    const uint32_t level = detail <= LLAMA_OTEL_DETAIL_OP ? detail : (uint32_t) LLAMA_OTEL_DETAIL_OP;
    if (b && b->set_detail) {
        b->set_detail(level);
    } else if (llama_otel_on()) {
        llama_otel_ctl.detail.store(level);
    }
}

uint32_t llama_otel_get_detail(void) { return llama_otel_ctl.detail.load(); }

bool llama_otel_set_export(bool on) {
    const llama_otel_backend * b = backend.load();
    return b && b->set_export ? b->set_export(on) : on == llama_otel_on();
}

bool llama_otel_is_active(void) {
    const llama_otel_backend * b = backend.load();
    return b && b->is_active ? b->is_active() : llama_otel_on();
}

uint64_t llama_otel_dropped(const char * signal, const char * reason) {
    const llama_otel_backend * b = backend.load();
    return b && b->dropped ? b->dropped(signal, reason) : 0;
}

//
// spans
//

void llama_otel_span::begin(const char * name, llama_otel_detail level, uint16_t metric, kind kind) noexcept {
    llama_otel_thread & t = thread;

    if (kind == ONCE && t.innermost && strcmp(t.innermost->data.record.name, name) == 0) {
        return;
    }

    outer        = t.innermost;
    t.innermost  = this;
    may_skip     = false;
    in_trace     = false;
    root         = false;
    error        = nullptr;
    context      = nullptr;
    n_ubatches   = 0;
    n_reused     = 0;
    n_allocated  = 0;
    ended_ns     = 0;
    full_pool    = false;
    running_mean = nullptr;
    private_path = std::string_view();

    data.record.name            = name;
    data.record.metric          = metric;
    data.record.n_links_dropped = 0;
    data.record.n_attrs         = 0;
    data.record.n_attrs_dropped = 0;
    data.record.n_links         = 0;
    data.record.flags           = 0;
    data.record.message         = { 0, 0 };
    data.n_strings              = 0;

    // below the level of detail, or not sampled, only a span with a histogram is timed
    state = metric == LLAMA_OTEL_NO_METRIC && t.deadline_ns == 0 ? STATE_MUTE : STATE_RECORDING;

    if (llama_otel_ctl.detail.load(std::memory_order_relaxed) >= level) {
        join_trace(t);
    }
    n_exceptions = n_uncaught(t);
    // a root may turn out to be sampled when its context is known
    if (state == STATE_RECORDING || (root && llama_otel_any_context_parent())) {
        data.record.start_ns = llama_otel_now_ns();
    }
}

// takes a place in the open trace, or begins one
void llama_otel_span::join_trace(llama_otel_thread & t) noexcept {
    in_trace = true;
    if (t.span_id == 0) {
        root = true;
        data.record.span_id = next_random(t);
        join_given(t, llama_otel_given_parent(llama_otel_current_context(), -1));
        return;
    }
    data.record.trace_id_hi    = t.trace_id_hi;
    data.record.trace_id_lo    = t.trace_id_lo;
    data.record.parent_span_id = t.span_id;
    data.record.span_id        = next_random(t);
    t.span_id                  = data.record.span_id;

    if (t.sampled) {
        data.record.flags = LLAMA_OTEL_FLAG_EXPORT;
        state             = STATE_RECORDING;
    }
}

// a root: of a trace of its own, or a child of what the program gave
void llama_otel_span::join_given(llama_otel_thread & t, const llama_otel_parent & parent) noexcept {
    const bool given = parent.span_id != 0;

    data.record.trace_id_hi    = given ? parent.trace_id_hi : next_random(t);
    data.record.trace_id_lo    = given ? parent.trace_id_lo : next_random(t);
    data.record.parent_span_id = parent.span_id;

    t.trace_id_hi = data.record.trace_id_hi;
    t.trace_id_lo = data.record.trace_id_lo;
    t.span_id     = data.record.span_id;
    t.sampled     = given && llama_otel_ctl.parent_based.load(std::memory_order_relaxed) ? parent.sampled : is_sampled(t.trace_id_lo);
    if (t.origin) { // no call for what nearly never is there
        llama_otel_release(t.origin);
    }
    t.origin = parent.origin;

    data.record.flags = (uint8_t) ((data.record.flags & LLAMA_OTEL_FLAG_ERROR) | LLAMA_OTEL_FLAG_LOCAL_ROOT | (given && parent.remote ? LLAMA_OTEL_FLAG_REMOTE_PARENT : 0));
    if (t.sampled) {
        data.record.flags |= LLAMA_OTEL_FLAG_EXPORT;
        state              = STATE_RECORDING;
    } else if (data.record.metric == LLAMA_OTEL_NO_METRIC) {
        state = STATE_MUTE;
    }
}

void llama_otel_span::adopt(const void * context, int32_t seq) noexcept {
    llama_otel_thread & t = thread;
    if (!root || t.span_id != data.record.span_id) {
        return;
    }
    llama_otel_parent parent = llama_otel_given_parent(context, seq);
    if (parent.span_id == data.record.parent_span_id && (parent.span_id == 0 || (parent.trace_id_hi == data.record.trace_id_hi && parent.trace_id_lo == data.record.trace_id_lo))) {
        llama_otel_release(parent.origin);
        return; // it has that place already
    }
    join_given(t, parent);
}

void llama_otel_span::end() noexcept {
    finish();
    if (!outer) {
        if (thread.n_held > 0) {
            llama_otel_hand_over();
        }
    } else if (state == STATE_RECORDING) {
        llama_otel_hand_over_after(data.record.end_ns - data.record.start_ns);
    }
}

void llama_otel_span::finish() noexcept {
    llama_otel_thread & t = thread;

    if (LLAMA_OTEL_UNLIKELY(n_uncaught(t) > n_exceptions) && !(data.record.flags & LLAMA_OTEL_FLAG_ERROR)) {
        llama_otel_span * innermost = t.innermost;
        t.innermost = this;
        if (context || strcmp(data.record.name, "llama_encode") == 0) {
            error = "exception";
            add("llama.decode.status", error);
        }
        llama_otel_set_error("exception", "left by an exception");
        t.innermost = innermost;
    }
    t.innermost = outer;

    const llama_otel_kept_origin origin(t.origin, root);
    if (root) {
        t.span_id = 0;
        t.origin  = nullptr;
    } else if (in_trace) {
        t.span_id = data.record.parent_span_id;
    }
    if (state != STATE_RECORDING && !context) {
        return;
    }

    data.record.end_ns = ended_ns ? ended_ns : llama_otel_now_ns();

    const bool late = t.deadline_ns != 0 && !outer && data.record.end_ns > t.deadline_ns;
    if (late) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_TIMEOUT_COUNT, 1, "llama.operation", data.record.name, "error.type", "timeout");
        add("llama.deadline.exceeded", true);
    }
    const bool slow = running_mean && is_slow(*running_mean, data.record.end_ns - data.record.start_ns);
    if (may_skip && !slow && !late && !(data.record.flags & LLAMA_OTEL_FLAG_ERROR) && llama_otel_ctl.detail.load(std::memory_order_relaxed) < LLAMA_OTEL_DETAIL_DECODE) {
        data.record.flags &= ~LLAMA_OTEL_FLAG_EXPORT;
    }
    if (n_ubatches > 0 && (data.record.flags & LLAMA_OTEL_FLAG_EXPORT)) {
        add("llama.batch.n_ubatches", n_ubatches, "llama.graph.reused", n_reused == n_ubatches);
    }
    if (n_allocated > 0 && (data.record.flags & LLAMA_OTEL_FLAG_EXPORT)) {
        add("llama.memory.size", n_allocated);
    }
    if (context) {
        llama_otel_batch_ended(*context, data, error);
    }
    if (!(data.record.flags & LLAMA_OTEL_FLAG_EXPORT) && data.record.metric == LLAMA_OTEL_NO_METRIC) {
        return;
    }
    llama_otel_put_origin(data, origin.origin, root);
    llama_otel_submit_span(data);
}

llama_otel_span * llama_otel_current_span() noexcept {
    llama_otel_span * span = thread.innermost;
    return span && span->state == llama_otel_span::STATE_RECORDING ? span : nullptr;
}

llama_otel_parent llama_otel_parent_for(const void * context, int32_t seq, const llama_otel_span_record * batch) noexcept {
    if (!batch || llama_otel_any_context_parent()) {
        const llama_otel_parent given = llama_otel_given_parent(context, seq);
        if (given.span_id != 0 || !batch) {
            return given;
        }
    }
    llama_otel_keep(thread.origin);
    // the batch is one of several that serve the generation, so it is its sibling
    return { batch->trace_id_hi, batch->trace_id_lo, batch->parent_span_id, thread.sampled, (batch->flags & LLAMA_OTEL_FLAG_REMOTE_PARENT) != 0, thread.origin };
}

llama_otel_span * llama_otel_open_span() noexcept { return thread.innermost; }

void llama_otel_set_error(std::string_view type, std::string_view message) noexcept {
    llama_otel_span * span = thread.innermost;

    if (span && (span->data.record.flags & LLAMA_OTEL_FLAG_ERROR)) {
        return; // the first error is the cause, the others its consequences
    }
    const char * operation = span ? span->data.record.name : "_OTHER";
    const bool   stopped   = type == "aborted" || type == "cancelled"; // by a callback of the program's
    if (stopped && thread.deadline_ns != 0 && llama_otel_now_ns() > thread.deadline_ns) {
        type    = "timeout";
        message = "stopped by the program after its deadline";
    }
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_ERROR_COUNT, 1, "llama.operation", operation, "error.type", type);
    if (stopped) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_CANCELLATION_COUNT, 1, "llama.operation", operation, "error.type", type);
    }

    if (span) {
        span->data.record.flags |= LLAMA_OTEL_FLAG_ERROR;
        span->add("error.type", type);
        try {
            span->data.record.message = span->data.copy(llama_otel_public_text(message, llama_otel_private_path()));
        } catch (...) { // no memory for the text: the type says enough
        }
    }
}

std::string_view llama_otel_private_path() noexcept {
    const llama_otel_span * span = thread.innermost;
    while (span && span->private_path.empty()) {
        span = span->outer;
    }
    return span ? span->private_path : std::string_view();
}

void llama_otel_set_deadline(uint64_t timeout_ms) noexcept {
    // a time that never comes is none
    constexpr uint64_t longest_ms = 1000ull * 86400 * 365;
    thread.deadline_ns = timeout_ms == 0 || timeout_ms > longest_ms ? 0 : llama_otel_now_ns() + (int64_t) timeout_ms * 1000000;
}

void llama_otel_submit_event(llama_otel_buffer<llama_otel_event_record> & data) noexcept {
    const llama_otel_thread & t = thread;
    if (t.span_id != 0 && t.sampled) {
        data.record.trace_id_hi = t.trace_id_hi;
        data.record.trace_id_lo = t.trace_id_lo;
        data.record.span_id     = t.span_id;
    }
    data.record.time_ns = llama_otel_now_ns();
    const llama_otel_backend * b = backend.load(std::memory_order_acquire);
    if (!b || !b->event || (data.record.span_id == 0 && data.record.severity == 0)) {
        return;
    }
    if (!is_held_back(thread, b)) {
        b->event(&data.record, data.size(), data.strings, data.n_strings);
        return;
    }
    hold(thread, LLAMA_OTEL_ENTRY_EVENT, data);
    if (data.record.severity != 0) {
        llama_otel_hand_over(); // the program may end over it
    }
}

void llama_otel_set_decode_status(int code) noexcept {
    switch (code) {
        case  0: break;
        case  1: llama_otel_set_batch_error("no_kv_slot",     "no slot in the KV cache for this batch");    break;
        case  2: llama_otel_set_batch_error("aborted",        "aborted by the abort callback");             break;
        case -1: llama_otel_set_batch_error("invalid_batch",  "invalid batch");                             break;
        case -2: llama_otel_set_batch_error("alloc_failed",   "memory could not be prepared or allocated"); break;
        case -3: llama_otel_set_batch_error("compute_failed", "graph computation failed");                  break;
        default: llama_otel_set_batch_error("_OTHER",         "unknown return code");                       break;
    }
}

void llama_otel_set_batch_error(const char * type, const char * message) noexcept {
    llama_otel_span * span = thread.innermost;
    if (span && !(span->data.record.flags & LLAMA_OTEL_FLAG_ERROR)) {
        span->error = type;
        span->add("llama.decode.status", type);
    }
    llama_otel_set_error(type, message);
}

void llama_otel_model_failed(std::string_view type, std::string_view message) noexcept {
    llama_otel_set_error(type, message);
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.model.load.outcome", type == "cancelled" ? "cancelled" : "error");
    }
}

const char * llama_otel_split_mode(int mode) noexcept {
    static const char * const names[] = { "none", "layer", "row", "tensor" };
    return mode >= 0 && mode < 4 ? names[mode] : "_OTHER";
}

const char * llama_otel_device_type(int type) noexcept {
    static const char * const names[] = { "cpu", "gpu", "igpu", "accel", "meta" };
    return type >= 0 && type < 5 ? names[type] : "_OTHER";
}

void llama_otel_set_ggml_status(int status) noexcept {
    // ggml_status: -2 allocation failed, -1 failed, 0 success, 1 aborted
    llama_otel_set_decode_status(status == 0 ? 0 : status == 1 ? 2 : status == -2 ? -2 : -3);
}

//
// metrics
//

void llama_otel_submit_span(llama_otel_buffer<llama_otel_span_record> & data) noexcept {
    if (data.record.n_links > 0) {
        data.pack_links();
    }
    const llama_otel_backend * b = backend.load(std::memory_order_acquire);
    if (b && is_held_back(thread, b)) {
        hold(thread, LLAMA_OTEL_ENTRY_SPAN, data);
    } else if (b) {
        b->span(&data.record, data.size(), data.strings, data.n_strings);
    }
}

llama_otel_entry * llama_otel_reserve(size_t size) noexcept { return reinterpret_cast<llama_otel_entry *>(reserve(thread, size)); }

void llama_otel_commit(llama_otel_entry * entry) noexcept {
    llama_otel_thread & t = thread;
    const auto * record  = reinterpret_cast<const llama_otel_metric_record *>(entry + 1);
    const char * strings = reinterpret_cast<const char *>(entry + 1) + entry->record;
    const llama_otel_backend * b = backend.load(std::memory_order_acquire);
    if (b && is_held_back(t, b)) {
        release(t, t.n_held + (uint32_t) sizeof(*entry) + entry->record + entry->strings);
        return;
    }
    if (b && b->entries) {
        b->entries(entry, sizeof(*entry) + entry->record + entry->strings);
    } else if (b) {
        b->metric(record, entry->record, strings, entry->strings);
    }
    release(t, t.n_held);
}

namespace {

struct held_memory {
    std::mutex mutex;
    std::map<std::tuple<const void *, std::string, std::string>, size_t> bytes; // (owner, device, kind)
    std::map<const void *, std::pair<std::string, size_t>> models;
};

// never destroyed: contexts may be freed by static destructors
held_memory & held() {
    static held_memory * instance = new held_memory;
    return *instance;
}

} // namespace

void llama_otel_memory_held(const void * owner, const char * device, const char * kind, size_t bytes) noexcept {
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        all.bytes[{ owner, device, kind }] = bytes;
    } catch (...) { // no memory: this figure is lost, inference is not
    }
}

size_t llama_otel_memory_released(const void * owner) noexcept {
    size_t released = 0;
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        for (auto it = all.bytes.lower_bound({ owner, "", "" }); it != all.bytes.end() && std::get<0>(it->first) == owner;) {
            released += it->second;
            it = all.bytes.erase(it);
        }
    } catch (...) {
    }
    return released;
}

void llama_otel_model_held(const void * model, const char * name, size_t bytes) noexcept {
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        auto & [held_name, held_bytes] = all.models[model];
        held_name  = name;
        held_bytes = bytes;
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MODEL_LOAD_SIZE, bytes, "llama.model.name", held_name);
    } catch (...) {
    }
}

void llama_otel_model_freed(const void * model) noexcept {
    const size_t released = llama_otel_memory_released(model);
    llama_otel_span * span = llama_otel_current_span();
    if (span) {
        span->add("llama.memory.size", released);
    }
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        const auto found = all.models.find(model);
        if (found == all.models.end()) {
            return;
        }
        const auto & [name, bytes] = found->second;
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MODEL_LOAD_SIZE, -(int64_t) bytes, "llama.model.name", name);
        if (span) {
            span->add("llama.model.name", name);
        }
        all.models.erase(found);
    } catch (...) {
    }
}
