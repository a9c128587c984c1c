//! Every code that `llama_decode` and `llama_encode` can be made to return, and exceptions that leave them: what a device fails
//! with, what a batch is refused for, a cache that is full. What the real library returned is what is exported.

use llama_otel_tests::programs::{Backend, observe};
use llama_otel_tests::{number, prepared};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Span;
use serde_json::{Value, json};
use tiny_gguf::TinyEncoder;

/// What is exported of a return code; null: an exception.
fn status(ret: &Value) -> &'static str {
    match ret.as_i64() {
        Some(0) => "ok",
        Some(1) => "no_kv_slot",
        Some(2) => "aborted",
        Some(-1) => "invalid_batch",
        Some(-2) => "alloc_failed",
        Some(-3) => "compute_failed",
        Some(other) => panic!("{other} is not documented"),
        None => "exception",
    }
}

/// What the program tried, and what was exported; `None` where the program was not built.
fn failing(detail: &str) -> Option<(Vec<Value>, Telemetry)> {
    let folder = tempfile::tempdir().unwrap();
    let encoder = folder.path().join("encoder.gguf");
    TinyEncoder::default().write(&encoder).unwrap();
    let model = prepared("LLAMA_OTEL_TINY");
    let args = [model.to_str().unwrap(), encoder.to_str().unwrap()];
    let (ended, telemetry) = observe(Backend::Rust, "failing", &args, &[("LLAMA_OTEL_DETAIL", detail)])?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Some((ended.report["attempts"].as_array().unwrap().clone(), telemetry))
}

/// The attempts of this call, beside the spans of its name, one for one.
fn matched<'a>(
    attempts: &'a [Value],
    telemetry: &'a Telemetry,
    call: &str,
) -> impl Iterator<Item = (&'a str, &'a Value, &'a Span)> {
    let of_call: Vec<_> = attempts.iter().filter(|attempt| attempt["call"] == call).collect();
    let spans = telemetry.spans_named(call);
    assert_eq!(spans.len(), of_call.len(), "{call}: {spans:?}");
    of_call.into_iter().zip(spans).map(|(attempt, span)| (attempt["what"].as_str().unwrap(), &attempt["ret"], span))
}

fn counted(telemetry: &Telemetry, metric: &str, operation: &str, kind: &str) -> f64 {
    let attributes = [("llama.operation", json!(operation)), ("error.type", json!(kind))];
    let point = telemetry.metric(metric).and_then(|metric| metric.point(&attributes));
    point.and_then(|point| point.value).map_or(0.0, |value| value.as_f64())
}

fn check(what: &str, ret: &Value, span: &Span) {
    let expected = status(ret);
    let said = if expected == "ok" { None } else { Some(json!(expected)) };
    assert_eq!(span.attribute("error.type"), said.as_ref(), "{what}: {span:?}");
    assert_eq!(span.failed(), said.is_some(), "{what}");
    assert_eq!(span.status.message.is_empty(), said.is_none(), "{what}");
    // a batch that was refused before llama.cpp knew its tokens has no status but the error's
    let exported = span.attribute("llama.decode.status").and_then(Value::as_str);
    assert_eq!(exported, Some(expected), "{what}");
    // the error lines that llama.cpp wrote about it
    let logs: Vec<_> = span.events.iter().filter(|event| event.name == "llama.log").collect();
    let explained = !["ok", "no_kv_slot", "exception"].contains(&expected);
    assert_eq!(logs.is_empty(), !explained, "{what}: {logs:?}");
}

