//! The HTTP side, spoken to byte by byte: encodings, malformed bodies, faults, the end.

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_receiver::{Behaviour, Receiver, Telemetry, Transport};
use prost::Message;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Posts a body and returns the whole response; empty if the connection was closed first.
fn post(receiver: &Receiver, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let endpoint = receiver.http_endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut response = Vec::new();
    // A reset or a time-out is an answer too: nothing more comes.
    let _ = stream.read_to_end(&mut response);
    response
}

fn status(response: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(response);
    text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

const PROTOBUF: &str = "content-type: application/x-protobuf";
const JSON: &str = "content-type: application/json; charset=utf-8";

fn one_span() -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "one".into(),
        start_time_unix_nano: 5,
        end_time_unix_nano: 6,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

#[test]
fn malformed_bodies_are_refused_with_400_and_kept() {
    let receiver = Receiver::start().unwrap();
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        assert_eq!(status(&post(&receiver, path, &[PROTOBUF], b"\xffnot protobuf")), 400);
        assert_eq!(status(&post(&receiver, path, &[JSON], b"{\"resource")), 400);
        let gzip = ["content-encoding: gzip", PROTOBUF];
        assert_eq!(status(&post(&receiver, path, &gzip, b"not gzip")), 400);
    }
    let mut truncated = one_span().encode_to_vec();
    truncated.pop();
    assert_eq!(status(&post(&receiver, "/v1/traces", &[PROTOBUF], &truncated)), 400);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 10);
    assert!(requests.iter().all(|request| !request.accepted));
    assert!(requests[0].contains("not protobuf"));
    assert_eq!(receiver.stop(), Telemetry::default());
}

#[test]
fn other_types_encodings_and_paths_are_refused() {
    let receiver = Receiver::start().unwrap();
    let body = one_span().encode_to_vec();
    assert_eq!(status(&post(&receiver, "/v1/traces", &["content-type: text/plain"], &body)), 415);
    assert_eq!(status(&post(&receiver, "/v1/traces", &[], &body)), 415);
    let zstd = ["content-encoding: zstd", PROTOBUF];
    assert_eq!(status(&post(&receiver, "/v1/traces", &zstd, &body)), 415);
    assert_eq!(status(&post(&receiver, "/v1/profiles", &[PROTOBUF], &body)), 404);
    assert_eq!(receiver.stop(), Telemetry::default());
}

#[test]
fn json_is_accepted_and_equals_protobuf() {
    let receiver = Receiver::start().unwrap();
    let response = post(&receiver, "/v1/traces", &[PROTOBUF], &one_span().encode_to_vec());
    assert_eq!(status(&response), 200);
    let from_protobuf = receiver.snapshot();
    receiver.clear();
    let json = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{
        "traceId": "01010101010101010101010101010101", "spanId": "0202020202020202",
        "name": "one", "startTimeUnixNano": "5", "endTimeUnixNano": "6",
    }] }] }] });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(json.to_string().as_bytes()).unwrap();
    let headers = [JSON, "content-encoding: gzip"];
    let response = post(&receiver, "/v1/traces", &headers, &gzip.finish().unwrap());
    assert_eq!(status(&response), 200);
    assert!(response.ends_with(b"\r\n\r\n{}"), "a JSON answer to a JSON request");
    assert_eq!(receiver.requests()[0].transport, Transport::HttpJson);
    assert_eq!(receiver.snapshot(), from_protobuf);
    assert_eq!(from_protobuf.spans.len(), 1);
}

#[test]
fn json_metrics_and_logs_are_read() {
    let receiver = Receiver::start().unwrap();
    let metrics = json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [{
        "name": "m", "unit": "By",
        "gauge": { "dataPoints": [{ "timeUnixNano": "7", "asInt": "12" }] },
    }] }] }] });
    let response = post(&receiver, "/v1/metrics", &[JSON], metrics.to_string().as_bytes());
    assert_eq!(status(&response), 200);
    let logs = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{
        "timeUnixNano": "8", "severityNumber": 17, "body": { "stringValue": "no slot" },
    }] }] }] });
    let response = post(&receiver, "/v1/logs", &[JSON], logs.to_string().as_bytes());
    assert_eq!(status(&response), 200);
    let telemetry = receiver.stop();
    assert_eq!(telemetry.metric("m").unwrap().total(), 12.0);
    assert_eq!(telemetry.logs[0].body, json!("no slot"));
    assert_eq!((telemetry.logs[0].time_unix_nano, telemetry.logs[0].severity_number), (8, 17));
}

#[test]
fn faults_look_as_they_are_named() {
    let receiver = Receiver::start().unwrap();
    let body = one_span().encode_to_vec();
    let send = || post(&receiver, "/v1/traces", &[PROTOBUF], &body);

    let retry_after = Some(Duration::from_secs(3));
    receiver.set_behaviour(Behaviour::Refuse { status: 503, retry_after });
    let response = send();
    assert_eq!(status(&response), 503);
    assert!(String::from_utf8_lossy(&response).contains("retry-after: 3\r\n"));

    receiver.set_behaviour(Behaviour::Close);
    assert_eq!(send(), b"");

    receiver.set_behaviour(Behaviour::Garbage);
    let response = send();
    assert!(!response.is_empty() && !response.starts_with(b"HTTP/"));
    let meant: Vec<u8> = response.iter().map(|byte| !byte).collect();
    assert_eq!(status(&meant), 503, "no success, should the fault end before the answer leaves");

    receiver.set_behaviour(Behaviour::Silent);
    let start = Instant::now();
    assert_eq!(send(), b"");
    assert!(start.elapsed() >= Duration::from_millis(900), "the client had to give up");

    receiver.set_behaviour(Behaviour::Accept);
    assert_eq!(status(&send()), 200);
    assert_eq!(receiver.requests().len(), 5);
    assert_eq!(receiver.stop().spans.len(), 1);
}

#[test]
fn listens_on_loopback_only_and_stops_when_dropped() {
    let receiver = Receiver::start().unwrap();
    let endpoints = [receiver.grpc_endpoint(), receiver.http_endpoint()];
    assert_ne!(endpoints[0], endpoints[1]);
    let addresses = endpoints.map(|endpoint| endpoint.strip_prefix("http://").unwrap().to_owned());
    for address in &addresses {
        assert!(address.starts_with("127.0.0.1:"));
        TcpStream::connect(address).unwrap();
    }
    drop(receiver);
    for address in &addresses {
        assert!(TcpStream::connect(address).is_err(), "{address} is still open");
    }
}
