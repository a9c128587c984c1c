//! llama.cpp's own measure of what a model computes: llama-perplexity says the same of the patched tree as of the pristine one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use llama_otel_tests::{command_without_telemetry, prepared};
use otlp_receiver::Receiver;

/// Tokens of one chunk.
const N_CTX: usize = 128;

/// The two programs, which only `cargo xtask test --only perplexity` builds.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let of = |variable| std::env::var_os(variable).map(PathBuf::from);
    let both = of("LLAMA_OTEL_PERPLEXITY").zip(of("LLAMA_OTEL_PERPLEXITY_PRISTINE"));
    if both.is_none() {
        println!("SKIP: llama-perplexity is built by `cargo xtask test --only perplexity`");
    }
    both
}

/// Some thousand words that are no language, always the same.
fn text() -> String {
    const WORDS: [&str; 8] = ["the", "river", "of", "seven", "stones", "runs", "under", "glass"];
    let mut state = 1u32;
    let mut text = String::new();
    for i in 0..200 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let end = if i % 9 == 8 { ".\n" } else { " " };
        write!(text, "{}{end}", WORDS[(state >> 29) as usize]).unwrap();
    }
    text
}

/// The lines with figures: what each chunk came to, and the end of it.
fn figures(program: &Path, model: &Path, text: &Path, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = command_without_telemetry(program);
    command.arg("--model").arg(model).arg("--file").arg(text).envs(variables.iter().copied());
    let out = command.args(["--ctx-size", &N_CTX.to_string(), "--threads", "1"]).output().unwrap();
    let log = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}: {log}", program.display());
    // what stands in front of the estimate on its line are times
    let figure = |line: &str| match line.find("Final estimate: PPL") {
        Some(at) => line.get(at..).map(str::to_owned),
        None => line.starts_with('[').then(|| line.to_owned()),
    };
    let figures: Vec<_> = log.lines().filter_map(figure).collect();
    assert_eq!(figures.len(), 2, "{log}");
    figures
}

#[test]
fn perplexity_is_the_same_at_every_detail() {
    let Some((patched, pristine)) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    std::fs::write(&path, text()).unwrap();
    let model = prepared("LLAMA_OTEL_TINY");
    let expected = figures(&pristine, &model, &path, &[]);
    assert_eq!(figures(&patched, &model, &path, &[]), expected, "telemetry off");
    for detail in ["metrics", "request", "decode", "op"] {
        let receiver = Receiver::start().unwrap();
        let endpoint = receiver.http_endpoint();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", detail)];
        assert_eq!(figures(&patched, &model, &path, &variables), expected, "detail {detail}");
        let n_chunks = expected[0].matches('[').count();
        let evaluated = receiver.stop().metric("llama.token.count").unwrap().total();
        // and the two tokens of the run that warms up
        let least = (n_chunks * N_CTX) as f64;
        assert!((least..least + 8.0).contains(&evaluated), "{evaluated} tokens in {n_chunks} chunks, detail {detail}");
    }
}
