#pragma once

// Measurements → the SDK's instruments. Runs on the drain thread only.

#include "compat.h"
#include "environment.h"
#include "record.h"
#include "registry.h"

#include "opentelemetry/metrics/async_instruments.h"
#include "opentelemetry/metrics/sync_instruments.h"
#include "opentelemetry/sdk/metrics/export/metric_producer.h"
#include "opentelemetry/sdk/metrics/meter_provider.h"
#include "opentelemetry/sdk/metrics/metric_reader.h"
#include "opentelemetry/sdk/resource/resource.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llama_otel_cpp {

class instruments {
public:
    instruments(const otel::sdk::resource::Resource & resource, const std::string & version, temporality preferred, bool exponential);
    ~instruments();

    void measurement(const record_view<llama_otel_metric_record> & record);
    // of a span that has a histogram, with those of its attributes that the histogram has
    void span_duration(const record_view<llama_otel_span_record> & record);
    // a figure of telemetry itself
    void own(uint16_t metric, double value, std::initializer_list<std::pair<const char *, const char *>> attributes);
    // brings `llama.otel.dropped` up to what was counted
    void drops();

    // all that was measured; nothing if there is nothing. Refers to what `provider` keeps.
    std::optional<otel::sdk::metrics::ResourceMetrics> collect();
    std::shared_ptr<otel::sdk::metrics::MeterProvider> provider() const { return meter_provider; }

    // Uses every kind of instrument once, for nothing: the SDK makes objects of static life when it is first used.
    static void warm_up(const otel::sdk::resource::Resource & resource);

private:
    class reader;
    class instrument_of;

    void record(uint16_t metric, double value, uint32_t n_times, std::unique_ptr<attribute_list> attributes);

    std::shared_ptr<otel::sdk::metrics::MeterProvider>      meter_provider;
    std::shared_ptr<reader>                                 metric_reader;
    bool                                                    is_delta;
    otel::nostd::shared_ptr<otel::metrics::Meter>           meter;
    std::vector<std::unique_ptr<instrument_of>>             all; // made when first recorded
    std::map<std::string, uint64_t>                         exported_drops;
};

} // namespace llama_otel_cpp
