// Memory by device and kind, the cells of contexts, and what devices say of their memory.

#include "runtime.h"

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace {

// one device and kind: what is held, and what of it the backend has been told
struct account {
    std::string device;
    std::string kind;
    int64_t     held          = 0;
    int64_t     reported      = 0;
    int64_t     peak          = 0;
    int64_t     peak_reported = 0;
};

struct holding {
    account * of;
    int64_t   size;
};

struct ledger_t {
    std::mutex mutex;
    std::map<std::pair<std::string, std::string>, account> accounts; // (device, kind)
    std::unordered_map<const void *, holding>              buffers;
    std::map<std::string, std::pair<int64_t, int64_t>>     gpus;     // memory in use and limit that the backend has been told
};

// never destroyed: buffers may be freed by static destructors
ledger_t & ledger() {
    static ledger_t * instance = new ledger_t;
    return *instance;
}

std::atomic<int64_t> n_buffers{ 0 };

thread_local const char *            current_kind       = nullptr;
thread_local llama_otel_allocation * current_allocation = nullptr;

void report(account & a) noexcept {
    a.peak = a.held > a.peak ? a.held : a.peak;
    if (!llama_otel_on()) {
        return;
    }
    if (a.held != a.reported) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_USAGE, a.held - a.reported, "llama.device.name", a.device, "llama.memory.kind", a.kind);
        a.reported = a.held;
    }
    if (a.peak != a.peak_reported) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_PEAK, a.peak, "llama.device.name", a.device, "llama.memory.kind", a.kind);
        a.peak_reported = a.peak;
    }
}

// The caches whose cells were counted, found by address without a lock: a slot belongs to whoever sets its address. What is in
// it is read by the thread that collects metrics.
struct cells_slot {
    std::atomic<const void *> owner;
    std::atomic<const char *> pool; // null: nothing is known yet
    std::atomic<int64_t>      context_id;
    std::atomic<int64_t>      used;
    std::atomic<int64_t>      total;
};

constexpr size_t N_CELLS_SLOTS = 512;

cells_slot cells_slots[N_CELLS_SLOTS];

cells_slot * find_cells(const void * owner, bool make) noexcept {
    const size_t first = ((uintptr_t) owner >> 4) % N_CELLS_SLOTS;
    for (size_t i = 0; i < N_CELLS_SLOTS; i++) {
        cells_slot & slot = cells_slots[(first + i) % N_CELLS_SLOTS];
        if (slot.owner.load(std::memory_order_acquire) == owner) {
            return &slot;
        }
    }
    for (size_t i = 0; make && i < N_CELLS_SLOTS; i++) {
        cells_slot & slot = cells_slots[(first + i) % N_CELLS_SLOTS];
        const void * free = nullptr;
        if (slot.owner.compare_exchange_strong(free, owner)) {
            return &slot;
        }
    }
    return nullptr;
}

// `gauge` takes a metric, its value, and its attributes
template <typename Gauge> void tell_cells(int64_t id, llama_otel_literal pool, int64_t used, int64_t total, Gauge gauge) noexcept {
    const double utilization = total ? (double) used / (double) total : 0.0;
    gauge(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_USAGE,       (double) used,  "llama.context.id", id, "llama.kv_cache.pool", pool);
    gauge(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_UTILIZATION, utilization,    "llama.context.id", id, "llama.kv_cache.pool", pool);
    gauge(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_LIMIT,       (double) total, "llama.context.id", id, "llama.kv_cache.pool", pool);
}

} // namespace

llama_otel_memory_kind::llama_otel_memory_kind(const char * kind) noexcept : outer(current_kind) { current_kind = kind; }

llama_otel_memory_kind::~llama_otel_memory_kind() { current_kind = outer; }

llama_otel_allocation::llama_otel_allocation(const char * device, size_t size) noexcept : device(device), size(size) {
    if (device) {
        outer              = current_allocation;
        current_allocation = this;
    }
}

llama_otel_allocation::~llama_otel_allocation() {
    if (!device) {
        return;
    }
    current_allocation = outer;
    if (outer) {
        outer->fulfilled |= fulfilled;
    } else if (size > 0 && !fulfilled) {
        const char * kind = current_kind ? current_kind : "other";
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_ALLOCATION_FAILURES, 1, "llama.device.name", device, "llama.memory.kind", kind);
        llama_otel_event("llama.allocation_failed", "llama.device.name", device, "llama.memory.kind", kind, "llama.memory.size", size);
    }
}

void llama_otel_buffer_allocated(const void * buffer, const char * device, size_t size) noexcept {
    if (current_allocation) {
        current_allocation->fulfilled = true;
        for (llama_otel_allocation * request = current_allocation; request; request = request->outer) {
            device = request->device;
        }
    }
    const char * kind = current_kind ? current_kind : "other";
    if (size == 0 || kind[0] == '\0') { // a placeholder; or a buffer made of others, which are counted
        return;
    }
    try {
        ledger_t & l = ledger();
        std::lock_guard<std::mutex> lock(l.mutex);
        account & a = l.accounts[{ device, kind }];
        if (a.device.empty()) {
            a.device = device;
            a.kind   = kind;
        }
        if (const auto old = l.buffers.find(buffer); old != l.buffers.end()) { // its end was not seen
            old->second.of->held -= old->second.size;
            report(*old->second.of);
        }
        l.buffers[buffer] = { &a, (int64_t) size };
        n_buffers.store((int64_t) l.buffers.size(), std::memory_order_relaxed);
        a.held += (int64_t) size;
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_ALLOCATIONS, 1, "llama.device.name", a.device, "llama.memory.kind", a.kind);
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_ALLOCATION_SIZE, size, "llama.device.name", a.device, "llama.memory.kind", a.kind);
        report(a);
    } catch (...) { // no memory for the figure: it is lost, inference is not
    }
    llama_otel_event("llama.allocated", "llama.device.name", device, "llama.memory.kind", kind, "llama.memory.size", size);
    for (llama_otel_span * span = llama_otel_open_span(); span; span = span->enclosing()) {
        span->count_allocated(size);
    }
}

