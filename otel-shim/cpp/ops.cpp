// Graphs, the time of operations, and the busy time of devices.

#include "context.h"

#include <atomic>
#include <cctype>
#include <cstdlib>

namespace {

// The backends that were given work which goes on after the call: until they are waited for, they count as busy. A slot belongs to
// whoever sets its address; a backend is used by one thread at a time.
struct busy_slot {
    std::atomic<const void *> backend;
    std::atomic<const char *> device;
    std::atomic<int64_t>      since_ns;
};

constexpr size_t N_BUSY_SLOTS = 128;

busy_slot busy_slots[N_BUSY_SLOTS];

std::atomic<int64_t> n_busy{ 0 };     // slots that are taken
std::atomic<bool>    is_told{ false }; // of splits; old trees have nothing that tells of them

busy_slot * find_busy(const void * backend) noexcept {
    const size_t first = ((uintptr_t) backend >> 4) % N_BUSY_SLOTS;
    for (size_t i = 0; i < N_BUSY_SLOTS; i++) {
        busy_slot & slot = busy_slots[(first + i) % N_BUSY_SLOTS];
        if (slot.backend.load(std::memory_order_acquire) == backend) {
            return &slot;
        }
    }
    return nullptr;
}

enum class by_callback { never, free, always };

// whether a variable has this value, however its letters are written
bool is_value(const char * value, const char * expected) noexcept {
    while (isspace((unsigned char) *value)) {
        value++;
    }
    while (*expected && tolower((unsigned char) *value) == *expected) {
        value++;
        expected++;
    }
    while (isspace((unsigned char) *value)) {
        value++;
    }
    return !*expected && !*value;
}

// LLAMA_OTEL_OP_CALLBACK; unset, or set to what the backend warns of: where it costs nothing
by_callback callback_wanted() noexcept {
    static const by_callback wanted = [] {
        const char * value = getenv("LLAMA_OTEL_OP_CALLBACK");
        if (!value) {
            return by_callback::free;
        }
        if (is_value(value, "true") || is_value(value, "1")) {
            return by_callback::always;
        }
        return is_value(value, "false") || is_value(value, "0") ? by_callback::never : by_callback::free;
    }();
    return wanted;
}

bool at_detail_op() noexcept { return llama_otel_ctl.detail.load(std::memory_order_relaxed) >= LLAMA_OTEL_DETAIL_OP; }

thread_local bool timed_by_callback = false;
thread_local bool graph_is_reused   = false; // the one that is computed next

// What the graph at hand and its splits know of the time already; 0: it has to be asked for.
struct graph_times {
    int64_t begun; // the graph, whose first split comes next
    int64_t ended; // the split that came last
};

thread_local graph_times times;

} // namespace

bool llama_otel_ops_wanted(void) noexcept { return at_detail_op() && !timed_by_callback; }

bool llama_otel_ops_by_callback(bool begin, bool free) noexcept {
    timed_by_callback = begin && at_detail_op() && callback_wanted() >= (free ? by_callback::free : by_callback::always);
    return timed_by_callback;
}

void llama_otel_op(const char * op, const char * device, uint32_t n, int64_t ns) noexcept {
    llama_otel_measure(LLAMA_OTEL_METRIC_GGML_OP_DURATION, (double) ns * 1e-9, "ggml.op", op, "llama.device.name", device);
    llama_otel_measure(LLAMA_OTEL_METRIC_GGML_OP_COUNT, n, "ggml.op", op, "llama.device.name", device);
}

// the physical batch's span, if it is the innermost one
static llama_otel_span * ubatch_span() noexcept {
    llama_otel_span * span = at_detail_op() ? llama_otel_current_span() : nullptr;
    const llama_otel_span_record * record = span ? span->traced_record() : nullptr;
    return record && strcmp(record->name, "llama_ubatch") == 0 ? span : nullptr;
}

