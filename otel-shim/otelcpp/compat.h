#pragma once

// Where the versions of opentelemetry-cpp from 1.19 to the newest differ, and what a build of it can do.

#include "opentelemetry/sdk/metrics/aggregation/aggregation_config.h"
#include "opentelemetry/sdk/metrics/instruments.h"
#include "opentelemetry/sdk/metrics/view/view.h"
#include "opentelemetry/version.h"

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#if OPENTELEMETRY_VERSION_MAJOR < 1 || (OPENTELEMETRY_VERSION_MAJOR == 1 && OPENTELEMETRY_VERSION_MINOR < 19)
#    error "llama-otel needs opentelemetry-cpp 1.19 or newer"
#endif

namespace llama_otel_cpp {

namespace otel = opentelemetry;

// With asynchronous export (OTELCPP_WITH_ASYNC_EXPORT_PREVIEW), `Export` answers before the request is sent.
#ifdef ENABLE_ASYNC_EXPORT
constexpr bool EXPORT_IS_ASYNCHRONOUS = true;
#else
constexpr bool EXPORT_IS_ASYNCHRONOUS = false;
#endif

// whether OTLP/HTTP can be compressed (OTELCPP_WITH_OTLP_HTTP_COMPRESSION, formerly a preview)
#ifdef ENABLE_OTLP_COMPRESSION_PREVIEW
constexpr bool HAS_HTTP_COMPRESSION = true;
#else
constexpr bool HAS_HTTP_COMPRESSION = false;
#endif

// The client's certificate for gRPC, files of PEM; false where the options have no place for it (before 1.27 unless it was
// built with WITH_OTLP_GRPC_SSL_MTLS_PREVIEW).
template <typename Options>
auto set_client_certificate(Options & options, const std::string & certificate, const std::string & key, int) -> decltype(options.ssl_client_cert_path, true) {
    options.ssl_client_cert_path = certificate;
    options.ssl_client_key_path  = key;
    return true;
}
template <typename Options> bool set_client_certificate(Options &, const std::string &, const std::string &, long) {
    return false;
}

// A view of a histogram that is aggregated so. Views had a unit of their own until 1.22.
template <typename View = otel::sdk::metrics::View>
std::unique_ptr<View> histogram_view(const std::string & name, const std::string & description, otel::sdk::metrics::AggregationType type, std::shared_ptr<otel::sdk::metrics::AggregationConfig> config) {
    if constexpr (std::is_constructible_v<View, std::string, std::string, std::string, decltype(type), decltype(config)>) {
        return std::make_unique<View>(name, description, std::string(), type, config);
    } else {
        return std::make_unique<View>(name, description, type, config);
    }
}

// Buckets that fit themselves to the values, with the specification's defaults; nothing where there are none, before 1.21.
#if OPENTELEMETRY_VERSION_MAJOR > 1 || OPENTELEMETRY_VERSION_MINOR >= 21
constexpr bool HAS_EXPONENTIAL_HISTOGRAMS = true;
inline std::unique_ptr<otel::sdk::metrics::View> exponential_view(const std::string & name, const std::string & description) {
    auto config = std::make_shared<otel::sdk::metrics::Base2ExponentialHistogramAggregationConfig>();
    return histogram_view<>(name, description, otel::sdk::metrics::AggregationType::kBase2ExponentialHistogram, std::move(config));
}
#else
constexpr bool HAS_EXPONENTIAL_HISTOGRAMS = false;
inline std::unique_ptr<otel::sdk::metrics::View> exponential_view(const std::string &, const std::string &) {
    return nullptr;
}
#endif

} // namespace llama_otel_cpp
