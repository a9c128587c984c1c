//! The real OpenTelemetry exporters send to the receiver; what is read back equals what was
//! recorded.

use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Array, Context, KeyValue, Value};
use opentelemetry_otlp::{
    Compression, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_receiver::model::{MetricKind, Number, StatusCode, Temporality};
use otlp_receiver::{Behaviour, Receiver, Signal, Telemetry, Transport};
use serde_json::json;
use std::time::{Duration, UNIX_EPOCH};

fn resource() -> Resource {
    Resource::builder_empty().with_attribute(KeyValue::new("service.name", "exporters-test")).build()
}

/// A parent with a failed child that started first in wall-clock order of *ending*.
fn record_spans(exporter: SpanExporter) {
    let provider = SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build();
    let tracer = provider.tracer("test");
    let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
    let mut parent = tracer
        .span_builder("llama_decode")
        .with_kind(SpanKind::Internal)
        .with_start_time(at(1_000))
        .with_attributes([
            KeyValue::new("llama.batch.n_tokens", 6_i64),
            KeyValue::new("ratio", 0.5),
            KeyValue::new("not.finite", f64::NEG_INFINITY),
            KeyValue::new("flash", true),
            KeyValue::new("name", "gemma\"3</script>\u{1}é"),
            KeyValue::new("list", Value::Array(Array::I64(vec![1, 2]))),
        ])
        .start(&tracer);
    parent.add_event_with_timestamp("ubatch", at(1_500), vec![KeyValue::new("i", 0_i64)]);
    let context = Context::new().with_span(parent);
    let mut child =
        tracer.span_builder("llama_ubatch").with_start_time(at(1_200)).start_with_context(&tracer, &context);
    child.set_status(Status::error("compute failed"));
    child.end_with_timestamp(at(1_700));
    context.span().end_with_timestamp(at(2_000));
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();
}

fn assert_spans(telemetry: &Telemetry) {
    assert_eq!(telemetry.resource["service.name"], json!("exporters-test"));
    let names: Vec<_> = telemetry.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["llama_decode", "llama_ubatch"], "sorted by start, not by end");
    let parent = telemetry.span("llama_decode").unwrap();
    assert_eq!((parent.start_unix_nano, parent.end_unix_nano), (1_000, 2_000));
    assert_eq!(parent.parent, None);
    assert_eq!(parent.seconds(), 1e-6);
    assert_eq!(
        json!(parent.attributes),
        json!({
            "llama.batch.n_tokens": 6, "ratio": 0.5, "not.finite": "-Infinity", "flash": true,
            "name": "gemma\"3</script>\u{1}é", "list": [1, 2],
        })
    );
    assert_eq!(json!(parent.events), json!([{ "name": "ubatch", "time_unix_nano": 1_500, "attributes": { "i": 0 } }]));
    assert_eq!(json!(parent.kind), json!("internal"));
    assert_eq!(parent.status.code, StatusCode::Unset);
    let child = telemetry.span("llama_ubatch").unwrap();
    assert_eq!(child.parent.as_ref(), Some(&parent.span_id));
    assert_eq!((child.trace_id.len(), child.span_id.len()), (32, 16));
    assert_eq!(json!(child.status), json!({ "code": "error", "message": "compute failed" }));
    let tree = telemetry.tree();
    assert_eq!(tree.len(), 1);
    assert_eq!((tree[0].span, tree[0].children[0].span), (parent, child));
}

fn record_metrics(exporter: MetricExporter) {
    // The interval never passes: each export is the flush below.
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(3600)).build();
    let provider = SdkMeterProvider::builder().with_resource(resource()).with_reader(reader).build();
    let meter = provider.meter("test");
    let tokens = meter.u64_counter("llama.token.count").with_unit("{token}").build();
    let duration = meter
        .f64_histogram("llama.decode.duration")
        .with_unit("s")
        .with_description("Time")
        .with_boundaries(vec![0.1, 1.0])
        .build();
    let memory = meter.i64_up_down_counter("llama.memory.usage").with_unit("By").build();
    let cells = meter.u64_gauge("llama.kv_cache.cells.usage").with_unit("{cell}").build();
    let (prefill, decode) = (KeyValue::new("phase", "prefill"), KeyValue::new("phase", "decode"));
    tokens.add(6, &[prefill]);
    tokens.add(1, std::slice::from_ref(&decode));
    duration.record(0.05, &[]);
    memory.add(4096, &[]);
    cells.record(6, &[]);
    provider.force_flush().unwrap();
    tokens.add(2, &[decode]);
    duration.record(0.5, &[]);
    memory.add(-96, &[]);
    cells.record(9, &[]);
    provider.shutdown().unwrap();
}

