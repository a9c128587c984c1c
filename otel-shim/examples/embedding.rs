//! A program that has tracing of its own, in the ways that `tests/embedding.rs` asks for, each in a process of its own.
//!
//! `embedding MODE`. Prints what was found out as one line of JSON.

use std::ffi::{CStr, CString, c_char};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use otel_shim::{Detail, Headers, IdGeneratorForLlama, Providers, ProvidersError};
use serde_json::{Value, json};

unsafe extern "C" {
    safe fn llama_otel_embedding_start();
    fn llama_otel_embedding_create(context: *const c_char);
    fn llama_otel_embedding_decode(context: *const c_char, seqs: *const i32, n_seqs: i32, ubatch: bool);
    safe fn llama_otel_embedding_sample();
    fn llama_otel_embedding_free(context: *const c_char);
    fn llama_otel_set_traceparent(traceparent: *const c_char, tracestate: *const c_char, baggage: *const c_char)
    -> u32;
    fn llama_otel_set_context_traceparent(
        context: *const c_char,
        traceparent: *const c_char,
        tracestate: *const c_char,
        baggage: *const c_char,
    ) -> u32;
    fn llama_otel_set_sequence_traceparent(
        context: *const c_char,
        seq_id: i32,
        traceparent: *const c_char,
        tracestate: *const c_char,
        baggage: *const c_char,
    ) -> u32;
    safe fn llama_otel_set_detail(detail: u32);
    safe fn llama_otel_get_detail() -> u32;
    safe fn llama_otel_set_export(on: bool) -> bool;
    safe fn llama_otel_is_active() -> bool;
    fn llama_otel_dropped(signal: *const c_char, reason: *const c_char) -> u64;
}

const A: &CStr = c"a";
const B: &CStr = c"b";

fn create(context: &CStr) {
    // SAFETY: the address of a C string of static life.
    unsafe { llama_otel_embedding_create(context.as_ptr()) }
}

fn decode(context: &CStr, seqs: &[i32], ubatch: bool) {
    // SAFETY: as above; at most eight sequences.
    unsafe { llama_otel_embedding_decode(context.as_ptr(), seqs.as_ptr(), seqs.len() as i32, ubatch) }
}

fn free(context: &CStr) {
    // SAFETY: as above.
    unsafe { llama_otel_embedding_free(context.as_ptr()) }
}

fn parent(digit: u8, sampled: bool) -> String {
    let digit = digit as char;
    format!("00-{}-{}-0{}", digit.to_string().repeat(32), digit.to_string().repeat(16), u8::from(sampled))
}

/// By the C function; its result.
fn set(traceparent: &str, tracestate: &str, baggage: &str) -> u32 {
    let [a, b, c] = [traceparent, tracestate, baggage].map(|text| CString::new(text).expect("no NUL"));
    // SAFETY: three C strings.
    unsafe { llama_otel_set_traceparent(a.as_ptr(), b.as_ptr(), c.as_ptr()) }
}

fn headers(digit: u8) -> Headers {
    Headers { traceparent: parent(digit, true), ..Headers::default() }
}

fn thread() {
    set(&parent(b'1', true), "vendor=x,other=y", "user=ann,tenant=blue%20sky,secret=1");
    decode(A, &[0], true);
    set("", "", "");
    decode(A, &[0], false);
    // another thread was given nothing
    set(&parent(b'2', true), "", "");
    std::thread::spawn(|| decode(B, &[0], false)).join().expect("no panic");
}

fn contexts() {
    create(A);
    create(B);
    otel_shim::set_context_traceparent(A.as_ptr(), None, &headers(b'1')).expect("valid");
    otel_shim::set_context_traceparent(B.as_ptr(), None, &headers(b'2')).expect("valid");
    for _ in 0..2 {
        decode(A, &[0, 1], true);
        llama_otel_embedding_sample();
        decode(B, &[0, 1], true);
        llama_otel_embedding_sample();
    }
    free(A);
    decode(A, &[0], false); // an address that none has any more
    free(B);
}

fn sequences() {
    create(A);
    otel_shim::set_context_traceparent(A.as_ptr(), None, &headers(b'1')).expect("valid");
    otel_shim::set_context_traceparent(A.as_ptr(), Some(1), &headers(b'2')).expect("valid");
    decode(A, &[0, 1], false);
    decode(A, &[1], true);
    free(A);
}

