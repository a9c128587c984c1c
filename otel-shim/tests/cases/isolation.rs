//! A receiver with a fault, and the program that exports to it: it does not wait, its memory stays, what it loses is
//! counted by reason, it says so in a line, and when the receiver is well again the data flows.
//!
//! The same cases for each backend. Whoever includes this file has a type `Child`, what became of a program, and a function
//! `lifecycle(arguments, variables)` that runs one; `None` from it, after it has said why, skips a test.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use otlp_receiver::{Behaviour, Receiver, Telemetry};
use serde_json::json;

use super::{Child, lifecycle};

/// Seconds with the fault, and seconds of the program's life.
const SICK: f64 = 2.5;
const LIFE: &str = "5";
/// Spans a second, for so long that every queue in the way is full.
const RATE: &str = "800";
const TIMEOUT_MS: &str = "1000";

/// What a receiver does with the addresses that it listens on, gRPC first.
pub struct Case {
    pub receiver: Option<Receiver>,
    pub addresses: (SocketAddr, SocketAddr),
    /// A file of the certificates that are trusted, if TLS is spoken.
    pub trusted: Option<String>,
    /// Makes it well, or lets another take its place.
    pub recover: Box<dyn FnOnce(Option<Receiver>) -> Receiver + Send>,
}

fn behaves(behaviour: Behaviour) -> Case {
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(behaviour);
    let recover = |receiver: Option<Receiver>| {
        let receiver = receiver.unwrap();
        receiver.set_behaviour(Behaviour::Accept);
        receiver
    };
    Case { addresses: receiver.addresses(), receiver: Some(receiver), trusted: None, recover: Box::new(recover) }
}

fn endpoint(host: &str, case: &Case, protocol: &str) -> String {
    let port = if protocol == "grpc" { case.addresses.0.port() } else { case.addresses.1.port() };
    format!("{}://{host}:{port}", if case.trusted.is_some() { "https" } else { "http" })
}

fn live(host: &str, protocol: &'static str, case: Case) -> Option<(Child, Telemetry, u64)> {
    let (endpoint, trusted) = (endpoint(host, &case, protocol), case.trusted);
    let program = thread::spawn(move || {
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT_MS),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "256"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "128"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "300"),
            ("LLAMA_OTEL_DETAIL", "decode"),
        ];
        variables.extend(trusted.as_deref().map(|path| ("OTEL_EXPORTER_OTLP_CERTIFICATE", path)));
        lifecycle(&["steady", LIFE, RATE], &variables)
    });
    thread::sleep(Duration::from_secs_f64(SICK));
    let receiver = (case.recover)(case.receiver);
    // what is sent from now on, but for an export that is under way and one that waits for a connection
    let well = SystemTime::now() + Duration::from_secs(1);
    let child = program.join().unwrap()?;
    Some((child, receiver.stop(), well.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64))
}

pub fn survives(name: &str, host: &str, case: impl Fn() -> Case + Sync) {
    thread::scope(|scope| {
        for protocol in ["http/protobuf", "grpc"] {
            let case = case();
            scope.spawn(move || {
                let shown = format!("{name} over {protocol}");
                let Some((child, telemetry, well)) = live(host, protocol, case) else { return };
                check(&shown, &child, &telemetry, well);
                // what was accepted after the program had given up counts twice
                let spans = child.report["spans"].as_u64().unwrap();
                let accounted = telemetry.spans.len() as u64 + dropped_spans(&child);
                match name {
                    "one byte a second" | "slow" => assert!(accounted >= spans, "{shown}: {accounted} of {spans}"),
                    "gone for a while" => {} // what the one before received went with it
                    _ => assert_eq!(accounted, spans, "{shown}: {}", child.report),
                }
            });
        }
    });
}

/// Spans that were not delivered, by the program's own count.
fn dropped_spans(child: &Child) -> u64 {
    let all = child.report["dropped"].as_object().into_iter().flatten();
    all.filter(|(name, _)| name.starts_with("traces.")).filter_map(|(_, n)| n.as_u64()).sum()
}

fn check(shown: &str, child: &Child, telemetry: &Telemetry, well: u64) {
    assert_eq!(child.code, Some(0), "{shown}: {}", child.stderr);
    let report = &child.report;
    assert!(dropped_spans(child) > 0, "{shown}: the fault was felt: {report}");
    let longest = report["longest_seconds"].as_f64().unwrap();
    assert!(longest < 0.9, "{shown}: nobody waits for a receiver: {longest} s for 100 decodes");

    let resident: Vec<u64> = report["resident"].as_array().unwrap().iter().filter_map(|n| n.as_u64()).collect();
    let grown = resident.iter().max().unwrap() - resident.first().unwrap();
    assert!(grown <= 16 << 20, "{shown}: grew by {grown} bytes: {resident:?}");

    let lines: Vec<_> = child.stderr.lines().collect();
    let says = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert!((1..=2).contains(&says("cannot be exported")), "{shown}: one line a signal: {lines:?}");
    assert!((1..=2).contains(&says("are exported again")), "{shown}: one line a signal: {lines:?}");
    assert!(lines.len() <= 4, "{shown}: {lines:?}");

    assert!(telemetry.spans.iter().any(|span| span.start_unix_nano > well), "{shown}: no data after the recovery");
    let tokens = telemetry.metric("llama.token.count").unwrap().total();
    assert_eq!(tokens, report["spans"].as_f64().unwrap(), "{shown}: counters lose nothing");
    let dropped = telemetry.metric("llama.otel.dropped").unwrap();
    let points = dropped.latest();
    let of_spans = points.iter().filter(|point| point.attributes.get("llama.otel.signal") == Some(&json!("traces")));
    let reasons: Vec<_> = of_spans.filter_map(|point| point.attributes.get("llama.otel.reason")?.as_str()).collect();
    let expected = |reason: &&str| matches!(*reason, "queue_full" | "export_failed");
    assert!(!reasons.is_empty() && reasons.iter().all(expected), "{shown}: {points:?}");
    assert_eq!(report["delivered"], json!(false), "{shown}: a shutdown says that something was lost before");
    assert!(report["shutdown_seconds"].as_f64().unwrap() < 5.5, "{shown}: {report}");
}

