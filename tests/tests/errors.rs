//! Errors, cancellations, deadlines, and the log: what is said of them, and what is not.

use llama_otel_tests::{Run, act, prepared};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Span;
use serde_json::{Value, json};

fn tiny(script: &str, variables: &[(&str, &str)]) -> (Run, Telemetry) {
    act(&prepared("LLAMA_OTEL_TINY"), script, variables)
}

fn failed<'t>(telemetry: &'t Telemetry, name: &str) -> &'t Span {
    let spans: Vec<_> = telemetry.spans_named(name).into_iter().filter(|span| span.failed()).collect();
    assert_eq!(spans.len(), 1, "{name}: {:?}", telemetry.spans);
    spans[0]
}

fn counted(telemetry: &Telemetry, metric: &str, operation: &str, kind: &str) -> f64 {
    let attributes = [("llama.operation", json!(operation)), ("error.type", json!(kind))];
    telemetry
        .metric(metric)
        .and_then(|m| m.point(&attributes))
        .and_then(|p| p.value)
        .map_or(0.0, |value| value.as_f64())
}

fn messages(span: &Span) -> Vec<&str> {
    let logs = span.events.iter().filter(|event| event.name == "llama.log");
    logs.map(|event| event.attributes["llama.log.message"].as_str().unwrap()).collect()
}

#[test]
fn an_abort_in_the_middle_of_a_prefill_is_an_error_and_a_cancellation() {
    // the callback is asked after every operation: the second of the batch's ubatches is stopped
    let script = "load; context n_ctx=512 n_batch=64 n_ubatch=16; decode n=16; abort after=60; decode n=64";
    let (run, telemetry) = tiny(script, &[]);
    assert_eq!(run.acts("decode")[1]["ret"], 2, "{:?}", run.events);
    let span = failed(&telemetry, "llama_decode");
    assert_eq!(span.attribute("error.type"), Some(&json!("aborted")));
    for metric in ["llama.error.count", "llama.cancellation.count"] {
        assert_eq!(counted(&telemetry, metric, "llama_decode", "aborted"), 1.0, "{metric}");
    }
    assert!(telemetry.metric("llama.timeout.count").is_none());
}

#[test]
fn a_cancelled_load_is_a_cancellation() {
    let (run, telemetry) = tiny("load mmap=0 cancel=0.3", &[]);
    assert_eq!(run.acts("load")[0]["ok"], false);
    let span = failed(&telemetry, "llama_model_load");
    assert_eq!(span.attribute("error.type"), Some(&json!("cancelled")));
    assert_eq!(span.attribute("llama.model.load.outcome"), Some(&json!("cancelled")));
    assert_eq!(counted(&telemetry, "llama.cancellation.count", "llama_model_load", "cancelled"), 1.0);
}

#[test]
fn what_passes_the_caller_s_deadline_is_counted_as_timed_out() {
    let script = "load; context n_ctx=512; decode n=8; deadline ms=60000; decode n=8; deadline ms=1; sleep ms=5; decode n=8; \
                  abort after=0; decode n=8; abort after=-1; deadline; decode n=8";
    let (run, telemetry) = tiny(script, &[]);
    let codes: Vec<_> = run.acts("decode").iter().map(|act| act["ret"].as_i64().unwrap()).collect();
    assert_eq!(codes, [0, 0, 0, 2, 0]);
    let decodes = telemetry.spans_named("llama_decode");
    let late = |span: &&Span| span.attribute("llama.deadline.exceeded") == Some(&json!(true));
    assert_eq!(decodes.iter().map(late).collect::<Vec<_>>(), [false, false, true, true, false]);
    // late but done is no error; stopped is one, and the deadline is why
    assert!(!decodes[2].failed());
    let stopped = failed(&telemetry, "llama_decode");
    assert_eq!(stopped.attribute("error.type"), Some(&json!("timeout")));
    assert_eq!(counted(&telemetry, "llama.timeout.count", "llama_decode", "timeout"), 2.0);
    assert_eq!(counted(&telemetry, "llama.error.count", "llama_decode", "timeout"), 1.0);
}

#[test]
fn a_deadline_is_seen_at_detail_metrics_too() {
    let (_, telemetry) =
        tiny("load; context n_ctx=512; deadline ms=1; sleep ms=5; decode n=8", &[("LLAMA_OTEL_DETAIL", "metrics")]);
    assert!(telemetry.spans.is_empty(), "{:?}", telemetry.spans);
    assert_eq!(counted(&telemetry, "llama.timeout.count", "llama_decode", "timeout"), 1.0);
}

