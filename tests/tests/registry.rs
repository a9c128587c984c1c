//! The resource. What is exported, as a whole, is held against the registry by the phase `registry` of `cargo xtask test`.

use llama_otel_tests::{Program, arguments, observe, prepared, run};
use otlp_receiver::Receiver;
use serde_json::json;

#[test]
fn the_resource_says_what_this_process_is() {
    let (run, telemetry) = observe(&arguments(&prepared("LLAMA_OTEL_TINY"), &["--n-predict", "1"]), "request");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let resource = &telemetry.resource;
    assert_eq!(resource["ggml.backends"], json!(["CPU"]));
    assert_eq!(resource["ggml.version"], json!("0.26.0"));
    assert_eq!(resource["llama.pin"], json!("llama-cpp-sys-2-0.1.161"));
    assert!(resource["llama.version"].as_str().unwrap().starts_with("0.6.0"), "{resource:?}");
    assert_eq!(resource["process.executable.name"], json!("llama-otel-demo"));
    assert!(resource["process.pid"].as_i64().unwrap() > 1);
    let host = std::process::Command::new("hostname").output().map(|out| out.stdout).unwrap_or_default();
    if !host.is_empty() {
        assert_eq!(resource["host.name"], json!(String::from_utf8_lossy(&host).trim()));
    }
    assert_eq!(resource["os.type"], json!(std::env::consts::OS));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(resource["host.arch"], json!(arch));
    assert!(resource.contains_key("service.name") && resource.contains_key("telemetry.sdk.version"), "{resource:?}");
    // both may hold what is private
    assert!(!resource.keys().any(|key| key.contains("command") || key.contains("path")), "{resource:?}");
}

#[test]
fn what_the_environment_says_of_the_resource_stands() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let run = run(
        Program::Instrumented,
        &arguments(&prepared("LLAMA_OTEL_TINY"), &["--n-predict", "1"]),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_SERVICE_NAME", "chat"),
            ("OTEL_RESOURCE_ATTRIBUTES", "host.name=elsewhere,deployment.environment.name=test"),
        ],
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let resource = receiver.stop().resource;
    assert_eq!(resource["service.name"], json!("chat"));
    assert_eq!(resource["host.name"], json!("elsewhere"));
    assert_eq!(resource["deployment.environment.name"], json!("test"));
}

#[test]
fn the_path_of_the_model_is_exported_if_it_is_asked_for() {
    let model = prepared("LLAMA_OTEL_TINY");
    for (wanted, expected) in [("true", Some(json!(model.to_str().unwrap()))), ("false", None)] {
        let receiver = Receiver::start().unwrap();
        let endpoint = receiver.http_endpoint();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_CAPTURE_MODEL_PATH", wanted)];
        let run = run(Program::Instrumented, &arguments(&model, &["--n-predict", "1"]), &variables);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_eq!(receiver.stop().span("llama_model_load").unwrap().attribute("llama.model.path"), expected.as_ref());
    }
}
