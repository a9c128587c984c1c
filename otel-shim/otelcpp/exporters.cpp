#include "exporters.h"

#include "opentelemetry/exporters/otlp/otlp_http_exporter_factory.h"
#include "opentelemetry/exporters/otlp/otlp_http_exporter_options.h"
#include "opentelemetry/exporters/otlp/otlp_http_log_record_exporter_factory.h"
#include "opentelemetry/exporters/otlp/otlp_http_log_record_exporter_options.h"
#include "opentelemetry/exporters/otlp/otlp_http_metric_exporter_factory.h"
#include "opentelemetry/exporters/otlp/otlp_http_metric_exporter_options.h"
#include "opentelemetry/sdk/metrics/push_metric_exporter.h"

// Debian's package leaves out the generated messages
#if __has_include("opentelemetry/proto/trace/v1/trace.pb.h")
#    include "opentelemetry/exporters/otlp/otlp_recordable.h"
#    define LLAMA_OTEL_CPP_MESSAGES
#endif
#ifdef LLAMA_OTEL_CPP_GRPC
#    include "opentelemetry/exporters/otlp/otlp_grpc_exporter_factory.h"
#    include "opentelemetry/exporters/otlp/otlp_grpc_exporter_options.h"
#    include "opentelemetry/exporters/otlp/otlp_grpc_log_record_exporter_factory.h"
#    include "opentelemetry/exporters/otlp/otlp_grpc_log_record_exporter_options.h"
#    include "opentelemetry/exporters/otlp/otlp_grpc_metric_exporter_factory.h"
#    include "opentelemetry/exporters/otlp/otlp_grpc_metric_exporter_options.h"
#endif
#ifdef LLAMA_OTEL_CPP_CONSOLE
#    include "opentelemetry/exporters/ostream/log_record_exporter_factory.h"
#    include "opentelemetry/exporters/ostream/metric_exporter_factory.h"
#    include "opentelemetry/exporters/ostream/span_exporter_factory.h"
#endif

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>

namespace llama_otel_cpp {

namespace otlp = otel::exporter::otlp;

namespace {

// Long enough for an exporter to look once whether it may stop; zero would mean for ever.
constexpr std::chrono::microseconds CANCEL{ 1 };

void warn_once(std::vector<std::string> & warnings, const std::string & warning) {
    if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) {
        warnings.push_back(warning);
    }
}

// whether a text has a part between these two lines of PEM; what is in it is for whoever speaks TLS
bool has_part(const std::string & pem, const std::string & label) {
    const std::string begin = "-----BEGIN " + label + "-----";
    const size_t      first = pem.find(begin);
    if (first == std::string::npos) {
        return false;
    }
    const size_t      from = first + begin.size();
    const size_t      end  = pem.find("-----END " + label + "-----", from);
    const std::string body = end == std::string::npos ? "" : pem.substr(from, end - from);
    return std::any_of(body.begin(), body.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
}

// the content of a file; empty, and errno, if it cannot be read
std::string content_of(const std::string & path) {
    std::string text;
    errno       = 0;
    FILE * file = fopen(path.c_str(), "rb");
    if (!file) {
        return text;
    }
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof(part), file)) > 0;) {
        text.append(part, n);
    }
    const int error = ferror(file) ? errno : 0;
    fclose(file);
    errno = error;
    return error ? "" : text;
}

// the path of a file that has one of these parts, or nothing, after a warning
std::string usable(const named_file & file, const std::vector<const char *> & parts, const char * expected, const char * otherwise, std::vector<std::string> & warnings) {
    if (file.path.empty()) {
        return "";
    }
    const std::string pem   = content_of(file.path);
    const int         error = errno;
    if (std::any_of(parts.begin(), parts.end(), [&](const char * part) { return has_part(pem, part); })) {
        return file.path;
    }
    const std::string why = error ? std::string(", but ") + strerror(error) + " (os error " + std::to_string(error) + ")" : "";
    warn_once(warnings, file.name + "=" + file.path + ": expected " + expected + why + "; using " + otherwise);
    return "";
}

// files for TLS; empty: the system's certificates, no client certificate
struct tls_files {
    std::string certificate;
    std::string client_key;
    std::string client_certificate;
};

