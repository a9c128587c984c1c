#include "metrics.h"

#include "otel-registry.h"

#include "opentelemetry/context/context.h"
#include "opentelemetry/sdk/metrics/view/instrument_selector.h"
#include "opentelemetry/sdk/metrics/view/meter_selector.h"
#include "opentelemetry/sdk/metrics/view/view_registry.h"

#include <cstdio>
#include <cstring>
#include <deque>

namespace llama_otel_cpp {

namespace metrics = otel::metrics;
namespace sdk     = otel::sdk::metrics;

static_assert(METRIC_COUNT == LLAMA_OTEL_METRIC_COUNT_, "otelcpp/registry.h and otel-registry.h come from different registries");

constexpr const char * SCOPE            = "llama.cpp";
constexpr size_t       MAX_GAUGE_SERIES = 2000; // the SDK's own limit for what it keeps itself

static sdk::AggregationTemporality temporality_of(temporality preferred, sdk::InstrumentType type) {
    const bool is_sum_of_both_signs = type == sdk::InstrumentType::kUpDownCounter || type == sdk::InstrumentType::kObservableUpDownCounter;
    const bool is_observed_sum      = type == sdk::InstrumentType::kObservableCounter;
    const bool is_delta = preferred != temporality::cumulative && !is_sum_of_both_signs && !(preferred == temporality::low_memory && is_observed_sum);
    return is_delta ? sdk::AggregationTemporality::kDelta : sdk::AggregationTemporality::kCumulative;
}

// collects when we say so: the SDK's own reader starts a thread for each export and forgets what failed
class instruments::reader : public sdk::MetricReader {
public:
    explicit reader(temporality preferred) : preferred(preferred) {}

    sdk::AggregationTemporality GetAggregationTemporality(sdk::InstrumentType type) const noexcept override { return temporality_of(preferred, type); }

private:
    bool OnForceFlush(std::chrono::microseconds) noexcept override { return true; }
    bool OnShutDown(std::chrono::microseconds) noexcept override { return true; }

    temporality preferred;
};

// One instrument of the SDK. A gauge is an observable one, since those of ABI version 1 are: it keeps the last value of each
// series and is asked for them when metrics are collected.
class instruments::instrument_of {
public:
    instrument_of(metrics::Meter & meter, const metric_definition & def, bool is_delta) : def(def), is_delta(is_delta) {
        const bool is_integer = def.value == value_type::integer;
        switch (def.kind) {
            case instrument::counter:
                if (is_integer) { counter_int    = meter.CreateUInt64Counter(def.name, def.description, def.unit); }
                else            { counter_double = meter.CreateDoubleCounter(def.name, def.description, def.unit); }
                break;
            case instrument::updowncounter:
                if (is_integer) { updown_int    = meter.CreateInt64UpDownCounter(def.name, def.description, def.unit); }
                else            { updown_double = meter.CreateDoubleUpDownCounter(def.name, def.description, def.unit); }
                break;
            case instrument::histogram:
                histogram = meter.CreateDoubleHistogram(def.name, def.description, def.unit);
                break;
            case instrument::gauge:
                gauge = is_integer ? meter.CreateInt64ObservableGauge(def.name, def.description, def.unit) : meter.CreateDoubleObservableGauge(def.name, def.description, def.unit);
                gauge->AddCallback(observe, this);
                break;
        }
    }

    ~instrument_of() {
        if (gauge) {
            gauge->RemoveCallback(observe, this);
        }
    }

    void record(double value, uint32_t n_times, std::unique_ptr<attribute_list> attributes) {
        const otel::context::Context none;
        if (counter_int)    { counter_int->Add((uint64_t) value, *attributes); }
        if (counter_double) { counter_double->Add(value, *attributes); }
        if (updown_int)     { updown_int->Add((int64_t) value, *attributes); }
        if (updown_double)  { updown_double->Add(value, *attributes); }
        for (uint32_t i = 0; histogram && i < n_times; i++) {
            histogram->Record(value, *attributes, none);
        }
        if (gauge) {
            const std::string identity = attributes->identity();
            if (last.size() < MAX_GAUGE_SERIES || last.count(identity)) {
                last[identity] = { value, std::move(attributes) };
            }
        }
    }

private:
    struct last_value {
        double                          value;
        std::unique_ptr<attribute_list> attributes;
    };

    template <typename T> void observe_as(const otel::nostd::shared_ptr<metrics::ObserverResultT<T>> & result) {
        for (const auto & series : last) {
            result->Observe((T) series.second.value, *series.second.attributes);
        }
    }

    static void observe(metrics::ObserverResult result, void * self) {
        auto & all = *(instrument_of *) self;
        if (all.def.value == value_type::integer) {
            all.observe_as(otel::nostd::get<otel::nostd::shared_ptr<metrics::ObserverResultT<int64_t>>>(result));
        } else {
            all.observe_as(otel::nostd::get<otel::nostd::shared_ptr<metrics::ObserverResultT<double>>>(result));
        }
        if (all.is_delta) {
            all.last.clear();
        }
    }

    const metric_definition & def;
    bool                      is_delta;

