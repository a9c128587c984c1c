//! From a macro in C++ to a real OTLP receiver: what is exported is what happened, and nothing else.
//!
//! Each scenario (`tests/cpp/scenarios.cpp`) runs in a process of its own, since the environment decides what is exported.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use otlp_receiver::{Behaviour, Receiver, Telemetry};
use serde_json::{Value, json};

struct Run {
    code: Option<i32>,
    report: Value,
    stderr: String,
}

fn scenario_exe() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("scenario").with_extension(std::env::consts::EXE_EXTENSION)
}

fn run(name: &str, end: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(scenario_exe());
    command.args([name, end]);
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("OTEL_") || key.starts_with("LLAMA_OTEL_")) {
        command.env_remove(key);
    }
    let out =
        command.envs(variables.iter().copied()).output().expect("cargo builds the example scenario with these tests");
    let stdout = String::from_utf8(out.stdout).unwrap();
    Run {
        code: out.status.code(),
        report: stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Runs to the end of the process, whose exit delivers, and returns what arrived.
fn exported(name: &str, variables: &[(&str, &str)]) -> Telemetry {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "op")];
    all.extend(variables);
    let run = run(name, "exit", &all);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "");
    receiver.stop()
}

#[test]
fn off_unless_a_variable_asks_for_it() {
    let run = run("nested", "flush", &[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.report["active"], json!(false));
    assert_eq!(run.report["delivered"], json!(true));
    if cfg!(target_os = "linux") {
        assert_eq!(run.report["threads"], json!(1), "off means no thread");
    }
}

#[test]
fn spans_nest_and_attributes_keep_their_types() {
    let telemetry = exported("nested", &[]);
    assert_eq!(telemetry.spans.len(), 3);
    let outer = telemetry.span("llama_model_load").unwrap();
    let hparams = telemetry.span("llama_model_load.hparams").unwrap();
    let vocab = telemetry.span("llama_model_load.vocab").unwrap();
    assert_eq!(outer.parent, None);
    assert_eq!(hparams.parent.as_ref(), Some(&outer.span_id));
    assert_eq!(vocab.parent.as_ref(), Some(&hparams.span_id), "the second span of a scope is a child of the first");
    assert!(telemetry.spans.iter().all(|span| span.trace_id == outer.trace_id));
    assert!(outer.start_unix_nano <= hparams.start_unix_nano && hparams.end_unix_nano <= outer.end_unix_nano);

    let expected = json!({
        "a.bool": true, "a.int": -3, "a.unsigned": i64::MAX, "a.double": 0.5, "a.enum": 7,
        "a.literal": "text", "a.string": "string", "a.null": "", "after": "outer again",
    });
    assert_eq!(serde_json::to_value(&outer.attributes).unwrap(), expected);
    assert_eq!(vocab.attribute("inner"), Some(&json!(1)));
    assert!(hparams.attributes.is_empty());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.abs_diff(Duration::from_nanos(outer.start_unix_nano)) < Duration::from_secs(60), "wall clock time");
}

#[test]
fn measurements_arrive_with_their_units() {
    let telemetry = exported("nested", &[]);
    let tokens = telemetry.metric("llama.token.count").unwrap();
    assert_eq!((tokens.unit.as_str(), tokens.total()), ("{token}", 7.0));
    let load = telemetry.metric("llama.model.load.duration").unwrap();
    assert_eq!((load.unit.as_str(), load.count(), load.latest()[0].mean()), ("s", 1, Some(0.25)));
    assert_eq!(telemetry.metric("llama.decode.batch.size").unwrap().latest()[0].mean(), Some(12.0));
    assert_eq!(telemetry.metric("gen_ai.server.time_per_output_token").unwrap().latest()[0].mean(), Some(0.004));
    let memory = telemetry.metric("llama.memory.usage").unwrap();
    assert_eq!((memory.unit.as_str(), memory.total()), ("By", 1024.0));
}

