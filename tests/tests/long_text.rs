//! Ten megabytes of hostile text in each place where a model file has text. Either llama.cpp refuses the file, and why is
//! exported, or it loads, and what is exported of it is text, short and bounded. Nothing crashes, and telemetry takes no more
//! memory for it than it always does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use llama_otel_tests::hostile::{check_strings, hostile, write_with};
use llama_otel_tests::{arguments, command_without_telemetry, observe, prepared};
use otlp_receiver::{Receiver, Telemetry};
use serde_json::json;
use tiny_gguf::{GgufWriter, Tensor, TinyModel, Value};

const LONG: usize = 10 << 20;

fn text(letter: &str) -> String {
    letter.repeat(LONG)
}

fn model() -> GgufWriter {
    TinyModel::default().gguf().unwrap()
}

fn with_key(key: &str, value: Value) -> GgufWriter {
    let mut gguf = model();
    gguf.remove(key);
    gguf.key(key, value);
    gguf
}

fn with_tensor(name: &str) -> GgufWriter {
    let mut gguf = model();
    gguf.tensor(Tensor::constant(name, &[32], 1.0).unwrap());
    gguf
}

fn with_token(token: String) -> GgufWriter {
    let mut tokens: Vec<_> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.push(token);
    with_key("tokenizer.ggml.tokens", Value::Strings(tokens))
}

/// What is in the file, the text to be replaced by a hostile one, and what llama.cpp says where it refuses the file.
fn cases() -> Vec<(&'static str, GgufWriter, String, Option<&'static str>)> {
    let long = text("#");
    let mut twice = model();
    twice.key(format!("{long}1"), Value::Bool(true)).key(format!("{long}2"), Value::Bool(true));
    let short = "#".repeat(60);
    let mut tensors = with_tensor(&format!("{short}1"));
    tensors.tensor(Tensor::constant(&format!("{short}2"), &[32], 1.0).unwrap());
    vec![
        ("the name of a tensor", with_tensor(&long), long.clone(), Some("is too long: 10485760 >= 64")),
        (
            "the shortest name that is too long",
            with_tensor(&"#".repeat(64)),
            "#".repeat(64),
            Some("is too long: 64 >= 64"),
        ),
        ("the longest name that is not", with_tensor(&"#".repeat(63)), "#".repeat(63), Some("wrong number of tensors")),
        ("the same name of two tensors", tensors, short, Some("duplicate tensor name")),
        ("the same key twice", twice, long.clone(), Some("duplicate key")),
        ("the name of the model", with_key("general.name", Value::String(long.clone())), long.clone(), None),
        ("the chat template", with_key("tokenizer.chat_template", Value::String(long.clone())), long.clone(), None),
        ("a token", with_token(long.clone()), long.clone(), None),
        (
            "the architecture",
            with_key("general.architecture", Value::String(long.clone())),
            long.clone(),
            Some("unknown model architecture"),
        ),
        (
            "the tokenizer",
            with_key("tokenizer.ggml.model", Value::String(long.clone())),
            long,
            Some("unknown tokenizer"),
        ),
    ]
}

/// Writes the file. What is told apart by one more digit is made the same.
fn write(path: &Path, what: &str, gguf: &GgufWriter, from: &str) {
    let places = write_with(path, gguf, from, &hostile(from.len()));
    if what.contains("same") {
        assert_eq!(places.len(), 2, "{what}");
        let mut bytes = std::fs::read(path).unwrap();
        bytes[places[1] + from.len()] = bytes[places[0] + from.len()];
        std::fs::write(path, bytes).unwrap();
    }
}

/// Whether llama.cpp's reason is on the span of the load, or in a record of the log.
fn is_explained(telemetry: &Telemetry, reason: &str) -> bool {
    let load = telemetry.span("llama_model_load").unwrap();
    let events = load.events.iter().filter_map(|event| event.attributes.get("llama.log.message")?.as_str());
    let records = telemetry.logs.iter().filter_map(|log| log.body.as_str());
    events.chain(records).chain([load.status.message.as_str()]).any(|text| text.contains(reason))
}

#[test]
fn ten_megabytes_of_text_are_refused_or_cut_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    for (what, gguf, from, refused) in cases() {
        write(&path, what, &gguf, &from);
        let (run, telemetry) = observe(&arguments(&path, &["--n-predict", "2"]), "op");
        let load = telemetry.span("llama_model_load").unwrap();
        match refused {
            Some(reason) => {
                assert_eq!(run.code, Some(3), "{what}: {}", &run.stderr[..run.stderr.len().min(1000)]);
                assert_eq!(load.attribute("error.type"), Some(&json!("load_failed")), "{what}");
                assert!(is_explained(&telemetry, reason), "{what}: {:?} {:?}", load.status, telemetry.logs);
            }
            None => assert_eq!((run.code, load.failed()), (Some(0), false), "{what}: {}", run.stderr),
        }
        check_strings(&telemetry);
        let most = telemetry.metrics.iter().map(|metric| metric.latest().len()).max().unwrap();
        assert!(most < 40, "{what}: a metric with {most} series");
    }
}

/// KiB that the program had in memory at most, of three runs. It is asked while it runs: what the system says behind its end is
/// at least what this process had when it started the program.
fn peak(variable: &str, model: &Path, endpoint: Option<&str>) -> i64 {
    let one = || {
        let mut command = command_without_telemetry(&prepared(variable));
        command.args(arguments(model, &["--n-predict", "2"])).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(endpoint) = endpoint {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("LLAMA_OTEL_DETAIL", "op");
        }
        let mut child = command.spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut most = 0;
        let ended = loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
            most = most.max(line.map_or(0, |kib| kib.trim().parse().unwrap()));
            if let Some(ended) = child.try_wait().unwrap() {
                break ended;
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        assert!(ended.code().is_some(), "it crashed: {ended}");
        most
    };
    (0..3).map(|_| one()).max().unwrap_or_default()
}

#[test]
fn ten_megabytes_of_text_take_no_memory_of_telemetry_s() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: what a process has in memory is read from /proc");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let added =
        |path: &PathBuf| peak("LLAMA_OTEL_DEMO", path, Some(&endpoint)) - peak("LLAMA_OTEL_DEMO_PRISTINE", path, None);
    let usual = added(&prepared("LLAMA_OTEL_TINY"));
    let path = folder.path().join("long.gguf");
    for (what, gguf, from, _) in cases() {
        write(&path, what, &gguf, &from);
        let with_text = added(&path);
        assert!(
            with_text <= usual + 12 * 1024,
            "{what}: {with_text} KiB more than without telemetry, {usual} KiB for any model"
        );
    }
}
