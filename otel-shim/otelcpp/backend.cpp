// The table through which the runtime reaches the backend upon opentelemetry-cpp. No exception passes it.

#include "otel-backend.h"
#include "otel-registry.h"
#include "pipeline.h"
#include "ring.h"

namespace {

template <typename T, typename F> T guarded(T otherwise, F f) noexcept {
    try {
        return f();
    } catch (...) { // what is left undone is telemetry, never inference
        return otherwise;
    }
}

void start(llama_otel_control * control) {
    guarded(0, [&] {
        if (control) {
            llama_otel_cpp::start(*control);
        }
        return 0;
    });
}

void span(const llama_otel_span_record * record, size_t size, const char * strings, size_t strings_size) {
    guarded(0, [&] {
        llama_otel_cpp::push(llama_otel_cpp::record_kind::span, record, size, strings, strings_size);
        return 0;
    });
}

void metric(const llama_otel_metric_record * record, size_t size, const char * strings, size_t strings_size) {
    guarded(0, [&] {
        llama_otel_cpp::push(llama_otel_cpp::record_kind::metric, record, size, strings, strings_size);
        return 0;
    });
}

void event(const llama_otel_event_record * record, size_t size, const char * strings, size_t strings_size) {
    guarded(0, [&] {
        llama_otel_cpp::push(llama_otel_cpp::record_kind::event, record, size, strings, strings_size);
        return 0;
    });
}

void entries(const void * entries, size_t size) {
    guarded(0, [&] {
        llama_otel_cpp::push_entries(entries, size);
        return 0;
    });
}

bool flush(uint32_t timeout_ms) {
    return guarded(false, [&] { return llama_otel_cpp::flush(std::chrono::milliseconds(timeout_ms)); });
}

bool shutdown(uint32_t timeout_ms) {
    return guarded(false, [&] { return llama_otel_cpp::shutdown(std::chrono::milliseconds(timeout_ms)); });
}

void set_detail(uint32_t detail) {
    guarded(0, [&] {
        llama_otel_cpp::set_detail(detail);
        return 0;
    });
}

bool set_export(bool on) {
    return guarded(false, [&] { return llama_otel_cpp::set_export(on); });
}

bool is_active() {
    return guarded(false, [&] { return llama_otel_cpp::is_active(); });
}

uint64_t dropped(const char * signal, const char * reason) {
    return guarded((uint64_t) 0, [&] { return llama_otel_cpp::count_lost(signal, reason); });
}

// by name: what a later version of the table has more is null, not supported
llama_otel_backend make_table() {
    llama_otel_backend table   = {};
    table.abi_version          = LLAMA_OTEL_ABI_VERSION;
    table.registry_fingerprint = LLAMA_OTEL_REGISTRY_FINGERPRINT;
    table.start                = start;
    table.span                 = span;
    table.metric               = metric;
    table.event                = event;
    table.entries              = entries;
    table.flush                = flush;
    table.shutdown             = shutdown;
    table.set_detail           = set_detail;
    table.set_export           = set_export;
    table.is_active            = is_active;
    table.dropped              = dropped;
    return table;
}

} // namespace

extern "C" const llama_otel_backend * llama_otel_backend_cpp(void) {
    static const llama_otel_backend table = make_table();
    return &table;
}
