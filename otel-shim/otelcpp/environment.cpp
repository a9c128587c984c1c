#include "environment.h"

#include "compat.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#ifdef _WIN32
#    include <stdlib.h>
#    define LLAMA_OTEL_ENVIRON _environ
#else
extern "C" char ** environ;
#    define LLAMA_OTEL_ENVIRON environ
#endif

namespace llama_otel_cpp {

namespace {

std::string trimmed(const std::string & text) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return (char) std::tolower(c); });
    return text;
}

bool starts_with(const std::string & text, const char * prefix) {
    return text.compare(0, std::strlen(prefix), prefix) == 0;
}

// %41 → A; a percent sign that begins no such thing stays
std::string percent_decoded(const std::string & text) {
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] == '%' && i + 2 < text.size() && std::isxdigit((unsigned char) text[i + 1]) && std::isxdigit((unsigned char) text[i + 2])) {
            out += (char) std::strtol(text.substr(i + 1, 2).c_str(), nullptr, 16);
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

// "a=1,b=2"; what is no pair is left out
std::vector<std::pair<std::string, std::string>> pairs(const std::string & text) {
    std::vector<std::pair<std::string, std::string>> all;
    for (size_t at = 0; at <= text.size();) {
        const size_t      comma = std::min(text.find(',', at), text.size());
        const std::string pair  = text.substr(at, comma - at);
        const size_t      equal = pair.find('=');
        if (equal != std::string::npos && !trimmed(pair.substr(0, equal)).empty()) {
            all.emplace_back(percent_decoded(trimmed(pair.substr(0, equal))), percent_decoded(trimmed(pair.substr(equal + 1))));
        }
        at = comma + 1;
    }
    return all;
}

class reader {
public:
    explicit reader(const variables & all) : all(all) {}

    std::vector<std::string> warnings;

    // empty if the variable is not set
    std::string get(const std::string & name) const {
        const auto found = all.find(name);
        return found == all.end() ? "" : trimmed(found->second);
    }

    bool boolean(const char * name) {
        const std::string text = get(name);
        const std::string known = lower(text);
        if (!text.empty() && known != "true" && known != "false") {
            warn(name, text, "true or false", "false");
        }
        return known == "true";
    }

    template <typename T>
    T named(const std::string & name, const char * expected, const std::vector<std::pair<const char *, T>> & names, T otherwise, const char * otherwise_name) {
        const std::string text = get(name);
        if (text.empty()) {
            return otherwise;
        }
        for (const auto & known : names) {
            if (lower(text) == known.first) {
                return known.second;
            }
        }
        warn(name, text, std::string("one of ") + expected, otherwise_name);
        return otherwise;
    }

    // whether histograms have buckets that fit themselves to the values
    bool histograms() {
        const char * const name   = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        const char * const usual  = "explicit_bucket_histogram";
        const bool         wanted = named<bool>(name, "explicit_bucket_histogram, base2_exponential_bucket_histogram",
            { { usual, false }, { "base2_exponential_bucket_histogram", true } }, false, usual);
        if (wanted && !HAS_EXPONENTIAL_HISTOGRAMS) {
            warnings.push_back(std::string(name) + "=" + get(name) + ": opentelemetry-cpp has these since 1.21, and this is " OPENTELEMETRY_VERSION "; using " + usual);
        }
        return wanted && HAS_EXPONENTIAL_HISTOGRAMS;
    }

    size_t count(const std::string & name, size_t otherwise) {
        const std::string text = get(name);
        if (text.empty()) {
            return otherwise;
        }
        const bool digits = text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
        const size_t n = digits ? (size_t) std::strtoull(text.c_str(), nullptr, 10) : 0;
        if (n == 0) {
            warn(name, text, "a whole number above 0", std::to_string(otherwise));
            return otherwise;
        }
        return n;
    }

    std::chrono::milliseconds milliseconds(const std::string & name, size_t otherwise) {
        return std::chrono::milliseconds(count(name, otherwise));
    }

    // 0: none may be there
    size_t limit(const std::string & name, size_t otherwise) {
        return get(name) == "0" ? 0 : count(name, otherwise);
    }

    std::vector<std::string> list(const std::string & name) const {
        std::vector<std::string> all;
        const std::string        text = get(name);
        for (size_t at = 0; at < text.size();) {
            const size_t comma = std::min(text.find(',', at), text.size());
            if (const std::string item = trimmed(text.substr(at, comma - at)); !item.empty()) {
                all.push_back(item);
            }
            at = comma + 1;
        }
        return all;
    }

    void sampler(config & config) {
        const std::string text = get("OTEL_TRACES_SAMPLER");
        std::string       name = lower(text);
        if (text.empty()) {
            return;
        }
        config.parent_based = starts_with(name, "parentbased_");
        name = config.parent_based ? name.substr(std::strlen("parentbased_")) : name;
        if (name == "always_off") {
            config.sample_ratio = 0.0;
        } else if (name == "traceidratio") {
            config.sample_ratio = sample_ratio();
        } else if (name != "always_on") {
            config.parent_based = true;
            warn("OTEL_TRACES_SAMPLER", text, "always_on, always_off, traceidratio, or one of these behind parentbased_", "parentbased_always_on");
        }
    }

    uint32_t propagators() {
        constexpr uint32_t ALL  = LLAMA_OTEL_PROPAGATOR_TRACECONTEXT | LLAMA_OTEL_PROPAGATOR_BAGGAGE;
        uint32_t           bits = 0;
        const auto         names = list("OTEL_PROPAGATORS");
        for (const std::string & name : names) {
            const std::string known = lower(name);
            if (known != "tracecontext" && known != "baggage" && known != "none") {
                warn("OTEL_PROPAGATORS", get("OTEL_PROPAGATORS"), "a list of tracecontext, baggage, or none", "tracecontext,baggage");
                return ALL;
            }
            bits |= known == "tracecontext" ? (uint32_t) LLAMA_OTEL_PROPAGATOR_TRACECONTEXT : known == "baggage" ? (uint32_t) LLAMA_OTEL_PROPAGATOR_BAGGAGE : 0u;
        }
        return names.empty() ? ALL : bits;
    }

    otlp_config otlp(const std::string & signal, const char * path) {
        otlp_config otlp;
        otlp.protocol    = named<otlp_protocol>(of(signal, "PROTOCOL"), "http/protobuf, grpc", { { "http/protobuf", otlp_protocol::http_protobuf }, { "grpc", otlp_protocol::grpc } }, otlp_protocol::http_protobuf, "http/protobuf");
        otlp.timeout     = milliseconds(of(signal, "TIMEOUT"), 10000);
        otlp.gzip        = named<bool>(of(signal, "COMPRESSION"), "gzip, none", { { "gzip", true }, { "none", false } }, false, "none");
        otlp.headers     = pairs(get(of(signal, "HEADERS")));
        otlp.certificate = get(of(signal, "CERTIFICATE"));
        otlp.client_key  = get(of(signal, "CLIENT_KEY"));
        otlp.client_certificate = get(of(signal, "CLIENT_CERTIFICATE"));

        // a signal's own endpoint is used as it is, the one for all gets the signal's path
        const std::string own    = get("OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT");
        const std::string common = get("OTEL_EXPORTER_OTLP_ENDPOINT");
        otlp.endpoint = !own.empty() ? own : !common.empty() ? common : otlp.protocol == otlp_protocol::grpc ? "http://localhost:4317" : "http://localhost:4318";
        otlp.url      = own.empty() ? otlp.endpoint + (otlp.endpoint.back() == '/' ? path + 1 : path) : own;
        // over gRPC a scheme may be left out
        const bool is_bare = otlp.protocol == otlp_protocol::grpc && otlp.endpoint.find("://") == std::string::npos;
        const bool is_insecure = boolean(of(signal, "INSECURE").c_str());
        otlp.insecure = is_bare ? is_insecure : !starts_with(otlp.endpoint, "https://");
        return otlp;
    }

private:
    const variables & all;

    double sample_ratio() {
        const std::string arg = get("OTEL_TRACES_SAMPLER_ARG");
        if (arg.empty()) {
            return 1.0;
        }
        char *       end   = nullptr;
        const double ratio = std::strtod(arg.c_str(), &end);
        if (*end != '\0' || !(ratio >= 0.0 && ratio <= 1.0)) {
            warn("OTEL_TRACES_SAMPLER_ARG", arg, "a number from 0 to 1", "1");
            return 1.0;
        }
        return ratio;
    }

    // the variable of one signal, or else the one for all
    std::string of(const std::string & signal, const char * setting) const {
        const std::string own = "OTEL_EXPORTER_OTLP_" + signal + "_" + setting;
        return get(own).empty() ? std::string("OTEL_EXPORTER_OTLP_") + setting : own;
    }

    void warn(const std::string & name, const std::string & value, const std::string & expected, const std::string & otherwise) {
        const std::string warning = name + "=" + value + ": expected " + expected + "; using " + otherwise;
        if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) { // both signals read those for all
            warnings.push_back(warning);
        }
    }
};

} // namespace