/// The same by the C functions; their results.
fn sequences_in_c() -> Value {
    let none = std::ptr::null();
    let given = |digit: u8| CString::new(parent(digit, true)).expect("no NUL");
    let (one, two, three) = (given(b'1'), given(b'2'), given(b'3'));
    // SAFETY: C strings that outlive the calls, or null pointers.
    let of_context =
        |parent: *const c_char| unsafe { llama_otel_set_context_traceparent(A.as_ptr(), parent, none, none) };
    // SAFETY: as above.
    let of_sequence = |parent: *const c_char, state: &CStr, baggage: &CStr| unsafe {
        llama_otel_set_sequence_traceparent(A.as_ptr(), 1, parent, state.as_ptr(), baggage.as_ptr())
    };
    create(A);
    let mut results = vec![of_context(one.as_ptr()), of_sequence(two.as_ptr(), c"vendor=x", c"user=ann")];
    decode(A, &[0, 1], false);
    decode(A, &[1], true);
    results.push(of_sequence(three.as_ptr(), c"not a state", c""));
    decode(A, &[1], false);
    results.push(of_sequence(c"00-malformed".as_ptr(), c"", c""));
    decode(A, &[1], false); // its context's
    results.extend([of_sequence(two.as_ptr(), c"", c""), of_sequence(none, c"", c"")]);
    decode(A, &[1], false); // the same
    results.push(of_context(none));
    decode(A, &[1], false); // nobody's
    free(A);
    json!(results)
}

/// With a sampled span of another process's, whose ids are of this number.
fn remote(digit: u128) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(digit),
        SpanId::from(digit as u64),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "x")]).expect("valid"),
    ))
}

/// An OpenTelemetry context for a context of llama.cpp and another one for a sequence of it, which is then taken back.
fn context_parents() {
    create(A);
    otel_shim::set_context_parent(A.as_ptr(), None, &remote(7)).expect("valid");
    otel_shim::set_context_parent(A.as_ptr(), Some(1), &remote(8)).expect("valid");
    decode(A, &[0, 1], false);
    decode(A, &[1], true);
    otel_shim::set_context_parent(A.as_ptr(), Some(1), &Context::new()).expect("no parent is valid");
    decode(A, &[1], false);
    otel_shim::set_context_parent(A.as_ptr(), None, &Context::new()).expect("no parent is valid");
    decode(A, &[1], false);
    free(A);
}

fn flags() {
    set(&parent(b'1', false), "", "");
    decode(A, &[0], true);
    set(&parent(b'2', true), "", "");
    decode(A, &[0], true);
}

/// Nanoseconds that a root and a child cost on the calling thread whose parent is not sampled, the least of many rounds.
fn not_sampled() -> Value {
    set(&parent(b'1', false), "", "");
    const N: u32 = 20_000;
    let best = (0..50).map(|_| {
        let start = Instant::now();
        (0..N).for_each(|_| llama_otel_embedding_sample());
        start.elapsed().as_nanos() as f64 / f64::from(N)
    });
    json!({ "ns": best.fold(f64::MAX, f64::min) })
}

fn rust_context() {
    let span = |digit| remote(digit).with_baggage([KeyValue::new("user", "a b")]);
    otel_shim::with_parent(&span(7), || {
        decode(A, &[0], true);
        let guard = otel_shim::attach(&span(8));
        decode(A, &[0], false);
        drop(guard);
        decode(A, &[0], false);
    });
    decode(A, &[0], false);
    let _attached = span(9).attach();
    decode(A, &[0], false); // nobody asked for this one
    otel_shim::follow_current_context(true);
    decode(A, &[0], false);
}

type Collected = Arc<Mutex<Vec<SpanData>>>;

#[derive(Clone, Debug, Default)]
struct Spans {
    spans: Collected,
    resource: Arc<Mutex<String>>,
}

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.lock().expect("no panic").extend(batch);
        Ok(())
    }
    fn set_resource(&mut self, resource: &Resource) {
        *self.resource.lock().expect("no panic") =
            resource.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
    }
}

#[derive(Clone, Debug, Default)]
struct MetricNames(Arc<Mutex<Vec<String>>>);

impl PushMetricExporter for MetricNames {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let names = metrics.scope_metrics().flat_map(|scope| scope.metrics()).map(|metric| metric.name().to_owned());
        self.0.lock().expect("no panic").extend(names);
        Ok(())
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn shown(spans: &Spans) -> Value {
    let shown = |span: &SpanData| {
        json!({
            "name": span.name, "trace": span.span_context.trace_id().to_string(), "id": span.span_context.span_id().to_string(),
            "parent": span.parent_span_id.to_string(), "scope": span.instrumentation_scope.name(),
            "links": span.links.links.iter().map(|link| link.span_context.span_id().to_string()).collect::<Vec<_>>(),
            "state": span.span_context.trace_state().header(),
        })
    };
    json!(spans.spans.lock().expect("no panic").iter().map(shown).collect::<Vec<_>>())
}

fn provider(spans: &Spans, sampler: Sampler) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_id_generator(IdGeneratorForLlama::new())
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name("the host").build())
        .with_batch_exporter(spans.clone())
        .build()
}

