#pragma once

// Span records → spans as the exporter takes them, with the ids that the runtime chose. Runs on the drain thread.

#include "environment.h"
#include "exporters.h"
#include "events.h"
#include "record.h"
#include "waiting.h"

#include <memory>

namespace llama_otel_cpp {

class span_pipeline {
public:
    span_pipeline(span_outlet outlet, std::shared_ptr<const origin> origin, const config & config);

    // takes the span's events along
    void take(const record_view<llama_otel_span_record> & record, const epoch & epoch, open_events & events);
    // a span as the exporter takes it; null if it makes none
    std::unique_ptr<otel::sdk::trace::Recordable> make(record_view<llama_otel_span_record> record, const epoch & epoch, open_events & events) const;

    waiting_queue<otel::sdk::trace::Recordable> queue;

private:
    std::shared_ptr<otel::sdk::trace::SpanExporter> exporter;
    bool                                            is_otlp;
    std::shared_ptr<const llama_otel_cpp::origin>   origin;
    size_t                                          max_attributes;
    size_t                                          max_value_length;
    size_t                                          max_links;
};

} // namespace llama_otel_cpp
