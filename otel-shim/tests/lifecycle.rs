//! Begins and ends of programs with the Rust backend, and what only that backend could do wrong: tokio, panics.

mod child;

#[path = "cases/lifecycle.rs"]
mod cases;

use std::time::Duration;

use child::{Child, run};
use otlp_receiver::Receiver;
use serde_json::json;

/// Runs `examples/lifecycle.rs`. Never `None`.
fn lifecycle(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Child> {
    Some(run("lifecycle", arguments, variables))
}

/// `examples/plugin.rs`. Never `None`.
#[cfg(unix)]
fn plugin() -> Option<std::path::PathBuf> {
    Some(child::example("libplugin").with_extension(if cfg!(target_os = "macos") { "dylib" } else { "so" }))
}

#[test]
fn a_program_s_own_tokio_runtime_is_not_needed_and_not_blocked() {
    for mode in ["tokio-current", "tokio-one-worker"] {
        for protocol in ["http/protobuf", "grpc"] {
            let receiver = Receiver::start().unwrap();
            let endpoint = if protocol == "grpc" { receiver.grpc_endpoint() } else { receiver.http_endpoint() };
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("LLAMA_OTEL_DETAIL", "decode"),
            ];
            let child = run("lifecycle", &[mode], &variables);
            assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{mode} {protocol}");
            assert_eq!(child.report["flushed"], json!(true), "{mode} {protocol}: {}", child.report);
            assert_eq!(child.report["delivered"], json!(true), "{mode} {protocol}: {}", child.report);
            assert_eq!(receiver.stop().spans.len(), 20, "{mode} {protocol}");
        }
    }
}

/// A panic is printed by Rust's own hook, wherever it is caught.
#[test]
fn a_panic_inside_reaches_nobody() {
    for place in ["start", "push", "drain", "export"] {
        let receiver = Receiver::start().unwrap();
        let endpoint = receiver.http_endpoint();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("LLAMA_OTEL_DETAIL", "decode"),
            ("LLAMA_OTEL_PANIC_AT", place),
        ];
        let (child, telemetry) = (run("lifecycle", &["decode-then", "3000"], &variables), receiver.stop());
        assert_eq!(child.code, Some(0), "{place}: {}", child.stderr);
        assert!(child.stderr.contains(&format!("injected at {place}")), "{place}: {}", child.stderr);
        assert!(telemetry.spans.is_empty(), "{place}");
        assert!(child.time < Duration::from_secs(3), "nobody waits for an answer that cannot come: {place}");
        match place {
            "drain" => assert!(child.stderr.contains("telemetry is off after an error of its own"), "{}", child.stderr),
            "export" => assert!(child.stderr.contains("cannot be exported"), "{}", child.stderr),
            _ => {}
        }
        let flushed = matches!(place, "start" | "push"); // nothing was recorded that could be lost later
        assert_eq!(child.report["flushed"], json!(flushed), "{place}: {}", child.report);
    }
}
