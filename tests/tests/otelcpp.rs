//! The backend upon opentelemetry-cpp keeps that library's known faults away from programs, and the isolation that the Rust
//! backend promises holds for it too.

#[path = "../../otel-shim/tests/cases/configuration.rs"]
mod configuration;
#[path = "../../otel-shim/tests/cases/embedding.rs"]
mod embedding;
#[path = "../../otel-shim/tests/cases/tls.rs"]
mod tls;
#[path = "../../otel-shim/tests/tls_server/mod.rs"]
mod tls_server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use llama_otel_tests::programs::{Backend, Ended as Child, folder, observe, run as run_with, run_exe, run_if_built};
use llama_otel_tests::{arguments, prepared, run_program};
use otlp_receiver::model::MetricKind;
use otlp_receiver::{Behaviour, Receiver, Signal};
use serde_json::json;

/// The program was built, see [`can_run`].
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    run_with(Backend::Cpp, program, arguments, variables).expect("the program was built")
}

/// Whether opentelemetry-cpp is here, and was built with what these variables ask for.
fn can_run(variables: &[(&str, &str)]) -> bool {
    run_if_built(Backend::Cpp, "scenario", &["nothing"], variables).is_some()
}

/// A port that was free a moment ago, and nobody listens on.
fn nobody() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}")
}

#[test]
fn off_unless_a_variable_asks_for_it() {
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["nested", "flush"], &[]) else { return };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!((&ended.report["active"], &ended.report["delivered"]), (&json!(false), &json!(true)));
}

/// `ForceFlush`, and in 1.19 `Export` itself, answer success on a refused connection.
#[test]
fn a_refused_connection_is_a_failed_flush() {
    for protocol in ["http/protobuf", "grpc"] {
        let endpoint = nobody();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ];
        let Some(ended) = run_if_built(Backend::Cpp, "scenario", &["nested", "flush"], &variables) else { continue };
        assert_eq!(ended.code, Some(0), "{protocol}: {}", ended.stderr);
        assert_eq!(ended.report["delivered"], json!(false), "{protocol}: a flush that failed says so");
    }
}

/// Its batch processor writes a line for every dropped span, and its exporters one for every failed request.
#[test]
fn a_receiver_that_is_gone_costs_one_line_a_signal() {
    let endpoint = nobody();
    let start = Instant::now();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["burst", "flush"], &variables) else { return };
    assert_eq!((ended.code, &ended.report["delivered"]), (Some(0), &json!(false)));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!((1..=2).contains(&lines.len()), "one line a signal: {lines:?}");
    assert!(
        lines.iter().all(|line| line.starts_with("llama-otel: ") && line.contains("cannot be exported")),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| line.contains("onnect")), "the line has the reason: {lines:?}");
}

/// Its shutdown waits for the request, whatever time-out it is given, and zero means for ever.
#[test]
fn a_receiver_that_never_answers_does_not_hold_the_process() {
    for end in ["flush", "shutdown", "exit"] {
        let receiver = Receiver::start().unwrap().unrecorded();
        receiver.set_behaviour(Behaviour::Silent);
        let endpoint = receiver.http_endpoint();
        let start = Instant::now();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        let Some(ended) = run_with(Backend::Cpp, "scenario", &["nested", end], &variables) else { return };
        assert_eq!(ended.code, Some(0), "{end}: {}", ended.stderr);
        if end != "exit" {
            assert_eq!(ended.report["delivered"], json!(false), "{end}");
            assert!(ended.report["seconds"].as_f64().unwrap() < 4.5, "{end}: {}", ended.report);
        }
        assert!(start.elapsed() < Duration::from_secs(14), "{end}: {:?}", start.elapsed());
    }
}

