// Contexts: their numbers, their batches, and what happens to their memory.

#include "context.h"
#include "propagation.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

namespace {

constexpr llama_otel_literal OK = { "ok" };

// A slot is owned by whoever sets its address, so that it is found without a lock.
llama_otel_context   contexts[LLAMA_OTEL_N_CONTEXTS];
static_assert(std::is_trivially_destructible_v<llama_otel_context>, "a thread may use one when the process ends");
std::atomic<int64_t> n_contexts{ 0 };

// the context that this thread last gave a batch
thread_local int64_t      current_context_id;
thread_local const void * current_context;
thread_local const char * current_phase; // of that batch
thread_local llama_otel_batch_counts * current_counts;

size_t slot_of(const void * address, size_t i) noexcept { return (((uintptr_t) address >> 4) + i) % LLAMA_OTEL_N_CONTEXTS; }

llama_otel_context * find_context(const void * address) noexcept {
    for (size_t i = 0; i < LLAMA_OTEL_N_CONTEXTS; i++) {
        llama_otel_context & slot = contexts[slot_of(address, i)];
        if (slot.address.load(std::memory_order_acquire) == address) {
            return &slot;
        }
    }
    return nullptr;
}

// a context by its own address or by that of its memory
llama_otel_context * find_owner(const void * owner) noexcept {
    for (llama_otel_context & slot : contexts) {
        if (slot.address.load(std::memory_order_acquire) && (slot.memory.load(std::memory_order_relaxed) == owner || slot.address.load(std::memory_order_relaxed) == owner)) {
            return &slot;
        }
    }
    return nullptr;
}

void set_sequences(llama_otel_context & slot, llama_otel_sequences * sequences) noexcept {
    delete slot.sequences;
    slot.sequences = sequences;
}

// the sequences of a context, if they are known
template <typename F> void with_sequences(const void * owner, F f) noexcept {
    llama_otel_context * slot = owner ? find_owner(owner) : nullptr;
    if (!slot) {
        return;
    }
    const llama_otel_slot_use use(*slot);
    if (slot->sequences) {
        f(*slot->sequences);
    }
}

// the span becomes the context's, once that is known
void adopt(llama_otel_span * span, const void * address, int32_t seq) noexcept {
    current_context = address;
    if (span && llama_otel_any_context_parent()) {
        span->adopt(address, seq);
    }
}

template <typename F> bool any_context(F f) noexcept {
    return std::any_of(std::begin(contexts), std::end(contexts), [&](const llama_otel_context & slot) { return slot.address.load(std::memory_order_acquire) && f(slot); });
}

// The process ends with contexts in it. ggml's own static objects are older than a context, so they are still there now, and are
// destroyed before the last delivery: while other threads decode, that one must not be waited for.
void deliver_before_statics_go() {
    if (!llama_otel_on() || !any_context([](const llama_otel_context &) { return true; })) {
        return;
    }
    try {
        std::thread(llama_otel_end_generations).join(); // this one may have lost what it had of its own
    } catch (...) { // no thread can be started
    }
    const bool delivered = llama_otel_flush(LLAMA_OTEL_FLUSH_TIMEOUT_MS);
    if (!delivered || any_context([](const llama_otel_context & slot) { return slot.decoding.load(std::memory_order_relaxed); })) {
        llama_otel_shutdown(0);
    }
}

llama_otel_literal phase_name(bool decode) noexcept { return { decode ? "decode" : "prefill" }; }

void measure_batch(int64_t n_tokens, int64_t n_seqs, llama_otel_literal phase) noexcept {
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_BATCH_SIZE, n_tokens, "llama.decode.phase", phase);
    if (n_seqs > 0) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_SEQUENCES, n_seqs, "llama.decode.phase", phase);
    }
}

// tokens that were evaluated
void count_tokens(llama_otel_context * slot, int64_t n, bool decode) noexcept {
    if (slot) {
        llama_otel_count(slot->counts[decode].n_tokens, (uint64_t) n);
    } else if (n > 0) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_TOKEN_COUNT, n, "llama.decode.phase", phase_name(decode));
    }
}

} // namespace

