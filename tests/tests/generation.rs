//! A generation as the telemetry tells it, against what llama.cpp says of itself.

use std::path::Path;

use llama_otel_tests::{Run, arguments, number, observe, prepared};
use otlp_receiver::Telemetry;
use serde_json::json;

/// Parent by name, for every span that must have one.
fn check_nesting(telemetry: &Telemetry) {
    let parents = [
        ("llama_model_load.hparams", "llama_model_load"),
        ("llama_model_load.vocab", "llama_model_load"),
        ("llama_model_load.tensors", "llama_model_load"),
        ("llama_model_load.data", "llama_model_load.tensors"),
        ("llama_kv_cache_init", "llama_init_from_model"),
    ];
    for (name, parent) in parents {
        let spans = telemetry.spans_named(name);
        assert!(!spans.is_empty(), "no span {name}");
        for span in spans {
            assert_eq!(telemetry.parent_of(span).map(|p| p.name.as_str()), Some(parent), "parent of {name}");
        }
    }
    for root in [
        "llama_backend_init",
        "llama_model_load",
        "llama_init_from_model",
        "llama_decode",
        "llama_sample_token",
        "llama_generation",
        "llama_free",
        "llama_model_free",
    ] {
        for span in telemetry.spans_named(root) {
            assert_eq!(span.parent, None, "{root} is a root");
        }
    }
}

fn check_against_llama(run: &Run, telemetry: &Telemetry, n_predict: u64) {
    let done = run.done();
    let n_generated = done["n_generated"].as_u64().unwrap();
    let n_decoded = done["n_decoded"].as_u64().unwrap();
    let n_prompt = run.events("prompt")[0]["n_tokens"].as_u64().unwrap();
    assert!((1..=n_predict).contains(&n_generated));

    // spans: one decode for the prompt and one for each token, one sample for each token
    for once in [
        "llama_backend_init",
        "llama_model_load",
        "llama_init_from_model",
        "llama_kv_cache_init",
        "llama_free",
        "llama_model_free",
    ] {
        assert_eq!(telemetry.spans_named(once).len(), 1, "{once}");
    }
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes.len() as u64, 1 + n_decoded);
    assert_eq!(number(decodes[0], "llama.batch.n_tokens") as u64, n_prompt);
    assert_eq!(decodes[0].attribute("llama.decode.phase"), Some(&json!("prefill")));
    for (i, decode) in decodes.iter().enumerate().skip(1) {
        assert_eq!(decode.attribute("llama.decode.phase"), Some(&json!("decode")));
        assert_eq!(number(decode, "llama.batch.n_tokens"), 1.0);
        // what the test itself put into the cache
        assert_eq!(number(decode, "llama.kv_cache.cells.used") as u64, n_prompt + i as u64);
    }
    let samples = telemetry.spans_named("llama_sample_token");
    assert_eq!(samples.len() as u64, n_generated);
    assert!(samples.iter().all(|span| number(span, "llama.sampling.temp") == 0.0), "greedy");

    // tokens and times: llama_perf_context
    let perf = &done["perf"];
    let tokens = telemetry.metric("llama.token.count").unwrap();
    let by_phase = |phase: &str| {
        tokens.point(&[("llama.decode.phase", json!(phase))]).and_then(|p| p.value).map_or(0, |v| v.as_f64() as u64)
    };
    assert_eq!(by_phase("prefill"), perf["n_p_eval"].as_u64().unwrap());
    assert_eq!(by_phase("decode"), perf["n_eval"].as_u64().unwrap());
    let durations = telemetry.metric("llama.decode.duration").unwrap();
    for (phase, ms) in [("prefill", "t_p_eval_ms"), ("decode", "t_eval_ms")] {
        let measured: f64 = durations
            .latest()
            .iter()
            .filter(|p| p.attributes["llama.decode.phase"] == json!(phase))
            .map(|p| p.sum.unwrap())
            .sum();
        let llama = perf[ms].as_f64().unwrap() / 1e3;
        // both read the clock in the same function; a microsecond a decode is the clock's own resolution
        let tolerance = 0.02 * llama + 1e-6 * (1 + n_decoded) as f64;
        assert!((measured - llama).abs() <= tolerance, "{phase}: {measured} s, llama.cpp says {llama} s");
    }
    let free = telemetry.span("llama_free").unwrap();
    assert_eq!(
        number(free, "llama.context.tokens_evaluated") as u64,
        perf["n_p_eval"].as_u64().unwrap() + perf["n_eval"].as_u64().unwrap()
    );

    // the whole of it as one span: what the program counted, and the time of the prompt as llama.cpp tells it
    let generation = telemetry.span("llama_generation").unwrap();
    assert_eq!(number(generation, "gen_ai.usage.input_tokens") as u64, n_prompt);
    assert_eq!(number(generation, "gen_ai.usage.output_tokens") as u64, n_generated);
    assert_eq!(generation.attribute("llama.generation.finish"), Some(&json!("freed")));
    assert_eq!(generation.links.len() as u64, (1 + n_decoded).min(16));
    let (first, prompt) =
        (number(generation, "llama.generation.time_to_first_token"), perf["t_p_eval_ms"].as_f64().unwrap() / 1e3);
    assert!(first >= 0.98 * prompt && first <= 1.02 * prompt + 0.02, "{first} s, llama.cpp says {prompt} s");

    // the model: its own API
    let loaded = run.events("loaded")[0];
    let load = telemetry.span("llama_model_load").unwrap();
    for (key, field) in
        [("llama.model.n_params", "n_params"), ("llama.model.size", "size"), ("llama.model.n_tokens", "n_vocab")]
    {
        assert_eq!(number(load, key) as u64, loaded[field].as_u64().unwrap(), "{key}");
    }
    assert_eq!(load.attribute("llama.model.load.outcome"), Some(&json!("ok")));

    // memory: as much as was there, and zero when all is freed
    let memory = telemetry.metric("llama.memory.usage").unwrap();
    for point in memory.latest() {
        assert_eq!(point.value.unwrap().as_f64(), 0.0, "freed: {:?}", point.attributes);
    }
    let kv = number(telemetry.span("llama_init_from_model").unwrap(), "llama.kv_cache.size");
    assert!(kv > 0.0 && number(free, "llama.memory.size") >= kv);

    assert!(telemetry.metric("llama.error.count").is_none());
    assert!(telemetry.metric("llama.otel.dropped").is_none());
    assert!(telemetry.spans.iter().all(|span| !span.failed()));
}