/// The library's own thread, which knows the reason, does not say whose request it is about.
#[test]
fn each_signal_has_the_reason_of_its_own_receiver() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: threads inherit the name that tells whose reason it is on Linux only");
        return;
    }
    let refusing = |status| {
        let receiver = Receiver::start().unwrap().unrecorded();
        receiver.set_behaviour(Behaviour::Refuse { status, retry_after: None });
        receiver
    };
    let statuses = [("traces", 403), ("metrics", 413), ("logs", 503)];
    let receivers = statuses.map(|(signal, status)| (signal, refusing(status)));
    let variables = receivers.each_ref().map(|(signal, receiver)| {
        let name = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.to_uppercase());
        (name, format!("{}/v1/{signal}", receiver.http_endpoint()))
    });
    let variables = variables.each_ref().map(|(name, endpoint)| (name.as_str(), endpoint.as_str()));
    for _ in 0..5 {
        let Some(ended) = run_with(Backend::Cpp, "scenario", &["failing", "flush"], &variables) else { return };
        for (signal, status) in statuses {
            let line = format!("llama-otel: {signal} cannot be exported");
            let said: Vec<_> = ended.stderr.lines().filter(|said| said.starts_with(&line)).collect();
            assert!(said.len() == 1 && said[0].contains(&format!("Status:{status}")), "{signal}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_refusal_is_a_failed_flush_and_the_receivers_return_is_noticed() {
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(Behaviour::Refuse { status: 503, retry_after: None });
    let endpoint = receiver.http_endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["nested", "flush"], &variables) else { return };
    assert_eq!((ended.code, &ended.report["delivered"]), (Some(0), &json!(false)));
    assert!(ended.stderr.contains("503"), "the reason is named: {}", ended.stderr);
}

/// The library makes objects of static life when they are first used, and destroys them before ours if nobody takes care.
#[test]
fn what_static_destructors_record_arrives() {
    let Some((ended, telemetry)) = observe(Backend::Cpp, "scenario", &["nested", "late"], &[]) else { return };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(telemetry.span("llama_model_free").is_some(), "the span of a static destructor");
    // 7 in the scenario, 1 on a thread, 1 by its thread-local object, 1 before the end, 1 by the static object
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 11.0);
}

/// A trace state is parsed by objects of that kind too: what comes at the end keeps it.
#[test]
fn a_trace_state_is_there_until_the_end_of_the_process() {
    let Some((ended, telemetry)) = observe(Backend::Cpp, "embedding", &["late"], &[("LLAMA_OTEL_DETAIL", "op")]) else {
        return;
    };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let states: Vec<_> = telemetry.spans.iter().map(|span| span.trace_state.as_str()).collect();
    assert_eq!(states, ["vendor=x"; 2]);
}

#[test]
fn the_end_of_the_process_delivers_time_after_time() {
    for round in 0..10 {
        let Some((ended, telemetry)) = observe(Backend::Cpp, "scenario", &["threads"], &[("LLAMA_OTEL_DETAIL", "op")])
        else {
            return;
        };
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "round {round}");
        assert_eq!(telemetry.spans.len(), 800, "round {round}");
    }
}

#[test]
fn a_shutdown_flushes_and_a_new_start_works() {
    let Some((ended, telemetry)) = observe(Backend::Cpp, "scenario", &["nested", "twice"], &[]) else { return };
    assert_eq!((ended.code, ended.stderr.as_str(), &ended.report["delivered"]), (Some(0), "", &json!(true)));
    assert_eq!(telemetry.spans.len(), 6);
}

/// A closed loop is faster than any exporter. What is lost is counted, and counters lose nothing.
#[test]
fn a_burst_is_counted_to_the_last_span() {
    let variables = [("LLAMA_OTEL_DETAIL", "decode")];
    let Some((ended, telemetry)) = observe(Backend::Cpp, "scenario", &["burst", "exit"], &variables) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let dropped = telemetry.metric("llama.otel.dropped").map_or(0.0, |metric| {
        metric
            .latest()
            .iter()
            .filter(|p| p.attributes["llama.otel.signal"] == "traces")
            .filter_map(|p| p.value)
            .map(|v| v.as_f64())
            .sum()
    });
    assert!(!telemetry.spans.is_empty());
    assert_eq!(telemetry.spans.len() as f64 + dropped, 200_000.0, "dropped {dropped}");
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 200_000.0);
}

