#pragma once

// Event records → events of their spans, which are still open, and records of the log. Runs on the drain thread.

#include "environment.h"
#include "exporters.h"
#include "record.h"
#include "waiting.h"

#include <deque>
#include <memory>
#include <vector>

namespace llama_otel_cpp {

// something that happened within a span
struct span_event {
    const char *                          name;
    std::chrono::system_clock::time_point time;
    std::unique_ptr<attribute_list>       attributes;
};

// Events whose spans are still open.
class open_events {
public:
    // keeps the event for its span; the oldest goes if there are too many
    void add(const record_view<llama_otel_event_record> & record, const epoch & epoch);
    // the events of a span that has ended, and how many more it had
    std::pair<std::vector<span_event>, size_t> take(uint64_t span_id);

private:
    std::deque<std::pair<uint64_t, span_event>> waiting;
};

class log_pipeline {
public:
    log_pipeline(log_outlet outlet, std::shared_ptr<const origin> origin, const config & config);

    // nothing for an event that is no record of the log
    void take(const record_view<llama_otel_event_record> & record, const epoch & epoch);

    waiting_queue<otel::sdk::logs::Recordable> queue;

private:
    std::shared_ptr<otel::sdk::logs::LogRecordExporter> exporter;
    std::shared_ptr<const llama_otel_cpp::origin>       origin;
};

} // namespace llama_otel_cpp
