//! Models from several files, a `FILE *`, the program itself; loads that fail, and what is said of why.

use std::path::Path;

use llama_otel_tests::{act, number, prepared};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Span;
use serde_json::{Value, json};
use tiny_gguf::{Damage, TinyModel};

fn scenario(name: &str, model: &Path, folder: &Path) -> (Value, Telemetry) {
    let args = [Path::new(name), model, folder];
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &args, "request")
}

/// What a load says of the model, against the public API.
fn check_facts(load: &Span, facts: &Value, n_tensors: f64) {
    for (key, field) in
        [("llama.model.n_params", "n_params"), ("llama.model.size", "size"), ("llama.model.n_tokens", "n_vocab")]
    {
        assert_eq!(number(load, key) as u64, facts[field].as_u64().unwrap(), "{key}");
    }
    assert_eq!(load.attribute("llama.model.load.outcome"), Some(&json!("ok")));
    assert_eq!(number(load, "llama.model.n_tensors"), n_tensors);
}

/// Of the tiny model: nine for each of two layers, and three.
const N_TENSORS: f64 = 2.0 * 9.0 + 3.0;

#[test]
fn a_model_in_several_files_is_one_load() {
    let folder = tempfile::tempdir().unwrap();
    let paths = TinyModel::default().gguf().unwrap().write_split(folder.path(), "model", 3).unwrap();
    let (facts, telemetry) = scenario("splits", &paths[0], folder.path());
    let loads = telemetry.spans_named("llama_model_load");
    assert_eq!(loads.len(), 2, "found by their names, and named");
    for (load, how) in loads.iter().zip(["found", "named"]) {
        check_facts(load, &facts[how], N_TENSORS);
        assert_eq!(load.attribute("llama.model.file"), Some(&json!("model-00001-of-00003.gguf")));
    }
    let tensors = telemetry.spans_named("llama_model_load.tensors");
    assert!(tensors.iter().all(|span| number(span, "llama.model.n_tensors") == N_TENSORS));
    assert_eq!(telemetry.metric("llama.model.load.tensors").unwrap().total(), 2.0 * N_TENSORS);
    let loaded = telemetry.metric("llama.model.load.size").unwrap();
    assert!(loaded.latest().iter().all(|point| point.value.unwrap().as_f64() == 0.0), "freed");
}

#[test]
fn a_model_that_has_no_file_name_is_loaded_all_the_same() {
    for name in ["file-pointer", "user-tensors"] {
        let (facts, telemetry) = scenario(name, &prepared("LLAMA_OTEL_TINY"), Path::new(""));
        let loads = telemetry.spans_named("llama_model_load");
        assert_eq!((loads.len(), loads[0].attribute("llama.model.file")), (1, Some(&json!(""))), "{name}");
        match name {
            // llama.cpp asks for those too that a model may have
            "user-tensors" => check_facts(loads[0], &facts["model"], facts["n_calls"].as_f64().unwrap()),
            _ => check_facts(loads[0], &facts, N_TENSORS),
        }
    }
}

#[test]
fn a_load_that_the_progress_callback_stops_is_cancelled() {
    let (facts, telemetry) = scenario("cancelled", &prepared("LLAMA_OTEL_TINY"), Path::new(""));
    assert_eq!(facts["null"], json!(true));
    let load = telemetry.span("llama_model_load").unwrap();
    assert_eq!(load.attribute("error.type"), Some(&json!("cancelled")));
    assert_eq!(load.attribute("llama.model.load.outcome"), Some(&json!("cancelled")));
    assert!(load.failed());
    let duration = telemetry.metric("llama.model.load.duration").unwrap();
    assert_eq!(duration.point(&[("llama.model.load.outcome", json!("cancelled"))]).unwrap().count, Some(1));
}

#[test]
fn a_tensor_that_lies_outside_of_the_file_is_a_failed_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outside.gguf");
    let model = TinyModel::default();
    let size = model.gguf().unwrap().to_bytes().unwrap().len();
    for (damage, said) in [
        (Damage::OutOfBounds("blk.1.ffn_down.weight"), "failed to load model"),
        (Damage::TruncatedAt(size - 1), "'output.weight' data is not within the file bounds"),
    ] {
        model.write_damaged(&path, damage).unwrap();
        let (facts, telemetry) = scenario("refused", &path, Path::new(""));
        assert_eq!(facts["null"], json!(true), "{damage:?}");
        let load = telemetry.span("llama_model_load").unwrap();
        assert_eq!((load.failed(), load.attribute("error.type")), (true, Some(&json!("load_failed"))), "{damage:?}");
        assert!(load.status.message.contains(said), "{damage:?}: {}", load.status.message);
        assert!(telemetry.metric("llama.model.load.size").is_none(), "nothing was loaded");
    }
}

#[test]
fn the_data_of_a_load_are_all_its_tensors() {
    for (model, how) in [("LLAMA_OTEL_TINY", "mmap=0"), ("LLAMA_OTEL_TINY", "mmap=1")] {
        let (_, telemetry) = act(&prepared(model), &format!("load {how}"), &[]);
        let load = telemetry.span("llama_model_load").unwrap();
        let data = telemetry.spans_named("llama_model_load.data");
        let sum = |key: &str| data.iter().map(|span| number(span, key)).sum::<f64>();
        assert_eq!(sum("llama.model.n_tensors"), number(load, "llama.model.n_tensors"), "{how}");
        assert_eq!(sum("llama.model.size"), number(load, "llama.model.size"), "{how}");
    }
}