fn generate(model: &Path, prompt: &str, n_predict: u64) -> (Run, Telemetry) {
    let n = n_predict.to_string();
    let args = arguments(model, &["--prompt", prompt, "--n-predict", &n, "--n-ctx", "512"]);
    observe(&args, "decode")
}

#[test]
fn gemma_tells_the_truth() {
    let (run, telemetry) = generate(&prepared("LLAMA_OTEL_GEMMA"), "The capital of France is", 16);
    let text = run.done()["text"].as_str().unwrap();
    if cfg!(target_arch = "x86_64") {
        assert!(text.starts_with(" the capital of the country of France."), "greedy, so always the same: {text:?}");
    }
    assert!(!text.is_empty());
    check_against_llama(&run, &telemetry, 16);
    check_nesting(&telemetry);
    let load = telemetry.span("llama_model_load").unwrap();
    assert_eq!(load.attribute("llama.model.arch"), Some(&json!("gemma3")));
    assert_eq!(
        telemetry.resource["llama.version"].as_str().map(|v| v.starts_with("0.6.0")),
        Some(true),
        "{:?}",
        telemetry.resource
    );
    assert_eq!(telemetry.resource["ggml.version"], json!("0.26.0"));
    assert!(
        !telemetry.resource.contains_key("llama.commit"),
        "nobody knows the commit of this tree: {:?}",
        telemetry.resource
    );
}

#[test]
fn a_tiny_model_tells_the_truth_for_two_hundred_tokens() {
    let (run, telemetry) = generate(&prepared("LLAMA_OTEL_TINY"), "Hello, world", 200);
    check_against_llama(&run, &telemetry, 200);
    check_nesting(&telemetry);
}

#[test]
fn every_exported_name_is_in_the_registry() {
    use std::collections::BTreeSet;
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/telemetry.md")).unwrap();
    let (_, telemetry) = observe(&arguments(&prepared("LLAMA_OTEL_TINY"), &["--n-predict", "4"]), "op");
    let mut names: BTreeSet<&str> = telemetry.spans.iter().map(|span| span.name.as_str()).collect();
    names.extend(telemetry.spans.iter().flat_map(|span| span.attributes.keys().map(String::as_str)));
    names.extend(telemetry.metrics.iter().map(|metric| metric.name.as_str()));
    names.extend(
        telemetry.metrics.iter().flat_map(|m| m.points.iter().flat_map(|p| p.attributes.keys().map(String::as_str))),
    );
    names.extend(
        telemetry
            .resource
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("llama.") || name.starts_with("ggml.")),
    );
    assert!(names.contains("llama_ubatch") && names.len() > 50, "{names:?}");
    let unknown: Vec<_> = names.into_iter().filter(|name| !reference.contains(&format!("`{name}`"))).collect();
    assert!(unknown.is_empty(), "not in docs/telemetry.md: {unknown:?}");
    for metric in &telemetry.metrics {
        assert!(reference.contains(&metric.unit) || metric.unit == "1", "{}: unit {}", metric.name, metric.unit);
    }
}

#[test]
fn at_detail_request_a_generation_is_its_prompt_and_its_figures() {
    let (run, telemetry) =
        observe(&arguments(&prepared("LLAMA_OTEL_TINY"), &["--prompt", "Hello", "--n-predict", "50"]), "request");
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes[0].attribute("llama.decode.phase"), Some(&json!("prefill")));
    assert!(decodes.len() < 10, "{} of 50: the prompt's, and those that a busy machine delays", decodes.len());
    assert!(decodes[1..].iter().all(|span| span.attribute("llama.decode.phase") == Some(&json!("decode"))));
    assert_eq!(telemetry.spans_named("llama_sample_token").len(), 0);
    let sampled = telemetry.metric("llama.sampler.duration").unwrap();
    assert_eq!(sampled.count(), run.done()["n_generated"].as_u64().unwrap());
    assert_eq!(
        telemetry.metric("llama.decode.batch.size").unwrap().count(),
        1 + run.done()["n_decoded"].as_u64().unwrap()
    );
}

#[test]
fn no_prompt_no_text_and_no_folder_leaves_the_process() {
    let model = prepared("LLAMA_OTEL_TINY");
    let folder = tempfile::Builder::new().prefix("private-folder").tempdir().unwrap();
    let copy = folder.path().join("model.gguf");
    std::fs::copy(&model, &copy).unwrap();
    let receiver = otlp_receiver::Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let args = arguments(&copy, &["--prompt", "my secret prompt", "--n-predict", "20"]);
    let run = llama_otel_tests::run(
        llama_otel_tests::Program::Instrumented,
        &args,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "op")],
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let bytes: Vec<u8> = receiver.requests().into_iter().flat_map(|request| request.body).collect();
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(has(b"model.gguf"), "the name of the file is exported");
    for secret in ["my secret prompt", "secret", "private-folder"] {
        assert!(!has(secret.as_bytes()), "{secret:?} left the process");
    }
}
