#include "ring.h"

#include "registry.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

namespace llama_otel_cpp {

namespace {

// at 40,000 decodes per second and 1,200 bytes each, 21 ms; the drain thread, woken when a quarter is full, has 16 of them
constexpr size_t RING_BYTES     = 1 << 20;
constexpr size_t MIN_RING_BYTES = 16 << 10;
// all rings together; a thread that comes when this is used up gets none, and its records are counted as dropped
constexpr size_t ALL_RINGS_BYTES = 8 << 20;
// counters that one thread keeps while its ring is full
constexpr size_t MAX_KEPT = 64;

// an addition to a counter that found the ring full: a metric record, whose first eight bytes are the value, and its strings
struct kept_addition {
    std::vector<uint64_t> record;
    std::string           strings;
    double                value;
};

double record_value(const void * record) {
    double value;
    memcpy(&value, record, sizeof(value));
    return value;
}

bool is_counter(const void * record, size_t size) {
    llama_otel_metric_record metric;
    if (size < sizeof(metric)) {
        return false;
    }
    memcpy(&metric, record, sizeof(metric));
    if (metric.metric >= METRIC_COUNT) {
        return false;
    }
    const instrument kind = METRICS[metric.metric].kind;
    return kind == instrument::counter || kind == instrument::updowncounter;
}

// single producer, single consumer; positions only grow, their place in the memory is the lower bits
struct thread_ring {
    explicit thread_ring(size_t capacity) : bytes(capacity ? new unsigned char[capacity] : nullptr), capacity(capacity) {}

    std::unique_ptr<unsigned char[]> bytes;
    const size_t                     capacity; // a power of two; 0: this thread has no ring

    alignas(64) std::atomic<size_t> written{ 0 };
    size_t                          read_seen = 0; // the producer's memory of `read`
    alignas(64) std::atomic<size_t> read{ 0 };
    alignas(64) std::atomic<bool>   abandoned{ false };

    std::mutex                 kept_mutex; // only while the ring is full
    std::vector<kept_addition> kept;

    void put(size_t at, const void * from, size_t size) {
        const size_t place = at & (capacity - 1);
        const size_t front = capacity - place;
        if (size <= front) { // nearly always
            memcpy(bytes.get() + place, from, size);
            return;
        }
        memcpy(bytes.get() + place, from, front);
        memcpy(bytes.get(), (const char *) from + front, size - front);
    }

    void get(size_t at, void * to, size_t size) const {
        const size_t place = at & (capacity - 1);
        const size_t front = std::min(size, capacity - place);
        memcpy(to, bytes.get() + place, front);
        memcpy((char *) to + front, bytes.get(), size - front);
    }

    void push(record_kind kind, const void * record, size_t size, const char * strings, size_t strings_size) {
        if (capacity == 0) {
            count_dropped(kind, drop_reason::thread_limit, 1);
            return;
        }
        const size_t at    = written.load(std::memory_order_relaxed);
        const size_t total = sizeof(llama_otel_entry) + size + strings_size;
        if (!has_room(at, total)) {
            overflow(kind, record, size, strings, strings_size);
            return;
        }
        const llama_otel_entry head = { (uint32_t) kind, (uint32_t) size, (uint32_t) strings_size, 0 };
        put(at, &head, sizeof(head));
        put(at + sizeof(head), record, size);
        if (strings_size > 0) {
            put(at + sizeof(head) + size, strings, strings_size);
        }
        publish(at + total);
    }

    void push_entries(const void * entries, size_t total) {
        const size_t at = written.load(std::memory_order_relaxed);
        if (capacity != 0 && has_room(at, total)) {
            put(at, entries, total);
            publish(at + total);
            return;
        }
        // as many as there is room for; the others are counted
        const char *       from = (const char *) entries;
        const char * const end  = from + total;
        while (from != end) {
            llama_otel_entry head;
            memcpy(&head, from, sizeof(head));
            const char * record = from + sizeof(head);
            from = record + head.record + head.strings;
            push((record_kind) head.kind, record, head.record, record + head.record, head.strings);
        }
    }

