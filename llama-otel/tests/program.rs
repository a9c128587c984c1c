//! A Rust program that asks for all that this crate has: parents, detail, export, flush, shutdown. One test, in a process of
//! its own, since it sets the environment. Instead of llama.cpp the programs of `otel-shim/tests/cpp` record.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use llama_otel::{Detail, Headers, ParentError};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use otlp_receiver::Receiver;
use otlp_receiver::model::Span;

unsafe extern "C" {
    safe fn llama_otel_embedding_start();
    fn llama_otel_embedding_create(context: *const c_char);
    fn llama_otel_embedding_decode(context: *const c_char, seqs: *const i32, n_seqs: i32, ubatch: bool);
    fn llama_otel_embedding_free(context: *const c_char);
}

/// Its address stands for a context of llama.cpp.
const CONTEXT: &CStr = c"context";
const TIMEOUT: Duration = Duration::from_secs(5);

fn decode(seq: i32) {
    // SAFETY: a C string of static life and one sequence.
    unsafe { llama_otel_embedding_decode(CONTEXT.as_ptr(), &raw const seq, 1, true) }
}

fn request(id: u64) -> Context {
    let ids = (TraceId::from(u128::from(id)), SpanId::from(id));
    let span = SpanContext::new(ids.0, ids.1, TraceFlags::SAMPLED, false, TraceState::NONE);
    Context::new().with_remote_span_context(span)
}

/// The parents of the spans of this name, in the order in which they began; 0: none.
fn parents(spans: &[&Span]) -> Vec<u64> {
    let parent = |span: &&Span| span.parent.as_deref().map_or(0, |id| u64::from_str_radix(id, 16).unwrap());
    spans.iter().map(parent).collect()
}

#[test]
fn a_program_asks_for_everything() {
    let receiver = Receiver::start().unwrap();
    assert!(!llama_otel::is_active());

    // SAFETY: no other thread reads the environment: the receiver does not, and telemetry is not started.
    unsafe { std::env::set_var("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()) };
    llama_otel_embedding_start();
    assert!((llama_otel::is_active(), llama_otel::detail()) == (true, Detail::Request));

    let malformed = Headers { traceparent: "00-1".into(), ..Headers::default() };
    assert_eq!(llama_otel::set_traceparent(&malformed), Err(ParentError::Traceparent));

    llama_otel::set_detail(Detail::Decode);
    assert_eq!(llama_otel::detail(), Detail::Decode);
    // SAFETY: a C string of static life.
    unsafe { llama_otel_embedding_create(CONTEXT.as_ptr()) };
    llama_otel::with_parent(&request(1), || decode(0));
    let guard = llama_otel::attach(&request(2));
    decode(0);
    drop(guard);
    decode(0);
    llama_otel::set_context_parent(CONTEXT.as_ptr(), None, &request(3)).unwrap();
    llama_otel::set_context_parent(CONTEXT.as_ptr(), Some(1), &request(4)).unwrap();
    decode(0);
    decode(1);
    assert!(llama_otel::flush(TIMEOUT), "{:?}", llama_otel::dropped());
    let telemetry = receiver.snapshot();
    assert_eq!(parents(&telemetry.spans_named("llama_decode")), [1, 2, 0, 3, 4]);
    assert_eq!(telemetry.metric("llama.decode.batch.size").unwrap().count(), 5);

    // counted, not recorded
    llama_otel::set_detail(Detail::Metrics);
    decode(0);
    // recorded by nobody, and counted
    llama_otel::set_detail(Detail::Decode);
    assert!(llama_otel::set_export(false));
    decode(0);
    assert!(!llama_otel::flush(TIMEOUT), "nothing leaves the process");
    assert!(llama_otel::set_export(true));
    decode(0);
    // SAFETY: as above.
    unsafe { llama_otel_embedding_free(CONTEXT.as_ptr()) };
    assert!(llama_otel::shutdown(TIMEOUT), "{:?}", llama_otel::dropped());
    assert!((llama_otel::is_active(), llama_otel::dropped().len()) == (false, 0));
    let telemetry = receiver.stop();
    assert_eq!(telemetry.spans_named("llama_decode").len(), 6);
    assert_eq!(telemetry.metric("llama.decode.batch.size").unwrap().count(), 8);
}