void llama_otel_buffer_freed(const void * buffer) noexcept {
    if (n_buffers.load(std::memory_order_relaxed) == 0) {
        return;
    }
    try {
        ledger_t & l = ledger();
        std::lock_guard<std::mutex> lock(l.mutex);
        const auto it = l.buffers.find(buffer);
        if (it == l.buffers.end()) {
            return;
        }
        const holding was = it->second;
        l.buffers.erase(it);
        n_buffers.store((int64_t) l.buffers.size(), std::memory_order_relaxed);
        was.of->held -= was.size;
        if (llama_otel_on()) {
            llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_DEALLOCATIONS, 1, "llama.device.name", was.of->device, "llama.memory.kind", was.of->kind);
            llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MEMORY_DEALLOCATION_SIZE, was.size, "llama.device.name", was.of->device, "llama.memory.kind", was.of->kind);
        }
        report(*was.of);
    } catch (...) {
    }
}

void llama_otel_memory_restarted() noexcept {
    try {
        ledger_t & l = ledger();
        std::lock_guard<std::mutex> lock(l.mutex);
        l.gpus.clear();
        for (auto & entry : l.accounts) {
            account & a = entry.second;
            a.reported      = 0;
            a.peak_reported = 0;
            a.peak          = a.held;
            report(a);
        }
    } catch (...) {
    }
}

//
// devices
//

void llama_otel_device_memory(const char * device, const char * type, size_t free, size_t total) noexcept {
    if (total == 0) { // the backend does not know
        return;
    }
    const int64_t limit = (int64_t) total;
    const int64_t used  = (int64_t) (total - (free < total ? free : total));
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DEVICE_MEMORY_USAGE, used,  "llama.device.name", device);
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_DEVICE_MEMORY_LIMIT, limit, "llama.device.name", device);
    if (strcmp(type, "gpu") != 0) {
        return;
    }
    try {
        // the conventions make sums of them: what is told is the difference to the last time
        ledger_t & l = ledger();
        std::lock_guard<std::mutex> lock(l.mutex);
        auto & told = l.gpus[device];
        llama_otel_measure(LLAMA_OTEL_METRIC_HW_GPU_MEMORY_USAGE, used - told.first,   "hw.id", device, "hw.name", device);
        llama_otel_measure(LLAMA_OTEL_METRIC_HW_GPU_MEMORY_LIMIT, limit - told.second, "hw.id", device, "hw.name", device);
        told = { used, limit };
    } catch (...) {
    }
}

//
// cells
//

void llama_otel_cells(const void * owner, const char * pool, int64_t used, int64_t total, bool in_batch) noexcept {
    cells_slot * slot = find_cells(owner, in_batch);
    if (!slot) {
        return; // it has never held anything, or there are more than anybody would look at
    }
    slot->used.store(used, std::memory_order_relaxed);
    slot->total.store(total, std::memory_order_relaxed);
    if (in_batch) { // a cache is used by one thread at a time
        slot->context_id.store(llama_otel_current_context_id(), std::memory_order_relaxed);
        slot->pool.store(pool, std::memory_order_release);
    }
}

void llama_otel_observe_cells(const llama_otel_observer & observer) noexcept {
    for (cells_slot & slot : cells_slots) {
        const void *             owner = slot.owner.load(std::memory_order_acquire);
        const llama_otel_literal pool  = { slot.pool.load(std::memory_order_acquire) };
        if (!owner || !pool.text) {
            continue;
        }
        const int64_t            id    = slot.context_id.load(std::memory_order_acquire);
        const int64_t            used  = slot.used.load(std::memory_order_acquire);
        const int64_t            total = slot.total.load(std::memory_order_acquire);
        if (slot.owner.load(std::memory_order_relaxed) != owner || slot.context_id.load(std::memory_order_relaxed) != id) {
            continue; // it went meanwhile, and its end is told by a record
        }
        tell_cells(id, pool, used, total, [&](const auto &... figures) { observer.gauge(figures...); });
    }
}

void llama_otel_cells_gone(int64_t context_id) noexcept {
    for (cells_slot & slot : cells_slots) {
        if (slot.owner.load(std::memory_order_acquire) && slot.context_id.load(std::memory_order_acquire) == context_id) {
            const llama_otel_literal pool = { slot.pool.load(std::memory_order_relaxed) };
            slot.pool.store(nullptr, std::memory_order_relaxed);
            slot.owner.store(nullptr, std::memory_order_release);
            tell_cells(context_id, pool, 0, 0, [](const auto &... figures) { llama_otel_measure(figures...); });
        }
    }
}