int64_t llama_otel_new_context(const void * address, const void * memory, const char * model, int64_t n_ctx) noexcept {
    static const int at_exit = std::atexit(deliver_before_statics_go);
    (void) at_exit;
    llama_otel_forget_parents(address); // of one that was freed while telemetry was off
    const int64_t id = ++n_contexts;
    current_context_id = id; // what comes next on this thread may be its state
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.model.name", model);
    }
    // one that was freed while telemetry was off has left its slot
    llama_otel_context * slot = find_context(address);
    for (size_t i = 0; !slot && i < LLAMA_OTEL_N_CONTEXTS; i++) {
        llama_otel_context & candidate = contexts[slot_of(address, i)];
        const void * free = nullptr;
        if (candidate.address.compare_exchange_strong(free, address)) {
            slot = &candidate;
        }
    }
    if (!slot) {
        return id;
    }
    const llama_otel_slot_use use(*slot);
    slot->counts = llama_otel_counts_of((size_t) (slot - contexts));
    slot->memory.store(memory, std::memory_order_relaxed);
    slot->decode_mean_ns.store(0, std::memory_order_relaxed);
    slot->decoding.store(false, std::memory_order_relaxed);
    slot->longest.store(0, std::memory_order_relaxed);
    slot->batch           = {};
    slot->n_queued_decode = 0;
    slot->queued_prefill  = false;
    slot->queued          = false;
    try {
        set_sequences(*slot, new llama_otel_sequences(address, id, model ? model : "", slot->longest));
    } catch (...) { // no memory: the context has no generations
        set_sequences(*slot, nullptr);
    }
    slot->id.store(id, std::memory_order_release);
    slot->n_ctx.store(n_ctx, std::memory_order_release);
    return id;
}

int64_t llama_otel_context_id(const void * address) noexcept {
    const llama_otel_context * slot = find_context(address);
    return slot ? slot->id.load(std::memory_order_relaxed) : 0;
}

int64_t llama_otel_current_context_id() noexcept {
    return current_context_id;
}

const char * llama_otel_current_phase() noexcept {
    return current_phase ? current_phase : phase_name(false).text;
}

const void * llama_otel_current_context() noexcept {
    return current_context;
}

llama_otel_batch_counts * llama_otel_current_counts() noexcept {
    return current_counts;
}

void llama_otel_context_destroyed(const void * address, int64_t n_evaluated, int64_t t_eval_us) noexcept {
    llama_otel_context * slot = find_context(address);
    const int64_t        id   = slot ? slot->id.load() : 0;
    const size_t         size = llama_otel_memory_released(address);

    if (current_context == address) {
        current_context = nullptr;
        current_counts  = nullptr;
    }
    if (slot) {
        const llama_otel_slot_use use(*slot);
        if (slot->sequences) {
            slot->sequences->clear("freed");
            set_sequences(*slot, nullptr);
        }
        llama_otel_cells_gone(id);
        if (slot->n_ctx.exchange(0, std::memory_order_relaxed) > 0) {
            llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_CONTEXT_UTILIZATION, 0.0, "llama.context.id", id);
        }
        slot->memory.store(nullptr, std::memory_order_relaxed);
        slot->address.store(nullptr, std::memory_order_release);
    }
    llama_otel_forget_parents(address);
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.context.id", id, "llama.memory.size", size);
        span->add("llama.context.tokens_evaluated", n_evaluated, "llama.context.t_eval_us", t_eval_us);
    }
}

void llama_otel_end_generations() noexcept {
    constexpr int MAX_TRIES = 50;
    for (llama_otel_context & slot : contexts) {
        if (!slot.address.load(std::memory_order_acquire)) {
            continue;
        }
        // whoever has it is done in microseconds, or was ended with it in hand
        bool taken = slot.taken.exchange(true, std::memory_order_acquire);
        for (int i = 0; taken && i < MAX_TRIES; i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            taken = slot.taken.exchange(true, std::memory_order_acquire);
        }
        if (taken) {
            continue;
        }
        if (slot.sequences) {
            slot.sequences->end_all("shutdown");
        }
        slot.taken.store(false, std::memory_order_release);
    }
}