tls_files tls_files_of(const otlp_config & config, std::vector<std::string> & warnings) {
    tls_files files;
    if (config.insecure) {
        return files;
    }
    files.certificate        = usable(config.certificate, { "CERTIFICATE" }, "a PEM file of certificates", "the system's certificates", warnings);
    files.client_certificate = usable(config.client_certificate, { "CERTIFICATE" }, "a PEM file of certificates", "no client certificate", warnings);
    if (!files.client_certificate.empty()) {
        files.client_key = usable(config.client_key, { "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY" }, "a PEM file of a private key", "no client certificate", warnings);
    }
    if (files.client_key.empty()) {
        files.client_certificate.clear();
    }
    return files;
}

// An OTLP exporter decodes a header's value, which is decoded already.
std::string percent_encoded(const std::string & text) {
    std::string out;
    for (char c : text) {
        out += c == '%' ? std::string("%25") : std::string(1, c);
    }
    return out;
}

otlp::OtlpHeaders headers_of(const otlp_config & config) {
    otlp::OtlpHeaders headers;
    for (const auto & header : config.headers) {
        headers.emplace(header.first, percent_encoded(header.second));
    }
    return headers;
}

template <typename Options> void set_http(Options & options, const otlp_config & config, std::chrono::milliseconds timeout, std::vector<std::string> & warnings) {
    options.url          = config.url;
    options.timeout      = timeout;
    options.http_headers = headers_of(config);
    const tls_files files        = tls_files_of(config, warnings);
    options.ssl_ca_cert_path     = files.certificate;
    options.ssl_client_key_path  = files.client_key;
    options.ssl_client_cert_path = files.client_certificate;
    options.compression          = config.gzip && HAS_HTTP_COMPRESSION ? "gzip" : "none";
    if (config.gzip && !HAS_HTTP_COMPRESSION) {
        warn_once(warnings, config.gzip_name + "=gzip: this opentelemetry-cpp was built without compression; using none");
    }
    // a request has one deadline, and nothing is sent twice
    options.retry_policy_max_attempts = 0;
}

#ifdef LLAMA_OTEL_CPP_GRPC
template <typename Options> void set_grpc(Options & options, const otlp_config & config, std::chrono::milliseconds timeout, std::vector<std::string> & warnings) {
    options.endpoint            = config.endpoint;
    options.use_ssl_credentials = !config.insecure;
    options.timeout             = timeout;
    options.metadata            = headers_of(config);
    const tls_files files = tls_files_of(config, warnings);
    options.ssl_credentials_cacert_path = files.certificate;
    if (!set_client_certificate(options, files.client_certificate, files.client_key, 0) && !files.client_certificate.empty()) {
        const named_file & file = config.client_certificate;
        warn_once(warnings, file.name + "=" + file.path + ": this opentelemetry-cpp was built without client certificates over gRPC; using no client certificate");
    }
    options.compression                 = config.gzip ? "gzip" : "none";
    options.retry_policy_max_attempts   = 0;
    // Brings a resource quota of its own, and so a connection of its own: gRPC shares those whose settings are equal, also
    // the pause before the next attempt. Only servers have threads to limit.
    options.max_threads = 1;
}
#endif

[[noreturn, maybe_unused]] void refuse(const std::string & setting, const char * component) {
    throw std::runtime_error(setting + ": this opentelemetry-cpp was built without its component " + component);
}

