//! Figures of models, contexts and batches against llama.cpp's public API, and durations against the program's own clock.

use std::path::Path;

use llama_otel_tests::{act, at_most, number, prepared};
use otlp_receiver::Telemetry;
use serde_json::{Value, json};
use tiny_gguf::TinyEncoder;

fn scenario(name: &str, model: &Path, detail: &str) -> (Value, Telemetry) {
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &[Path::new(name), model], detail)
}

#[test]
fn a_model_and_its_contexts_are_what_the_public_api_says() {
    let (facts, telemetry) = scenario("facts", &prepared("LLAMA_OTEL_TINY"), "op");
    let load = telemetry.span("llama_model_load").unwrap();
    for key in ["n_layer", "n_ctx_train"] {
        assert_eq!(load.attribute(&format!("llama.model.{key}")), Some(&facts["model"][key]), "{key}");
    }
    let ftype = load.attribute("llama.model.ftype").and_then(Value::as_str).unwrap();
    let desc = facts["model"]["desc"].as_str().unwrap();
    assert!(!ftype.is_empty() && desc.ends_with(ftype), "{ftype:?}, llama_model_desc says {desc:?}");
    let of_load = |key: &str| load.attribute(&format!("llama.model.{key}")).cloned();
    // as this program asked for them
    assert_eq!(of_load("n_gpu_layers"), Some(json!(3)));
    assert_eq!((of_load("split_mode"), of_load("load_mode")), (Some(json!("row")), Some(json!("mmap"))));

    let contexts = telemetry.spans_named("llama_init_from_model");
    let frees = telemetry.spans_named("llama_free");
    assert_eq!((contexts.len(), frees.len()), (2, 2));
    for (i, flash_attn) in ["enabled", "disabled"].into_iter().enumerate() {
        let expected = &facts["contexts"][i];
        for key in ["n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_threads", "n_threads_batch"] {
            assert_eq!(contexts[i].attribute(&format!("llama.context.{key}")), Some(&expected[key]), "{i}: {key}");
        }
        assert_eq!(contexts[i].attribute("llama.context.flash_attn"), Some(&json!(flash_attn)));
        assert_eq!(contexts[i].attribute("llama.alias"), Some(&json!("llama_new_context_with_model")));
        let (measured, perf) =
            (number(frees[i], "llama.context.t_eval_us") / 1e6, expected["perf_s"].as_f64().unwrap());
        assert!((measured - perf).abs() < 0.02 * perf + 2e-6, "{i}: {measured} s, llama_perf_context says {perf} s");
    }

    let decode = telemetry.span("llama_decode").unwrap();
    assert_eq!(number(decode, "llama.batch.n_outputs"), 3.0);
    assert_eq!(number(decode, "llama.batch.n_ubatches"), 2.0, "40 tokens in physical batches of 32");
    let ubatches = telemetry.spans_named("llama_ubatch");
    assert_eq!(ubatches.iter().map(|span| number(span, "llama.ubatch.n_tokens")).collect::<Vec<_>>(), [32.0, 8.0]);
    assert!(ubatches.iter().all(|span| number(span, "llama.graph.splits") == 1.0), "one device");

    let generation = telemetry.span("llama_generation").unwrap();
    let throughput = 40.0 / number(generation, "llama.generation.time_to_first_token");
    let exported = number(generation, "llama.generation.prompt.throughput");
    assert!((exported - throughput).abs() < 1e-6 * throughput, "{exported} tokens a second, not {throughput}");
}

#[test]
fn a_generation_s_throughput_is_that_of_its_tokens() {
    let (_, telemetry) = act(
        &prepared("LLAMA_OTEL_TINY"),
        &format!("load; context n_ctx=256; decode n=30{}", "; decode".repeat(20)),
        &[],
    );
    let generation = telemetry.span("llama_generation").unwrap();
    assert_eq!(number(generation, "gen_ai.usage.output_tokens"), 21.0);
    let decodes = telemetry.spans_named("llama_decode");
    let seconds = (decodes[20].end_unix_nano - decodes[0].end_unix_nano) as f64 / 1e9;
    let exported = number(generation, "llama.generation.decode.throughput");
    let measured = 20.0 / seconds;
    assert!((exported / measured - 1.0).abs() < 0.05, "{exported} tokens a second, from span to span {measured}");
}

/// The sum of a histogram, over all of its series.
fn sum(telemetry: &Telemetry, metric: &str) -> f64 {
    let points = telemetry.metric(metric).unwrap_or_else(|| panic!("no metric {metric}")).latest();
    points.iter().filter_map(|point| point.sum).sum()
}