#[test]
fn the_resource_says_what_runs() {
    let telemetry = exported(
        "nested",
        &[("OTEL_SERVICE_NAME", "my-service"), ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")],
    );
    assert_eq!(telemetry.resource["service.name"], json!("my-service"));
    assert_eq!(telemetry.resource["deployment.environment.name"], json!("test"));
    assert!(telemetry.resource.contains_key("llama.version") && telemetry.resource.contains_key("process.pid"));
}

#[test]
fn grpc_delivers_the_same() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.grpc_endpoint();
    let run =
        run("nested", "exit", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let telemetry = receiver.stop();
    assert_eq!(telemetry.spans.len(), 3);
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 7.0);
}

#[test]
fn errors_have_a_type_and_the_first_one_counts() {
    let telemetry = exported("errors", &[]);
    let thrown = telemetry.span("llama_model_load").unwrap();
    assert!(thrown.failed());
    assert_eq!(thrown.attribute("error.type"), Some(&json!("exception")));
    let init = telemetry.span("llama_init_from_model").unwrap();
    assert_eq!(init.status.message, "first");
    let types = |name: &str| -> Vec<Value> {
        telemetry
            .spans_named(name)
            .iter()
            .map(|span| span.attribute("error.type").cloned().unwrap_or(Value::Null))
            .collect()
    };
    assert_eq!(
        json!(types("llama_decode")),
        json!(["no_kv_slot", "aborted", "invalid_batch", "alloc_failed", "compute_failed"])
    );
    assert_eq!(json!(types("llama_encode")), json!(["alloc_failed", "compute_failed", "aborted", null]));
    let errors = telemetry.metric("llama.error.count").unwrap();
    assert_eq!(errors.total(), 10.0, "one for each failed span");
    let aborted =
        errors.point(&[("llama.operation", json!("llama_encode")), ("error.type", json!("aborted"))]).unwrap();
    assert_eq!(aborted.value.unwrap().as_f64(), 1.0);
}

#[test]
fn the_level_of_detail_decides_what_is_a_span() {
    let names = |detail: &str| -> Vec<String> {
        exported("levels", &[("LLAMA_OTEL_DETAIL", detail)]).spans.into_iter().map(|span| span.name).collect()
    };
    assert_eq!(names("op"), ["llama_decode", "llama_ubatch", "llama_sample_token"]);
    assert_eq!(names("decode"), ["llama_decode", "llama_sample_token"]);
    assert_eq!(names("request"), [""; 0], "an ordinary decode is not exported at this level");
    assert_eq!(names("metrics"), [""; 0]);

    let quiet = exported("levels", &[("LLAMA_OTEL_DETAIL", "metrics")]);
    assert_eq!(quiet.metric("llama.sampler.duration").unwrap().count(), 1, "measured at every level, and once");
    let decode = exported("levels", &[("LLAMA_OTEL_DETAIL", "decode")]);
    assert!(
        decode.span("llama_decode").unwrap().attributes.is_empty(),
        "an attribute of a span that is too fine does not move to the outer one"
    );
}

#[test]
fn a_decode_that_is_slow_among_its_like_is_seen_at_detail_request() {
    let telemetry = exported("slow", &[("LLAMA_OTEL_DETAIL", "request")]);
    let longest = telemetry.spans_named("llama_decode").iter().map(|span| span.seconds()).fold(0.0, f64::max);
    assert!(longest >= 0.2, "the slow one: {longest}");
    assert!(telemetry.spans.len() < 10, "{} of 40; a busy machine may delay a few", telemetry.spans.len());
    assert_eq!(telemetry.metric("llama.decode.batch.size").unwrap().count(), 1 + 40);
}

#[test]
fn requests_are_compressed_if_asked_for() {
    let receiver = Receiver::start().unwrap();
    for (endpoint, protocol) in [(receiver.http_endpoint(), "http/protobuf"), (receiver.grpc_endpoint(), "grpc")] {
        receiver.clear();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        let run = run("nested", "exit", &variables);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{protocol}");
        assert_eq!(receiver.snapshot().spans.len(), 3, "{protocol}");
    }
    receiver.clear();
    let endpoint = receiver.http_endpoint();
    run("nested", "exit", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]);
    let requests = receiver.requests();
    let encodings: Vec<_> = requests
        .iter()
        .map(|request| {
            request.headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, value)| value.clone())
        })
        .collect();
    assert!(!encodings.is_empty() && encodings.iter().all(|e| e.as_deref() == Some("gzip")), "{encodings:?}");
}

