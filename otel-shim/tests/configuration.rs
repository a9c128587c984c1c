//! Every variable of `docs/configuration.md`, each against a real receiver: what it changes, and what a wrong value says.

mod child;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use child::{Child, run};
use otlp_receiver::model::{MetricKind, Temporality};
use otlp_receiver::{Behaviour, Receiver, Request, Signal, Telemetry, Transport};
use serde_json::json;

type Variables<'a> = &'a [(&'a str, &'a str)];

/// A program that ends by itself; what the receiver got until then.
fn program(example: &str, arguments: &[&str], receiver: &Receiver, variables: Variables) -> Child {
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "op")];
    all.extend(variables);
    let child = run(example, arguments, &all);
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    child
}

/// The scenario `nested`, without a word on standard error.
fn exported(variables: Variables) -> (Telemetry, Vec<Request>) {
    scenario("nested", variables)
}

fn scenario(name: &str, variables: Variables) -> (Telemetry, Vec<Request>) {
    let receiver = Receiver::start().unwrap();
    let child = program("scenario", &[name, "exit"], &receiver, variables);
    assert_eq!(child.stderr, "", "{variables:?}");
    let requests = receiver.requests();
    (receiver.stop(), requests)
}

fn of(requests: &[Request], signal: Signal) -> Vec<&Request> {
    requests.iter().filter(|request| request.signal == signal).collect()
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Each wrong value: one line, which names the variable, what was expected, and the default that is used.
#[test]
fn a_wrong_value_is_one_clear_line() {
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
    ];
    let receiver = Receiver::start().unwrap();
    for (name, value, rest) in lines {
        receiver.clear();
        let child = program("scenario", &["nested", "exit"], &receiver, &[(name, value)]);
        assert_eq!(child.stderr, format!("llama-otel: {name}={value}: {rest}\n"));
        assert_eq!(receiver.snapshot().spans.len(), 3, "{name}={value} does not stop the export");
    }
}

#[test]
fn a_wrong_sampler_argument_is_named() {
    let receiver = Receiver::start().unwrap();
    let variables = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "half")];
    let child = program("scenario", &["nested", "exit"], &receiver, &variables);
    assert_eq!(child.stderr, "llama-otel: OTEL_TRACES_SAMPLER_ARG=half: expected a number from 0 to 1; using 1\n");
    assert_eq!(receiver.snapshot().spans.len(), 3);
}

/// The signal has nothing to send, which would go to whoever listens at the default.
#[test]
fn a_wrong_endpoint_is_named_without_its_password() {
    let receiver = Receiver::start().unwrap();
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
    let receiver = Receiver::start().unwrap();
    let child = program("scenario", &["nested", "flush"], &receiver, &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!((&child.report["active"], receiver.requests().len()), (&json!(false), 0));
}

#[test]
fn a_signal_s_exporter() {
    let (telemetry, requests) = exported(&[("OTEL_TRACES_EXPORTER", "none")]);
    assert_eq!((telemetry.spans.len(), of(&requests, Signal::Traces).len()), (0, 0));
    assert!(telemetry.metric("llama.token.count").is_some());
    let (telemetry, requests) = exported(&[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")]);
    assert_eq!((telemetry.spans.len(), of(&requests, Signal::Metrics).len()), (3, 0));
    let receiver = Receiver::start().unwrap();
    let all = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")];
    assert_eq!(program("scenario", &["nested", "flush"], &receiver, &all).report["active"], json!(false));
}

#[test]
fn the_console_is_standard_output() {
    let receiver = Receiver::start().unwrap();
    let variables =
        [("OTEL_TRACES_EXPORTER", "console"), ("OTEL_METRICS_EXPORTER", "console"), ("OTEL_LOGS_EXPORTER", "none")];
    let child = program("scenario", &["nested", "exit"], &receiver, &variables);
    assert!(
        child.stdout.contains("llama_model_load.hparams") && child.stdout.contains("llama.token.count"),
        "{}",
        child.stdout
    );
    assert_eq!(receiver.requests().len(), 0);
    let child = program("scenario", &["logs", "exit"], &receiver, &[("OTEL_LOGS_EXPORTER", "console")]);
    assert!(child.stdout.contains("before any span"), "{}", child.stdout);
    let (telemetry, requests) = (receiver.snapshot(), receiver.requests());
    assert_eq!((telemetry.spans.is_empty(), of(&requests, Signal::Logs).len()), (false, 0), "the others go as before");
}

#[test]
fn the_log_level_silences() {
    let receiver = Receiver::start().unwrap();
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
    let (spans, metrics) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let traces = format!("{}/v1/traces", spans.http_endpoint());
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &metrics.grpc_endpoint()),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
    ];
    let nobody = Receiver::start().unwrap();
    let child = program("scenario", &["nested", "exit"], &nobody, &variables);
    assert_eq!((child.stderr.as_str(), of(&nobody.requests(), Signal::Traces).len()), ("", 0));
    let (spans, metrics) = (spans.stop(), metrics.stop());
    assert_eq!((spans.spans.len(), spans.metrics.len()), (3, 0));
    assert!(metrics.spans.is_empty() && metrics.metric("llama.token.count").is_some());
}

/// Records of the scenario `logs`.
const RECORDS: usize = 9;

/// The log goes elsewhere and otherwise than spans and metrics do.
#[test]
fn the_log_has_an_endpoint_a_protocol_headers_and_compression_of_its_own() {
    let (others, log) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let own = |endpoint: &str, protocol: &str| {
        log.clear();
        others.clear();
        let variables = [
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=general"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key=log"),
            ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ];
        let child = program("scenario", &["logs", "exit"], &others, &variables);
        assert_eq!(child.stderr, "", "{protocol}");
        let requests = log.requests();
        assert_eq!(log.snapshot().logs.len(), RECORDS, "{protocol}");
        assert!(requests.iter().all(|request| request.signal == Signal::Logs), "{protocol}");
        assert!(requests.iter().all(|request| header(request, "api-key") == Some("log")), "{protocol}");
        let elsewhere = others.requests();
        assert!(!elsewhere.is_empty() && of(&elsewhere, Signal::Logs).is_empty(), "{protocol}");
        for request in &elsewhere {
            assert_eq!((header(request, "api-key"), header(request, "content-encoding")), (Some("general"), None));
        }
        requests
    };
    let requests = own(&format!("{}/v1/logs", log.http_endpoint()), "http/protobuf");
    assert!(requests.iter().all(|request| request.transport == Transport::HttpProtobuf));
    assert!(requests.iter().all(|request| header(request, "content-encoding") == Some("gzip")));
    let requests = own(&log.grpc_endpoint(), "grpc");
    assert!(requests.iter().all(|request| request.transport == Transport::Grpc));
    assert!(requests.iter().all(|request| header(request, "grpc-encoding") == Some("gzip")));
}

