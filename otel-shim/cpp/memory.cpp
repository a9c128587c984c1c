// Memory by device and kind, the cells of contexts, and what devices say of their memory.

#include "otel.h"

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

// The caches whose cells were counted, found by address without a lock: a slot belongs to whoever sets its address.
struct cells_slot {
    std::atomic<const void *> owner;
    std::atomic<int64_t>      context_id;
    std::atomic<const char *> pool;

    // what the backend has been told, NOT_TOLD: nothing
    std::atomic<int64_t>      used;
    std::atomic<int64_t>      total;
};

constexpr int64_t NOT_TOLD = -1;

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
            slot.used.store(NOT_TOLD, std::memory_order_relaxed);
            return &slot;
        }
    }
    return nullptr;
}

// What did not change is not told again: a batch is tried before it is placed, and the limit stays. That one is told with
// every 256th of it that is used more or less, so that it does not go missing where gauges are forgotten after each export.
void measure_cells(cells_slot * slot, int64_t id, const char * pool, int64_t used, int64_t total) noexcept {
    constexpr int64_t N_STEPS = 256;
    const int64_t old     = slot ? slot->used.load(std::memory_order_relaxed) : NOT_TOLD;
    const bool    resized = old == NOT_TOLD || slot->total.load(std::memory_order_relaxed) != total;
    if (!resized && old == used) {
        return;
    }
    if (slot) { // a cache is used by one thread at a time
        slot->used.store(used, std::memory_order_relaxed);
        slot->total.store(total, std::memory_order_relaxed);
    }
    const double utilization = total ? (double) used / (double) total : 0.0;
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_USAGE,       used,        "llama.context.id", id, "llama.kv_cache.pool", llama_otel_literal{ pool });
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_UTILIZATION, utilization, "llama.context.id", id, "llama.kv_cache.pool", llama_otel_literal{ pool });
    if (resized || (total > 0 && old * N_STEPS / total != used * N_STEPS / total)) {
        llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_LIMIT, total, "llama.context.id", id, "llama.kv_cache.pool", llama_otel_literal{ pool });
    }
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
        for (cells_slot & slot : cells_slots) {
            slot.used.store(NOT_TOLD, std::memory_order_relaxed);
        }
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
    int64_t      id   = in_batch ? llama_otel_current_context_id() : 0;
    if (slot && in_batch) {
        slot->pool.store(pool, std::memory_order_relaxed);
        if (slot->context_id.load(std::memory_order_relaxed) != id) {
            slot->used.store(NOT_TOLD, std::memory_order_relaxed);
            slot->context_id.store(id, std::memory_order_release);
        }
    } else if (slot) {
        id = slot->context_id.load(std::memory_order_acquire);
    } else if (!in_batch) {
        return; // it has never held anything
    }
    measure_cells(slot, id, pool, used, total);
}

void llama_otel_cells_gone(int64_t context_id) noexcept {
    for (cells_slot & slot : cells_slots) {
        if (slot.owner.load(std::memory_order_acquire) && slot.context_id.load(std::memory_order_acquire) == context_id) {
            measure_cells(&slot, context_id, slot.pool.load(std::memory_order_relaxed), 0, 0);
            slot.owner.store(nullptr, std::memory_order_release);
        }
    }
}
