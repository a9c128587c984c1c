//! The backend upon opentelemetry-cpp under the faults and the lives that the Rust backend is tested with: the same cases, and
//! the same promises.

#[path = "../../otel-shim/tests/cases/isolation.rs"]
mod isolation;
#[path = "../../otel-shim/tests/cases/lifecycle.rs"]
mod lifecycles;

use llama_otel_tests::programs::{Backend, Ended as Child, run_if_built};
#[cfg(target_os = "linux")]
use otlp_receiver::Receiver;
#[cfg(target_os = "linux")]
use serde_json::json;

/// Runs `tests/cmake/lifecycle.cpp`, or `host.cpp` to load a library.
fn lifecycle(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Child> {
    match arguments {
        ["plugin", library] => run_if_built(Backend::Cpp, "host", &[library], variables),
        _ => run_if_built(Backend::Cpp, "lifecycle", arguments, variables),
    }
}

/// `tests/cmake/plugin.cpp`.
#[cfg(unix)]
fn plugin() -> Option<std::path::PathBuf> {
    llama_otel_tests::programs::folder(Backend::Cpp).map(|folder| folder.join("libplugin.so"))
}

/// As `otel-shim/tests/threads.rs` has it for the Rust backend.
#[test]
#[cfg(target_os = "linux")]
fn its_threads_give_way_and_never_spin() {
    let receiver = Receiver::start().unwrap().unrecorded();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (endpoint, is_there) in [(receiver.http_endpoint(), true), (format!("http://{nobody}"), false)] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
        let Some(child) = lifecycle(&["idle"], &variables) else { return };
        assert_eq!((child.code, &child.report["delivered"]), (Some(0), &json!(is_there)), "{}", child.stderr);
        let nice: Vec<_> = child.report["nice"].as_array().unwrap().iter().filter_map(|n| n.as_i64()).collect();
        let expected = (child.report["own_nice"].as_i64().unwrap() + 5).min(19);
        // the library's own threads inherit from ours
        assert!(
            nice.len() >= 4 && nice.iter().all(|nice| *nice >= expected),
            "one drains, one exports each signal: {nice:?}"
        );
        // one that spins takes a second
        let cpu_ms = child.report["cpu_ns"].as_u64().unwrap() / 1_000_000;
        assert!(cpu_ms < 50, "{cpu_ms} ms of CPU time in a second, receiver there: {is_there}");
    }
}