    otel::nostd::unique_ptr<metrics::Counter<uint64_t>>      counter_int;
    otel::nostd::unique_ptr<metrics::Counter<double>>        counter_double;
    otel::nostd::unique_ptr<metrics::UpDownCounter<int64_t>> updown_int;
    otel::nostd::unique_ptr<metrics::UpDownCounter<double>>  updown_double;
    otel::nostd::unique_ptr<metrics::Histogram<double>>      histogram;
    otel::nostd::shared_ptr<metrics::ObservableInstrument>   gauge;
    std::map<std::string, last_value>                        last;
};

instruments::instruments(const otel::sdk::resource::Resource & resource, const std::string & version, temporality preferred, bool exponential) : metric_reader(std::make_shared<reader>(preferred)), is_delta(preferred != temporality::cumulative) {
    auto views = std::make_unique<sdk::ViewRegistry>();
    for (const metric_definition & def : METRICS) {
        if (def.kind != instrument::histogram) {
            continue;
        }
        auto view = exponential ? exponential_view(def.name, def.description) : nullptr;
        if (!view && def.n_bounds) {
            auto config = std::make_shared<sdk::HistogramAggregationConfig>();
            config->boundaries_.assign(def.bounds, def.bounds + def.n_bounds);
            view = histogram_view<>(def.name, def.description, sdk::AggregationType::kHistogram, std::move(config));
        }
        if (view) {
            views->AddView(std::make_unique<sdk::InstrumentSelector>(sdk::InstrumentType::kHistogram, def.name, def.unit),
                std::make_unique<sdk::MeterSelector>(SCOPE, version, SCHEMA_URL), std::move(view));
        }
    }
    meter_provider = std::make_shared<sdk::MeterProvider>(std::move(views), resource);
    meter_provider->AddMetricReader(metric_reader);
    meter = meter_provider->GetMeter(SCOPE, version, SCHEMA_URL);
    all.resize(METRIC_COUNT);
}

instruments::~instruments() = default;

void instruments::record(uint16_t metric, double value, uint32_t n_times, std::unique_ptr<attribute_list> attributes) {
    if (metric >= METRIC_COUNT) {
        return;
    }
    const metric_definition & def = METRICS[metric];
    for (size_t i = 0; i < def.n_attributes; i++) {
        if (strcmp(def.attributes[i], "gen_ai.provider.name") == 0) {
            attributes->set("gen_ai.provider.name", "llama.cpp");
            if (!attributes->has("gen_ai.operation.name")) {
                attributes->set("gen_ai.operation.name", "text_completion");
            }
        }
    }
    if (!all[metric]) {
        all[metric] = std::make_unique<instrument_of>(*meter, def, is_delta);
    }
    all[metric]->record(value, n_times, std::move(attributes));
}

void instruments::measurement(const record_view<llama_otel_metric_record> & record) {
    auto attributes = std::make_unique<attribute_list>();
    attributes->add(record);
    this->record(record.head->metric, record.head->value, record.head->n_times, std::move(attributes));
}

void instruments::span_duration(const record_view<llama_otel_span_record> & record) {
    if (record.head->metric >= METRIC_COUNT) { // LLAMA_OTEL_NO_METRIC for one
        return;
    }
    const metric_definition & def = METRICS[record.head->metric];
    auto attributes = std::make_unique<attribute_list>();
    attributes->add(record, def.attributes, def.n_attributes);
    this->record(record.head->metric, (double) (record.head->end_ns - record.head->start_ns) * 1e-9, 1, std::move(attributes));
}

void instruments::own(uint16_t metric, double value, std::initializer_list<std::pair<const char *, const char *>> given) {
    auto attributes = std::make_unique<attribute_list>();
    for (const auto & attribute : given) {
        attributes->set_text(attribute.first, attribute.second);
    }
    record(metric, value, 1, std::move(attributes));
}

void instruments::drops() {
    for (const drop_count & drop : dropped()) {
        uint64_t & exported = exported_drops[std::string(drop.signal) + '.' + drop.reason];
        if (drop.count > exported) {
            own(LLAMA_OTEL_METRIC_LLAMA_OTEL_DROPPED, (double) (drop.count - exported), { { "llama.otel.signal", drop.signal }, { "llama.otel.reason", drop.reason } });
            exported = drop.count;
        }
    }
}

std::optional<sdk::ResourceMetrics> instruments::collect() {
    std::optional<sdk::ResourceMetrics> collected;
    metric_reader->Collect([&](sdk::ResourceMetrics & metrics) {
        for (auto scope = metrics.scope_metric_data_.begin(); scope != metrics.scope_metric_data_.end();) {
            scope = scope->metric_data_.empty() ? metrics.scope_metric_data_.erase(scope) : scope + 1;
        }
        if (!metrics.scope_metric_data_.empty()) {
            collected = std::move(metrics);
        }
        return true;
    });
    return collected;
}

void instruments::warm_up(const otel::sdk::resource::Resource & resource) {
    instruments all(resource, "", temporality::cumulative, false);
    for (uint16_t metric = 0; metric < METRIC_COUNT; metric++) {
        all.own(metric, 1.0, { { "llama.otel.signal", "metrics" } });
    }
    all.collect();
}

} // namespace llama_otel_cpp
