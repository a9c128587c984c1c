//! Variables of `docs/configuration.md`, each against a real receiver: what it changes, and what a wrong value says.
//!
//! The same cases for each backend. Whoever includes this file has a type `Child`, what became of a program, a function
//! `run(program, arguments, variables)` that runs `scenario` or `lifecycle`, and `can_run(variables)`: whether this backend is
//! here and has what these variables ask for; false, after it has said why, skips a test.

use std::time::Duration;

use otlp_receiver::{Behaviour, Receiver, Request, Signal, Telemetry};
use serde_json::json;

use super::{Child, can_run, run};

pub type Variables<'a> = &'a [(&'a str, &'a str)];

const GRPC: Variables = &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];

/// A program that ends by itself; what the receiver got until then.
pub fn program(name: &str, arguments: &[&str], receiver: &Receiver, variables: Variables) -> Child {
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "op")];
    all.extend(variables);
    let child = run(name, arguments, &all);
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    child
}

/// The scenario `nested`, without a word on standard error.
pub fn exported(variables: Variables) -> (Telemetry, Vec<Request>) {
    scenario("nested", variables)
}

pub fn scenario(name: &str, variables: Variables) -> (Telemetry, Vec<Request>) {
    let receiver = Receiver::start().unwrap().unrecorded();
    let child = program("scenario", &[name, "exit"], &receiver, variables);
    assert_eq!(child.stderr, "", "{variables:?}");
    let requests = receiver.requests();
    (receiver.stop(), requests)
}

pub fn of(requests: &[Request], signal: Signal) -> Vec<&Request> {
    requests.iter().filter(|request| request.signal == signal).collect()
}

pub fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Each wrong value: one line, which names the variable, what was expected, and the default that is used.
#[test]
fn a_wrong_value_is_one_clear_line() {
    if !can_run(&[]) {
        return;
    }
    const NUMBER: &str = "expected a whole number above 0; using";
    const EXPORTERS: &str = "expected one of otlp, console, none; using otlp";
    const PROTOCOLS: &str = "expected one of http/protobuf, grpc; using http/protobuf";
    const COMPRESSIONS: &str = "expected one of none, gzip; using none";
    let lines: Vec<(&str, &str, String)> = vec![
        ("OTEL_SDK_DISABLED", "yes", "expected true or false; using false".into()),
        ("OTEL_TRACES_EXPORTER", "jaeger", EXPORTERS.into()),
        ("OTEL_METRICS_EXPORTER", "prometheus", EXPORTERS.into()),
        ("OTEL_LOGS_EXPORTER", "file", EXPORTERS.into()),
        ("OTEL_TRACES_SAMPLER", "xray", "expected always_on, always_off, traceidratio, or one of these behind parentbased_; using parentbased_always_on".into()),
        ("OTEL_PROPAGATORS", "b3", "expected a list of tracecontext, baggage, or none; using tracecontext,baggage".into()),
        ("OTEL_LOG_LEVEL", "loud", "expected one of none, error, warn, info, debug, verbose, all; using info".into()),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense", "expected key=value,key=value; using the others only".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon", format!("{NUMBER} 5000")),
        ("OTEL_BSP_EXPORT_TIMEOUT", "-1", format!("{NUMBER} 30000")),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", format!("{NUMBER} 8192")),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1.5", format!("{NUMBER} 512")),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1m", format!("{NUMBER} 60000")),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "never", format!("{NUMBER} 30000")),
        ("OTEL_BLRP_SCHEDULE_DELAY", "soon", format!("{NUMBER} 1000")),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "many", format!("{NUMBER} 2048")),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "0", format!("{NUMBER} 30000")),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", format!("{NUMBER} 10000")),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", format!("{NUMBER} 10000")),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "10s", format!("{NUMBER} 10000")),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "10s", format!("{NUMBER} 10000")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", PROTOCOLS.into()),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp", PROTOCOLS.into()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp", PROTOCOLS.into()),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "udp", PROTOCOLS.into()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", COMPRESSIONS.into()),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "br", COMPRESSIONS.into()),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "br", COMPRESSIONS.into()),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "br", COMPRESSIONS.into()),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1", "expected true or false; using false".into()),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both", "expected one of cumulative, delta, lowmemory; using cumulative".into()),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "best", "expected one of explicit_bucket_histogram, base2_exponential_bucket_histogram; using explicit_bucket_histogram".into()),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long", "expected a whole number; using no limit".into()),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1", "expected a whole number; using 128".into()),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long", "expected a whole number; using no limit".into()),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "few", "expected a whole number; using 128".into()),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "few", "expected a whole number; using 128".into()),
        ("LLAMA_OTEL_DETAIL", "everything", "expected one of off, metrics, request, decode, op; using request".into()),
        ("LLAMA_OTEL_CAPTURE_MODEL_PATH", "sometimes", "expected true or false; using false".into()),
        ("LLAMA_OTEL_PROPAGATE_RPC", "there", "expected true or false; using false".into()),
        ("LLAMA_OTEL_OP_CALLBACK", "2", "expected true or false; using the callback where it costs nothing".into()),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/a", "expected CLIENT_CERTIFICATE and CLIENT_KEY together; using no client certificate".into()),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "/a", "expected CLIENT_CERTIFICATE and CLIENT_KEY together; using no client certificate".into()),
    ];
    let receiver = Receiver::start().unwrap().unrecorded();
    for (name, value, rest) in lines {
        receiver.clear();
        let child = program("scenario", &["nested", "exit"], &receiver, &[(name, value)]);
        assert_eq!(child.stderr, format!("llama-otel: {name}={value}: {rest}\n"));
        assert_eq!(receiver.snapshot().spans.len(), 3, "{name}={value} does not stop the export");
    }
}