std::shared_ptr<otel::sdk::trace::SpanExporter> make_span_exporter(const config & config, std::chrono::milliseconds timeout, std::vector<std::string> & warnings) {
    (void) timeout;
    if (config.traces == exporter::console) {
#ifdef LLAMA_OTEL_CPP_CONSOLE
        return otel::exporter::trace::OStreamSpanExporterFactory::Create();
#else
        refuse("OTEL_TRACES_EXPORTER=console", "exporters_ostream");
#endif
    }
    if (config.traces_otlp.protocol == otlp_protocol::grpc) {
#ifdef LLAMA_OTEL_CPP_GRPC
        otlp::OtlpGrpcExporterOptions options;
        set_grpc(options, config.traces_otlp, timeout, warnings);
        return otlp::OtlpGrpcExporterFactory::Create(options);
#else
        refuse("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "exporters_otlp_grpc");
#endif
    }
    otlp::OtlpHttpExporterOptions options;
    set_http(options, config.traces_otlp, timeout, warnings);
    options.content_type = otlp::HttpRequestContentType::kBinary;
    return otlp::OtlpHttpExporterFactory::Create(options);
}

std::shared_ptr<otel::sdk::logs::LogRecordExporter> make_log_exporter(const config & config, std::chrono::milliseconds timeout, std::vector<std::string> & warnings) {
    (void) timeout;
    if (config.logs == exporter::console) {
#ifdef LLAMA_OTEL_CPP_CONSOLE
        return otel::exporter::logs::OStreamLogRecordExporterFactory::Create();
#else
        refuse("OTEL_LOGS_EXPORTER=console", "exporters_ostream");
#endif
    }
    if (config.logs_otlp.protocol == otlp_protocol::grpc) {
#ifdef LLAMA_OTEL_CPP_GRPC
        otlp::OtlpGrpcLogRecordExporterOptions options;
        set_grpc(options, config.logs_otlp, timeout, warnings);
        return otlp::OtlpGrpcLogRecordExporterFactory::Create(options);
#else
        refuse("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "exporters_otlp_grpc");
#endif
    }
    otlp::OtlpHttpLogRecordExporterOptions options;
    set_http(options, config.logs_otlp, timeout, warnings);
    options.content_type = otlp::HttpRequestContentType::kBinary;
    return otlp::OtlpHttpLogRecordExporterFactory::Create(options);
}

std::shared_ptr<otel::sdk::metrics::PushMetricExporter> make_metric_exporter(const config & config, std::chrono::milliseconds timeout, std::vector<std::string> & warnings) {
    (void) timeout;
    // the reader decides on the temporality; the exporter has no say but is asked for one
    if (config.metrics == exporter::console) {
#ifdef LLAMA_OTEL_CPP_CONSOLE
        return otel::exporter::metrics::OStreamMetricExporterFactory::Create();
#else
        refuse("OTEL_METRICS_EXPORTER=console", "exporters_ostream");
#endif
    }
    if (config.metrics_otlp.protocol == otlp_protocol::grpc) {
#ifdef LLAMA_OTEL_CPP_GRPC
        otlp::OtlpGrpcMetricExporterOptions options;
        set_grpc(options, config.metrics_otlp, timeout, warnings);
        return otlp::OtlpGrpcMetricExporterFactory::Create(options);
#else
        refuse("OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "exporters_otlp_grpc");
#endif
    }
    otlp::OtlpHttpMetricExporterOptions options;
    set_http(options, config.metrics_otlp, timeout, warnings);
    options.content_type = otlp::HttpRequestContentType::kBinary;
    return otlp::OtlpHttpMetricExporterFactory::Create(options);
}

// An exporter that may be replaced. A channel of gRPC that could not connect pauses before it tries again, longer every time
// and for two minutes in the end, and fails every export meanwhile; a new one tries at once.
template <typename Exporter> class replaceable {
public:
    replaceable(std::shared_ptr<Exporter> first, bool is_grpc, std::function<std::shared_ptr<Exporter>()> make)
        : current(std::move(first)), make(is_grpc ? std::move(make) : nullptr) {}

    std::shared_ptr<Exporter> get() {
        std::lock_guard<std::mutex> lock(mutex);
        return current;
    }

    void renew() {
        if (!make) {
            return;
        }
        auto next = make();
        std::lock_guard<std::mutex> lock(mutex);
        if (!is_cancelled) {
            current.swap(next);
        }
    }

    // makes an export under way give up; none succeeds afterwards
    void cancel() {
        std::shared_ptr<Exporter> last;
        {
            std::lock_guard<std::mutex> lock(mutex);
            is_cancelled = true;
            last         = current;
        }
        last->Shutdown(CANCEL);
    }

private:
    std::mutex                                 mutex;
    std::shared_ptr<Exporter>                  current;
    std::function<std::shared_ptr<Exporter>()> make;
    bool                                       is_cancelled = false;
};

// what is the same for every signal; `send` exports a batch
template <typename Batch, typename Exporter, typename Send>
typename outlet<Batch>::exporter behind_outlet(std::shared_ptr<replaceable<Exporter>> exporters, std::chrono::milliseconds timeout, Send send) {
    typename outlet<Batch>::exporter exporter;
    exporter.send = [exporters, timeout, send](Batch & batch) {
        const auto one  = exporters->get();
        const bool sent = send(*one, batch) == otel::sdk::common::ExportResult::kSuccess;
        return EXPORT_IS_ASYNCHRONOUS ? sent && one->ForceFlush(timeout) : sent;
    };
    exporter.cancel = [exporters] { exporters->cancel(); };
    exporter.renew  = [exporters] { exporters->renew(); };
    return exporter;
}

bool is_grpc(exporter kind, const otlp_config & config) {
    return kind == exporter::otlp && config.protocol == otlp_protocol::grpc;
}

} // namespace

void set_details(otel::sdk::trace::Recordable & span, const span_details & details) {
#ifdef LLAMA_OTEL_CPP_MESSAGES
    auto & proto = static_cast<otlp::OtlpRecordable &>(span).span();
    proto.set_dropped_attributes_count(details.dropped_attributes);
    proto.set_dropped_links_count(details.dropped_links);
    proto.set_dropped_events_count(details.dropped_events);
    // sampled; whether the parent is remote is known, and whether it is
    proto.set_flags(0x001 | 0x100 | (details.has_remote_parent ? 0x200 : 0));
#else
    (void) span;
    (void) details;
#endif
}

std::optional<span_outlet> make_span_outlet(const config & config, std::shared_ptr<const origin> origin, void (*exported_first)(), std::vector<std::string> & warnings) {
    if (config.traces == exporter::none) {
        return std::nullopt;
    }
    const auto  timeout = std::min(config.traces_otlp.timeout, config.span_export_timeout);
    span_outlet spans;
    spans.exporter = make_span_exporter(config, timeout, warnings);
    spans.is_otlp  = config.traces == exporter::otlp;

    auto exporters = std::make_shared<replaceable<otel::sdk::trace::SpanExporter>>(spans.exporter, is_grpc(config.traces, config.traces_otlp), [config, timeout] {
        std::vector<std::string> said_before;
        return make_span_exporter(config, timeout, said_before);
    });
    auto exporter = behind_outlet<span_batch>(exporters, timeout, [origin = std::move(origin)](otel::sdk::trace::SpanExporter & one, span_batch & batch) {
        return one.Export(otel::nostd::span<std::unique_ptr<otel::sdk::trace::Recordable>>(batch.data(), batch.size()));
    });
    exporter.size = [](span_batch & batch) { return batch.size(); };
    spans.out       = std::make_unique<outlet<span_batch>>("traces", record_kind::span, std::move(exporter), exported_first);
    return spans;
}

std::optional<log_outlet> make_log_outlet(const config & config, std::shared_ptr<const origin> origin, void (*exported_first)(), std::vector<std::string> & warnings) {
    if (config.logs == exporter::none) {
        return std::nullopt;
    }
    const auto  timeout = std::min(config.logs_otlp.timeout, config.log_export_timeout);
    log_outlet  logs;
    logs.exporter = make_log_exporter(config, timeout, warnings);

    auto exporters = std::make_shared<replaceable<otel::sdk::logs::LogRecordExporter>>(logs.exporter, is_grpc(config.logs, config.logs_otlp), [config, timeout] {
        std::vector<std::string> said_before;
        return make_log_exporter(config, timeout, said_before);
    });
    auto exporter = behind_outlet<log_batch>(exporters, timeout, [origin = std::move(origin)](otel::sdk::logs::LogRecordExporter & one, log_batch & batch) {
        return one.Export(otel::nostd::span<std::unique_ptr<otel::sdk::logs::Recordable>>(batch.data(), batch.size()));
    });
    exporter.size = [](log_batch & batch) { return batch.size(); };
    logs.out       = std::make_unique<outlet<log_batch>>("logs", record_kind::event, std::move(exporter), exported_first);
    return logs;
}

std::unique_ptr<outlet<metric_batch>> make_metric_outlet(const config & config, std::shared_ptr<otel::sdk::metrics::MeterProvider> provider, void (*exported_first)(), std::vector<std::string> & warnings) {
    const auto timeout         = std::min(config.metrics_otlp.timeout, config.metric_export_timeout);
    auto exporters = std::make_shared<replaceable<otel::sdk::metrics::PushMetricExporter>>(make_metric_exporter(config, timeout, warnings), is_grpc(config.metrics, config.metrics_otlp), [config, timeout] {
        std::vector<std::string> said_before;
        return make_metric_exporter(config, timeout, said_before);
    });
    auto exporter = behind_outlet<metric_batch>(exporters, timeout, [provider = std::move(provider)](otel::sdk::metrics::PushMetricExporter & one, metric_batch & batch) {
        return one.Export(batch);
    });
    exporter.size = [](metric_batch & batch) {
        size_t n = 0;
        for (const auto & scope : batch.scope_metric_data_) {
            n += scope.metric_data_.size();
        }
        return n;
    };
    return std::make_unique<outlet<metric_batch>>("metrics", record_kind::metric, std::move(exporter), exported_first);
}

} // namespace llama_otel_cpp
