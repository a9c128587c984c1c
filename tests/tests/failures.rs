//! What goes wrong is seen, with its type; the program fails as it would without telemetry.

use llama_otel_tests::{arguments, observe, prepared};
use serde_json::json;

#[test]
fn a_missing_model_is_a_failed_span_and_an_exit_code() {
    let folder = tempfile::Builder::new().prefix("hidden").tempdir().unwrap();
    let (run, telemetry) = observe(&arguments(&folder.path().join("absent.gguf"), &[]), "request");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let load = telemetry.span("llama_model_load").unwrap();
    assert!(load.failed());
    assert_eq!(load.attribute("error.type"), Some(&json!("load_failed")));
    assert_eq!(load.attribute("llama.model.file"), Some(&json!("absent.gguf")));
    assert_eq!(load.attribute("llama.model.load.outcome"), Some(&json!("error")));
    assert!(
        load.status.message.contains("absent.gguf") && !load.status.message.contains("hidden"),
        "{}",
        load.status.message
    );
    assert_eq!(telemetry.metric("llama.error.count").unwrap().total(), 1.0);
}

#[test]
fn a_truncated_model_is_a_failed_span_wherever_it_is_cut() {
    let whole = std::fs::read(prepared("LLAMA_OTEL_TINY")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    for i in 0..20 {
        std::fs::write(&path, &whole[..whole.len() * i / 20]).unwrap();
        let (run, telemetry) = observe(&arguments(&path, &[]), "request");
        assert_eq!(run.code, Some(3), "cut at {i}/20: {}", run.stderr);
        let load = telemetry.span("llama_model_load").unwrap();
        assert_eq!((load.failed(), load.attribute("error.type")), (true, Some(&json!("load_failed"))), "cut at {i}/20");
    }
}

#[test]
fn a_wrong_magic_is_a_failed_span() {
    let mut bytes = std::fs::read(prepared("LLAMA_OTEL_TINY")).unwrap();
    bytes[..4].copy_from_slice(b"GGML");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("magic.gguf");
    std::fs::write(&path, bytes).unwrap();
    let (run, telemetry) = observe(&arguments(&path, &[]), "request");
    assert_eq!((run.code, telemetry.span("llama_model_load").unwrap().failed()), (Some(3), true));
}

#[test]
fn every_return_code_of_a_decode_has_its_type() {
    for (fault, code, kind) in
        [("no-slot", 1, "no_kv_slot"), ("invalid-batch", -1, "invalid_batch"), ("abort", 2, "aborted")]
    {
        let (run, telemetry) = observe(&arguments(&prepared("LLAMA_OTEL_TINY"), &["--fault", fault]), "request");
        assert_eq!(run.code, Some(4), "{fault}: {}", run.stderr);
        assert_eq!(run.events("decode_error")[0]["ret"], json!(code), "{fault}");
        let failed: Vec<_> = telemetry.spans_named("llama_decode").into_iter().filter(|span| span.failed()).collect();
        assert_eq!(failed.len(), 1, "{fault}: {:?}", telemetry.spans);
        assert_eq!(failed[0].attribute("error.type"), Some(&json!(kind)), "{fault}");
        let errors = telemetry.metric("llama.error.count").unwrap();
        let point = errors.point(&[("llama.operation", json!("llama_decode")), ("error.type", json!(kind))]);
        assert_eq!(point.unwrap().value.unwrap().as_f64(), 1.0, "{fault}");
    }
}