/// Two addresses that were free a moment ago.
fn free_addresses(host: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (grpc, http) = (TcpListener::bind((host, 0)).ok()?, TcpListener::bind((host, 0)).ok()?);
    Some((grpc.local_addr().ok()?, http.local_addr().ok()?))
}

/// A receiver on addresses that were free: what has taken one since, such as a connection of another test, gives it back soon.
fn start_on(grpc: SocketAddr, http: SocketAddr) -> Receiver {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match Receiver::start_on(grpc, http) {
            Ok(receiver) => return receiver.unrecorded(),
            Err(error) if Instant::now() > end => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn comes_later(addresses: (SocketAddr, SocketAddr)) -> Case {
    Case { receiver: None, addresses, trusted: None, recover: Box::new(move |_| start_on(addresses.0, addresses.1)) }
}

#[test]
fn a_receiver_that_is_absent_and_comes() {
    survives("absent", "127.0.0.1", || comes_later(free_addresses("127.0.0.1").unwrap()));
}

#[test]
fn a_receiver_that_disappears_and_returns() {
    survives("gone for a while", "127.0.0.1", || {
        let receiver = Receiver::start().unwrap().unrecorded();
        let addresses = receiver.addresses();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            drop(receiver);
        });
        comes_later(addresses)
    });
}

/// A name whose first address is left and whose second one is taken, as after a move of the receiver.
#[test]
fn a_receiver_that_changes_its_address() {
    if free_addresses("::1").is_none() {
        println!("SKIP: there is no IPv6 loopback, so `localhost` has one address only");
        return;
    }
    survives("moved", "localhost", || {
        let (grpc, http) = free_addresses("::1").unwrap();
        let receiver = start_on(grpc, http);
        receiver.set_behaviour(Behaviour::Refuse { status: 503, retry_after: None });
        let there = move |old: Option<Receiver>| {
            drop(old);
            let here = |address: SocketAddr| SocketAddr::from(([127, 0, 0, 1], address.port()));
            start_on(here(grpc), here(http))
        };
        Case { receiver: Some(receiver), addresses: (grpc, http), trusted: None, recover: Box::new(there) }
    });
}

#[test]
fn a_receiver_that_refuses() {
    for status in [429, 500, 503] {
        survives(&status.to_string(), "127.0.0.1", || {
            behaves(Behaviour::Refuse { status, retry_after: Some(Duration::from_secs(1)) })
        });
    }
}

#[test]
fn a_receiver_that_accepts_and_is_silent() {
    survives("silent", "127.0.0.1", || behaves(Behaviour::Silent));
}

#[test]
fn a_receiver_that_is_slow() {
    survives("slow", "127.0.0.1", || behaves(Behaviour::Slow(Duration::from_millis(1500))));
}

#[test]
fn a_receiver_that_answers_one_byte_a_second() {
    survives("one byte a second", "127.0.0.1", || behaves(Behaviour::Trickle));
}

#[test]
fn a_receiver_that_closes_in_the_middle() {
    survives("closes", "127.0.0.1", || behaves(Behaviour::Close));
}

#[test]
fn a_receiver_that_talks_garbage() {
    survives("garbage", "127.0.0.1", || behaves(Behaviour::Garbage));
}

/// The same without a pause: as many spans as the thread can make, and a receiver that is not there.
#[test]
fn memory_is_bounded_when_everything_is_lost() {
    let (_, http) = free_addresses("127.0.0.1").unwrap();
    let endpoint = format!("http://{http}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    let Some(child) = lifecycle(&["steady", "2", "0"], &variables) else { return };
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    assert_eq!(child.report["delivered"], json!(false));
    assert_eq!(dropped_spans(&child), child.report["spans"].as_u64().unwrap(), "all of it: {}", child.report);
    let resident: Vec<u64> = child.report["resident"].as_array().unwrap().iter().filter_map(|n| n.as_u64()).collect();
    let grown = resident.iter().max().unwrap() - resident.first().unwrap();
    assert!(grown <= 16 << 20, "grew by {grown} bytes: {resident:?}");
    assert!(child.time < Duration::from_secs(15), "{:?}", child.time);
}