void llama_otel_observe_contexts(const llama_otel_observer & observer) noexcept {
    for (llama_otel_context & slot : contexts) {
        const int64_t n_ctx   = slot.n_ctx.load(std::memory_order_acquire);
        const int64_t id      = slot.id.load(std::memory_order_acquire);
        const int64_t longest = slot.longest.load(std::memory_order_acquire);
        // one that went meanwhile has its end told by a record
        if (n_ctx > 0 && slot.n_ctx.load(std::memory_order_relaxed) == n_ctx && slot.id.load(std::memory_order_relaxed) == id) {
            observer.gauge(LLAMA_OTEL_METRIC_LLAMA_CONTEXT_UTILIZATION, (double) longest / (double) n_ctx, "llama.context.id", id);
        }
    }
}

//
// batches
//

void llama_otel_batch(const void * address, const llama_otel_batch_view & batch) noexcept {
    llama_otel_context *   slot = find_context(address);
    llama_otel_batch_kind  kind = { batch.n_tokens == 1, 0, batch.n_tokens == 1 }; // where nothing is known of the context
    llama_otel_span *      open = llama_otel_open_span();

    current_context_id = slot ? slot->id.load(std::memory_order_relaxed) : 0;
    adopt(open, address, llama_otel_any_context_parent() ? llama_otel_only_sequence(batch) : -1);

    if (slot) {
        const llama_otel_span_record * record = open ? open->traced_record() : nullptr;
        slot->batch_start_ns = open && open->recording() ? open->start_ns() : llama_otel_now_ns();
        const llama_otel_slot_use use(*slot);
        if (slot->sequences) {
            kind = slot->sequences->begin_batch(batch, record, slot->batch_start_ns);
        }
        slot->batch     = kind;
        slot->n_tokens  = batch.n_tokens;
        slot->n_outputs = batch.n_outputs;
        slot->n_queued_decode += kind.n_decode;
        slot->queued_prefill   = slot->queued_prefill || !kind.decode;
        slot->queued_before    = slot->queued;
        slot->queued           = true;
        if (open) {
            open->watch(slot);
            slot->decoding.store(true, std::memory_order_relaxed);
        }
    }
    const llama_otel_literal phase = phase_name(kind.decode);
    current_phase  = phase.text;
    current_counts = slot ? &slot->counts[kind.decode] : nullptr;
    if (current_counts && batch.n_tokens < LLAMA_OTEL_N_SMALL && kind.n_seqs < LLAMA_OTEL_N_SMALL) {
        llama_otel_count(current_counts->small[batch.n_tokens].sizes);
        llama_otel_count(current_counts->small[kind.n_seqs].sequences, (uint32_t) (kind.n_seqs > 0));
    } else {
        measure_batch(batch.n_tokens, kind.n_seqs, phase);
    }
    llama_otel_span * span = llama_otel_current_span();
    if (span && kind.decode) {
        span->export_if(false);
        span->export_if_slow(slot ? &slot->decode_mean_ns : nullptr);
    }
    if (span && !slot) {
        span->add("llama.context.id", current_context_id, "llama.batch.n_tokens", batch.n_tokens, "llama.batch.n_outputs", batch.n_outputs);
        span->add("llama.decode.phase", phase, "llama.decode.status", OK);
    }
}

void llama_otel_batch_ended(llama_otel_context & context, llama_otel_buffer<llama_otel_span_record> & span, const char * error) noexcept {
    if (error) { // one that succeeds is measured when the devices have finished it
        context.queued = context.queued_before;
        const double seconds = (double) (span.record.end_ns - context.batch_start_ns) * 1e-9;
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_DURATION, seconds, "llama.decode.phase", phase_name(context.batch.decode), "llama.decode.status", llama_otel_literal{ error });
    }
    context.decoding.store(false, std::memory_order_relaxed);
    const llama_otel_slot_use use(context);
    if (context.sequences) {
        context.sequences->end_batch(error, span.record, span.record.end_ns);
    }
    if (!(span.record.flags & LLAMA_OTEL_FLAG_EXPORT)) {
        return; // most are not: what they would say is not written down for them
    }
    span.append("llama.context.id", context.id.load(std::memory_order_relaxed));
    span.append("llama.batch.n_tokens", context.n_tokens);
    span.append("llama.batch.n_outputs", context.n_outputs);
    span.append("llama.batch.n_seqs", context.batch.n_seqs);
    span.append("llama.decode.phase", phase_name(context.batch.decode));
    if (!error) {
        span.append("llama.decode.status", OK);
    }
    if (context.sequences) {
        context.sequences->for_each_served([&](const llama_otel_generation & g) { span.link({ g.trace_id_hi, g.trace_id_lo, g.span_id }); });
    }
}