#[test]
fn durations_are_those_of_the_program_s_own_clock() {
    // what the program measures around a call holds what is measured inside, and little more, unless another program takes
    // the processor just then: so once in five runs
    let model = prepared("LLAMA_OTEL_TINY");
    let mut said = Vec::new();
    let close = (0..5).any(|_| {
        let (facts, telemetry) = scenario("clock", &model, "metrics");
        let clock = |key: &str| facts[key].as_f64().unwrap();
        let decodes = telemetry.metric("llama.decode.duration").unwrap();
        let phase = |name: &str| decodes.point(&[("llama.decode.phase", json!(name))]).unwrap().sum.unwrap();
        assert_eq!(telemetry.metric("llama.sampler.duration").unwrap().count(), facts["n_sampled"].as_u64().unwrap());
        let sampled = sum(&telemetry, "llama.sampler.duration");
        assert!(
            at_most(clock("sample_perf"), sampled),
            "{sampled} s, llama_perf_sampler says {} s",
            clock("sample_perf")
        );
        let pairs = [
            ("llama.model.load.duration", sum(&telemetry, "llama.model.load.duration"), clock("load"), 0.7),
            ("llama.context.init.duration", sum(&telemetry, "llama.context.init.duration"), clock("init"), 0.7),
            ("llama.decode.duration, prefill", phase("prefill"), clock("prompt"), 0.9),
            ("llama.decode.duration, decode", phase("decode"), clock("decode"), 0.7),
            ("llama.sampler.duration", sampled, clock("sample"), 0.5),
        ];
        for (name, measured, around, _) in pairs {
            assert!(measured > 0.0 && at_most(measured, around), "{name}: {measured} s, the call took {around} s");
        }
        // a part of another one's time
        let memory = sum(&telemetry, "llama.kv_cache.init.duration");
        assert!(memory > 0.0 && at_most(memory, clock("init")), "{memory} s of {} s", clock("init"));
        said.push(format!("{pairs:?}"));
        pairs.iter().all(|(_, measured, around, least)| measured >= &(least * around))
    });
    assert!(close, "in none of five runs were the durations near those of the clock: {said:#?}");
}

#[test]
fn an_encoder_s_durations_are_those_of_the_program_s_own_clock() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.gguf");
    TinyEncoder { layers: 4, embd: 64, ff: 128, heads: 4, ..TinyEncoder::default() }.write(&model).unwrap();
    let mut said = Vec::new();
    let close = (0..5).any(|_| {
        let (facts, telemetry) = scenario("clock-encode", &model, "metrics");
        let (measured, around) = (sum(&telemetry, "llama.encode.duration"), facts["encode"].as_f64().unwrap());
        assert!(measured > 0.0 && at_most(measured, around), "{measured} s, the calls took {around} s");
        said.push((measured, around));
        measured >= 0.9 * around
    });
    assert!(close, "{said:?}");
}

#[test]
fn the_utilisation_of_the_window_is_that_of_the_longest_sequence() {
    // 256 tokens of window for each of two sequences
    let script = "load; context n_ctx=512 n_seq=2; decode seq=0 n=64; decode seq=1 n=128; flush; rm seq=1 p0=32; flush; clear; flush";
    let (_, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), script, &[]);
    let metric = telemetry.metric("llama.context.utilization").unwrap();
    let series = metric.series();
    assert_eq!(series.len(), 1, "{:?}", metric.points);
    let values: Vec<_> = series[0].iter().map(|point| point.value.unwrap().as_f64()).collect();
    assert_eq!(values[..3], [0.5, 0.25, 0.0]);
}

#[test]
fn a_context_that_is_refused_is_a_failed_span() {
    let (facts, telemetry) = scenario("refused-contexts", &prepared("LLAMA_OTEL_TINY"), "request");
    assert_eq!(facts["null"], json!([true, true, true]));
    let spans = telemetry.spans_named("llama_init_from_model");
    assert_eq!(spans.len(), 3);
    let reasons =
        ["model cannot be NULL", "n_batch and n_ubatch cannot both be zero", "quantized V cache requires flash_attn"];
    for (span, reason) in spans.iter().zip(reasons) {
        assert!(span.failed(), "{reason}");
        assert_eq!(span.attribute("error.type"), Some(&json!("init_failed")), "{reason}");
        let logs = span.events.iter().filter(|event| event.name == "llama.log");
        let said: Vec<_> = logs.map(|event| event.attributes["llama.log.message"].as_str().unwrap()).collect();
        assert!(said.iter().any(|text| text.contains(reason)), "{said:?}");
    }
    let errors = telemetry.metric("llama.error.count").unwrap();
    let point =
        errors.point(&[("llama.operation", json!("llama_init_from_model")), ("error.type", json!("init_failed"))]);
    assert_eq!(point.unwrap().value.unwrap().as_f64(), 3.0);
}