#[test]
fn a_wrong_sampler_argument_is_named() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let variables = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "half")];
    let child = program("scenario", &["nested", "exit"], &receiver, &variables);
    assert_eq!(child.stderr, "llama-otel: OTEL_TRACES_SAMPLER_ARG=half: expected a number from 0 to 1; using 1\n");
    assert_eq!(receiver.snapshot().spans.len(), 3);
}

/// The signal has nothing to send, which would go to whoever listens at the default.
#[test]
fn a_wrong_endpoint_is_named_without_its_password() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    for (signal, path) in [("TRACES", "traces"), ("LOGS", "logs")] {
        let name = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
        let variables = [(name.as_str(), "ftp://me:hunter2@collector:1"), ("OTEL_TRACES_SAMPLER", "always_off")];
        let child = program("scenario", &["nested", "exit"], &receiver, &variables);
        let expected = format!(
            "llama-otel: {name}=collector:1: expected a URL with http:// or https://; using http://localhost:4318/v1/{path}\n"
        );
        assert_eq!(child.stderr, expected);
    }
}

#[test]
fn disabled_means_nothing_at_all() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let child = program("scenario", &["nested", "flush"], &receiver, &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!((&child.report["active"], receiver.requests().len()), (&json!(false), 0));
}

#[test]
fn a_signal_s_exporter() {
    if !can_run(&[]) {
        return;
    }
    let (telemetry, requests) = exported(&[("OTEL_TRACES_EXPORTER", "none")]);
    assert_eq!((telemetry.spans.len(), of(&requests, Signal::Traces).len()), (0, 0));
    assert!(telemetry.metric("llama.token.count").is_some());
    let (telemetry, requests) = exported(&[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")]);
    assert_eq!((telemetry.spans.len(), of(&requests, Signal::Metrics).len()), (3, 0));
    let receiver = Receiver::start().unwrap().unrecorded();
    let all = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")];
    assert_eq!(program("scenario", &["nested", "flush"], &receiver, &all).report["active"], json!(false));
}

#[test]
fn the_log_level_silences() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    for (level, lines) in [("info", 1), ("warn", 1), ("error", 0), ("none", 0)] {
        let child = program(
            "scenario",
            &["nested", "exit"],
            &receiver,
            &[("OTEL_LOG_LEVEL", level), ("OTEL_BSP_SCHEDULE_DELAY", "soon")],
        );
        assert_eq!(child.stderr.lines().count(), lines, "{level}: {}", child.stderr);
    }
}

#[test]
fn a_signal_s_own_endpoint_and_protocol_win() {
    if !can_run(GRPC) {
        return;
    }
    let (spans, metrics) = (Receiver::start().unwrap().unrecorded(), Receiver::start().unwrap().unrecorded());
    let traces = format!("{}/v1/traces", spans.http_endpoint());
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &metrics.grpc_endpoint()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
    ];
    let nobody = Receiver::start().unwrap().unrecorded();
    let child = program("scenario", &["nested", "exit"], &nobody, &variables);
    assert_eq!((child.stderr.as_str(), of(&nobody.requests(), Signal::Traces).len()), ("", 0));
    let (spans, metrics) = (spans.stop(), metrics.stop());
    assert_eq!((spans.spans.len(), spans.metrics.len()), (3, 0));
    assert!(metrics.spans.is_empty() && metrics.metric("llama.token.count").is_some());
}

