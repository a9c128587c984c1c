#pragma once

// The exporters of opentelemetry-cpp, configured by our reading of the environment, each behind an outlet.

#include "environment.h"
#include "outlet.h"

#include "opentelemetry/sdk/instrumentationscope/instrumentation_scope.h"
#include "opentelemetry/sdk/logs/exporter.h"
#include "opentelemetry/sdk/logs/recordable.h"
#include "opentelemetry/sdk/metrics/export/metric_producer.h"
#include "opentelemetry/sdk/metrics/meter_provider.h"
#include "opentelemetry/sdk/resource/resource.h"
#include "opentelemetry/sdk/trace/exporter.h"
#include "opentelemetry/sdk/trace/recordable.h"

#include <memory>
#include <optional>
#include <vector>

namespace llama_otel_cpp {

using span_batch   = std::vector<std::unique_ptr<otel::sdk::trace::Recordable>>;
using log_batch    = std::vector<std::unique_ptr<otel::sdk::logs::Recordable>>;
using metric_batch = otel::sdk::metrics::ResourceMetrics;

// whose telemetry it is; spans refer to it until they are exported
struct origin {
    otel::sdk::resource::Resource                                                       resource;
    otel::nostd::unique_ptr<otel::sdk::instrumentationscope::InstrumentationScope> scope;
};

// What exporters of spans say in OTLP beyond what the SDK's interface lets us say.
struct span_details {
    uint32_t dropped_attributes = 0;
    uint32_t dropped_links      = 0;
    uint32_t dropped_events     = 0;
    bool     has_remote_parent  = false;
};

struct span_outlet {
    std::unique_ptr<outlet<span_batch>>             out;
    std::shared_ptr<otel::sdk::trace::SpanExporter> exporter; // makes the spans
    bool                                            is_otlp = false;
};

struct log_outlet {
    std::unique_ptr<outlet<log_batch>>                  out;
    std::shared_ptr<otel::sdk::logs::LogRecordExporter> exporter; // makes the records
};

// of a span that an OTLP exporter made
void set_details(otel::sdk::trace::Recordable & span, const span_details & details);

// Nothing if spans go nowhere. Calls `exported_first` after the first export. Throws std::runtime_error with the setting that
// cannot be had.
std::optional<span_outlet> make_span_outlet(const config & config, std::shared_ptr<const origin> origin, void (*exported_first)(), std::vector<std::string> & warnings);

std::optional<log_outlet> make_log_outlet(const config & config, std::shared_ptr<const origin> origin, void (*exported_first)(), std::vector<std::string> & warnings);

// The same for metrics; the batches refer to what the provider keeps.
std::unique_ptr<outlet<metric_batch>> make_metric_outlet(const config & config, std::shared_ptr<otel::sdk::metrics::MeterProvider> provider, void (*exported_first)(), std::vector<std::string> & warnings);

} // namespace llama_otel_cpp
