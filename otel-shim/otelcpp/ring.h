#pragma once

// What the inference thread touches: a ring of bytes per thread, and the count of what did not fit.
//
// `push` takes no lock, allocates nothing and makes no system call, but for the first record of a thread (which gets its
// ring) and for waking the drain thread once when a quarter of a ring is full. A full ring loses spans and histogram samples,
// which are counted; additions to counters are kept and added later, so that sums stay exact.

#include "otel-backend.h"

#include <chrono>
#include <functional>
#include <vector>

namespace llama_otel_cpp {

// an event of a span or a record of the log; as dropped, it counts for logs
enum class record_kind : uint32_t { span = LLAMA_OTEL_ENTRY_SPAN, metric = LLAMA_OTEL_ENTRY_METRIC, event = LLAMA_OTEL_ENTRY_EVENT };

enum class drop_reason {
    ring_full,     // the thread's ring was full
    thread_limit,  // more threads than there is memory for rings
    queue_full,    // the queue before the exporter was full: the receiver is too slow or gone
    export_failed, // the receiver refused it, could not be reached, or did not answer in time
    shutdown,      // it waited when telemetry was shut down
};

struct drop_count {
    const char * signal;
    const char * reason;
    uint64_t     count;
};

void count_dropped(record_kind kind, drop_reason reason, uint64_t n);
// since the process started, only what is not zero
std::vector<drop_count> dropped();

// copies a record (head and attributes, `size` bytes) and its strings into this thread's ring
void push(record_kind kind, const void * record, size_t size, const char * strings, size_t strings_size);

// several records at once, as llama_otel_backend::entries takes them
void push_entries(const void * entries, size_t size);

// A record that was taken out of a ring: whole, and aligned for its attributes. What follows the attributes is the record's too.
struct entry {
    record_kind         kind;
    const void * record;
    size_t       size;
    const char * strings;
    size_t       strings_size;
};

// Takes every entry out of every ring. One thread only.
size_t drain(const std::function<void(const entry &)> & take);

// sleeps until a quarter of a ring is full, `wake_drain` is called, or the time is over
void sleep_until_needed(std::chrono::milliseconds at_most);
void wake_drain();

} // namespace llama_otel_cpp