/// What has arrived before a program ends without a last delivery.
#[test]
fn the_log_goes_in_time() {
    let receiver = Receiver::start().unwrap();
    for (delay, records) in [("100", RECORDS), ("30000", 0)] {
        receiver.clear();
        program("scenario", &["logs", "leave"], &receiver, &[("OTEL_BLRP_SCHEDULE_DELAY", delay)]);
        assert_eq!(receiver.snapshot().logs.len(), records, "OTEL_BLRP_SCHEDULE_DELAY={delay}");
    }
}

/// One record is under way, four wait in the exporter's own queue and one before it.
#[test]
fn the_log_s_queue_has_its_size() {
    let (log, others) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    log.set_behaviour(Behaviour::Silent);
    let endpoint = format!("{}/v1/logs", log.http_endpoint());
    let variables = [("OTEL_BLRP_MAX_QUEUE_SIZE", "1"), ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint.as_str())];
    let child = program("scenario", &["logs", "shutdown"], &others, &variables);
    let dropped = |reason: &str| child.report["dropped"][format!("logs.{reason}")].as_u64().unwrap_or(0);
    let full = dropped("queue_full");
    // one less is taken if all come before the exporter has looked
    assert!((3..=4).contains(&full), "{}", child.report);
    assert_eq!((dropped("export_failed"), full + 5 + dropped("shutdown")), (5, RECORDS as u64), "{}", child.report);
    let telemetry = others.stop();
    let signal = ("llama.otel.signal", json!("logs"));
    let point = |name: &str, attributes: &[_]| Some(telemetry.metric(name)?.point(attributes)?.value?.as_f64());
    let lost = point("llama.otel.dropped", &[signal.clone(), ("llama.otel.reason", json!("queue_full"))]);
    assert_eq!(lost, Some(full as f64));
    assert_eq!(point("llama.otel.queue.usage", &[signal]), Some((RECORDS as u64 - full) as f64));
}

#[test]
fn grpc_without_a_scheme_needs_insecure() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.grpc_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.strip_prefix("http://").unwrap()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
    ];
    let child = run("scenario", &["nested", "exit"], &variables);
    assert_eq!((child.stderr.as_str(), receiver.snapshot().spans.len()), ("", 3));
}

#[test]
fn headers_are_sent_and_never_shown() {
    let (_, requests) = exported(&[
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=general,x-team=a%20b"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=traces"),
    ]);
    for request in &requests {
        let expected = if request.signal == Signal::Traces { ("traces", None) } else { ("general", Some("a b")) };
        assert_eq!((header(request, "api-key").unwrap(), header(request, "x-team")), expected);
    }
    let receiver = Receiver::start().unwrap();
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

