#include "environment.h"

#include "compat.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
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

// nothing if it is no number
std::optional<size_t> whole_number(const std::string & text) {
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
        return std::nullopt;
    }
    errno = 0;
    const unsigned long long n = std::strtoull(text.c_str(), nullptr, 10);
    return errno == 0 && n <= SIZE_MAX ? std::make_optional((size_t) n) : std::nullopt;
}

// "a=1"; nothing if either is empty
std::optional<std::pair<std::string, std::string>> pair_of(const std::string & text) {
    const size_t equal = text.find('=');
    if (equal == std::string::npos) {
        return std::nullopt;
    }
    const std::string key   = trimmed(text.substr(0, equal));
    const std::string value = trimmed(text.substr(equal + 1));
    return key.empty() || value.empty() ? std::nullopt : std::make_optional(std::make_pair(percent_decoded(key), percent_decoded(value)));
}

bool is_header_name(const std::string & text) {
    return std::all_of(text.begin(), text.end(), [](unsigned char c) { return (c < 0x80 && std::isalnum(c)) || std::strchr("!#$%&'*+-.^_`|~", c); });
}

// what is before "://", in lower case; nothing if it is no URL with a host
std::string scheme_of(const std::string & text) {
    const size_t colon = text.find("://");
    if (colon == std::string::npos || std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; })) {
        return "";
    }
    const size_t      first     = colon + std::strlen("://");
    const std::string authority = text.substr(first, text.find_first_of("/?#", first) - first);
    const std::string address   = authority.substr(authority.rfind('@') + 1); // from the start if there is none
    const size_t      port      = address.find(':', address.find(']') == std::string::npos ? 0 : address.find(']'));
    const bool        has_port  = port != std::string::npos;
    const bool        is_port   = !has_port || port + 1 == address.size() || whole_number(address.substr(port + 1)).value_or(SIZE_MAX) <= 65535;
    return address.empty() || port == 0 || !is_port ? "" : lower(text.substr(0, colon));
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
        const size_t n = whole_number(text).value_or(0);
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
        const std::string text = get(name);
        if (text.empty()) {
            return otherwise;
        }
        const auto n = whole_number(text);
        if (!n) {
            warn(name, text, "a whole number", otherwise == SIZE_MAX ? "no limit" : std::to_string(otherwise));
        }
        return n.value_or(otherwise);
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
        otlp.gzip_name   = of(signal, "COMPRESSION");
        otlp.gzip        = named<bool>(otlp.gzip_name, "none, gzip", { { "gzip", true }, { "none", false } }, false, "none");
        otlp.headers     = headers(of(signal, "HEADERS"));
        otlp.certificate = file(of(signal, "CERTIFICATE"));
        otlp.client_key  = file(of(signal, "CLIENT_KEY"));
        otlp.client_certificate = file(of(signal, "CLIENT_CERTIFICATE"));
        if (otlp.client_key.path.empty() != otlp.client_certificate.path.empty()) {
            const named_file & one = otlp.client_key.path.empty() ? otlp.client_certificate : otlp.client_key;
            warn(one.name, one.path, "CLIENT_CERTIFICATE and CLIENT_KEY together", "no client certificate");
            otlp.client_key = otlp.client_certificate = {};
        }
        const bool is_insecure = boolean(of(signal, "INSECURE").c_str());
        endpoint(otlp, of(signal, "ENDPOINT"), path, is_insecure);
        return otlp;
    }

    // what is no pair is left out
    std::map<std::string, std::string> resource() {
        const char * const                 name = "OTEL_RESOURCE_ATTRIBUTES";
        std::map<std::string, std::string> attributes;
        for (const std::string & entry : list(name)) {
            if (const auto pair = pair_of(entry)) {
                attributes[pair->first] = pair->second;
            } else {
                warn(name, entry, "key=value,key=value", "the others only");
            }
        }
        return attributes;
    }

    // The runtime reads it when a graph is computed; what it does not know is as if there was none.
    void op_callback() {
        const char * const name  = "LLAMA_OTEL_OP_CALLBACK";
        const std::string  known = lower(get(name));
        if (!known.empty() && known != "true" && known != "false" && known != "1" && known != "0") {
            warn(name, get(name), "true or false", "the callback where it costs nothing");
        }
    }

private:
    const variables & all;

    // A signal's own endpoint is used as it is; the one for all gets the signal's path, over HTTP. Over gRPC a scheme may be
    // left out, and INSECURE decides.
    void endpoint(otlp_config & otlp, const std::string & name, const std::string & path, bool is_insecure) {
        const bool        is_grpc  = otlp.protocol == otlp_protocol::grpc;
        const bool        is_own   = name != "OTEL_EXPORTER_OTLP_ENDPOINT";
        const std::string text     = get(name);
        const bool        is_bare  = is_grpc && text.find("://") == std::string::npos;
        const std::string url      = is_bare ? (is_insecure ? "http://" : "https://") + text : text;
        const std::string scheme   = scheme_of(url);
        const std::string standard = is_grpc ? "http://localhost:4317" : "http://localhost:4318";
        if (scheme != "http" && scheme != "https") {
            if (!text.empty()) { // a password in it is not for the log
                warn(name, url.substr(url.rfind('@') + 1), "a URL with http:// or https://", is_own && !is_grpc ? standard + path : standard);
            }
            otlp.endpoint = standard;
            otlp.url      = standard + path;
            otlp.insecure = true;
            return;
        }
        otlp.endpoint = text;
        otlp.url      = is_own ? text : text.substr(0, text.find_last_not_of('/') + 1) + path;
        otlp.insecure = scheme == "http";
    }

    // they are secrets, so no value is shown
    std::vector<std::pair<std::string, std::string>> headers(const std::string & name) {
        std::vector<std::pair<std::string, std::string>> all;
        size_t                                           n_wrong = 0;
        for (const std::string & entry : list(name)) {
            const auto pair = pair_of(entry);
            if (pair && is_header_name(pair->first)) {
                all.push_back(*pair);
            } else {
                n_wrong++;
            }
        }
        if (n_wrong > 0) {
            warn_once(name + ": expected key=value,key=value; " + std::to_string(n_wrong) + " of its entries are left out");
        }
        return all;
    }

    named_file file(const std::string & name) const { return { name, get(name) }; }

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
        warn_once(name + "=" + value + ": expected " + expected + "; using " + otherwise);
    }

    void warn_once(const std::string & warning) {
        if (std::find(warnings.begin(), warnings.end(), warning) == warnings.end()) { // every signal reads those for all
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

    config.resource              = read.resource();
    read.op_callback();
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