/// The time-outs of `OTEL_EXPORTER_OTLP_TIMEOUT` are milliseconds; the library takes a bare number for seconds.
#[test]
fn a_timeout_is_in_milliseconds() {
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(Behaviour::Silent);
    let endpoint = receiver.http_endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_TIMEOUT", "300")];
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["nested", "shutdown"], &variables) else { return };
    assert_eq!((ended.code, &ended.report["delivered"]), (Some(0), &json!(false)));
    assert!(ended.report["seconds"].as_f64().unwrap() < 2.0, "{}", ended.report);
}

#[test]
fn a_wrong_variable_is_named_once() {
    let variables = [("OTEL_BSP_SCHEDULE_DELAY", "soon"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten")];
    let Some((ended, _)) = observe(Backend::Cpp, "scenario", &["nothing", "shutdown"], &variables) else { return };
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(
        lines
            .iter()
            .filter(|l| l.contains("OTEL_BSP_SCHEDULE_DELAY=soon: expected a whole number above 0; using 5000"))
            .count(),
        1,
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| line.starts_with("llama-otel: ")), "{lines:?}");
}

/// The variable for the name wins over the list, as the specification says.
#[test]
fn a_service_has_the_name_that_it_was_given() {
    let variables =
        [("OTEL_SERVICE_NAME", "named"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,host.name=a%2C%20b")];
    let Some((_, telemetry)) = observe(Backend::Cpp, "scenario", &["nested"], &variables) else { return };
    assert_eq!(telemetry.resource["service.name"], json!("named"));
    assert_eq!(telemetry.resource["host.name"], json!("a, b"), "values are percent-encoded");
}

/// Since 1.21; before, they stay as they are, and a line says so.
#[test]
fn exponential_histograms_are_had_where_the_library_has_them() {
    let variable = ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram");
    let Some((ended, telemetry)) = observe(Backend::Cpp, "scenario", &["nested"], &[variable]) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let loads = telemetry.metric("llama.model.load.duration").expect("a load is timed");
    assert_eq!(loads.count(), 1);
    if ended.stderr.is_empty() {
        assert_eq!(loads.kind, MetricKind::ExponentialHistogram);
    } else {
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(
            matches!(lines.as_slice(), [line] if line.contains("has these since 1.21, and this is 1.")),
            "{lines:?}"
        );
        assert_eq!(loads.kind, MetricKind::Histogram);
    }
}

/// An option of the library's build over HTTP; without it nothing is compressed, and a line says so.
#[test]
fn compression_is_had_where_the_library_has_it() {
    for (protocol, name) in [("http/protobuf", "content-encoding"), ("grpc", "grpc-encoding")] {
        let receiver = Receiver::start().unwrap().unrecorded();
        let endpoint = if protocol == "grpc" { receiver.grpc_endpoint() } else { receiver.http_endpoint() };
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ];
        let Some(ended) = run_if_built(Backend::Cpp, "scenario", &["nested"], &variables) else { continue };
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let requests = receiver.requests();
        let encodings = |signal| -> Vec<_> {
            configuration::of(&requests, signal).iter().map(|request| configuration::header(request, name)).collect()
        };
        let without = "llama-otel: OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=gzip: this opentelemetry-cpp was built without compression; using none\n";
        let traces = if ended.stderr == without && protocol != "grpc" { None } else { Some("gzip") };
        assert!(traces.is_none() || ended.stderr.is_empty(), "{protocol}: {}", ended.stderr);
        assert_eq!(encodings(Signal::Traces), [traces], "{protocol}");
        assert!(encodings(Signal::Metrics).iter().all(|encoding| *encoding != Some("gzip")), "{protocol}");
        assert_eq!(receiver.stop().spans.len(), 3, "{protocol}");
    }
}

/// One record is under way, four are or wait in the exporter's own queue, and one waits before it.
#[test]
fn the_log_s_queue_has_its_size() {
    let (log, others) = (Receiver::start().unwrap().unrecorded(), Receiver::start().unwrap().unrecorded());
    log.set_behaviour(Behaviour::Silent);
    let (endpoint, own) = (others.http_endpoint(), format!("{}/v1/logs", log.http_endpoint()));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", own.as_str()),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "1"),
    ];
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["logs", "shutdown"], &variables) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let dropped = |reason: &str| ended.report["dropped"][format!("logs.{reason}")].as_u64().unwrap_or(0);
    let (full, rest) = (dropped("queue_full"), dropped("export_failed") + dropped("shutdown"));
    assert!((3..=4).contains(&full) && full + rest == configuration::RECORDS as u64, "{}", ended.report);
}

