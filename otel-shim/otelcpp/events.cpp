#include "events.h"

#include "ids.h"
#include "text.h"

#include "opentelemetry/logs/severity.h"
#include "opentelemetry/trace/trace_flags.h"

namespace llama_otel_cpp {

// of all spans together; a span that is not exported after all never takes its own
constexpr size_t MAX_WAITING = 1024;
// of one span, as the SDK of Rust has it; a loop that fails must not make a span of any size
constexpr size_t MAX_OF_SPAN = 128;

void open_events::add(const record_view<llama_otel_event_record> & record, const epoch & epoch) {
    if (record.head->span_id == 0) {
        return;
    }
    if (waiting.size() >= MAX_WAITING) {
        waiting.pop_front();
    }
    span_event event{ record.head->name, epoch.at(record.head->time_ns), std::make_unique<attribute_list>() };
    event.attributes->add(record);
    if (record.head->severity > 0) {
        event.attributes->set_text("llama.log.message", clean(record.text(record.head->message)));
    }
    waiting.emplace_back(record.head->span_id, std::move(event));
}

std::pair<std::vector<span_event>, size_t> open_events::take(uint64_t span_id) {
    std::pair<std::vector<span_event>, size_t> taken;
    for (auto event = waiting.begin(); event != waiting.end();) {
        if (event->first != span_id) {
            ++event;
            continue;
        }
        if (taken.first.size() < MAX_OF_SPAN) {
            taken.first.push_back(std::move(event->second));
        } else {
            taken.second++;
        }
        event = waiting.erase(event);
    }
    return taken;
}

log_pipeline::log_pipeline(log_outlet outlet, std::shared_ptr<const llama_otel_cpp::origin> origin, const config & config) :
    queue(std::move(outlet.out), record_kind::event, config.log_schedule_delay, config.max_export_batch_size, config.log_max_queue_size),
    exporter(std::move(outlet.exporter)), origin(std::move(origin)) {}

void log_pipeline::take(const record_view<llama_otel_event_record> & record, const epoch & epoch) {
    const llama_otel_event_record & head = *record.head;
    if (head.severity == 0) {
        return;
    }
    auto log = exporter->MakeRecordable();
    if (log) {
        const otel::common::SystemTimestamp time(epoch.at(head.time_ns));
        const std::string    body = clean(record.text(head.message));
        const attribute_list::value text = otel::nostd::string_view(body);
        log->SetTimestamp(time);
        log->SetObservedTimestamp(time);
        log->SetSeverity(head.severity <= 12 ? otel::logs::Severity::kInfo : head.severity <= 16 ? otel::logs::Severity::kWarn : otel::logs::Severity::kError);
        log->SetEventId(0, head.name);
        log->SetBody(text);
        log->SetResource(origin->resource);
        log->SetInstrumentationScope(*origin->scope);
        if (head.span_id != 0) {
            log->SetTraceId(trace_id(head.trace_id_hi, head.trace_id_lo));
            log->SetSpanId(span_id(head.span_id));
            log->SetTraceFlags(otel::trace::TraceFlags(otel::trace::TraceFlags::kIsSampled));
        }
        attribute_list attributes;
        attributes.add(record);
        attributes.ForEachKeyValue([&](otel::nostd::string_view key, attribute_list::value value) {
            log->SetAttribute(key, value);
            return true;
        });
    }
    queue.take(std::move(log));
}

} // namespace llama_otel_cpp