fn assert_metrics(telemetry: &Telemetry) {
    let names: Vec<_> = telemetry.metrics.iter().map(|metric| metric.name.as_str()).collect();
    let expected = ["llama.decode.duration", "llama.kv_cache.cells.usage", "llama.memory.usage", "llama.token.count"];
    assert_eq!(names, expected);

    let tokens = telemetry.metric("llama.token.count").unwrap();
    assert_eq!((tokens.kind, tokens.monotonic), (MetricKind::Sum, true));
    assert_eq!((tokens.unit.as_str(), tokens.temporality), ("{token}", Temporality::Cumulative));
    assert_eq!(tokens.points.len(), 4, "two attribute sets in two exports");
    assert_eq!(tokens.total(), 9.0);
    let decode = tokens.point(&[("phase", json!("decode"))]).unwrap();
    assert_eq!(decode.value, Some(Number::Int(3)));
    let series: Vec<Vec<_>> = tokens
        .series()
        .into_iter()
        .map(|points| points.into_iter().map(|point| point.value.unwrap()).collect())
        .collect();
    let int = Number::Int;
    assert_eq!(series, [vec![int(1), int(3)], vec![int(6), int(6)]]);

    let duration = telemetry.metric("llama.decode.duration").unwrap();
    assert_eq!((duration.kind, duration.description.as_str()), (MetricKind::Histogram, "Time"));
    let latest = duration.latest();
    assert_eq!(latest.len(), 1);
    assert_eq!((latest[0].count, latest[0].sum), (Some(2), Some(0.55)));
    assert_eq!((latest[0].min, latest[0].max), (Some(0.05), Some(0.5)));
    assert_eq!(latest[0].bounds, Some(vec![0.1, 1.0]));
    assert_eq!(latest[0].bucket_counts, Some(vec![1, 1, 0]));
    assert_eq!(latest[0].mean(), Some(0.275));

    let memory = telemetry.metric("llama.memory.usage").unwrap();
    assert_eq!((memory.monotonic, memory.total()), (false, 4000.0));
    let cells = telemetry.metric("llama.kv_cache.cells.usage").unwrap();
    assert_eq!((cells.kind, cells.total()), (MetricKind::Gauge, 9.0));
}