/// Also not when telemetry ends.
#[test]
fn one_signal_does_not_wait_for_the_receiver_of_another() {
    let (spans, others) = (Receiver::start().unwrap().unrecorded(), Receiver::start().unwrap().unrecorded());
    spans.set_behaviour(Behaviour::Silent);
    let (endpoint, own) = (others.http_endpoint(), format!("{}/v1/traces", spans.http_endpoint()));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", own.as_str()),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    // more spans than have room in the exporter's queue
    let Some(ended) = run_with(Backend::Cpp, "scenario", &["errors", "shutdown"], &variables) else { return };
    assert_eq!((ended.code, &ended.report["delivered"]), (Some(0), &json!(false)), "{}", ended.stderr);
    let telemetry = others.stop();
    let usage = telemetry.metric("llama.otel.queue.usage").expect("the metrics arrive");
    for signal in ["traces", "metrics", "logs"] {
        assert!(usage.point(&[("llama.otel.signal", json!(signal))]).is_some(), "{signal}");
    }
}

#[test]
fn sampling_is_by_trace() {
    let variables = [("OTEL_TRACES_SAMPLER", "always_off")];
    let Some((_, telemetry)) = observe(Backend::Cpp, "scenario", &["nested"], &variables) else { return };
    assert!(telemetry.spans.is_empty());
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 7.0, "metrics do not depend on it");
}

#[test]
fn grpc_and_delta_temporality_deliver_the_same() {
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.grpc_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
    ];
    let Some(ended) = run_if_built(Backend::Cpp, "scenario", &["nested"], &variables) else { return };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let telemetry = receiver.stop();
    assert_eq!(telemetry.spans.len(), 3);
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 7.0);
    assert_eq!(telemetry.metric("llama.token.count").unwrap().temporality, otlp_receiver::model::Temporality::Delta);
}

/// Standard output takes the place of a receiver.
#[test]
fn the_console_shows_spans_and_metrics() {
    let variables = [("OTEL_TRACES_EXPORTER", "console"), ("OTEL_METRICS_EXPORTER", "console")];
    let Some(ended) = run_if_built(Backend::Cpp, "scenario", &["nested"], &variables) else { return };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("llama_model_load.hparams") && ended.stdout.contains("llama.token.count"));
}

/// With `LLAMA_OTEL_BACKEND=none` there is no telemetry library in the program, and nothing happens.
#[test]
fn without_a_backend_the_macros_find_nobody() {
    let model = prepared("LLAMA_OTEL_TINY");
    let Some((ended, telemetry)) = observe(Backend::None, "workload", &[model.to_str().unwrap()], &[]) else { return };
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(telemetry.spans.is_empty() && telemetry.metrics.is_empty());
    if cfg!(target_os = "linux") {
        let exe = folder(Backend::None).unwrap().join("workload");
        let out = Command::new("ldd").arg(&exe).output().expect("ldd");
        let libraries = String::from_utf8_lossy(&out.stdout);
        assert!(libraries.contains("libc.so"), "{libraries}");
        for name in ["opentelemetry", "protobuf", "grpc", "curl"] {
            assert!(!libraries.contains(name), "{libraries}");
        }
    }
}

/// Whether valgrind is installed; if not, the test counts as skipped.
fn has_valgrind() -> bool {
    let is_there = Command::new("valgrind").arg("--version").output().is_ok();
    if !is_there {
        println!("SKIP: valgrind is not installed: apt-get install valgrind");
    }
    is_there
}