#[test]
fn grpc_without_a_scheme_needs_insecure() {
    if !can_run(GRPC) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.grpc_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.strip_prefix("http://").unwrap()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
    ];
    let child = run("scenario", &["nested", "exit"], &variables);
    assert_eq!((child.stderr.as_str(), receiver.snapshot().spans.len()), ("", 3));
}

/// For all signals; the value is percent-encoded, once.
const HEADERS: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=general,x-team=a%20b%2525");

/// Spans have the headers of their own, the others those for all.
fn assert_headers(requests: &[Request]) {
    for request in requests {
        let expected = if request.signal == Signal::Traces { ("traces", None) } else { ("general", Some("a b%25")) };
        assert_eq!((header(request, "api-key").unwrap(), header(request, "x-team")), expected);
    }
}

#[test]
fn headers_are_sent_and_never_shown() {
    if !can_run(&[]) {
        return;
    }
    let (_, requests) = exported(&[HEADERS, ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=traces")]);
    assert_headers(&requests);
    let receiver = Receiver::start().unwrap().unrecorded();
    let wrong = [("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2, hunter3 ,b ad=hunter4")];
    let child = program("scenario", &["nested", "exit"], &receiver, &wrong);
    let expected =
        "llama-otel: OTEL_EXPORTER_OTLP_HEADERS: expected key=value,key=value; 2 of its entries are left out\n";
    assert_eq!(child.stderr, expected);
    assert!(receiver.requests().iter().all(|request| header(request, "api-key") == Some("hunter2")));
    let wrong = [("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "hunter5")];
    let child = program("scenario", &["nested", "exit"], &receiver, &wrong);
    let expected =
        "llama-otel: OTEL_EXPORTER_OTLP_LOGS_HEADERS: expected key=value,key=value; 1 of its entries are left out\n";
    assert_eq!(child.stderr, expected);
    receiver.set_behaviour(Behaviour::Refuse { status: 401, retry_after: None });
    let child =
        program("scenario", &["nested", "exit"], &receiver, &[("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")]);
    assert!(child.stderr.contains("cannot be exported") && !child.stderr.contains("hunter"), "{}", child.stderr);
}

/// A receiver that never answers: the request is given up after the time, and the flush, which may take longer, says so.
#[test]
fn requests_are_given_up_after_their_time() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(Behaviour::Silent);
    let names = [
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
        "OTEL_BLRP_EXPORT_TIMEOUT",
    ];
    for name in names {
        // the signal that it is for is exported alone
        let (scenario, others) = match name {
            _ if name.contains("METRIC") => ("nested", ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER"]),
            _ if name.contains("LOGS") || name.contains("BLRP") => {
                ("logs", ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"])
            }
            _ => ("nested", ["OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"]),
        };
        let variables = [(name, "300"), (others[0], "none"), (others[1], "none")];
        let child = program("scenario", &[scenario, "flush"], &receiver, &variables);
        let seconds = child.report["seconds"].as_f64().unwrap();
        assert!(
            (0.25..2.9).contains(&seconds) && child.report["delivered"] == json!(false),
            "{name}: {}",
            child.report
        );
    }
}

#[test]
fn batches_and_queues_have_their_sizes() {
    if !can_run(&[]) {
        return;
    }
    let sizes = |requests: &[Request]| -> Vec<usize> {
        of(requests, Signal::Traces).iter().map(|r| spans_in(&r.body)).collect()
    };
    let (telemetry, requests) = scenario("threads", &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")]);
    assert_eq!(telemetry.spans.len(), 800);
    assert_eq!(sizes(&requests), [100; 8]);
    let (_, requests) = scenario("threads", &[("OTEL_BSP_MAX_QUEUE_SIZE", "50")]);
    assert!(!requests.is_empty() && sizes(&requests).iter().all(|n| *n <= 50), "{:?}", sizes(&requests));
}

/// Spans of an export request: the fields `resource_spans` (1), `scope_spans` (2), `spans` (2) of its protobuf.
fn spans_in(body: &[u8]) -> usize {
    fn fields(mut bytes: &[u8], number: u64) -> Vec<&[u8]> {
        fn varint(bytes: &mut &[u8]) -> Option<u64> {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let (first, rest) = bytes.split_first()?;
                *bytes = rest;
                value |= u64::from(first & 0x7f) << shift;
                if first & 0x80 == 0 {
                    return Some(value);
                }
            }
            None
        }
        let mut found = Vec::new();
        while let Some(tag) = varint(&mut bytes) {
            assert_eq!(tag & 7, 2, "messages and strings only at these levels");
            let length = varint(&mut bytes).unwrap() as usize;
            let (field, rest) = bytes.split_at(length);
            if tag >> 3 == number {
                found.push(field);
            }
            bytes = rest;
        }
        found
    }
    fields(body, 1).iter().flat_map(|resource| fields(resource, 2)).map(|scope| fields(scope, 2).len()).sum()
}

#[test]
fn what_waits_goes_in_time() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let steady = |variables: Variables| {
        receiver.clear();
        let mut all = vec![("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8192")];
        all.extend(variables);
        program("lifecycle", &["steady", "1.5", "1000"], &receiver, &all);
        let requests = receiver.requests();
        (of(&requests, Signal::Traces).len(), of(&requests, Signal::Metrics).len())
    };
    assert_eq!(steady(&[]), (1, 1), "all at the end");
    let (traces, metrics) = steady(&[("OTEL_BSP_SCHEDULE_DELAY", "100")]);
    assert!(traces >= 4 && metrics == 1, "{traces} {metrics}");
    let (traces, metrics) = steady(&[("OTEL_METRIC_EXPORT_INTERVAL", "100")]);
    assert!(traces == 1 && metrics >= 4, "{traces} {metrics}");
}

#[test]
fn limits_of_attributes() {
    if !can_run(&[]) {
        return;
    }
    for name in ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"] {
        let (telemetry, _) = exported(&[(name, "3")]);
        assert_eq!(telemetry.span("llama_model_load").unwrap().attribute("a.literal"), Some(&json!("tex")), "{name}");
    }
    for name in ["OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"] {
        let (telemetry, _) = exported(&[(name, "2")]);
        assert_eq!(telemetry.span("llama_model_load").unwrap().attributes.len(), 2, "{name}");
    }
    let (telemetry, _) = exported(&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "2"), ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")]);
    assert_eq!(telemetry.span("llama_model_load").unwrap().attributes.len(), 3, "the one for spans wins");
}

#[test]
fn the_resource() {
    if !can_run(&[]) {
        return;
    }
    let (telemetry, _) =
        exported(&[("OTEL_SERVICE_NAME", "chat"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,region=eu")]);
    assert_eq!((&telemetry.resource["service.name"], &telemetry.resource["region"]), (&json!("chat"), &json!("eu")));
}

#[test]
fn telemetry_counts_itself() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(Behaviour::Refuse { status: 400, retry_after: None });
    let endpoint = receiver.http_endpoint();
    let metrics = Receiver::start().unwrap().unrecorded();
    let of_metrics = format!("{}/v1/metrics", metrics.http_endpoint());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &of_metrics),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
        ("LLAMA_OTEL_DETAIL", "decode"),
    ];
    let child = run("lifecycle", &["steady", "1.5", "100"], &variables);
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    let telemetry = metrics.stop();
    let signal = ("llama.otel.signal", json!("traces"));
    let failed = telemetry
        .metric("llama.otel.export.duration")
        .unwrap()
        .point(&[signal.clone(), ("llama.otel.outcome", json!("error"))]);
    assert!(failed.is_some(), "durations of failed exports");
    let ok = [("llama.otel.signal", json!("metrics")), ("llama.otel.outcome", json!("ok"))];
    assert!(telemetry.metric("llama.otel.export.duration").unwrap().point(&ok).is_some());
    let dropped =
        telemetry.metric("llama.otel.dropped").unwrap().point(&[signal, ("llama.otel.reason", json!("export_failed"))]);
    assert!(dropped.unwrap().value.unwrap().as_f64() > 0.0);
    assert_eq!(telemetry.metric("llama.otel.queue.usage").unwrap().unit, "{item}");
}

/// What must not change: without a variable, and without a call, nothing runs.
#[test]
fn nothing_is_on_by_itself() {
    if !can_run(&[]) {
        return;
    }
    let child = run("scenario", &["nested", "flush"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.report["active"].clone(), child.stderr.as_str()), (json!(false), ""));
    assert!(child.time < Duration::from_secs(5));
}

/// Records of the scenario `logs`.
pub const RECORDS: usize = 9;

/// What has arrived before a program ends without a last delivery.
#[test]
fn the_log_goes_in_time() {
    if !can_run(&[]) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    for (delay, records) in [("100", RECORDS), ("30000", 0)] {
        receiver.clear();
        program("scenario", &["logs", "leave"], &receiver, &[("OTEL_BLRP_SCHEDULE_DELAY", delay)]);
        assert_eq!(receiver.snapshot().logs.len(), records, "OTEL_BLRP_SCHEDULE_DELAY={delay}");
    }
}

#[test]
fn headers_are_sent_over_grpc() {
    if !can_run(GRPC) {
        return;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.grpc_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        HEADERS,
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=traces"),
    ];
    let child = run("scenario", &["logs", "exit"], &variables);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""));
    let requests = receiver.requests();
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        assert!(!of(&requests, signal).is_empty(), "{signal:?}");
    }
    assert_headers(&requests);
}