fn http_span_exporter(receiver: &Receiver, compression: Option<Compression>) -> SpanExporter {
    let builder = SpanExporter::builder()
        .with_http()
        .with_http_client(reqwest::blocking::Client::new())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", receiver.http_endpoint()))
        .with_timeout(Duration::from_secs(5));
    match compression {
        Some(compression) => builder.with_compression(compression).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

/// tonic's channel needs a runtime that outlives the exporter.
fn with_runtime(test: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _guard = runtime.enter();
    test();
}

#[test]
fn spans_over_http() {
    for compression in [None, Some(Compression::Gzip)] {
        let receiver = Receiver::start().unwrap();
        record_spans(http_span_exporter(&receiver, compression));
        let requests = receiver.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!((requests[0].signal, requests[0].accepted), (Signal::Traces, true));
        assert_eq!(requests[0].transport, Transport::HttpProtobuf);
        let encoded = requests[0].headers.contains(&("content-encoding".into(), "gzip".into()));
        assert_eq!(encoded, compression.is_some());
        assert!(requests[0].contains("gemma\"3</script>"), "the body is kept, decompressed");
        assert!(!requests[0].contains("gemma4"));
        assert_spans(&receiver.stop());
    }
}

#[test]
fn spans_over_grpc() {
    with_runtime(|| {
        for compression in [None, Some(Compression::Gzip)] {
            let receiver = Receiver::start().unwrap();
            let builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(receiver.grpc_endpoint())
                .with_timeout(Duration::from_secs(5));
            record_spans(match compression {
                Some(compression) => builder.with_compression(compression).build().unwrap(),
                None => builder.build().unwrap(),
            });
            let requests = receiver.requests();
            assert_eq!(requests.len(), 1);
            assert_eq!(requests[0].transport, Transport::Grpc);
            assert!(requests[0].contains("gemma\"3</script>"));
            let encoding = ("grpc-encoding".to_owned(), "gzip".to_owned());
            assert_eq!(requests[0].headers.contains(&encoding), compression.is_some());
            assert_spans(&receiver.stop());
        }
    });
}

#[test]
fn metrics_over_http() {
    let receiver = Receiver::start().unwrap();
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(reqwest::blocking::Client::new())
        .with_endpoint(format!("{}/v1/metrics", receiver.http_endpoint()))
        .build()
        .unwrap();
    record_metrics(exporter);
    assert_metrics(&receiver.stop());
}

#[test]
fn metrics_over_grpc() {
    with_runtime(|| {
        let receiver = Receiver::start().unwrap();
        let exporter = MetricExporter::builder().with_tonic().with_endpoint(receiver.grpc_endpoint()).build().unwrap();
        record_metrics(exporter);
        assert_metrics(&receiver.stop());
    });
}

#[test]
fn a_snapshot_survives_serialisation() {
    let receiver = Receiver::start().unwrap();
    record_spans(http_span_exporter(&receiver, None));
    assert!(receiver.wait_until(Duration::from_secs(5), |it| it.spans.len() == 2));
    let telemetry = receiver.snapshot();
    let json = serde_json::to_string(&telemetry).unwrap();
    assert_eq!(serde_json::from_str::<Telemetry>(&json).unwrap(), telemetry);
    receiver.clear();
    assert_eq!(receiver.snapshot(), Telemetry::default());
    assert!(!receiver.wait_until(Duration::from_millis(20), |it| !it.spans.is_empty()));
}

/// One span through an exporter whose failure is the point; returns once it gave up.
fn try_to_export(receiver: &Receiver, span: &'static str, over_grpc: bool) -> Result<(), String> {
    let timeout = Duration::from_millis(400);
    let exporter = if over_grpc {
        SpanExporter::builder()
            .with_tonic()
            .with_endpoint(receiver.grpc_endpoint())
            .with_timeout(timeout)
            .build()
            .unwrap()
    } else {
        SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", receiver.http_endpoint()))
            .with_timeout(timeout)
            .build()
            .unwrap()
    };
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    provider.tracer("test").start(span).end();
    provider.shutdown().map_err(|error| error.to_string())
}

#[test]
fn every_fault_keeps_the_content_out_and_can_be_ended() {
    with_runtime(|| {
        for over_grpc in [false, true] {
            for behaviour in [
                Behaviour::Refuse { status: 400, retry_after: None },
                Behaviour::Silent,
                Behaviour::Close,
                Behaviour::Garbage,
            ] {
                let receiver = Receiver::start().unwrap();
                receiver.set_behaviour(behaviour);
                let _ = try_to_export(&receiver, "lost", over_grpc);
                let stored = receiver.snapshot().spans.len();
                assert_eq!(stored, 0, "{behaviour:?}, gRPC {over_grpc}");
                receiver.set_behaviour(Behaviour::Accept);
                try_to_export(&receiver, "probe", over_grpc).unwrap();
                assert_eq!(receiver.stop().spans_named("probe").len(), 1, "{behaviour:?}");
            }
            let receiver = Receiver::start().unwrap();
            receiver.set_behaviour(Behaviour::Slow(Duration::from_millis(100)));
            let start = std::time::Instant::now();
            try_to_export(&receiver, "probe", over_grpc).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(100));
            assert_eq!(receiver.stop().spans.len(), 1);
        }
    });
}
