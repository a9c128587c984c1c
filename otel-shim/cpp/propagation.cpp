// Parents that the program gave: to a thread, a context, or a sequence (llama-otel.h), and what its own tracing says.

#include "propagation.h"
#include "w3c.h"

#include <map>
#include <memory>
#include <mutex>

struct llama_otel_origin {
    mutable std::atomic<uint32_t> n_users{ 1 };
    std::string tracestate;
    std::vector<std::pair<std::string, std::string>> baggage;
};

namespace {

constexpr size_t MAX_PARENTS = 4096; // of contexts and sequences

// a parent that was given, and the use of its origin
struct given_parent {
    llama_otel_parent parent;

    explicit given_parent(const llama_otel_parent & parent) noexcept : parent(parent) {}
    ~given_parent() { llama_otel_release(parent.origin); }
    given_parent(const given_parent &) = delete;
    given_parent & operator=(const given_parent &) = delete;
};

// What a thread was given. The pointer is read by every root span, so it needs no constructor; the owner, which frees it
// when the thread ends, is touched only by a thread that was given something.
thread_local const given_parent * of_thread;

struct thread_owner {
    std::unique_ptr<given_parent> parent;
    ~thread_owner() { of_thread = nullptr; }
};

given_parent * swap_of_thread(given_parent * next) noexcept {
    static thread_local thread_owner owner;
    given_parent * last = owner.parent.release();
    owner.parent.reset(next);
    of_thread = next;
    return last;
}

struct given_parents {
    std::mutex mutex;
    std::map<std::pair<const void *, int32_t>, std::unique_ptr<given_parent>> all; // (context, sequence; -1: the context itself)
};

std::atomic<size_t> n_given{ 0 }; // to contexts and sequences

// never destroyed: contexts may be freed by static destructors
given_parents & given() {
    static given_parents * instance = new given_parents;
    return *instance;
}

llama_otel_parent kept(const llama_otel_parent & parent) noexcept {
    llama_otel_keep(parent.origin);
    return parent;
}

// the trace state and the baggage; null if there is neither, or no memory
const llama_otel_origin * make_origin(std::string tracestate, std::vector<std::pair<std::string, std::string>> baggage) {
    if (tracestate.empty() && baggage.empty()) {
        return nullptr;
    }
    auto origin = std::make_unique<llama_otel_origin>();
    origin->tracestate = std::move(tracestate);
    origin->baggage    = std::move(baggage);
    return origin.release();
}

llama_otel_parent host_parent(void (*host_span)(llama_otel_host_span *)) noexcept {
    llama_otel_host_span span;
    span.span_id      = 0;
    span.n_tracestate = 0;
    host_span(&span);
    if (span.span_id == 0) {
        return {};
    }
    const llama_otel_origin * origin = nullptr;
    try {
        origin = make_origin(std::string(span.tracestate, span.n_tracestate), {});
    } catch (...) { // no memory: the trace state is lost, the parent is not
    }
    return { span.trace_id_hi, span.trace_id_lo, span.span_id, span.sampled != 0, span.remote != 0, origin };
}

} // namespace

void llama_otel_keep(const llama_otel_origin * origin) noexcept {
    if (origin) {
        origin->n_users.fetch_add(1, std::memory_order_relaxed);
    }
}

void llama_otel_release(const llama_otel_origin * origin) noexcept {
    if (origin && origin->n_users.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        delete origin;
    }
}

void llama_otel_put_origin(llama_otel_buffer<llama_otel_span_record> & data, const llama_otel_origin * origin, bool direct_child) noexcept {
    if (!origin) {
        return;
    }
    const char * const * keys = direct_child ? llama_otel_ctl.baggage_keys.load(std::memory_order_acquire) : nullptr;
    for (; keys && *keys; keys++) {
        for (const auto & [key, value] : origin->baggage) {
            if (key == *keys && !data.put(*keys, value)) {
                data.record.n_attrs_dropped += data.record.n_attrs_dropped < std::numeric_limits<uint8_t>::max();
            }
        }
    }
    if (!origin->tracestate.empty() && data.put(LLAMA_OTEL_KEY_TRACESTATE, origin->tracestate)) {
        data.record.flags |= LLAMA_OTEL_FLAG_TRACESTATE;
    }
}

bool llama_otel_any_context_parent() noexcept { return n_given.load(std::memory_order_relaxed) != 0; }

llama_otel_parent llama_otel_given_parent(const void * context, int32_t seq) noexcept {
    if (!(llama_otel_ctl.propagators.load(std::memory_order_relaxed) & LLAMA_OTEL_PROPAGATOR_TRACECONTEXT)) {
        return {};
    }
    if (context && llama_otel_any_context_parent()) {
        given_parents & parents = given();
        std::lock_guard<std::mutex> lock(parents.mutex);
        auto it = parents.all.find({ context, seq });
        if (it == parents.all.end() && seq >= 0) {
            it = parents.all.find({ context, -1 });
        }
        if (it != parents.all.end()) {
            return kept(it->second->parent);
        }
    }
    if (of_thread) {
        return kept(of_thread->parent);
    }
    if (auto * host_span = llama_otel_ctl.host_span.load(std::memory_order_acquire)) {
        return host_parent(host_span);
    }
    return {};
}