fn host() -> Value {
    let (spans, metrics) = (Spans::default(), MetricNames::default());
    let tracers = provider(&spans, Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(metrics.clone()).build()).build();

    let without = SdkTracerProvider::builder().with_batch_exporter(Spans::default()).build();
    let refused = otel_shim::use_providers(Providers::new().tracer(&without));
    assert_eq!(refused, Err(ProvidersError::IdGenerator));

    llama_otel_embedding_start(); // too early is not too late
    otel_shim::use_providers(Providers::new().tracer(&tracers).meter(&meters)).expect("taken");
    assert_eq!(otel_shim::use_providers(Providers::new()), Err(ProvidersError::Running));

    let request = tracers.tracer("app").start("request");
    let context = Context::current_with_span(request);
    let id = context.span().span_context().span_id().to_string();
    {
        let _attached = context.clone().attach();
        create(A);
        decode(A, &[0], true);
        free(A);
    }
    decode(B, &[0], true);
    let delivered = otel_shim::flush(Duration::from_secs(3));
    let before_end = shown(&spans);
    context.span().end();
    drop(context);
    let shut_down = otel_shim::shutdown(Duration::from_secs(3));
    // the provider is the program's, and goes on
    tracers.tracer("app").start("later").end();
    let _ = tracers.force_flush();
    json!({
        "delivered": delivered, "shut_down": shut_down, "request": id, "spans": before_end, "all": shown(&spans),
        "resource": *spans.resource.lock().expect("no panic"), "metrics": *metrics.0.lock().expect("no panic"),
    })
}

/// The program's sampler decides about whole traces.
fn host_ratio() -> Value {
    let spans = Spans::default();
    let tracers = provider(&spans, Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.5))));
    otel_shim::use_providers(Providers::new().tracer(&tracers)).expect("taken");
    llama_otel_embedding_start();
    (0..200).for_each(|_| decode(A, &[0], true));
    let delivered = otel_shim::flush(Duration::from_secs(3));
    json!({ "delivered": delivered, "spans": shown(&spans) })
}

/// A `tracing` span, through `tracing-opentelemetry`.
fn tracing_span() -> Value {
    use tracing_subscriber::layer::SubscriberExt;
    let spans = Spans::default();
    let tracers = provider(&spans, Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("app"));
    let subscriber = tracing_subscriber::registry().with(layer);
    otel_shim::use_providers(Providers::new().tracer(&tracers)).expect("taken");
    llama_otel_embedding_start();
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("handle_request");
        span.in_scope(|| decode(A, &[0], false));
    });
    let delivered = otel_shim::flush(Duration::from_secs(3));
    json!({ "delivered": delivered, "spans": shown(&spans) })
}

fn switches() -> Value {
    let mut report = Vec::new();
    let mut note = |what: &str| {
        report.push(json!([what, llama_otel_get_detail(), llama_otel_is_active(), otel_shim::detail() as u32]));
    };
    note("started");
    decode(A, &[0], true);
    llama_otel_set_detail(2);
    decode(A, &[0], true);
    note("request");
    llama_otel_set_detail(0);
    decode(A, &[0], true);
    note("off");
    otel_shim::set_detail(Detail::Op);
    decode(A, &[0], true);
    note("op");
    let off = llama_otel_set_export(false);
    decode(A, &[0], true);
    note("paused");
    let flushed = otel_shim::flush(Duration::from_secs(3));
    let on = otel_shim::set_export(true);
    note("on");
    decode(A, &[0], true);
    let flushed_again = otel_shim::flush(Duration::from_secs(3));
    // SAFETY: two null pointers.
    let dropped = unsafe { llama_otel_dropped(std::ptr::null(), std::ptr::null()) };
    json!({ "report": report, "off": off, "on": on, "flushed": flushed, "flushed_again": flushed_again, "dropped": dropped })
}

/// Without any variable: off until the program asks for it.
fn asked() -> Value {
    let before = otel_shim::is_active();
    let on = otel_shim::set_export(true);
    decode(A, &[0], true);
    json!({ "before": before, "on": on, "active": otel_shim::is_active(), "threads": std::fs::read_dir("/proc/self/task").map(|tasks| tasks.count()).unwrap_or(0) })
}

fn main() {
    let mode = std::env::args().nth(1).expect("usage: embedding MODE");
    if !mode.starts_with("host") && mode != "tracing" {
        llama_otel_embedding_start();
    }
    let report = match mode.as_str() {
        "thread" => json!(thread()),
        "contexts" => json!(contexts()),
        "sequences" => json!(sequences()),
        "sequences_in_c" => sequences_in_c(),
        "context_parents" => json!(context_parents()),
        "flags" => json!(flags()),
        "not_sampled" => not_sampled(),
        "rust_context" => json!(rust_context()),
        "host" => host(),
        "host_ratio" => host_ratio(),
        "tracing" => tracing_span(),
        "switches" => switches(),
        "asked" => asked(),
        _ => panic!("no such mode: {mode}"),
    };
    println!("{report}");
}