#[test]
fn an_https_receiver_without_tls_is_a_failed_export_not_a_crash() {
    let receiver = Receiver::start().unwrap();
    for (endpoint, protocol) in [(receiver.http_endpoint(), "http/protobuf"), (receiver.grpc_endpoint(), "grpc")] {
        let endpoint = endpoint.replace("http://", "https://");
        let run = run(
            "nested",
            "flush",
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)],
        );
        assert_eq!((run.code, &run.report["delivered"]), (Some(0), &json!(false)), "{protocol}: {}", run.stderr);
        assert!(run.stderr.contains("cannot be exported"), "{protocol}: {}", run.stderr);
    }
}

#[test]
fn sampling_is_by_trace() {
    assert_eq!(exported("nested", &[("OTEL_TRACES_SAMPLER", "always_off")]).spans.len(), 0);
    let half = exported("threads", &[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")]);
    assert!(
        (100..300).contains(&half.spans_named("llama_decode").len()),
        "{} of 400",
        half.spans_named("llama_decode").len()
    );
    assert_eq!(half.spans_named("llama_decode").len(), half.spans_named("llama_ubatch").len(), "whole traces");
}

#[test]
fn no_folder_of_the_model_leaves_the_process() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    run("private_path", "exit", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let bytes: Vec<u8> = receiver.requests().into_iter().flat_map(|request| request.body).collect();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("failed to open tiny.gguf: no such file"));
    assert!(!text.contains("secret") && !text.contains("somebody"));
}

#[test]
fn hostile_strings_are_cut_and_cleaned() {
    let telemetry = exported("hostile", &[]);
    let span = telemetry.span("llama_model_load").unwrap();
    assert_eq!(span.attribute("long").unwrap().as_str().unwrap().len(), 256);
    assert_eq!(span.attribute("control"), Some(&json!("a b [31m\"'</script>")));
    assert_eq!(span.attribute("invalid"), Some(&json!("\u{fffd}\u{fffd} ok")));
    assert_eq!(span.attribute("again"), Some(&json!(99)), "each key once, the last value");
    assert_eq!(span.attributes.len(), 32, "there is no room for more");
    assert_eq!(span.attribute("28"), Some(&json!(13)));
}

#[test]
fn threads_do_not_mix() {
    let telemetry = exported("threads", &[]);
    let inner = telemetry.spans_named("llama_ubatch");
    assert_eq!((telemetry.spans_named("llama_decode").len(), inner.len()), (400, 400));
    for span in inner {
        let outer = telemetry.parent_of(span).unwrap();
        assert_eq!(outer.name, "llama_decode");
        assert_eq!(outer.attribute("thread"), span.attribute("thread"));
    }
    let ids: std::collections::HashSet<_> = telemetry.spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), 800);
}

#[test]
fn memory_that_was_released_is_zero_again() {
    let telemetry = exported("memory", &[]);
    let value = |metric: &str, device: &str, kind: &str| {
        let attributes = [("llama.device.name", json!(device)), ("llama.memory.kind", json!(kind))];
        let point = telemetry.metric(metric).and_then(|metric| metric.point(&attributes));
        point.and_then(|point| point.value).map(|value| value.as_f64())
    };
    let kinds = [("CPU", "model"), ("CPU_REPACK", "model"), ("CPU", "kv"), ("CPU", "other")];
    let all = |metric: &str| kinds.map(|(device, kind)| value(metric, device, kind));
    assert_eq!(all("llama.memory.usage"), [Some(1000.0), Some(500.0), Some(0.0), Some(300.0)]);
    assert_eq!(all("llama.memory.peak"), [Some(1000.0), Some(500.0), Some(200.0), Some(300.0)]);
    assert_eq!(all("llama.memory.allocations"), [Some(1.0); 4]);
    assert_eq!(all("llama.memory.deallocations"), [None, None, Some(1.0), None]);
    assert_eq!(telemetry.metric("llama.memory.allocation.failures").unwrap().total(), 1.0);
    let event = &telemetry.span("llama_init_from_model").unwrap().events[0];
    assert_eq!(
        (event.name.as_str(), &event.attributes["llama.memory.size"]),
        ("llama.allocation_failed", &json!(7000))
    );
}