int32_t llama_otel_only_sequence(const llama_otel_batch_view & batch) noexcept {
    if (!batch.seq_id || !batch.n_seq_id) {
        return batch.all_seq_id;
    }
    int32_t only = -1;
    for (int64_t i = 0; i < batch.n_tokens; i++) {
        if (batch.n_seq_id[i] != 1 || (i > 0 && batch.seq_id[i][0] != only)) {
            return -1;
        }
        only = batch.seq_id[i][0];
    }
    return only;
}

void llama_otel_forget_parents(const void * context) noexcept {
    if (!llama_otel_any_context_parent()) {
        return;
    }
    given_parents & parents = given();
    std::lock_guard<std::mutex> lock(parents.mutex);
    for (auto it = parents.all.lower_bound({ context, -1 }); it != parents.all.end() && it->first.first == context;) {
        it = parents.all.erase(it);
    }
    n_given.store(parents.all.size(), std::memory_order_relaxed);
}

//
// what a backend is given
//

void * llama_otel_make_parent(const char * traceparent, const char * tracestate, const char * baggage, bool remote, uint32_t * result) noexcept {
    *result = LLAMA_OTEL_OK;
    llama_otel_traceparent ids;
    if (!llama_otel_parse_traceparent(traceparent ? traceparent : "", ids)) {
        *result = LLAMA_OTEL_INVALID_TRACEPARENT;
        return nullptr;
    }
    try {
        std::string state;
        std::vector<std::pair<std::string, std::string>> entries;
        if (tracestate && !llama_otel_parse_tracestate(tracestate, LLAMA_OTEL_MAX_STRING, state)) {
            *result = LLAMA_OTEL_INVALID_TRACESTATE;
        }
        const bool wanted = (llama_otel_ctl.propagators.load() & LLAMA_OTEL_PROPAGATOR_BAGGAGE) != 0;
        if (baggage && wanted && !llama_otel_parse_baggage(baggage, entries)) {
            *result = LLAMA_OTEL_INVALID_BAGGAGE;
        }
        const llama_otel_origin * origin = make_origin(std::move(state), std::move(entries));
        return new given_parent({ ids.trace_id_hi, ids.trace_id_lo, ids.span_id, ids.sampled, remote, origin });
    } catch (...) {
        *result = LLAMA_OTEL_NO_ROOM;
        return nullptr;
    }
}

void * llama_otel_swap_parent(void * parent) noexcept {
    if (!parent && !of_thread) {
        return nullptr; // the owner is not touched, and may be gone already
    }
    return swap_of_thread(static_cast<given_parent *>(parent));
}

void llama_otel_free_parent(void * parent) noexcept { delete static_cast<given_parent *>(parent); }

uint32_t llama_otel_set_parent(const void * context, int32_t seq, void * parent) noexcept {
    std::unique_ptr<given_parent> next(static_cast<given_parent *>(parent));
    std::unique_ptr<given_parent> last; // freed after the lock is
    try {
        given_parents & parents = given();
        std::lock_guard<std::mutex> lock(parents.mutex);
        const std::pair<const void *, int32_t> key = { context, seq < 0 ? -1 : seq };
        const auto it = parents.all.find(key);
        if (it != parents.all.end()) {
            last = std::move(it->second);
            if (next) {
                it->second = std::move(next);
            } else {
                parents.all.erase(it);
            }
        } else if (next) {
            if (parents.all.size() >= MAX_PARENTS) {
                return LLAMA_OTEL_NO_ROOM;
            }
            parents.all.emplace(key, std::move(next));
        }
        n_given.store(parents.all.size(), std::memory_order_relaxed);
    } catch (...) {
        return LLAMA_OTEL_NO_ROOM;
    }
    return LLAMA_OTEL_OK;
}

//
// what the program is given
//

namespace {

bool is_empty(const char * text) noexcept { return !text || !*text; }

} // namespace

llama_otel_result llama_otel_set_traceparent(const char * traceparent, const char * tracestate, const char * baggage) {
    uint32_t result = LLAMA_OTEL_OK;
    void *   parent = is_empty(traceparent) ? nullptr : llama_otel_make_parent(traceparent, tracestate, baggage, true, &result);
    llama_otel_free_parent(llama_otel_swap_parent(parent));
    return (llama_otel_result) result;
}

llama_otel_result llama_otel_set_sequence_traceparent(const llama_context * context, int32_t seq_id, const char * traceparent, const char * tracestate, const char * baggage) {
    uint32_t result = LLAMA_OTEL_OK;
    void *   parent = is_empty(traceparent) ? nullptr : llama_otel_make_parent(traceparent, tracestate, baggage, true, &result);
    const uint32_t stored = llama_otel_set_parent(context, seq_id, parent);
    return (llama_otel_result) (stored != LLAMA_OTEL_OK ? stored : result);
}

llama_otel_result llama_otel_set_context_traceparent(const llama_context * context, const char * traceparent, const char * tracestate, const char * baggage) {
    return llama_otel_set_sequence_traceparent(context, -1, traceparent, tracestate, baggage);
}