/// Files of TLS are read where TLS is spoken, and one for all signals is named once.
#[test]
fn a_file_that_is_of_no_use_is_one_clear_line() {
    let folder = std::env::temp_dir();
    let (folder, file) = (folder.to_str().unwrap(), std::env::current_exe().unwrap());
    let file = file.to_str().unwrap();
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:9"), ("OTEL_TRACES_SAMPLER", "always_off")];
    for protocol in ["http/protobuf", "grpc"] {
        if !can_run(&[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]) {
            continue;
        }
        let said = |variables: Variables| {
            let mut all = off.to_vec();
            all.extend([("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_METRICS_EXPORTER", "none")]);
            all.extend(variables);
            let child = run("scenario", &["nothing", "exit"], &all);
            assert_eq!(child.code, Some(0), "{}", child.stderr);
            child.stderr
        };
        const ROOTS: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        const CHAIN: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
        const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
        let expected = "expected a PEM file of certificates";
        assert_eq!(
            said(&[(ROOTS, file)]),
            format!("llama-otel: {ROOTS}={file}: {expected}; using the system's certificates\n"),
            "{protocol}"
        );
        let missing = said(&[(ROOTS, "/no/such/file")]);
        let why = "but No such file or directory (os error 2)";
        if cfg!(unix) {
            assert_eq!(
                missing,
                format!("llama-otel: {ROOTS}=/no/such/file: {expected}, {why}; using the system's certificates\n")
            );
        }
        let is_folder = said(&[(ROOTS, folder)]);
        assert!(is_folder.starts_with(&format!("llama-otel: {ROOTS}={folder}: {expected}, but ")), "{is_folder}");
        assert_eq!(
            said(&[(CHAIN, file), (KEY, file)]),
            format!("llama-otel: {CHAIN}={file}: {expected}; using no client certificate\n"),
            "{protocol}"
        );
        let alone = "expected CLIENT_CERTIFICATE and CLIENT_KEY together; using no client certificate";
        assert_eq!(said(&[(KEY, file)]), format!("llama-otel: {KEY}={file}: {alone}\n"), "{protocol}");
    }
}

