//! One span and one count for each sampled token, whichever way it is sampled.

use std::path::Path;

use llama_otel_tests::prepared;
use otlp_receiver::Telemetry;
use serde_json::{Value, json};

fn scenario(name: &str) -> (Value, Telemetry) {
    let model = prepared("LLAMA_OTEL_TINY");
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &[Path::new(name), &model], "decode")
}

#[test]
fn every_way_of_sampling_counts_a_token_once() {
    for name in ["samplers", "backend-sampler"] {
        let (facts, telemetry) = scenario(name);
        let n = facts["n_sampled"].as_u64().unwrap();
        assert!(n >= 3, "{name}: {facts}");
        assert_eq!(telemetry.spans_named("llama_sample_token").len() as u64, n, "{name}");
        assert_eq!(telemetry.metric("llama.sampler.duration").unwrap().count(), n, "{name}");
    }
}

#[test]
fn a_sample_says_what_it_was_sampled_with() {
    let (_, telemetry) = scenario("samplers");
    let spans = telemetry.spans_named("llama_sample_token");
    let of = |i: usize, key: &str| spans[i].attribute(key).cloned();
    for chain in [0, 1, 2, 5, 6, 7, 8] {
        assert_eq!(
            of(chain, "llama.sampling.chain"),
            Some(json!(["top-k", "top-p", "min-p", "temp", "dist"])),
            "{chain}"
        );
        assert_eq!(of(chain, "llama.sampling.top_k"), Some(json!(20)));
        // every token of the byte vocabulary
        assert_eq!(of(chain, "llama.sampling.candidates"), Some(json!(3 + 256 + 1)), "{chain}");
        let close = |key: &str, value: f64| (of(chain, key).unwrap().as_f64().unwrap() - value).abs() < 1e-6;
        assert!(
            close("llama.sampling.top_p", 0.9)
                && close("llama.sampling.min_p", 0.05)
                && close("llama.sampling.temp", 0.7),
            "{chain}"
        );
    }
    for greedy in [3, 4] {
        assert_eq!((of(greedy, "llama.sampling.chain"), of(greedy, "llama.sampling.temp")), (None, Some(json!(0.0))));
    }
}