#[test]
fn every_code_of_a_decode_is_exported_as_what_it_is() {
    let Some((attempts, telemetry)) = failing("decode") else { return };
    // the last is of the encoder: see below
    let n_decodes = attempts.iter().filter(|attempt| attempt["call"] == "llama_decode").count() - 1;
    let mut seen: Vec<&str> = Vec::new();
    for (what, ret, span) in matched(&attempts, &telemetry, "llama_decode").take(n_decodes) {
        check(what, ret, span);
        seen.push(status(ret));
        match what {
            "device failed" | "device failed in the second ubatch" => assert_eq!(ret, &json!(-3), "{what}"),
            "device has no memory" => assert_eq!(ret, &json!(-2), "{what}"),
            "device aborted" => assert_eq!(ret, &json!(2), "{what}"),
            "device threw" => assert_eq!(ret, &Value::Null, "{what}"),
            "no slot" => assert_eq!(ret, &json!(1), "{what}"),
            "ok" => assert_eq!(ret, &json!(0), "{what}"),
            _ => assert_eq!(ret, &json!(-1), "{what}"),
        }
        if what.starts_with("device failed") {
            let message = "failed to compute graph, compute status: -1";
            let has = |span: &Span| {
                let said = span.events.iter().filter_map(|event| event.attributes.get("llama.log.message")?.as_str());
                said.into_iter().any(|text| text.contains(message))
            };
            assert!(has(span), "{:?}", span.events);
            let n_ubatches = if what.contains("second") { 2.0 } else { 1.0 };
            assert_eq!(number(span, "llama.batch.n_ubatches"), n_ubatches, "{what}");
        }
    }
    let refused =
        ["no tokens", "no such token", "no such sequence", "gap in the positions", "more outputs than a sampler takes"];
    assert!(refused.iter().all(|what| attempts.iter().any(|attempt| attempt["what"] == *what)), "{attempts:?}");
    for kind in ["no_kv_slot", "aborted", "invalid_batch", "alloc_failed", "compute_failed", "exception"] {
        let times = seen.iter().filter(|status| **status == kind).count() as f64;
        assert!(times > 0.0, "{kind} was not tried");
        assert_eq!(counted(&telemetry, "llama.error.count", "llama_decode", kind), times, "{kind}");
    }
    // a batch that failed is not measured again as one that succeeded, when its context is waited for; one that was refused
    // before llama.cpp counted its tokens took no time
    let durations = telemetry.metric("llama.decode.duration").unwrap().latest();
    let measured = |kind: &str| {
        let of_kind = durations.iter().filter(|point| point.attributes["llama.decode.status"] == json!(kind));
        of_kind.map(|point| point.count.unwrap()).sum::<u64>()
    };
    for kind in ["ok", "no_kv_slot", "aborted", "alloc_failed", "compute_failed", "exception"] {
        assert_eq!(
            measured(kind),
            seen.iter().filter(|status| **status == kind).count() as u64,
            "{kind}: {durations:?}"
        );
    }
    assert_eq!(counted(&telemetry, "llama.cancellation.count", "llama_decode", "aborted"), 1.0);

    // llama.cpp takes the cells of a physical batch that failed back, and keeps those that were computed before it
    let decodes = telemetry.spans_named("llama_decode");
    let used = |what: &str, after: usize| {
        let at = attempts.iter().position(|attempt| attempt["what"] == what).unwrap();
        number(decodes[at + after], "llama.kv_cache.cells.used")
    };
    assert_eq!((used("ok", 0), used("device failed", 1)), (8.0, 9.0));
    assert_eq!(used("device failed in the second ubatch", 1), 9.0 + 32.0 + 43.0);

    let generations = telemetry.spans_named("llama_generation");
    let generation = generations.last().unwrap();
    assert_eq!(generation.attribute("llama.generation.finish"), Some(&json!("error")));
    assert_eq!(generation.attribute("error.type"), Some(&json!("no_kv_slot")), "what the last batch failed with");

    let device = telemetry.spans_named("ggml_backend_dev_init");
    let device = device.iter().find(|span| span.attribute("llama.device.name") == Some(&json!("FAULTY"))).unwrap();
    assert_eq!(device.attribute("llama.device.type"), Some(&json!("accel")));
    assert_eq!(device.attribute("llama.device.description"), Some(&json!("a device that fails when it is told to")));
    let busy = telemetry.metric("llama.device.busy.time").unwrap();
    assert!(busy.point(&[("llama.device.name", json!("FAULTY"))]).unwrap().value.unwrap().as_f64() > 0.0);
}

#[test]
fn every_code_of_an_encode_is_exported_as_what_it_is() {
    let Some((attempts, telemetry)) = failing("decode") else { return };
    // through llama_decode too, which is one encode more than were called
    let calls: Vec<_> = attempts.iter().skip_while(|attempt| attempt["call"] == "llama_decode").collect();
    let spans = telemetry.spans_named("llama_encode");
    assert_eq!(spans.len(), calls.len(), "{spans:?}");
    let mut seen: Vec<&str> = Vec::new();
    for (attempt, span) in calls.iter().zip(&spans) {
        check(attempt["what"].as_str().unwrap(), &attempt["ret"], span);
        seen.push(status(&attempt["ret"]));
    }
    let expected = [0, -3, -2, 2].map(|code| status(&json!(code)));
    assert_eq!(seen[..4], expected);
    assert_eq!(seen[4..], ["exception", "invalid_batch", "invalid_batch", "compute_failed", "ok"]);
    for kind in ["aborted", "invalid_batch", "alloc_failed", "compute_failed", "exception"] {
        let times = seen.iter().filter(|status| **status == kind).count() as f64;
        assert_eq!(counted(&telemetry, "llama.error.count", "llama_encode", kind), times, "{kind}");
        let duration = telemetry.metric("llama.encode.duration").unwrap();
        let count = duration.point(&[("llama.decode.status", json!(kind))]).and_then(|point| point.count);
        assert_eq!(count, Some(times as u64), "{kind}");
    }
    // without memory there is nothing to decode: llama_decode hands it on, and the error is the encode's
    let through = spans[7];
    let outer = telemetry.parent_of(through).unwrap();
    assert_eq!((outer.name.as_str(), outer.failed()), ("llama_decode", false));
}

#[test]
fn an_exception_ends_every_span_that_it_leaves() {
    let Some((_, telemetry)) = failing("op") else { return };
    let failed = |name: &str| {
        let spans = telemetry.spans_named(name);
        spans.into_iter().filter(|span| span.attribute("error.type") == Some(&json!("exception"))).collect::<Vec<_>>()
    };
    let (ubatches, decodes, encodes) = (failed("llama_ubatch"), failed("llama_decode"), failed("llama_encode"));
    assert_eq!((ubatches.len(), decodes.len(), encodes.len()), (2, 1, 1));
    for (ubatch, batch) in ubatches.iter().zip([decodes[0], encodes[0]]) {
        assert_eq!(telemetry.parent_of(ubatch).map(|span| &span.span_id), Some(&batch.span_id));
        assert!(ubatch.end_unix_nano <= batch.end_unix_nano);
        assert_eq!(batch.status.message, "left by an exception", "its text may be private");
    }
    // and what comes after is under none of them
    let is_root = |span: &&Span| span.parent.is_none();
    assert!(telemetry.spans_named("llama_decode").iter().all(is_root));
}
