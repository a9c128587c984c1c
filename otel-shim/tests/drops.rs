//! What is lost is counted by the reason that `docs/configuration.md` names, by the program and in `llama.otel.dropped`:
//! each reason provoked, and everything that was recorded accounted for.

mod child;

use std::time::Duration;

use child::{Child, run};
use otlp_receiver::{Behaviour, Receiver, Telemetry};
use serde_json::json;

/// Runs a mode of `examples/lifecycle.rs`, whose spans meet the behaviour and whose metrics a receiver that is well.
fn lossy(behaviour: Behaviour, arguments: &[&str], variables: &[(&str, &str)]) -> (Child, Telemetry, Telemetry) {
    let (spans, metrics) = (Receiver::start().unwrap().unrecorded(), Receiver::start().unwrap().unrecorded());
    spans.set_behaviour(behaviour);
    let (to_spans, to_metrics) = (spans.http_endpoint(), format!("{}/v1/metrics", metrics.http_endpoint()));
    let mut all = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", to_spans.as_str()),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", to_metrics.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("LLAMA_OTEL_DETAIL", "decode"),
    ];
    all.extend(variables);
    let child = run("lifecycle", arguments, &all);
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    (child, spans.stop(), metrics.stop())
}

/// Lost spans by the program's own count.
fn counted(child: &Child, reason: &str) -> u64 {
    child.report["dropped"][format!("traces.{reason}")].as_u64().unwrap_or(0)
}

/// The same as it was exported last.
fn exported(metrics: &Telemetry, reason: &str) -> u64 {
    let attributes = [("llama.otel.signal", json!("traces")), ("llama.otel.reason", json!(reason))];
    let point = metrics.metric("llama.otel.dropped").and_then(|metric| metric.point(&attributes));
    point.and_then(|point| point.value).map_or(0, |value| value.as_f64() as u64)
}

/// What arrived and what was lost is what was recorded, and what was lost has one of these reasons.
fn accounted(child: &Child, spans: &Telemetry, reasons: &[&str]) {
    let lost: u64 = reasons.iter().map(|reason| counted(child, reason)).sum();
    assert_eq!(spans.spans.len() as u64 + lost, child.report["spans"].as_u64().unwrap(), "{}", child.report);
}

#[test]
fn a_thread_that_records_faster_than_it_is_read() {
    let (child, spans, metrics) = lossy(Behaviour::Accept, &["steady", "0.5", "0"], &[]);
    assert!(counted(&child, "ring_full") > 0, "{}", child.report);
    assert_eq!(exported(&metrics, "ring_full"), counted(&child, "ring_full"));
    accounted(&child, &spans, &["ring_full", "queue_full"]);
}

#[test]
fn more_threads_than_there_is_memory_for_rings() {
    let (child, spans, metrics) = lossy(Behaviour::Accept, &["crowd", "40"], &[]);
    let lost = counted(&child, "thread_limit");
    assert!(lost > 0 && lost < 400 && lost.is_multiple_of(10), "whole threads, not all of them: {}", child.report);
    assert_eq!(exported(&metrics, "thread_limit"), lost);
    accounted(&child, &spans, &["thread_limit"]);
    assert_eq!(child.report["delivered"], json!(true), "what was taken arrived");
}

/// One request is under way for ever and four wait behind it, so that the queue is full from then on.
#[test]
fn a_receiver_that_is_too_slow() {
    let sizes = [("OTEL_BSP_MAX_QUEUE_SIZE", "50"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")];
    let (child, spans, metrics) = lossy(Behaviour::Silent, &["steady", "1", "500"], &sizes);
    assert!(counted(&child, "queue_full") > 0, "{}", child.report);
    assert_eq!(exported(&metrics, "queue_full"), counted(&child, "queue_full"));
    accounted(&child, &spans, &["queue_full", "export_failed", "shutdown"]);
    assert_eq!(counted(&child, "export_failed"), 50, "five batches: {}", child.report);
    assert_eq!(counted(&child, "shutdown"), 50, "and the queue: {}", child.report);
    let usage = |signal: &str| metrics.metric("llama.otel.queue.usage")?.point(&[("llama.otel.signal", json!(signal))]);
    let values = ["traces", "logs", "metrics"].map(|signal| usage(signal).and_then(|point| point.value));
    assert_eq!(values.map(|value| value.map(|value| value.as_f64())), [Some(100.0), Some(0.0), Some(0.0)]);
}

/// Spans that cannot go do not keep the log and the metrics, whose receiver is well, from their last delivery.
#[test]
fn one_signal_does_not_wait_for_the_receiver_of_another() {
    let (spans, others) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    spans.set_behaviour(Behaviour::Silent);
    let (to_spans, to_others) = (format!("{}/v1/traces", spans.http_endpoint()), others.http_endpoint());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", to_others.as_str()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", to_spans.as_str()),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
    ];
    let child = run("scenario", &["failing", "shutdown"], &variables);
    assert!(counted(&child, "shutdown") > 0, "spans wait: {}", child.report);
    let others = others.stop();
    assert!(!others.logs.is_empty() && !others.metrics.is_empty(), "{}", child.report);
    let lost = child.report["dropped"].as_object().unwrap();
    assert!(lost.keys().all(|name| name.starts_with("traces.")), "{}", child.report);
}

/// Collections wait for a receiver that is slow; the last one, with the final sums, goes when there is room again.
#[test]
fn a_flush_waits_for_room_for_the_metrics() {
    let receiver = Receiver::start().unwrap();
    receiver.set_behaviour(Behaviour::Slow(Duration::from_millis(600)));
    let endpoint = receiver.http_endpoint();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "20"),
        ("LLAMA_OTEL_DETAIL", "decode"),
    ];
    let child = run("lifecycle", &["steady", "1", "2000"], &variables);
    assert_eq!(child.report["delivered"], json!(true), "{}", child.report);
    let tokens = receiver.stop().metric("llama.token.count").unwrap().total();
    assert_eq!(Some(tokens), child.report["spans"].as_f64(), "{}", child.report);
}

#[test]
fn a_receiver_that_refuses() {
    let refuse = Behaviour::Refuse { status: 400, retry_after: None };
    let (child, spans, metrics) = lossy(refuse, &["steady", "1", "500"], &[("OTEL_BSP_SCHEDULE_DELAY", "50")]);
    let (counted, exported) = (counted(&child, "export_failed"), exported(&metrics, "export_failed"));
    assert_eq!(Some(counted), child.report["spans"].as_u64(), "all of it: {}", child.report);
    assert!((1..=counted).contains(&exported), "{exported} of {counted}: the last ones fail after the last export");
    assert_eq!(spans.spans.len(), 0);
}

#[test]
fn what_waits_when_telemetry_ends() {
    let (child, spans, metrics) = lossy(Behaviour::Accept, &["shut-down-while-off"], &[]);
    assert_eq!(child.report["delivered"], json!(false), "{}", child.report);
    assert_eq!(counted(&child, "shutdown"), 10, "{}", child.report);
    assert_eq!((&child.report["on"], &child.report["told"]), (&json!(true), &json!(true)), "{}", child.report);
    assert_eq!(exported(&metrics, "shutdown"), 10, "by the next life");
    accounted(&child, &spans, &["shutdown"]);
    assert!(child.time < Duration::from_secs(5), "{:?}", child.time);
}
