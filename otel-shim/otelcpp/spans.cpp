#include "spans.h"

#include "ids.h"
#include "text.h"

#include "opentelemetry/trace/span_context.h"
#include "opentelemetry/trace/trace_state.h"

#include <algorithm>

namespace llama_otel_cpp {

namespace trace = otel::trace;

span_pipeline::span_pipeline(span_outlet outlet, std::shared_ptr<const llama_otel_cpp::origin> origin, const config & config) :
    queue(std::move(outlet.out), record_kind::span, config.schedule_delay, config.max_export_batch_size, config.max_queue_size),
    exporter(std::move(outlet.exporter)), is_otlp(outlet.is_otlp), origin(std::move(origin)), max_attributes(config.max_attributes),
    max_value_length(config.max_value_length), max_links(config.max_links) {}

void span_pipeline::take(const record_view<llama_otel_span_record> & record, const epoch & epoch, open_events & events) {
    queue.take(make(record, epoch, events));
}

std::unique_ptr<otel::sdk::trace::Recordable> span_pipeline::make(record_view<llama_otel_span_record> record, const epoch & epoch, open_events & events) const {
    const llama_otel_span_record & head = *record.head;
    auto span = exporter->MakeRecordable();
    if (!span) {
        return nullptr;
    }
    auto trace_state = trace::TraceState::GetDefault();
    if (head.flags & LLAMA_OTEL_FLAG_TRACESTATE && record.n_attrs > 0) {
        const std::string_view text = record.text(record.attrs[--record.n_attrs].value.s);
        trace_state = trace::TraceState::FromHeader(otel::nostd::string_view(text.data(), text.size()));
    }
    const trace::TraceFlags  sampled(trace::TraceFlags::kIsSampled);
    const trace::SpanContext context(trace_id(head.trace_id_hi, head.trace_id_lo), span_id(head.span_id), sampled, false, trace_state);
    span->SetIdentity(context, span_id(head.parent_span_id));
    span->SetTraceFlags(sampled);
    span->SetName(head.name);
    span->SetSpanKind(trace::SpanKind::kInternal);
    span->SetResource(origin->resource);
    span->SetInstrumentationScope(*origin->scope);
    span->SetStartTime(otel::common::SystemTimestamp(epoch.at(head.start_ns)));
    span->SetDuration(std::chrono::nanoseconds(std::max<int64_t>(head.end_ns - head.start_ns, 0)));
    if (head.flags & LLAMA_OTEL_FLAG_ERROR) {
        span->SetStatus(trace::StatusCode::kError, clean(record.text(head.message)));
    }
    attribute_list attributes;
    attributes.add(record);
    const size_t left_out = attributes.limit(max_attributes, max_value_length);
    attributes.ForEachKeyValue([&](otel::nostd::string_view key, attribute_list::value value) {
        span->SetAttribute(key, value);
        return true;
    });
    const auto happened = events.take(head.span_id);
    for (const span_event & event : happened.first) {
        span->AddEvent(event.name, otel::common::SystemTimestamp(event.time), *event.attributes);
    }
    span_details details;
    details.dropped_events     = (uint32_t) happened.second;
    details.dropped_attributes = (uint32_t) (head.n_attrs_dropped + left_out);
    details.has_remote_parent  = head.flags & LLAMA_OTEL_FLAG_REMOTE_PARENT;
    const auto * links   = (const llama_otel_link *) record.tail;
    const size_t n_links = std::min<size_t>(head.n_links, record.n_tail / sizeof(llama_otel_link));
    for (size_t i = 0; i < std::min(n_links, max_links); i++) {
        span->AddLink(trace::SpanContext(trace_id(links[i].trace_id_hi, links[i].trace_id_lo), span_id(links[i].span_id), sampled, false));
    }
    details.dropped_links = (uint32_t) (head.n_links_dropped + n_links - std::min(n_links, max_links));
    if (is_otlp) {
        set_details(*span, details);
    }
    return span;
}

} // namespace llama_otel_cpp