void llama_otel_evaluated(const void * address, int64_t n_tokens, int64_t start_us, int64_t now_ns, int64_t now_us) noexcept {
    llama_otel_context * slot = find_context(address);
    // llama.cpp's own rule where nothing is known of the context: one token is generation, more are a prompt
    const int64_t n_decode = slot ? (slot->n_queued_decode < n_tokens ? slot->n_queued_decode : n_tokens) : n_tokens == 1;
    const bool    decode   = slot ? slot->queued && !slot->queued_prefill : n_tokens == 1;
    const bool    decoded  = !slot || slot->queued; // the others were encoded
    const double  seconds  = (double) (now_us - start_us) * 1e-6;

    count_tokens(slot, n_tokens - n_decode, false);
    count_tokens(slot, n_decode, true);
    if (decoded) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DECODE_DURATION, seconds, "llama.decode.phase", phase_name(decode), "llama.decode.status", OK);
    }
    if (slot) {
        slot->n_queued_decode = 0;
        slot->queued_prefill  = false;
        slot->queued          = false;
        llama_otel_span * open = llama_otel_open_span();
        if (open && strcmp(open->name(), "llama_synchronize") == 0) {
            open->end_at(now_ns); // what is left of it is three assignments
        }
        const llama_otel_slot_use use(*slot);
        if (slot->sequences) {
            slot->sequences->evaluated(now_ns);
        }
    }
}

void llama_otel_ubatch(int64_t n_tokens) noexcept {
    llama_otel_span * ubatch = llama_otel_open_span();
    if (!ubatch) {
        return;
    }
    if (ubatch->recording()) {
        ubatch->add("llama.ubatch.n_tokens", n_tokens);
    }
    if (llama_otel_span * batch = ubatch->enclosing()) {
        batch->count_ubatch();
    }
}

void llama_otel_encode_batch(const void * address, int64_t n_tokens) noexcept {
    llama_otel_context * slot = find_context(address);
    llama_otel_span *    open = llama_otel_open_span();

    current_context_id = slot ? slot->id.load(std::memory_order_relaxed) : 0;
    current_phase      = phase_name(false).text;
    current_counts     = slot ? &slot->counts[false] : nullptr;
    adopt(open, address, -1);
    if (slot) {
        const llama_otel_slot_use use(*slot);
        if (slot->sequences) {
            slot->sequences->encoded(n_tokens, open ? open->traced_record() : nullptr, open && open->recording() ? open->start_ns() : llama_otel_now_ns());
        }
    }
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.context.id", current_context_id, "llama.batch.n_tokens", n_tokens, "llama.batch.n_outputs", n_tokens);
        span->add("llama.decode.phase", phase_name(false), "llama.decode.status", OK);
    }
}

//
// memory
//

void llama_otel_seq_clear(const void * owner) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.clear("cleared"); });
}

void llama_otel_seq_rm(const void * owner, int32_t seq, int32_t p0, int32_t p1) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.remove(seq, p0, p1); });
}

void llama_otel_seq_cp(const void * owner, int32_t from, int32_t to, int32_t p0, int32_t p1) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.copy(from, to, p0, p1); });
}

void llama_otel_seq_keep(const void * owner, int32_t seq) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.keep(seq); });
}

void llama_otel_seq_add(const void * owner, int32_t seq, int32_t p0, int32_t p1, int32_t delta) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.shift(seq, p0, p1, delta); });
}

void llama_otel_seq_div(const void * owner, int32_t seq, int32_t p0, int32_t p1, int32_t divisor) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.divide(seq, p0, p1, divisor); });
}

void llama_otel_state_loaded(const void * owner, int32_t seq, int32_t last) noexcept {
    with_sequences(owner, [&](llama_otel_sequences & all) { all.replaced(seq, last); });
}

void llama_otel_state_size(size_t bytes) noexcept {
    constexpr std::string_view state = "llama_state_"; // not so of a caller that only asks for the size
    llama_otel_span * span = llama_otel_current_span();
    if (span && std::string_view(span->name()).substr(0, state.size()) == state) {
        span->add("llama.state.size", bytes);
    }
}