#[test]
fn an_adapter_that_cannot_be_loaded_is_a_failed_span() {
    let folder = tempfile::Builder::new().prefix("hidden folder").tempdir().unwrap();
    let absent = folder.path().join("absent.gguf");
    let wrong = folder.path().join("wrong.gguf");
    std::fs::write(&wrong, b"GGUFno").unwrap();
    for path in [absent, wrong] {
        let link = std::env::temp_dir().join(format!("llama-otel-{}", std::process::id()));
        // a script's words have no spaces
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let script = format!("load; adapter path={}", link.join(path.file_name().unwrap()).display());
        let (run, telemetry) = tiny(&script, &[]);
        std::fs::remove_file(&link).unwrap();
        assert_eq!(run.acts("adapter")[0]["ok"], false);
        let span = failed(&telemetry, "llama_adapter_load");
        assert_eq!(span.attribute("error.type"), Some(&json!("load_failed")));
        assert!(!messages(span).is_empty(), "{span:?}");
        for text in messages(span).into_iter().chain([span.status.message.as_str()]) {
            assert!(!text.contains(std::env::temp_dir().to_str().unwrap()), "{text}");
        }
    }
}

#[test]
fn errors_in_the_log_are_events_of_the_span_and_records_with_its_ids() {
    let (run, telemetry) = tiny("load; context n_ctx=512; decode n=2; invalid", &[]);
    assert_eq!(run.acts("invalid")[0]["ret"], -1);
    let span = failed(&telemetry, "llama_decode");
    assert_eq!(messages(span)[0], "init: invalid token[?] = ?", "{span:?}");
    // the program's own callback had the line as llama.cpp wrote it
    assert!(run.stderr.contains("init: invalid token[0] = 1234569"), "{}", run.stderr);

    let records: Vec<_> = telemetry.logs.iter().filter(|log| log.span_id == span.span_id).collect();
    assert_eq!(records.len(), messages(span).len(), "{:?}", telemetry.logs);
    for (record, message) in records.iter().zip(messages(span)) {
        assert_eq!(record.body, Value::from(message));
        assert_eq!((record.trace_id.as_str(), record.severity_number), (span.trace_id.as_str(), 17));
        assert_eq!((record.event_name.as_str(), record.severity_text.as_str()), ("llama.log", "ERROR"));
        assert!((span.start_unix_nano..=span.end_unix_nano).contains(&record.time_unix_nano));
    }
    // llama_decode says once more that it failed when its span has ended
    assert!(
        telemetry
            .logs
            .iter()
            .any(|log| log.span_id.is_empty() && log.body == json!("llama_decode: failed to decode, ret = -1"))
    );
}

#[test]
fn without_a_log_exporter_there_are_events_and_no_records() {
    let (_, telemetry) = tiny("load; context n_ctx=512; invalid", &[("OTEL_LOGS_EXPORTER", "none")]);
    assert!(telemetry.logs.is_empty());
    assert!(!messages(failed(&telemetry, "llama_decode")).is_empty());
}

#[test]
fn without_a_trace_exporter_there_are_records_and_no_spans() {
    let variables = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
    let (_, telemetry) = tiny("load; context n_ctx=512; invalid", &variables);
    assert!(telemetry.spans.is_empty() && telemetry.metrics.is_empty());
    assert!(telemetry.logs.iter().any(|log| log.body == json!("init: invalid token[?] = ?")), "{:?}", telemetry.logs);
}

#[test]
fn a_thousand_errors_in_one_span_are_cut_to_what_a_span_may_hold() {
    // a loop of failing batches: each has its own span, and its own events only
    let script = format!("load; context n_ctx=512{}", "; invalid".repeat(1000));
    let (_, telemetry) = tiny(&script, &[]);
    let spans = telemetry.spans_named("llama_decode");
    assert_eq!(spans.len(), 1000);
    assert!(
        spans.iter().all(|span| (1..=3).contains(&span.events.len())),
        "{:?}",
        spans.iter().map(|s| s.events.len()).max()
    );
    assert_eq!(counted(&telemetry, "llama.error.count", "llama_decode", "invalid_batch"), 1000.0);
}
