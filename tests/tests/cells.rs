//! What a batch says of the KV cache, against the cells that the program itself put there.

use std::path::Path;

use llama_otel_tests::{number, prepared};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Span;
use serde_json::{Value, json};
use tiny_gguf::{TinyHybrid, TinyRecurrent};

fn scenario(name: &str, model: &Path) -> (Value, Telemetry) {
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &[Path::new(name), model], "decode")
}

/// In the order of their sequences.
fn generations(telemetry: &Telemetry) -> Vec<&Span> {
    let mut all = telemetry.spans_named("llama_generation");
    all.sort_by_key(|span| number(span, "llama.sequence.id") as u64);
    all
}

/// Of each, those that went in and those that came out.
fn tokens(generations: &[&Span]) -> Vec<(f64, f64)> {
    let of = |span: &&Span| (number(span, "gen_ai.usage.input_tokens"), number(span, "gen_ai.usage.output_tokens"));
    generations.iter().map(of).collect()
}

#[test]
fn cells_follow_what_is_removed_copied_shifted_and_cleared() {
    // the second has a sliding window, and says what its full pool has
    for model in ["LLAMA_OTEL_TINY", "LLAMA_OTEL_GEMMA"] {
        let (facts, telemetry) = scenario("cells", &prepared(model));
        let decodes = telemetry.spans_named("llama_decode");
        let used: Vec<_> = decodes.iter().map(|span| number(span, "llama.kv_cache.cells.used") as u64).collect();
        assert_eq!(json!(used), facts["used"], "{model}");
        assert!(decodes.iter().all(|span| span.attribute("llama.kv_cache.cells.total") == Some(&facts["total"])));
    }
}

#[test]
fn a_full_cache_has_every_cell_in_use_and_no_slot() {
    let (facts, telemetry) = scenario("full", &prepared("LLAMA_OTEL_TINY"));
    assert_eq!(facts["status"], json!(1));
    let decodes = telemetry.spans_named("llama_decode");
    let used: Vec<_> = decodes[..4].iter().map(|span| number(span, "llama.kv_cache.cells.used")).collect();
    assert_eq!(used, [64.0, 128.0, 192.0, 256.0]);
    assert_eq!(decodes[4].attribute("error.type"), Some(&json!("no_kv_slot")));
    let generation = telemetry.span("llama_generation").unwrap();
    assert_eq!(generation.attribute("llama.generation.finish"), Some(&json!("error")));
    assert_eq!(number(generation, "gen_ai.usage.input_tokens"), 256.0);
}

#[test]
fn a_recurrent_model_s_sequences_are_generations_too() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("recurrent.gguf");
    TinyRecurrent::default().write(&model).unwrap();
    let (facts, telemetry) = scenario("recurrent", &model);
    assert_eq!(facts["gave_up"], json!(false), "a state does not give up a part");
    let all = generations(&telemetry);
    assert_eq!(tokens(&all), [(8.0, 1.0 + 3.0 + 1.0), (5.0, 1.0)]);
    assert!(all.iter().all(|span| number(span, "llama.generation.n_removed") == 0.0));
    let evaluated = facts["n_p_eval"].as_f64().unwrap() + facts["n_eval"].as_f64().unwrap();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), evaluated);
}

#[test]
fn a_hybrid_model_s_batches_say_the_cells_of_its_attention() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("hybrid.gguf");
    TinyHybrid::default().write(&model).unwrap();
    let (facts, telemetry) = scenario("recurrent", &model);
    assert_eq!(facts["gave_up"], json!(false), "its states do not give up a part");
    let decodes = telemetry.spans_named("llama_decode");
    let used: Vec<_> = decodes.iter().map(|span| number(span, "llama.kv_cache.cells.used")).collect();
    assert_eq!(used, [8.0, 8.0 + 5.0, 14.0, 15.0, 16.0, 17.0]);
    let all = generations(&telemetry);
    assert_eq!(tokens(&all), [(8.0, 1.0 + 3.0 + 1.0), (5.0, 1.0)]);
    let evaluated = facts["n_p_eval"].as_f64().unwrap() + facts["n_eval"].as_f64().unwrap();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), evaluated);
}