/// Instructions of one operation: the difference of two runs, which leaves out what happens once.
fn instructions(loops: &Path, name: &str) -> f64 {
    let count = |n: u64| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
        command.arg(format!("--toggle-collect=llama_otel_bench_{name}")).arg(loops).args([name, &n.to_string()]);
        let out = command.output().expect("valgrind starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
        collected.unwrap_or_else(|| panic!("nothing was counted: {said}"))
    };
    (count(300) - count(100)) / 200.0
}

/// As many instructions as where a backend is registered and telemetry is off (`bench/instructions.toml`).
#[test]
fn without_a_backend_a_macro_costs_a_load_and_a_branch() {
    let Some(folder) = folder(Backend::None) else { return };
    if !has_valgrind() {
        return;
    }
    // the loop itself has three of them; a span looks at what it recorded when it ends
    for (name, most) in [("span", 12.0), ("attributes", 9.0), ("metric", 9.0)] {
        let n = instructions(&folder.join("loops"), name);
        println!("{name}: {n} instructions");
        assert!(n <= most, "{name}: {n} instructions");
    }
}

/// The rings, the drain thread, the exporters and their end, with many threads that record: what
/// `otel-shim/tests/sanitizers.rs` asks of the Rust backend, for as long (`LLAMA_OTEL_STRESS_SECONDS`).
#[test]
fn valgrind_finds_nothing_in_the_whole() {
    let Some(folder) = folder(Backend::Cpp) else { return };
    if !has_valgrind() {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.http_endpoint();
    let seconds = std::env::var("LLAMA_OTEL_STRESS_SECONDS").unwrap_or_else(|_| "1".to_owned());
    let lifecycle = folder.join("lifecycle");
    let ended = run_exe(
        Path::new("valgrind"),
        &[
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
            lifecycle.to_str().unwrap(),
            "threads",
            "64",
            &seconds,
        ],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "decode")],
    );
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(!receiver.stop().spans.is_empty(), "nothing was exported");
}

/// A Rust program that links opentelemetry-cpp through `llama-otel-sys`, and no other backend.
#[test]
fn a_rust_program_with_the_feature_telemetry_cpp_exports() {
    let Some(demo) = with_otelcpp("LLAMA_OTEL_DEMO_OTELCPP") else { return };
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let model = prepared("LLAMA_OTEL_TINY");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    let run = run_program(&demo, &arguments(&model, &["--prompt", "Once", "--n-predict", "4"]), &variables);
    assert_eq!(run.events("token").len(), 4);
    let perf = &run.done()["perf"];
    let telemetry = receiver.stop();
    assert_eq!(telemetry.resource["telemetry.sdk.language"], json!("cpp"));
    assert!(telemetry.span("llama_model_load").is_some_and(|span| !span.failed()));
    assert_eq!(telemetry.spans_named("llama_decode").len(), 4, "the prompt and every token but the last");
    let tokens = perf["n_p_eval"].as_f64().unwrap() + perf["n_eval"].as_f64().unwrap();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), tokens);
}

/// The module `otel` of that crate: parents, detail, flush, by the names that it has with the Rust backend.
#[test]
fn a_rust_program_asks_for_what_it_wants_with_the_feature_telemetry_cpp() {
    let Some(demo) = with_otelcpp("LLAMA_OTEL_DEMO_OTELCPP") else { return };
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let model = prepared("LLAMA_OTEL_TINY");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    let parent = |digit: &str| format!("traceparent=00-{}-{}-01", digit.repeat(32), digit.repeat(16));
    let script = format!(
        "load; context; parent {}; decode n=2; parent c=0 {}; decode n=1; detail level=metrics; decode n=1; flush; free c=0; unload",
        parent("1"),
        parent("2")
    );
    let run = run_program(&demo, &arguments(&model, &["--act", &script]), &variables);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(run.acts("flush")[0]["delivered"], json!(true));
    let telemetry = receiver.stop();
    let parents: Vec<_> = telemetry.spans_named("llama_decode").iter().map(|span| span.parent.clone()).collect();
    assert_eq!(parents, ["1", "2"].map(|digit| Some(digit.repeat(16))), "none at detail `metrics`");
    let of_metrics = telemetry.metric("llama.decode.batch.size").expect("batches are counted");
    assert_eq!(of_metrics.count(), 3);

    let wrong = run_program(&demo, &arguments(&model, &["--act", "parent traceparent=00-1"]), &variables);
    assert!(wrong.code != Some(0) && wrong.stderr.contains("not a valid W3C traceparent"), "{}", wrong.stderr);
}