uint64_t config::sample_threshold() const {
    return sample_ratio >= 1.0 ? UINT64_MAX : (uint64_t) (std::max(sample_ratio, 0.0) * (double) (1ull << 63));
}

variables process_variables() {
    variables all;
    for (char ** entry = LLAMA_OTEL_ENVIRON; entry && *entry; entry++) {
        const std::string text(*entry);
        const size_t      equal = text.find('=');
        if (equal == std::string::npos || !(starts_with(text, "OTEL_") || starts_with(text, "LLAMA_OTEL_"))) {
            continue;
        }
        if (!trimmed(text.substr(equal + 1)).empty()) {
            all[text.substr(0, equal)] = text.substr(equal + 1);
        }
    }
    return all;
}

std::optional<config> read_config(const variables & all, bool is_asked_for) {
    reader     read(all);
    const bool disabled = read.boolean("OTEL_SDK_DISABLED");
    const bool asked    = std::any_of(all.begin(), all.end(), [](const auto & entry) { return starts_with(entry.first, "OTEL_") && entry.first != "OTEL_SDK_DISABLED"; });
    if (disabled || !(asked || is_asked_for)) {
        return std::nullopt;
    }

    const std::vector<std::pair<const char *, exporter>> exporters = { { "otlp", exporter::otlp }, { "console", exporter::console }, { "none", exporter::none } };
    const std::vector<std::pair<const char *, llama_otel_detail>> details = {
        { "off",     LLAMA_OTEL_DETAIL_OFF     },
        { "metrics", LLAMA_OTEL_DETAIL_METRICS },
        { "request", LLAMA_OTEL_DETAIL_REQUEST },
        { "decode",  LLAMA_OTEL_DETAIL_DECODE  },
        { "op",      LLAMA_OTEL_DETAIL_OP      },
    };
    const std::vector<std::pair<const char *, temporality>> temporalities = { { "cumulative", temporality::cumulative }, { "delta", temporality::delta }, { "lowmemory", temporality::low_memory } };

    const std::vector<std::pair<const char *, level>> levels = {
        { "none", level::none }, { "error", level::error }, { "warn", level::warn }, { "info", level::info },
        { "debug", level::info }, { "verbose", level::info }, { "all", level::info },
    };

    config config;
    config.detail                = read.named("LLAMA_OTEL_DETAIL", "off, metrics, request, decode, op", details, LLAMA_OTEL_DETAIL_REQUEST, "request");
    config.traces                = read.named("OTEL_TRACES_EXPORTER", "otlp, console, none", exporters, exporter::otlp, "otlp");
    config.metrics               = read.named("OTEL_METRICS_EXPORTER", "otlp, console, none", exporters, exporter::otlp, "otlp");
    config.logs                  = read.named("OTEL_LOGS_EXPORTER", "otlp, console, none", exporters, exporter::otlp, "otlp");
    config.logs_otlp             = read.otlp("LOGS", "/v1/logs");
    config.log_schedule_delay    = read.milliseconds("OTEL_BLRP_SCHEDULE_DELAY", 1000);
    config.log_max_queue_size    = read.count("OTEL_BLRP_MAX_QUEUE_SIZE", 2048);
    config.log_export_timeout    = read.milliseconds("OTEL_BLRP_EXPORT_TIMEOUT", 30000);
    config.log_level             = read.named("OTEL_LOG_LEVEL", "none, error, warn, info, debug, verbose, all", levels, level::info, "info");
    config.traces_otlp           = read.otlp("TRACES", "/v1/traces");
    config.metrics_otlp          = read.otlp("METRICS", "/v1/metrics");
    config.metrics_temporality   = read.named("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative, delta, lowmemory", temporalities, temporality::cumulative, "cumulative");
    config.exponential_histograms = read.histograms();
    read.sampler(config);
    config.propagators           = read.propagators() | (read.boolean("LLAMA_OTEL_PROPAGATE_RPC") ? (uint32_t) LLAMA_OTEL_PROPAGATOR_RPC : 0u);
    config.baggage_attributes    = read.list("LLAMA_OTEL_BAGGAGE_ATTRIBUTES");
    config.max_attributes        = read.limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", read.limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128));
    config.max_value_length      = read.limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", read.limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", SIZE_MAX));
    config.max_links             = read.limit("OTEL_SPAN_LINK_COUNT_LIMIT", 128);
    config.schedule_delay        = read.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5000);
    config.max_queue_size        = read.count("OTEL_BSP_MAX_QUEUE_SIZE", 8192);
    config.max_export_batch_size = std::min(read.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), config.max_queue_size);
    config.span_export_timeout   = read.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30000);
    config.metric_interval       = read.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60000);
    config.metric_export_timeout = read.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30000);
    config.capture_model_path    = read.boolean("LLAMA_OTEL_CAPTURE_MODEL_PATH");

    for (auto & pair : pairs(read.get("OTEL_RESOURCE_ATTRIBUTES"))) {
        config.resource[pair.first] = pair.second;
    }
    if (const std::string name = read.get("OTEL_SERVICE_NAME"); !name.empty()) {
        config.resource["service.name"] = name;
    }
    if ((config.traces == exporter::none && config.metrics == exporter::none && config.logs == exporter::none) || (config.detail == LLAMA_OTEL_DETAIL_OFF && !is_asked_for)) {
        return std::nullopt;
    }
    config.warnings = std::move(read.warnings);
    return config;
}

} // namespace llama_otel_cpp