    bool has_room(size_t at, size_t total) {
        if (at + total - read_seen <= capacity) {
            return true;
        }
        read_seen = read.load(std::memory_order_acquire);
        return at + total - read_seen <= capacity;
    }

    void publish(size_t end) {
        written.store(end, std::memory_order_release);
        if (end - read_seen > capacity / 4) {
            quarter_full(end);
        }
    }

    void quarter_full(size_t at);
    void overflow(record_kind kind, const void * record, size_t size, const char * strings, size_t strings_size);
};

// Never destroyed: threads may record while the program's own objects of static life are.
struct shared {
    std::mutex                                mutex;
    std::vector<std::shared_ptr<thread_ring>> rings;
    size_t                                    bytes_used = 0;

    std::mutex                   late_mutex;
    std::shared_ptr<thread_ring> late; // of all threads whose own ring is gone

    std::mutex drain_mutex; // a drain thread that comes to its end may have a successor already

    std::atomic<bool>       drain_asleep{ false };
    std::mutex              wake_mutex;
    std::condition_variable wake;
    uint64_t                n_wakes = 0;

    std::atomic<uint64_t> dropped[3][5] = {};
};

shared & state() {
    static shared & all = *new shared;
    return all;
}

std::shared_ptr<thread_ring> new_ring() {
    shared & all = state();
    std::lock_guard<std::mutex> lock(all.mutex);
    const size_t share = std::min((ALL_RINGS_BYTES - std::min(all.bytes_used, ALL_RINGS_BYTES)) / 4, RING_BYTES);
    size_t capacity = RING_BYTES;
    while (capacity > share) {
        capacity /= 2;
    }
    auto ring = std::make_shared<thread_ring>(capacity >= MIN_RING_BYTES ? capacity : 0);
    if (ring->capacity) {
        all.bytes_used += ring->capacity;
        all.rings.push_back(ring);
    }
    return ring;
}

// plain data beside the one object with a destructor, so that a record costs no check for its construction
thread_local thread_ring * own_ring     = nullptr;
thread_local bool          is_torn_down = false;
thread_local bool          is_inside    = false; // a signal handler that interrupts a push records nothing

struct inside {
    inside() { is_inside = true; }
    ~inside() { is_inside = false; }
};

struct ring_owner {
    std::shared_ptr<thread_ring> ring = new_ring();