/// The runtime decides by what the backend has read.
#[test]
fn what_the_runtime_is_told() {
    if !can_run(&[]) {
        return;
    }
    let span = |variables: Variables| {
        let receiver = Receiver::start().unwrap().unrecorded();
        program("scenario", &["variables", "exit"], &receiver, variables);
        receiver.stop().spans.into_iter().next()
    };
    let is = |variables: Variables, key: &str| span(variables).unwrap().attribute(key).cloned();
    for (value, free, costly) in [
        ("", true, false),
        ("maybe", true, false),
        ("false", false, false),
        ("0", false, false),
        (" True ", true, true),
        ("1", true, true),
    ] {
        let variable: Variables = &[("LLAMA_OTEL_OP_CALLBACK", value)];
        let found = (is(variable, "callback.free"), is(variable, "callback.costly"));
        assert_eq!(found, (Some(json!(free)), Some(json!(costly))), "LLAMA_OTEL_OP_CALLBACK={value}");
    }
    for value in ["false", "true"] {
        let wanted = is(&[("LLAMA_OTEL_CAPTURE_MODEL_PATH", value)], "path");
        assert_eq!(wanted, Some(json!(value == "true")), "LLAMA_OTEL_CAPTURE_MODEL_PATH={value}");
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let keys = ("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user, tenant");
    for (names, has_parent, has_baggage) in
        [("", true, true), ("tracecontext,baggage", true, true), ("tracecontext", true, false), ("none", false, false)]
    {
        let span = span(&[("OTEL_PROPAGATORS", names), keys]).unwrap();
        assert_eq!(span.trace_id == TRACE, has_parent, "OTEL_PROPAGATORS={names}");
        assert_eq!(span.attribute("user").is_some(), has_baggage, "OTEL_PROPAGATORS={names}: {:?}", span.attributes);
        assert!(span.attribute("secret").is_none());
    }
    assert!(is(&[], "user").is_none(), "no entry of the baggage is exported that was not asked for");

    // the parent is sampled, and decides where it is asked
    for (sampler, argument, is_sampled) in [
        ("always_off", "1", false),
        ("parentbased_always_off", "1", true),
        ("traceidratio", "0", false),
        ("traceidratio", "1", true),
        ("parentbased_traceidratio", "0", true),
    ] {
        let span = span(&[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        assert_eq!(span.is_some(), is_sampled, "{sampler} {argument}");
    }
}
