#pragma once

// What the environment asks for: the standard OTEL_* variables and LLAMA_OTEL_DETAIL. Variables in, a configuration out.
// Those of OTLP are read here too: opentelemetry-cpp takes their durations for seconds, and does not know all of them.
// A wrong value never stops the program: it gives one warning with the variable's name and the default that is used.

#include "log.h"
#include "otel-backend.h"

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llama_otel_cpp {

enum class exporter { otlp, console, none };
enum class otlp_protocol { http_protobuf, grpc };
enum class temporality { cumulative, delta, low_memory };

// a file, and the variable that named it
struct named_file {
    std::string name;
    std::string path; // empty: there is none
};

// of one signal
struct otlp_config {
    otlp_protocol                  protocol = otlp_protocol::http_protobuf;
    std::chrono::milliseconds timeout{ 10000 }; // for one request
    std::string               url;              // with the signal's path, for HTTP
    std::string               endpoint;         // as it was given, for gRPC
    bool                      insecure = true;
    bool                      gzip     = false;
    std::string               gzip_name;        // the variable that asks for it
    named_file                certificate;      // the authorities that the receiver's certificate is checked by
    named_file                client_key;       // our own; both or neither
    named_file                client_certificate;
    std::vector<std::pair<std::string, std::string>> headers;
};

struct config {
    llama_otel_detail         detail  = LLAMA_OTEL_DETAIL_REQUEST;
    exporter                  traces  = exporter::otlp;
    exporter                  metrics = exporter::otlp;
    exporter                  logs    = exporter::otlp;
    otlp_config               traces_otlp;
    otlp_config               metrics_otlp;
    otlp_config               logs_otlp;
    temporality               metrics_temporality = temporality::cumulative;
    bool                      exponential_histograms = false;
    double                    sample_ratio        = 1.0; // share of new traces that are recorded
    bool                      parent_based        = true; // the flag of a parent from outside decides about what is below it
    uint32_t                  propagators         = LLAMA_OTEL_PROPAGATOR_TRACECONTEXT | LLAMA_OTEL_PROPAGATOR_BAGGAGE;
    std::vector<std::string>  baggage_attributes; // entries of the baggage that become attributes
    size_t                    max_attributes      = 128; // of a span
    size_t                    max_links           = 128;
    size_t                    max_value_length    = SIZE_MAX; // characters of a string
    std::chrono::milliseconds schedule_delay{ 5000 };    // longest wait before a span is exported
    size_t                    max_queue_size        = 8192; // spans that wait for the exporter
    size_t                    max_export_batch_size = 512;  // spans in one request
    std::chrono::milliseconds span_export_timeout{ 30000 };
    std::chrono::milliseconds log_schedule_delay{ 1000 }; // the same three for records of the log
    size_t                    log_max_queue_size = 2048;
    std::chrono::milliseconds log_export_timeout{ 30000 };
    std::chrono::milliseconds metric_interval{ 60000 };
    std::chrono::milliseconds metric_export_timeout{ 30000 };
    bool                      capture_model_path = false;
    level                     log_level          = level::info;
    std::map<std::string, std::string> resource; // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    std::vector<std::string>           warnings;

    // a new trace is recorded if the upper 63 bits of the lower half of its id are below this
    uint64_t sample_threshold() const;
};

using variables = std::map<std::string, std::string>;

// the process's OTEL_* and LLAMA_OTEL_* variables; an empty one counts as unset, as the specification says
variables process_variables();

// Nothing: telemetry is off, because no OTEL_* variable is set, because OTEL_SDK_DISABLED is true, because the detail is
// `off`, or because no signal has an exporter. `is_asked_for`: the program asks for it by a call, so that
// only OTEL_SDK_DISABLED and exporters that are all `none` keep it off.
std::optional<config> read_config(const variables & all, bool is_asked_for);

} // namespace llama_otel_cpp