    ~ring_owner() {
        own_ring     = nullptr;
        is_torn_down = true;
        ring->abandoned.store(true, std::memory_order_release);
    }
};

void thread_ring::quarter_full(size_t at) {
    read_seen = read.load(std::memory_order_acquire);
    // a plain load first: while the drain thread works, nobody contends for this word
    std::atomic<bool> & asleep = state().drain_asleep;
    if (at - read_seen > capacity / 4 && asleep.load(std::memory_order_relaxed) && asleep.exchange(false)) {
        wake_drain();
    }
}

void thread_ring::overflow(record_kind kind, const void * record, size_t size, const char * strings, size_t strings_size) {
    if (state().drain_asleep.exchange(false)) {
        wake_drain();
    }
    if (kind == record_kind::metric && is_counter(record, size)) {
        std::lock_guard<std::mutex> lock(kept_mutex);
        const auto same = std::find_if(kept.begin(), kept.end(), [&](const kept_addition & other) {
            return other.record.size() * 8 == size && memcmp((const char *) other.record.data() + 8, (const char *) record + 8, size - 8) == 0 &&
                other.strings == std::string_view(strings, strings_size);
        });
        if (same != kept.end()) {
            same->value += record_value(record);
            return;
        }
        if (kept.size() < MAX_KEPT) {
            kept_addition addition{ std::vector<uint64_t>(size / 8), std::string(strings, strings_size), record_value(record) };
            memcpy(addition.record.data(), record, size);
            kept.push_back(std::move(addition));
            return;
        }
    }
    count_dropped(kind, drop_reason::ring_full, 1);
}

// calls `f` with the ring that takes what this thread records
template <typename F> void with_ring(F f) {
    if (is_inside) {
        return;
    }
    const inside guard;
    if (is_torn_down) {
        // the destructors of a thread's own variables, and those of the program at its end, may still free a model
        shared & all = state();
        std::lock_guard<std::mutex> lock(all.late_mutex);
        if (!all.late) {
            all.late = new_ring();
        }
        f(*all.late);
        return;
    }
    if (!own_ring) {
        static thread_local ring_owner owner;
        own_ring = owner.ring.get();
    }
    f(*own_ring);
}

} // namespace

void push(record_kind kind, const void * record, size_t size, const char * strings, size_t strings_size) {
    with_ring([&](thread_ring & ring) { ring.push(kind, record, size, strings, strings_size); });
}

void push_entries(const void * entries, size_t size) {
    with_ring([&](thread_ring & ring) { ring.push_entries(entries, size); });
}

size_t drain(const std::function<void(const entry &)> & take) {
    shared & all = state();
    const std::lock_guard<std::mutex> one_at_a_time(all.drain_mutex);
    std::vector<std::shared_ptr<thread_ring>> rings;
    {
        std::lock_guard<std::mutex> lock(all.mutex);
        rings = all.rings;
    }
    size_t                n = 0;
    std::vector<uint64_t> words; // eight-byte alignment for the records
    for (const auto & ring : rings) {
        const bool   abandoned = ring->abandoned.load(std::memory_order_acquire); // asked first: what was pushed before is then seen below
        const size_t end       = ring->written.load(std::memory_order_acquire);
        size_t       at        = ring->read.load(std::memory_order_relaxed);
        while (at != end) {
            llama_otel_entry head;
            ring->get(at, &head, sizeof(head));
            words.resize((head.record + head.strings + 7) / 8 + 1);
            ring->get(at + sizeof(head), words.data(), head.record + head.strings);
            at += sizeof(head) + head.record + head.strings;
            ring->read.store(at, std::memory_order_release);
            take({ (record_kind) head.kind, words.data(), head.record, (const char *) words.data() + head.record, head.strings });
            n++;
        }
        std::vector<kept_addition> kept;
        {
            std::lock_guard<std::mutex> lock(ring->kept_mutex);
            kept.swap(ring->kept);
        }
        for (kept_addition & addition : kept) {
            memcpy(addition.record.data(), &addition.value, sizeof(addition.value));
            take({ record_kind::metric, addition.record.data(), addition.record.size() * 8, addition.strings.data(), addition.strings.size() });
            n++;
        }
        if (abandoned) {
            std::lock_guard<std::mutex> lock(all.mutex);
            all.bytes_used -= ring->capacity;
            all.rings.erase(std::find(all.rings.begin(), all.rings.end(), ring));
        }
    }
    return n;
}

void sleep_until_needed(std::chrono::milliseconds at_most) {
    static thread_local uint64_t seen = 0; // a wake is for every thread that drains
    shared & all = state();
    std::unique_lock<std::mutex> lock(all.wake_mutex);
    all.drain_asleep.store(true);
    all.wake.wait_for(lock, at_most, [&] { return all.n_wakes != seen; });
    seen = all.n_wakes;
    all.drain_asleep.store(false);
}

void wake_drain() {
    shared & all = state();
    std::lock_guard<std::mutex> lock(all.wake_mutex);
    all.n_wakes++;
    all.wake.notify_all();
}

void count_dropped(record_kind kind, drop_reason reason, uint64_t n) {
    state().dropped[(size_t) kind - LLAMA_OTEL_ENTRY_SPAN][(size_t) reason].fetch_add(n, std::memory_order_relaxed);
}

std::vector<drop_count> dropped() {
    static const char * const signals[] = { "traces", "metrics", "logs" };
    static const char * const reasons[] = { "ring_full", "thread_limit", "queue_full", "export_failed", "shutdown" };
    std::vector<drop_count> counts;
    for (size_t signal = 0; signal < 3; signal++) {
        for (size_t reason = 0; reason < 5; reason++) {
            if (const uint64_t n = state().dropped[signal][reason].load(std::memory_order_relaxed)) {
                counts.push_back({ signals[signal], reasons[reason], n });
            }
        }
    }
    return counts;
}

} // namespace llama_otel_cpp