/// Memory that was there before telemetry began anew is part of the new sums.
#[test]
fn memory_is_reported_again_after_a_new_start() {
    let receiver = Receiver::start().unwrap();
    let run = run("memory", "twice", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.http_endpoint())]);
    assert_eq!(run.report["delivered"], json!(true), "{}", run.stderr);
    let usage = receiver.stop();
    let usage = usage.metric("llama.memory.usage").unwrap();
    let model = [("llama.device.name", json!("CPU")), ("llama.memory.kind", json!("model"))];
    // the same buffer came again: it counts once
    assert_eq!(usage.point(&model).unwrap().value.unwrap().as_f64(), 1000.0);
}

#[test]
fn errors_in_the_log_are_events_and_records_without_folders_and_token_ids() {
    let telemetry = exported("logs", &[]);
    let span = telemetry.span("llama_model_load").unwrap();
    let expected = [
        "init: invalid token[?] = ?",
        "3 tokens of 16, token id ?, reason: no token = ? (line 7)",
        "failed to open 'a.gguf': No such file",
        "failed to open b.gguf: No such file",
        "failed to open c.gguf: No such file",
        "cannot read d.bin",
        "cannot read \"e.bin\" and f.bin",
        "b; 5 s",
    ];
    let of_span: Vec<_> =
        span.events.iter().map(|event| event.attributes["llama.log.message"].as_str().unwrap()).collect();
    assert_eq!(of_span, expected);
    let records: Vec<_> = telemetry.logs.iter().map(|log| log.body.as_str().unwrap()).collect();
    assert_eq!(records[0], "before any span");
    assert_eq!(records[1..], expected);
    assert_eq!((telemetry.logs[0].trace_id.as_str(), telemetry.logs[0].span_id.as_str()), ("", ""));
    for log in &telemetry.logs[1..] {
        assert_eq!((&log.trace_id, &log.span_id, log.severity_number), (&span.trace_id, &span.span_id, 17));
    }
    // an event that is none of the log is of its span only
    let inner = telemetry.span("llama_ubatch").unwrap();
    assert_eq!((inner.events.len(), inner.events[0].name.as_str()), (1, "llama.device"));
    assert!(!telemetry.logs.iter().any(|log| log.event_name == "llama.device"));
}

/// A closed loop is faster than any exporter. What is lost is counted, and counters lose nothing.
#[test]
fn a_burst_is_counted_to_the_last_span() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let run = run("burst", "shutdown", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "decode")]);
    let telemetry = receiver.stop();
    let dropped: u64 = run.report["dropped"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(k, _)| k.starts_with("traces."))
        .map(|(_, n)| n.as_u64().unwrap())
        .sum();
    assert_eq!(telemetry.spans.len() as u64 + dropped, 200_000, "{}", run.report);
    assert!(!telemetry.spans.is_empty());
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), 200_000.0, "{}", run.report);
}

#[test]
fn a_shutdown_flushes_and_a_new_start_works() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let run = run("nested", "twice", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(run.report["delivered"], json!(true));
    assert_eq!(receiver.stop().spans.len(), 6);
}

#[test]
fn a_receiver_that_is_gone_costs_one_line_and_a_bounded_time() {
    // a port that was free a moment ago, and nobody listens on
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let start = Instant::now();
    let run = run("burst", "flush", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "decode")]);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.report["delivered"], json!(false), "a flush that failed says so");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let lines: Vec<_> = run.stderr.lines().collect();
    assert!((1..=2).contains(&lines.len()), "one line a signal: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("cannot be exported")), "{lines:?}");
}

#[test]
fn a_receiver_that_never_answers_does_not_hold_the_process() {
    let receiver = Receiver::start().unwrap();
    receiver.set_behaviour(Behaviour::Silent);
    let endpoint = receiver.http_endpoint();
    let start = Instant::now();
    let run = run("nested", "shutdown", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    assert_eq!((run.code, &run.report["delivered"]), (Some(0), &json!(false)));
    assert!(run.report["seconds"].as_f64().unwrap() < 3.5, "{}", run.report);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_wrong_variable_is_named_once() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let run =
        run("nothing", "shutdown", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "soon")]);
    assert_eq!(run.stderr, "llama-otel: OTEL_BSP_SCHEDULE_DELAY=soon: expected a whole number above 0; using 5000\n");
}
