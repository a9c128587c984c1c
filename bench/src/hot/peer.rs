//! The same work through the SDKs that a program would use instead: opentelemetry_sdk, and opentelemetry-cpp where it
//! is installed. Both with their batch processors at the defaults, and exporters that throw away.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, MeterProvider as _};
use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};

#[derive(Debug)]
struct Discard;

impl SpanExporter for Discard {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

struct Sdk {
    traces: SdkTracerProvider,
    tracer: SdkTracer,
    counter: Counter<u64>,
    _meters: SdkMeterProvider,
}

static SDK: LazyLock<Sdk> = LazyLock::new(|| {
    let traces = SdkTracerProvider::builder().with_batch_exporter(Discard).build();
    let meters = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    Sdk {
        tracer: traces.tracer("bench"),
        traces,
        counter: meters.meter("bench").u64_counter("llama.token.count").build(),
        _meters: meters,
    }
});

pub fn span_with_attributes(n: u64) {
    let tracer = &SDK.tracer;
    for i in 0..n {
        let mut span = tracer.start("llama_decode");
        span.set_attribute(KeyValue::new("llama.batch.n_tokens", i as i64));
        span.set_attribute(KeyValue::new("llama.kv_cache.utilization", 0.5));
        span.set_attribute(KeyValue::new("llama.graph.reused", true));
        span.set_attribute(KeyValue::new("llama.decode.phase", "decode"));
        span.end();
    }
}

pub fn metric(n: u64) {
    for _ in 0..n {
        SDK.counter.add(1, &[]);
    }
}

pub fn metric_with_attribute(n: u64) {
    for _ in 0..n {
        SDK.counter.add(1, &[KeyValue::new("llama.decode.phase", "decode")]);
    }
}

pub fn flush() {
    let _ = SDK.traces.force_flush();
}

/// The work of opentelemetry-cpp; none if it was not compiled in.
#[cfg(not(feature = "otelcpp"))]
pub fn cpp() -> Vec<crate::work::Work> {
    Vec::new()
}

/// Its version; `None` if it was not compiled in.
#[cfg(not(feature = "otelcpp"))]
pub fn cpp_version() -> Option<String> {
    None
}

#[cfg(feature = "otelcpp")]
pub use with_cpp::{cpp, cpp_version};

#[cfg(feature = "otelcpp")]
mod with_cpp {
    use std::ffi::{CStr, c_char};

    use crate::work::Work;

    unsafe extern "C" {
        safe fn llama_otel_bench_peer_span_with_attributes(n: u64);
        safe fn llama_otel_bench_peer_metric(n: u64);
        safe fn llama_otel_bench_peer_metric_with_attribute(n: u64);
        safe fn llama_otel_bench_peer_flush();
        safe fn llama_otel_bench_peer_version() -> *const c_char;
    }

    pub fn cpp() -> Vec<Work> {
        let span: fn(u64) = |n| llama_otel_bench_peer_span_with_attributes(n);
        let metric: fn(u64) = |n| llama_otel_bench_peer_metric(n);
        let metric_with_attribute: fn(u64) = |n| llama_otel_bench_peer_metric_with_attribute(n);
        let flush: fn() = || llama_otel_bench_peer_flush();
        let nothing: fn() = || {};
        [
            ("cpp.span_with_attributes", span, flush),
            ("cpp.metric", metric, nothing),
            ("cpp.metric_with_attribute", metric_with_attribute, nothing),
        ]
        .map(|(name, run, flush)| Work { name, run, detail: None, block: 400, flush })
        .into()
    }

    pub fn cpp_version() -> Option<String> {
        // SAFETY: a string literal.
        let version = unsafe { CStr::from_ptr(llama_otel_bench_peer_version()) };
        Some(version.to_string_lossy().into_owned())
    }
}
