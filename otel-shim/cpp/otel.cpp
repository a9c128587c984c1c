// The runtime behind otel.h: the stack of open spans, their ids, and the one backend that takes what they record.

#include "otel.h"

#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <random>
#include <tuple>

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

static int64_t now_ns() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

llama_otel_control llama_otel_ctl = {
    { LLAMA_OTEL_DETAIL_OFF },
    { 0 },
    { UINT64_MAX },
    now_ns,
    LLAMA_OTEL_LLAMA_VERSION,
    LLAMA_OTEL_LLAMA_COMMIT,
    LLAMA_OTEL_GGML_VERSION,
    LLAMA_OTEL_LLAMA_BUILD_NUMBER,
};

#ifdef LLAMA_OTEL_BACKEND_RUST
// defined by the otel-shim crate; a strong reference, so that a link without it fails instead of being silent
extern "C" const llama_otel_backend * llama_otel_backend_rust(void);
#endif

// plain data, so that no thread pays for a constructor or a destructor
struct llama_otel_thread {
    llama_otel_span * innermost;
    uint64_t          trace_id_hi;
    uint64_t          trace_id_lo;
    uint64_t          span_id; // of the innermost exported span
    uint64_t          random;  // state of the id generator, 0: not seeded
    int64_t           context_id; // of the context that this thread last gave a batch
    bool              sampled;    // of the open trace
};

