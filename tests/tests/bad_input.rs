//! Hostile model files and private data: what is exported stays text, short, and bounded, and says nothing that it should not.

use llama_otel_tests::hostile::{HOSTILE, check_strings, write_with};
use llama_otel_tests::{Program, act, arguments, observe, prepared, run};
use otlp_receiver::Receiver;
use serde_json::json;
use tiny_gguf::{TinyModel, Value};

#[test]
fn a_hostile_name_is_exported_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    let name = "#".repeat(HOSTILE.len());
    let model = TinyModel { name: name.clone(), ..TinyModel::default() };
    write_with(&path, &model.gguf().unwrap(), &name, HOSTILE);
    let (run, telemetry) = observe(&arguments(&path, &["--n-predict", "4"]), "op");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check_strings(&telemetry);
    // llama.cpp reads the name as a C string, so it ends at the zero byte at the latest
    let name = telemetry.span("llama_model_load").unwrap().attribute("llama.model.name").unwrap().as_str().unwrap();
    assert!(name.starts_with("a b "), "{name:?}");
}

#[test]
fn a_name_of_ten_megabytes_is_cut_to_256_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    TinyModel { name: "é".repeat(5 << 20), ..TinyModel::default() }.write(&path).unwrap();
    let (run, telemetry) = observe(&arguments(&path, &["--n-predict", "4"]), "op");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    check_strings(&telemetry);
    let load = telemetry.span("llama_model_load").unwrap();
    assert_eq!(load.attribute("llama.model.name"), Some(&json!("é".repeat(128))));
}

#[test]
fn a_hostile_architecture_or_tensor_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    for from in ["general.architecture", "output_norm.weight", "tokenizer.ggml.model"] {
        for to in
            [&HOSTILE[..from.len()], &[0xff; 20][..from.len()], &[b'\n'; 20][..from.len()], &[b'"'; 20][..from.len()]]
        {
            write_with(&path, &TinyModel::default().gguf().unwrap(), from, to);
            let (run, telemetry) = observe(&arguments(&path, &[]), "op");
            assert_eq!(run.code, Some(3), "{from}: {}", run.stderr);
            assert!(telemetry.span("llama_model_load").unwrap().failed(), "{from}");
            check_strings(&telemetry);
        }
    }
    // an architecture that nobody knows, of any length
    for arch in ["no\nsuch\u{1b}[2J \"arch\"".to_owned(), "x".repeat(10 << 20)] {
        let mut gguf = TinyModel::default().gguf().unwrap();
        gguf.remove("general.architecture");
        gguf.key("general.architecture", Value::String(arch));
        gguf.write(&path).unwrap();
        let (run, telemetry) = observe(&arguments(&path, &[]), "op");
        assert_eq!(run.code, Some(3), "{}", run.stderr);
        check_strings(&telemetry);
        assert!(!telemetry.logs.is_empty(), "llama.cpp says what is wrong");
    }
}

#[test]
fn a_metric_has_at_most_two_thousand_series() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smallest.gguf");
    TinyModel::smallest().write(&path).unwrap();
    // a flush now and then: nothing is lost to a full ring
    let flush = |c: i32| {
        if c % 100 == 0 {
            "flush\n"
        } else if c % 10 == 0 {
            "sleep ms=2\n"
        } else {
            ""
        }
    };
    let one = |c| format!("context n_ctx=32 n_batch=8\ndecode c={c}\nfree c={c}\n{}", flush(c));
    let script: String = (0..2050).map(one).collect();
    let script_file = format!("load\n{script}");
    let (run, telemetry) = act(&path, &script_file, &[("LLAMA_OTEL_DETAIL", "metrics")]);
    assert_eq!(run.acts("free").len(), 2050);
    let cells = telemetry.metric("llama.kv_cache.cells.usage").unwrap();
    assert_eq!(cells.latest().len(), 2001, "2,000 and the one for the rest");
    assert!(cells.latest().iter().any(|point| point.attributes.get("otel.metric.overflow") == Some(&json!(true))));
    assert!(telemetry.metrics.iter().all(|metric| metric.latest().len() <= 2001));
}

#[test]
fn no_token_and_no_folder_leaves_the_process_with_an_error_either() {
    let folder = tempfile::Builder::new().prefix("private-").tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    let whole = std::fs::read(prepared("LLAMA_OTEL_TINY")).unwrap();
    std::fs::write(&broken, &whole[..whole.len() - 1000]).unwrap();
    let adapter = folder.path().join("adapter.gguf");
    std::fs::write(&adapter, b"GGUF").unwrap();
    let script = format!(
        "load path={0}\nadapter path={0}\nload path={1}\nload\ncontext n_ctx=512\ninvalid\nadapter path={2}\nadapter path={1}",
        broken.display(),
        folder.path().join("absent.gguf").display(),
        adapter.display(),
    );
    let script = script.replacen(&format!("adapter path={}\n", broken.display()), "", 1); // there is no model yet
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let run = run(
        Program::Instrumented,
        &arguments(&prepared("LLAMA_OTEL_TINY"), &["--verbose", "--act", &script]),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "op")],
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("1234567") && run.stderr.contains("private-"), "the program's own log has both");
    let requests = receiver.requests();
    for secret in ["1234567", "private-", folder.path().parent().unwrap().to_str().unwrap()] {
        assert!(requests.iter().all(|request| !request.contains(secret)), "{secret:?} left the process");
    }
    assert!(requests.iter().any(|request| request.contains("broken.gguf")), "the name of the file is exported");
    let telemetry = receiver.stop();
    assert!(telemetry.logs.len() >= 4, "{:?}", telemetry.logs);
}