void llama_otel_graph_step(llama_otel_graph_phase step) noexcept {
    thread_local int64_t since[LLAMA_OTEL_GRAPH_READY];
    if (!at_detail_op()) {
        return;
    }
    const int64_t now = llama_otel_now_ns();
    if (step < LLAMA_OTEL_GRAPH_READY) {
        since[step] = now;
    } else if (llama_otel_span * span = ubatch_span()) {
        const int64_t built = since[LLAMA_OTEL_GRAPH_ALLOC];
        span->add("llama.graph.build.time", (double) (built - since[LLAMA_OTEL_GRAPH_BUILD]) * 1e-9, "llama.graph.alloc.time", (double) (now - built) * 1e-9);
    }
}

void llama_otel_graph_reused() noexcept {
    llama_otel_span * open = llama_otel_open_span();
    if (open && open->enclosing() && llama_otel_is(open->name(), "llama_ubatch")) {
        open->enclosing()->count_reused_graph();
    }
    graph_is_reused = true;
    if (llama_otel_batch_counts * counts = llama_otel_current_counts()) {
        llama_otel_count(counts->n_reused);
    } else {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_GRAPH_COMPUTE_REUSES, 1, "llama.decode.phase", llama_otel_literal{ llama_otel_current_phase() });
    }
    if (llama_otel_span * span = ubatch_span()) {
        span->add("llama.graph.reused", true);
    }
}

int64_t llama_otel_graph_begins() noexcept {
    times = { llama_otel_now_ns(), 0 };
    return times.begun;
}

int64_t llama_otel_split_begins() noexcept {
    const int64_t begun = times.begun;
    times = { 0, 0 };
    return begun ? begun : llama_otel_now_ns();
}

void llama_otel_graph_computed(const char * phase, int64_t n_nodes, int64_t n_splits, int64_t start_ns) noexcept {
    const int64_t ns = (times.ended ? times.ended : llama_otel_now_ns()) - start_ns;
    times = { 0, 0 };
    if (llama_otel_span * span = ubatch_span()) {
        span->add("llama.graph.nodes", n_nodes, "llama.graph.splits", n_splits, "llama.graph.compute.time", (double) ns * 1e-9);
    }
    const llama_otel_literal literal = { phase };
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_GRAPH_COMPUTE_DURATION, (double) ns * 1e-9, "llama.decode.phase", literal);
    if (!graph_is_reused) { // the others have been told
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_GRAPH_COMPUTE_NODES,  n_nodes,  "llama.decode.phase", literal);
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_GRAPH_COMPUTE_SPLITS, n_splits, "llama.decode.phase", literal);
    }
    graph_is_reused = false;
    llama_otel_hand_over_after(ns);
}

void llama_otel_device_submitted(const void * backend, const char * device, int64_t start_ns, bool goes_on) noexcept {
    if (!is_told.load(std::memory_order_relaxed)) {
        is_told.store(true, std::memory_order_relaxed);
    }
    if (!goes_on) {
        times.ended = llama_otel_now_ns();
        llama_otel_count_busy(device, times.ended - start_ns);
        return;
    }
    if (find_busy(backend)) {
        return; // busy since an earlier graph
    }
    const size_t first = ((uintptr_t) backend >> 4) % N_BUSY_SLOTS;
    for (size_t i = 0; i < N_BUSY_SLOTS; i++) {
        busy_slot & slot = busy_slots[(first + i) % N_BUSY_SLOTS];
        const void * free = nullptr;
        if (slot.backend.compare_exchange_strong(free, backend)) {
            slot.device.store(device, std::memory_order_relaxed);
            slot.since_ns.store(start_ns, std::memory_order_release);
            n_busy.fetch_add(1, std::memory_order_relaxed);
            return;
        }
    }
}

void llama_otel_device_waited(const void * backend) noexcept {
    times.begun = 0; // the graph waits for one before it
    if (busy_slot * slot = find_busy(backend)) {
        llama_otel_count_busy(slot->device.load(std::memory_order_relaxed), llama_otel_now_ns() - slot->since_ns.load(std::memory_order_acquire));
        slot->backend.store(nullptr, std::memory_order_release);
        n_busy.fetch_sub(1, std::memory_order_relaxed);
    }
}

bool llama_otel_devices_busy() noexcept { return n_busy.load(std::memory_order_relaxed) != 0 || !is_told.load(std::memory_order_relaxed); }
