//! Every variable of `docs/configuration.md`, each against a real receiver: what it changes, and what a wrong value says.

mod child;

#[path = "cases/configuration.rs"]
mod cases;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use cases::{RECORDS, Variables, exported, header, of, program};
use child::{Child, run};
use otlp_receiver::model::{MetricKind, Temporality};
use otlp_receiver::{Behaviour, Receiver, Signal, Transport};
use serde_json::json;

/// Cargo builds the examples with these tests.
fn can_run(_: Variables) -> bool {
    true
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
fn limits_of_links() {
    let links = |variables: Variables| {
        let receiver = Receiver::start().unwrap();
        program("embedding", &["sequences"], &receiver, variables);
        receiver.stop().spans_named("llama_generation").iter().map(|span| span.links.len()).max()
    };
    assert!(links(&[]) > Some(0));
    assert_eq!(links(&[("OTEL_SPAN_LINK_COUNT_LIMIT", "0")]), Some(0));
}
