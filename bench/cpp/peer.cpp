// The same work through opentelemetry-cpp: its SDK, its batch processor, and an exporter that throws away.

#include <opentelemetry/metrics/meter.h>
#include <opentelemetry/metrics/sync_instruments.h>
#include <opentelemetry/sdk/metrics/meter_provider_factory.h>
#include <opentelemetry/sdk/metrics/metric_reader.h>
#include <opentelemetry/sdk/resource/resource.h>
#include <opentelemetry/sdk/trace/batch_span_processor_factory.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/sdk/trace/exporter.h>
#include <opentelemetry/sdk/trace/span_data.h>
#include <opentelemetry/sdk/trace/tracer_provider.h>
#include <opentelemetry/sdk/trace/tracer_provider_factory.h>
#include <opentelemetry/version.h>

#include <chrono>
#include <cstdint>
#include <memory>

namespace context = opentelemetry::context;
namespace metrics = opentelemetry::sdk::metrics;
namespace nostd   = opentelemetry::nostd;
namespace sdk     = opentelemetry::sdk;
namespace trace   = opentelemetry::sdk::trace;

namespace {

struct discard : trace::SpanExporter {
    std::unique_ptr<trace::Recordable> MakeRecordable() noexcept override { return std::make_unique<trace::SpanData>(); }
    sdk::common::ExportResult Export(const nostd::span<std::unique_ptr<trace::Recordable>> &) noexcept override {
        return sdk::common::ExportResult::kSuccess;
    }
    bool ForceFlush(std::chrono::microseconds) noexcept override { return true; }
    bool Shutdown(std::chrono::microseconds) noexcept override { return true; }
};

struct manual_reader : metrics::MetricReader {
    metrics::AggregationTemporality GetAggregationTemporality(metrics::InstrumentType) const noexcept override {
        return metrics::AggregationTemporality::kCumulative;
    }
    bool OnForceFlush(std::chrono::microseconds) noexcept override { return true; }
    bool OnShutDown(std::chrono::microseconds) noexcept override { return true; }
    void OnInitialized() noexcept override {}
};

struct peer {
    std::unique_ptr<trace::TracerProvider>                         traces = trace::TracerProviderFactory::Create(
        trace::BatchSpanProcessorFactory::Create(std::make_unique<discard>(), trace::BatchSpanProcessorOptions{}), sdk::resource::Resource::Create({}));
    nostd::shared_ptr<opentelemetry::trace::Tracer>                tracer = traces->GetTracer("bench");
    std::unique_ptr<metrics::MeterProvider>                        meters = metrics::MeterProviderFactory::Create();
    nostd::shared_ptr<opentelemetry::metrics::Meter>               meter;
    nostd::unique_ptr<opentelemetry::metrics::Counter<uint64_t>>   counter;

    peer() {
        meters->AddMetricReader(std::make_shared<manual_reader>());
        meter   = meters->GetMeter("bench");
        counter = meter->CreateUInt64Counter("llama.token.count");
    }
};

// never destroyed: its batch thread may outlive main
peer & instance() {
    static peer * it = new peer;
    return *it;
}

} // namespace

extern "C" void llama_otel_bench_peer_span_with_attributes(uint64_t n) {
    const auto & tracer = instance().tracer;
    for (uint64_t i = 0; i < n; i++) {
        auto span = tracer->StartSpan("llama_decode");
        span->SetAttribute("llama.batch.n_tokens", (int64_t) i);
        span->SetAttribute("llama.kv_cache.utilization", 0.5);
        span->SetAttribute("llama.graph.reused", true);
        span->SetAttribute("llama.decode.phase", "decode");
        span->End();
    }
}

extern "C" void llama_otel_bench_peer_metric(uint64_t n) {
    peer & it = instance();
    for (uint64_t i = 0; i < n; i++) {
        it.counter->Add(1);
    }
}

extern "C" void llama_otel_bench_peer_metric_with_attribute(uint64_t n) {
    peer & it = instance();
    for (uint64_t i = 0; i < n; i++) {
        it.counter->Add(1, { { "llama.decode.phase", "decode" } });
    }
}

extern "C" void llama_otel_bench_peer_flush() { instance().traces->ForceFlush(); }

extern "C" const char * llama_otel_bench_peer_version() { return OPENTELEMETRY_VERSION; }
