//! What only the Rust backend has for a program with tracing of its own: OpenTelemetry contexts as parents, and its providers.

mod child;

#[path = "cases/embedding.rs"]
mod cases;

use cases::exported;
use child::{Child, run};
use serde_json::json;

/// Cargo builds the examples with these tests.
fn can_run(_: &[(&str, &str)]) -> bool {
    true
}

#[test]
fn a_rust_context_is_the_parent_of_a_context_or_a_sequence() {
    let (_, telemetry) = exported("context_parents", &[]).unwrap();
    let decodes = telemetry.spans_named("llama_decode");
    let id = |n: u64| format!("{n:016x}");
    let parents: Vec<_> = decodes.iter().map(|span| span.parent.clone().unwrap_or_default()).collect();
    assert_eq!(parents, [id(7), id(8), id(7), String::new()]);
    assert_eq!(decodes[1].trace_id, format!("{:032x}", 8));
    let states: Vec<_> = decodes.iter().map(|span| span.trace_state.as_str()).collect();
    assert_eq!(states, ["vendor=x", "vendor=x", "vendor=x", ""]);
    let inner = telemetry.spans_named("llama_ubatch")[0];
    assert_eq!((inner.parent.as_deref(), &inner.trace_id), (Some(decodes[1].span_id.as_str()), &decodes[1].trace_id));
}

#[test]
fn a_rust_context_is_a_parent_while_it_is_asked_to_be() {
    let (_, telemetry) = exported("rust_context", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user")]).unwrap();
    let parents: Vec<_> =
        telemetry.spans_named("llama_decode").iter().map(|span| span.parent.clone().unwrap_or_default()).collect();
    let id = |n: u64| format!("{n:016x}");
    assert_eq!(parents, [id(7), id(8), id(7), String::new(), String::new(), id(9)]);
    let first = telemetry.spans_named("llama_decode")[0];
    assert_eq!((first.trace_state.as_str(), first.attribute("user")), ("vendor=x", Some(&json!("a b"))));
    assert_eq!(telemetry.spans_named("llama_decode")[5].trace_state, "vendor=x");
}

#[test]
fn the_host_s_providers_take_everything() {
    let child = run("embedding", &["host"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let report = &child.report;
    assert_eq!(
        (&report["delivered"], &report["shut_down"], &report["resource"]),
        (&json!(true), &json!(true), &json!("the host"))
    );
    let spans = report["spans"].as_array().unwrap();
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    let decodes = named("llama_decode");
    assert_eq!(
        (named("llama_init_from_model").len(), decodes.len(), named("llama_ubatch").len()),
        (1, 2, 2),
        "{spans:?}"
    );
    assert_eq!(decodes[0]["parent"], report["request"], "the current span is the parent");
    assert_eq!(decodes[1]["parent"], json!("0".repeat(16)));
    for (inner, outer) in named("llama_ubatch").iter().zip(&decodes) {
        assert_eq!(
            (&inner["parent"], &inner["trace"], &inner["scope"]),
            (&outer["id"], &outer["trace"], &json!("llama.cpp"))
        );
    }
    let generation = named("llama_generation")[0];
    assert_eq!(generation["links"], json!([decodes[0]["id"]]), "ids are those of the runtime");
    let metrics = report["metrics"].as_array().unwrap();
    assert!(metrics.contains(&json!("llama.decode.batch.size")), "{metrics:?}");
    let later = report["all"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|span| span["name"] == "later" || span["name"] == "request")
        .count();
    assert_eq!(later, 2, "the provider is not shut down");
}

#[test]
fn the_host_s_sampler_decides_about_whole_traces() {
    let child = run("embedding", &["host_ratio"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let spans = child.report["spans"].as_array().unwrap();
    let count = |name: &str| spans.iter().filter(|span| span["name"] == name).count();
    assert!((50..150).contains(&count("llama_decode")), "{} of 200", count("llama_decode"));
    assert_eq!(count("llama_decode"), count("llama_ubatch"));
}

#[test]
fn a_tracing_span_is_the_parent() {
    let child = run("embedding", &["tracing"], &[("LLAMA_OTEL_DETAIL", "decode")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let spans = child.report["spans"].as_array().unwrap();
    let named =
        |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"));
    assert_eq!(named("llama_decode")["parent"], named("handle_request")["id"]);
    assert_eq!(named("llama_decode")["trace"], named("handle_request")["trace"]);
}