#[test]
fn headers_are_sent_over_grpc() {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.grpc_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=general,x-team=a%20b"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=traces"),
    ];
    let child = run("scenario", &["logs", "exit"], &variables);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""));
    let requests = receiver.requests();
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        assert!(!of(&requests, signal).is_empty(), "{signal:?}");
    }
    for request in &requests {
        let expected = if request.signal == Signal::Traces { ("traces", None) } else { ("general", Some("a b")) };
        assert_eq!((header(request, "api-key").unwrap(), header(request, "x-team")), expected);
    }
}

/// Passes connections on to the address, and counts the bytes that are sent to it.
fn start_counter(to: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(to).unwrap();
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let (count, mut client, mut server) = (counted.clone(), client, server);
            thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(n @ 1..) = client.read(&mut buffer) {
                    count.fetch_add(n as u64, Ordering::Relaxed);
                    server.write_all(&buffer[..n]).unwrap();
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    (address, count)
}

#[test]
fn what_is_compressed_is_smaller_on_its_way() {
    for protocol in ["http/protobuf", "grpc"] {
        let receiver = Receiver::start().unwrap();
        let (grpc, http) = receiver.addresses();
        let share = |compression: &str| {
            receiver.clear();
            let (address, sent) = start_counter(if protocol == "grpc" { grpc } else { http });
            let endpoint = format!("http://{address}");
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", compression),
                ("LLAMA_OTEL_DETAIL", "op"),
            ];
            let child = run("scenario", &["threads", "exit"], &variables);
            assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""));
            assert_eq!(receiver.snapshot().spans.len(), 800);
            let content: usize = receiver.requests().iter().map(|request| request.body.len()).sum();
            sent.load(Ordering::Relaxed) as f64 / content as f64
        };
        let (plain, compressed) = (share("none"), share("gzip"));
        assert!(plain >= 1.0 && compressed < 0.5, "{protocol}: {plain} {compressed} of the content");
    }
}

#[test]
fn compression_is_a_signal_s_choice() {
    let (_, requests) =
        exported(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none")]);
    let encodings =
        |signal| of(&requests, signal).iter().map(|request| header(request, "content-encoding")).collect::<Vec<_>>();
    assert_eq!((encodings(Signal::Traces), encodings(Signal::Metrics)), (vec![Some("gzip")], vec![None]));
}

/// A receiver that never answers: the request is given up after the time, and the flush, which may take longer, says so.
#[test]
fn requests_are_given_up_after_their_time() {
    let receiver = Receiver::start().unwrap();
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
    let receiver = Receiver::start().unwrap();
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
fn temporality_and_histograms() {
    let batch_size = |variables: Variables| exported(variables).0.metric("llama.decode.batch.size").unwrap().clone();
    let tokens = |variables: Variables| exported(variables).0.metric("llama.token.count").unwrap().temporality;
    const PREFERENCE: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    assert_eq!(tokens(&[]), Temporality::Cumulative);
    for preference in ["delta", "lowmemory"] {
        assert_eq!(tokens(&[(PREFERENCE, preference)]), Temporality::Delta, "{preference}");
    }
    assert_eq!(batch_size(&[]).kind, MetricKind::Histogram);
    let exponential = batch_size(&[(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "base2_exponential_bucket_histogram",
    )]);
    assert_eq!(
        (exponential.kind, exponential.count(), exponential.latest()[0].mean()),
        (MetricKind::ExponentialHistogram, 1, Some(12.0))
    );
}

#[test]
fn limits_of_spans() {
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
    let links = |variables: Variables| {
        let receiver = Receiver::start().unwrap();
        program("embedding", &["sequences"], &receiver, variables);
        receiver.stop().spans_named("llama_generation").iter().map(|span| span.links.len()).max()
    };
    assert!(links(&[]) > Some(0));
    assert_eq!(links(&[("OTEL_SPAN_LINK_COUNT_LIMIT", "0")]), Some(0));
}

#[test]
fn the_resource() {
    let (telemetry, _) =
        exported(&[("OTEL_SERVICE_NAME", "chat"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,region=eu")]);
    assert_eq!((&telemetry.resource["service.name"], &telemetry.resource["region"]), (&json!("chat"), &json!("eu")));
}

#[test]
fn telemetry_counts_itself() {
    let receiver = Receiver::start().unwrap();
    receiver.set_behaviour(Behaviour::Refuse { status: 400, retry_after: None });
    let endpoint = receiver.http_endpoint();
    let metrics = Receiver::start().unwrap();
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
    let child = run("scenario", &["nested", "flush"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.report["active"].clone(), child.stderr.as_str()), (json!(false), ""));
    assert!(child.time < Duration::from_secs(5));
}
