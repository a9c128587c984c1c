//! States that are saved and restored, and what goes wrong with them.

use std::path::Path;

use llama_otel_tests::{number, prepared};
use otlp_receiver::Telemetry;
use serde_json::{Value, json};

fn scenario(name: &str, folder: &Path) -> (Value, Telemetry) {
    let model = prepared("LLAMA_OTEL_TINY");
    let args = [Path::new(name), &model, folder];
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &args, "request")
}

#[test]
fn every_way_of_saving_and_restoring_is_a_span_with_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (facts, telemetry) = scenario("state", folder.path());
    let spans: Vec<_> = telemetry.spans.iter().filter(|span| span.name.starts_with("llama_state_")).collect();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["llama_state_save", "llama_state_load"].repeat(4));
    let sizes: Vec<_> = spans.iter().map(|span| span.attribute("llama.state.size").cloned().unwrap()).collect();
    assert_eq!(json!(sizes), facts["sizes"], "what the calls returned");
    assert!(facts["seq_size"].as_u64() < facts["size"].as_u64());
    // the first four are of the whole context, then sequence 0 is saved and restored as sequence 1
    let sequences: Vec<_> = spans.iter().map(|span| span.attribute("llama.sequence.id").cloned()).collect();
    assert_eq!(sequences[..4], [None, None, None, None]);
    assert_eq!(sequences[4..], [Some(json!(0)), Some(json!(1)), Some(json!(0)), Some(json!(1))]);
    assert!(spans.iter().all(|span| !span.failed() && number(span, "llama.context.id") == 1.0));
}

#[test]
fn a_state_that_cannot_be_restored_is_a_failed_span_without_the_folder_s_name() {
    let folder = tempfile::Builder::new().prefix("hidden").tempdir().unwrap();
    let (facts, telemetry) = scenario("state-errors", folder.path());
    assert_eq!(facts, json!({ "loaded": [false, false], "set": 0 }));
    let spans = telemetry.spans_named("llama_state_load");
    assert_eq!(spans.len(), 3);
    for span in &spans {
        assert_eq!((span.failed(), span.attribute("error.type")), (true, Some(&json!("state_failed"))));
        assert!(!span.status.message.contains("hidden"), "{}", span.status.message);
    }
    assert!(spans[1].status.message.contains("missing.state"), "{}", spans[1].status.message);
    let errors = telemetry.metric("llama.error.count").unwrap();
    let point = errors.point(&[("llama.operation", json!("llama_state_load"))]).unwrap();
    assert_eq!(point.value.unwrap().as_f64(), 3.0);
}