namespace {

std::atomic<const llama_otel_backend *> backend{ nullptr };

thread_local llama_otel_thread thread;

// splitmix64, seeded from the system once per thread: ids need uniqueness, not secrecy
uint64_t next_random(llama_otel_thread & t) noexcept {
    if (LLAMA_OTEL_UNLIKELY(t.random == 0)) {
        uint64_t seed = (uint64_t) now_ns() ^ (uint64_t) (uintptr_t) &t;
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

// slower than four times the mean of those before, which takes this one in
bool is_slow(std::atomic<int64_t> & running_mean, int64_t ns) noexcept {
    const int64_t mean = running_mean.load(std::memory_order_relaxed);
    running_mean.store(mean == 0 ? ns : mean + (ns - mean) / 16, std::memory_order_relaxed);
    return mean != 0 && ns > 4 * mean;
}

// "…/folder/file" → "…" + "file", so that no folder name leaves the process with an error text
std::string without_folder(std::string_view text, std::string_view path) {
    std::string out(text);
    const size_t slash = path.find_last_of("/\\");
    if (path.empty() || slash == std::string_view::npos) {
        return out;
    }
    const std::string_view file = path.substr(slash + 1);
    for (size_t at = 0; (at = out.find(path, at)) != std::string::npos; at += file.size()) {
        out.replace(at, path.size(), file);
    }
    return out;
}

} // namespace

//
// backend
//

bool llama_otel_register(const llama_otel_backend * candidate) {
    const llama_otel_backend * none = nullptr;
    return candidate && candidate->abi_version == LLAMA_OTEL_ABI_VERSION &&
        candidate->registry_fingerprint == LLAMA_OTEL_REGISTRY_FINGERPRINT && backend.compare_exchange_strong(none, candidate);
}

void llama_otel_start(void) {
#ifdef LLAMA_OTEL_BACKEND_RUST
    static const bool registered = llama_otel_register(llama_otel_backend_rust());
    if (!registered && !backend.load()) {
        static const int once = fprintf(stderr, "llama-otel: telemetry is off: the backend was built from another version of otel-backend.h\n");
        (void) once;
    }
#endif
    if (const llama_otel_backend * b = backend.load()) {
        b->start(&llama_otel_ctl);
    }
}

bool llama_otel_flush(uint32_t timeout_ms) {
    const llama_otel_backend * b = backend.load();
    return !b || b->flush(timeout_ms);
}

bool llama_otel_shutdown(uint32_t timeout_ms) {
    llama_otel_ctl.detail.store(LLAMA_OTEL_DETAIL_OFF);
    const llama_otel_backend * b = backend.load();
    return !b || b->shutdown(timeout_ms);
}

void llama_otel_set_detail(uint32_t detail) {
    if (llama_otel_on()) {
        llama_otel_ctl.detail.store(detail <= LLAMA_OTEL_DETAIL_OP ? detail : (uint32_t) LLAMA_OTEL_DETAIL_OP);
    }
}

//
// spans
//

void llama_otel_span::begin(const char * name, llama_otel_detail level, uint16_t metric, kind kind) noexcept {
    llama_otel_thread & t = thread;

    if (kind == ONCE && t.innermost && strcmp(t.innermost->data.record.name, name) == 0) {
        return;
    }

    outer       = t.innermost;
    t.innermost = this;

    data.record.name            = name;
    data.record.metric          = metric;
    data.record.n_attrs         = 0;
    data.record.n_attrs_dropped = 0;
    data.record.flags           = 0;
    data.record.reserved        = 0;
    data.record.message         = { 0, 0 };
    data.n_strings              = 0;

    // below the level of detail, or not sampled, only a span with a histogram is timed
    state = metric == LLAMA_OTEL_NO_METRIC ? STATE_MUTE : STATE_RECORDING;

    if (llama_otel_ctl.detail.load(std::memory_order_relaxed) >= level) {
        join_trace(t);
    }
    if (state == STATE_RECORDING) {
        n_exceptions         = std::uncaught_exceptions();
        data.record.start_ns = now_ns();
    }
}

// takes a place in the open trace, or begins one
void llama_otel_span::join_trace(llama_otel_thread & t) noexcept {

    if (t.span_id == 0) {
        t.trace_id_hi = next_random(t);
        t.trace_id_lo = next_random(t);
        t.sampled     = (t.trace_id_lo >> 1) < llama_otel_ctl.sample_threshold.load(std::memory_order_relaxed);
    }

    data.record.trace_id_hi    = t.trace_id_hi;
    data.record.trace_id_lo    = t.trace_id_lo;
    data.record.parent_span_id = t.span_id;
    data.record.span_id        = next_random(t);
    t.span_id                  = data.record.span_id;

    in_trace = true;

    if (t.sampled) {
        data.record.flags = LLAMA_OTEL_FLAG_EXPORT;
        state             = STATE_RECORDING;
    }
}

void llama_otel_span::end() noexcept {
    llama_otel_thread & t = thread;
    t.innermost = outer;

    if (in_trace) {
        t.span_id = data.record.parent_span_id;
    }
    if (state != STATE_RECORDING) {
        return;
    }

    data.record.end_ns = now_ns();

    if (std::uncaught_exceptions() > n_exceptions && !(data.record.flags & LLAMA_OTEL_FLAG_ERROR)) {
        llama_otel_span * innermost = t.innermost;
        t.innermost = this;
        llama_otel_set_error("exception", "left by an exception");
        t.innermost = innermost;
    }
    const bool slow = running_mean && is_slow(*running_mean, data.record.end_ns - data.record.start_ns);
    if (may_skip && !slow && !(data.record.flags & LLAMA_OTEL_FLAG_ERROR) && llama_otel_ctl.detail.load(std::memory_order_relaxed) < LLAMA_OTEL_DETAIL_DECODE) {
        data.record.flags &= ~LLAMA_OTEL_FLAG_EXPORT;
    }
    if (!(data.record.flags & LLAMA_OTEL_FLAG_EXPORT) && data.record.metric == LLAMA_OTEL_NO_METRIC) {
        return;
    }
    if (const llama_otel_backend * b = backend.load(std::memory_order_acquire)) {
        b->span(&data.record, data.size(), data.strings, data.n_strings);
    }
}

llama_otel_span * llama_otel_current_span() noexcept {
    llama_otel_span * span = thread.innermost;
    return span && span->state == llama_otel_span::STATE_RECORDING ? span : nullptr;
}

void llama_otel_set_error(std::string_view type, std::string_view message) noexcept {
    llama_otel_span * span = thread.innermost;

    if (span && (span->data.record.flags & LLAMA_OTEL_FLAG_ERROR)) {
        return; // the first error is the cause, the others its consequences
    }
    llama_otel_buffer<llama_otel_metric_record> count;
    count.record    = { 1.0, LLAMA_OTEL_METRIC_LLAMA_ERROR_COUNT, 0, 0 };
    count.n_strings = 0;
    count.put("llama.operation", span ? span->data.record.name : "_OTHER");
    count.put("error.type", type);
    llama_otel_submit(count);

    if (span) {
        span->data.record.flags |= LLAMA_OTEL_FLAG_ERROR;
        span->add("error.type", type);
        try {
            span->data.record.message = span->data.copy(without_folder(message, span->private_path));
        } catch (...) { // no memory for the text: the type says enough
        }
    }
}

void llama_otel_set_decode_status(int code) noexcept {
    switch (code) {
        case  0: break;
        case  1: llama_otel_set_error("no_kv_slot",     "no slot in the KV cache for this batch");   break;
        case  2: llama_otel_set_error("aborted",        "aborted by the abort callback");            break;
        case -1: llama_otel_set_error("invalid_batch",  "invalid batch");                            break;
        case -2: llama_otel_set_error("alloc_failed",   "memory could not be prepared or allocated"); break;
        case -3: llama_otel_set_error("compute_failed", "graph computation failed");                 break;
        default: llama_otel_set_error("_OTHER",         "unknown return code");                      break;
    }
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

// llama.cpp's own rule: one token is generation, more are a prompt
static const char * phase_of(int64_t n_tokens) noexcept {
    return n_tokens == 1 ? "decode" : "prefill";
}

void llama_otel_submit(const llama_otel_buffer<llama_otel_metric_record> & data) noexcept {
    if (const llama_otel_backend * b = backend.load(std::memory_order_acquire)) {
        b->metric(&data.record, data.size(), data.strings, data.n_strings);
    }
}

namespace {

// Numbers of the contexts that exist, found by address without a lock: a slot is owned by whoever sets its address.
struct context_slot {
    std::atomic<const void *> context;
    std::atomic<int64_t>      id;
    std::atomic<int64_t>      decode_mean_ns; // of single-token batches
};

constexpr size_t N_CONTEXT_SLOTS = 256;

context_slot         context_slots[N_CONTEXT_SLOTS];
std::atomic<int64_t> n_contexts{ 0 };

context_slot * find_context(const void * context) noexcept {
    const size_t first = ((uintptr_t) context >> 4) % N_CONTEXT_SLOTS;
    for (size_t i = 0; i < N_CONTEXT_SLOTS; i++) {
        context_slot & slot = context_slots[(first + i) % N_CONTEXT_SLOTS];
        if (slot.context.load(std::memory_order_acquire) == context) {
            return &slot;
        }
    }
    return nullptr;
}

} // namespace

int64_t llama_otel_new_context_id(const void * context) noexcept {
    const int64_t id    = ++n_contexts;
    const size_t  first = ((uintptr_t) context >> 4) % N_CONTEXT_SLOTS;
    for (size_t i = 0; i < N_CONTEXT_SLOTS; i++) {
        context_slot & slot = context_slots[(first + i) % N_CONTEXT_SLOTS];
        const void * free = nullptr;
        if (slot.context.compare_exchange_strong(free, context)) {
            slot.decode_mean_ns.store(0, std::memory_order_relaxed);
            slot.id.store(id, std::memory_order_release);
            break;
        }
    }
    return id;
}

int64_t llama_otel_current_context_id() noexcept {
    return thread.context_id;
}

void llama_otel_context_destroyed(const void * context, int64_t n_evaluated, int64_t t_eval_us) noexcept {
    context_slot * slot = find_context(context);
    const int64_t  id   = slot ? slot->id.load() : 0;
    const size_t   size = llama_otel_memory_released(context);

    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.context.id", id, "llama.memory.size", size);
        span->add("llama.context.tokens_evaluated", n_evaluated, "llama.context.t_eval_us", t_eval_us);
    }
    if (slot) {
        slot->context.store(nullptr, std::memory_order_release);
    }
}

void llama_otel_batch(const void * context, int64_t n_tokens, int64_t n_outputs) noexcept {
    const char *   phase = phase_of(n_tokens);
    context_slot * slot  = find_context(context);

    thread.context_id = slot ? slot->id.load(std::memory_order_relaxed) : 0;

    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_BATCH_SIZE, n_tokens, "llama.decode.phase", phase);
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.context.id", thread.context_id);
        span->add("llama.batch.n_tokens", n_tokens, "llama.batch.n_outputs", n_outputs, "llama.decode.phase", phase);
        if (n_tokens == 1) {
            span->export_if(false);
            span->export_if_slow(slot ? &slot->decode_mean_ns : nullptr);
        }
    }
}