/// Where the program has protobuf itself: a shared libllama-otel shows nothing of what is inside it, and both work.
#[test]
#[cfg(target_os = "linux")]
fn an_application_with_protobuf_of_its_own_keeps_it() {
    let Some(build) = with_otelcpp("LLAMA_OTEL_PROGRAMS_SHARED") else { return };
    let exe = build.join("bin-cpp/application");
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.http_endpoint();
    let ended = run_exe(&exe, &[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.report, json!({ "before": true, "delivered": true, "after": true }));
    assert_eq!(receiver.stop().spans.len(), 3);

    let loaded = Command::new("ldd").arg(&exe).output().expect("ldd");
    let loaded = String::from_utf8_lossy(&loaded.stdout).into_owned();
    let line = loaded.lines().find(|line| line.contains("libllama-otel")).expect("the program links libllama-otel");
    let library = line.split_whitespace().nth(2).expect("ldd says where it is");
    let symbols = Command::new("nm").args(["--dynamic", "--defined-only", library]).output().expect("nm");
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    let names: Vec<_> = symbols.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert!(names.contains(&"llama_otel_flush"), "{symbols}");
    for name in names {
        assert!(name.contains("llama_otel") || name.starts_with("LLAMA_OTEL"), "{library} exports {name}");
    }
}

/// A folder that `cargo xtask test` names where there is opentelemetry-cpp. `None`, after it has said why, where there is none.
fn with_otelcpp(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        let why = std::env::var("LLAMA_OTEL_NO_OTELCPP");
        println!("SKIP: {}", why.unwrap_or_else(|_| format!("{variable} is not set (run through `cargo xtask test`)")));
    }
    path
}

/// Paths below a folder, of files only.
fn files(folder: &Path) -> Vec<String> {
    let all = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("the folder can be read"));
    let path =
        |entry: walkdir::DirEntry| entry.path().strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
    let mut paths: Vec<_> = all.filter(|entry| entry.file_type().is_file()).map(path).collect();
    paths.sort();
    paths
}

/// What `cmake --install` leaves of an exported tree with this backend: a program includes llama.cpp's headers and one of this
/// project's, and nothing of OpenTelemetry.
#[test]
fn no_header_that_is_installed_includes_opentelemetry() {
    let Some(installed) = with_otelcpp("LLAMA_OTEL_INSTALLED_OTELCPP") else { return };
    let all = files(&installed);
    let (headers, others): (Vec<_>, Vec<_>) = all.iter().map(String::as_str).partition(|path| path.ends_with(".h"));
    for header in ["include/llama.h", "include/llama-otel.h", "include/ggml.h"] {
        assert!(headers.contains(&header), "{header}: {headers:?}");
    }
    for library in ["/libllama.a", "/libllama-otel.a", "/libllama-otel-cpp.a", "/libggml-base.a"] {
        assert!(others.iter().any(|path| path.ends_with(library)), "{library}: {others:?}");
    }
    let is_foreign =
        |text: &str| ["opentelemetry", "protobuf", "grpc", "nlohmann"].iter().any(|name| text.contains(name));
    assert!(!all.iter().any(|path| is_foreign(path)), "{all:?}");
    for header in headers {
        let text = std::fs::read_to_string(installed.join(header)).unwrap();
        let mut includes = text.lines().filter(|line| line.trim_start().starts_with("#include"));
        assert!(!includes.any(|line| is_foreign(line) || line.contains("otelcpp/")), "{header}");
    }
}
