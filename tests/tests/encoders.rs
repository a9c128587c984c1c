//! Encoders: batches without memory, which are no generations, unless a decoder goes on from there.

use std::path::Path;

use llama_otel_tests::number;
use serde_json::json;
use tiny_gguf::{TinyEncoder, TinyEncoderDecoder};

#[test]
fn an_encoder_s_batches_are_seen_whichever_function_they_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.gguf");
    TinyEncoder::default().write(&model).unwrap();
    let (facts, telemetry) = llama_otel_tests::scenario(
        env!("CARGO_BIN_EXE_llama-otel-scenario"),
        &[Path::new("encode"), &model],
        "request",
    );
    assert_eq!(facts["status"], json!(2));
    let encodes = telemetry.spans_named("llama_encode");
    let tokens: Vec<_> = encodes.iter().map(|span| number(span, "llama.batch.n_tokens")).collect();
    assert_eq!(tokens, [12.0, 5.0, 7.0]);
    assert!(encodes.iter().all(|span| number(span, "llama.context.id") == 1.0));
    let statuses: Vec<_> = encodes.iter().map(|span| span.attribute("llama.decode.status").cloned().unwrap()).collect();
    assert_eq!(statuses, [json!("ok"), json!("ok"), json!("aborted")]);
    assert_eq!(encodes[2].attribute("error.type"), Some(&json!("aborted")));
    // the second came through llama_decode
    assert_eq!(telemetry.parent_of(encodes[1]).map(|span| span.name.as_str()), Some("llama_decode"));
    assert!(telemetry.spans_named("llama_generation").is_empty());
    let duration = telemetry.metric("llama.encode.duration").unwrap();
    let of = |status: &str| duration.point(&[("llama.decode.status", json!(status))]).and_then(|point| point.count);
    assert_eq!((of("ok"), of("aborted")), (Some(2), Some(1)));
    // llama.cpp counts the aborted ones too
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), facts["n_p_eval"].as_f64().unwrap());
    assert!(telemetry.metric("llama.decode.duration").is_none(), "nothing was decoded");
}

#[test]
fn a_decoder_s_generation_begins_with_what_the_encoder_took() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("t5.gguf");
    TinyEncoderDecoder::default().write(&model).unwrap();
    let args = [Path::new("encode-decode"), &model];
    let (facts, telemetry) = llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &args, "decode");
    assert_eq!(facts["status"], json!(2), "the second text is aborted");

    let encodes = telemetry.spans_named("llama_encode");
    let tokens: Vec<_> = encodes.iter().map(|span| number(span, "llama.batch.n_tokens")).collect();
    assert_eq!(tokens, [12.0, 9.0, 7.0]);
    assert_eq!(encodes.iter().map(|span| span.failed()).collect::<Vec<_>>(), [false, true, false]);
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes.len(), 5 + 2);
    assert!(decodes.iter().all(|span| number(span, "llama.batch.n_tokens") == 1.0 && span.parent.is_none()));
    // only the decoder has a cache
    let used: Vec<_> = decodes.iter().map(|span| number(span, "llama.kv_cache.cells.used")).collect();
    assert_eq!(used, [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0]);

    let all = telemetry.spans_named("llama_generation");
    let tokens: Vec<_> = all
        .iter()
        .map(|span| (number(span, "gen_ai.usage.input_tokens"), number(span, "gen_ai.usage.output_tokens")))
        .collect();
    assert_eq!(tokens, [(12.0 + 1.0, 5.0), (7.0 + 1.0, 2.0)], "the text and the token that the decoder starts with");
    for (generation, encode, first) in [(all[0], encodes[0], decodes[0]), (all[1], encodes[2], decodes[5])] {
        assert_eq!(generation.start_unix_nano, encode.start_unix_nano);
        for batch in [encode, first] {
            assert!(generation.links.iter().any(|link| link.span_id == batch.span_id), "{}", batch.name);
        }
        assert_eq!(number(generation, "gen_ai.usage.cache_read.input_tokens"), 0.0);
        let ttft = number(generation, "llama.generation.time_to_first_token");
        let measured = (first.end_unix_nano - encode.start_unix_nano) as f64 / 1e9;
        assert!((ttft - measured).abs() < 0.02 * measured + 2e-4, "{ttft} s, from span to span {measured} s");
    }
    // llama.cpp counts the aborted ones too
    let evaluated = facts["n_p_eval"].as_f64().unwrap() + facts["n_eval"].as_f64().unwrap();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), evaluated);
    assert_eq!(evaluated, 12.0 + 9.0 + 7.0 + 7.0);
}