void llama_otel_evaluated(int64_t n_tokens, int64_t elapsed_us) noexcept {
    if (n_tokens <= 0) {
        return;
    }
    const char * phase   = phase_of(n_tokens);
    const double seconds = (double) elapsed_us * 1e-6;

    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_TOKEN_COUNT, n_tokens, "llama.decode.phase", phase);
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_DURATION, seconds, "llama.decode.phase", phase, "llama.decode.status", "ok");
    if (n_tokens == 1) {
        LLAMA_OTEL_RECORD_TOKEN_TIME(seconds);
    }
}

namespace {

struct held_memory {
    std::mutex mutex;
    std::map<std::tuple<const void *, std::string, std::string>, size_t> bytes; // (owner, device, kind)
};

// never destroyed: contexts may be freed by static destructors
held_memory & held() {
    static held_memory * instance = new held_memory;
    return *instance;
}

void measure_memory(const std::string & device, const std::string & kind, int64_t delta) noexcept {
    if (delta != 0) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_USAGE, delta, "llama.device.name", device, "llama.memory.kind", kind);
    }
}

} // namespace

void llama_otel_memory_held(const void * owner, const char * device, const char * kind, size_t bytes) noexcept {
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        size_t & last = all.bytes[{ owner, device, kind }];
        measure_memory(device, kind, (int64_t) bytes - (int64_t) last);
        last = bytes;
    } catch (...) { // no memory: this figure is lost, inference is not
    }
}

size_t llama_otel_memory_released(const void * owner) noexcept {
    size_t released = 0;
    try {
        held_memory & all = held();
        std::lock_guard<std::mutex> lock(all.mutex);
        for (auto it = all.bytes.lower_bound({ owner, "", "" }); it != all.bytes.end() && std::get<0>(it->first) == owner;) {
            measure_memory(std::get<1>(it->first), std::get<2>(it->first), -(int64_t) it->second);
            released += it->second;
            it = all.bytes.erase(it);
        }
    } catch (...) {
    }
    return released;
}
