//! One scripted workload on both backends: what they export is equal but for ids, times, and the differences that
//! `docs/opentelemetry-cpp.md` lists with their reasons.

use std::collections::BTreeMap;

use llama_otel_tests::prepared;
use llama_otel_tests::programs::{Backend, observe};
use otlp_receiver::Telemetry;
use otlp_receiver::model::{Metric, MetricKind, Span, Temporality};
use serde_json::{Value, json};

/// Attributes of the resource that say which SDK it is, or which process.
const RESOURCE_DIFFERS: [&str; 4] =
    ["telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "process.pid"];

/// What a run at that level says once.
const AT_OP: &str = "the level of detail is `op`, which may cost speed";

/// Attributes whose value is a time or a rate of this very run.
fn is_measured(key: &str) -> bool {
    key.ends_with(".throughput")
        || ["time", "duration", "per_second", "_us", "rate"].iter().any(|word| key.contains(word))
}

/// Whether a batch is exported at detail `request` whatever the time that it takes: it has a prompt, or failed.
fn is_lasting(span: &Span) -> bool {
    span.name != "llama_decode" || span.failed() || span.attribute("llama.decode.phase") == Some(&json!("prefill"))
}

/// Leaves out the batches that are spans since they were slow, and what links to them.
fn leave_out_slow(telemetry: &mut Telemetry) {
    let (lasting, slow): (Vec<_>, Vec<_>) = std::mem::take(&mut telemetry.spans).into_iter().partition(is_lasting);
    telemetry.spans = lasting;
    for span in &mut telemetry.spans {
        span.links.retain(|link| !slow.iter().any(|slow| slow.span_id == link.span_id));
    }
}

/// A span without ids and times, and with the names of those above it instead of a parent. The ids of a parent that the program
/// gave stay.
fn span(telemetry: &Telemetry, span: &Span) -> Value {
    let mut path = vec![span.name.clone()];
    let mut highest = span;
    while let Some(parent) = telemetry.parent_of(highest) {
        path.push(parent.name.clone());
        highest = parent;
    }
    let given = highest.parent.as_ref().map(|parent| json!([highest.trace_id, parent]));
    let attributes: BTreeMap<_, _> = span
        .attributes
        .iter()
        .map(|(key, value)| (key, if is_measured(key) { json!("measured") } else { value.clone() }))
        .collect();
    let events: Vec<_> = span.events.iter().map(|event| json!([event.name, event.attributes])).collect();
    json!({
        "path": path, "given": given, "state": span.trace_state, "kind": span.kind, "status": span.status,
        "attributes": attributes, "events": events, "links": span.links.len(),
    })
}

/// A metric with the state of each series, without times. Of a duration only the count and the boundaries are the same in two runs.
fn metric(metric: &Metric) -> Value {
    let measured = metric.unit == "s";
    let series: Vec<_> = metric
        .latest()
        .into_iter()
        .map(|point| match metric.kind {
            MetricKind::Histogram if measured => {
                json!([point.attributes, point.count, point.bounds, point.min.is_some(), point.max.is_some()])
            }
            MetricKind::Histogram => {
                json!([
                    point.attributes,
                    point.count,
                    point.sum,
                    point.min,
                    point.max,
                    point.bounds,
                    point.bucket_counts
                ])
            }
            _ if measured || metric.name == "llama.otel.queue.usage" => json!([point.attributes]),
            _ => json!([point.attributes, point.value]),
        })
        .collect();
    json!({
        "unit": metric.unit, "kind": metric.kind, "monotonic": metric.monotonic, "temporality": metric.temporality,
        "description": metric.description, "series": series,
    })
}

/// Compares name by name, so that a difference is shown and not two whole exports.
fn assert_equal(what: &str, cpp: &Telemetry, rust: &Telemetry) {
    let spans = |telemetry: &Telemetry| telemetry.spans.iter().map(|s| span(telemetry, s)).collect::<Vec<_>>();
    let (of_cpp, of_rust) = (spans(cpp), spans(rust));
    assert!(!rust.metrics.is_empty(), "{what}: nothing was exported");
    for (cpp, rust) in of_cpp.iter().zip(&of_rust) {
        assert_eq!(cpp, rust, "{what}: a span");
    }
    assert_eq!(of_cpp.len(), of_rust.len(), "{what}: number of spans");

    // whether an export of spans has ended before the metrics are collected is a matter of time
    let lasting = |m: &&Metric| m.name != "llama.otel.export.duration";
    let metrics = |telemetry: &Telemetry| {
        telemetry.metrics.iter().filter(lasting).map(|m| (m.name.clone(), metric(m))).collect::<BTreeMap<_, _>>()
    };
    let (of_cpp, of_rust) = (metrics(cpp), metrics(rust));
    assert_eq!(of_cpp.keys().collect::<Vec<_>>(), of_rust.keys().collect::<Vec<_>>(), "{what}: names of metrics");
    for (name, rust) in &of_rust {
        assert_eq!(&of_cpp[name], rust, "{what}: {name}");
    }

    // 1.19 has no place for the name of an event
    let logs = |telemetry: &Telemetry| {
        let record = |log: &otlp_receiver::model::LogRecord| {
            let is_of_a_span = (log.trace_id.is_empty(), log.span_id.is_empty());
            json!([log.severity_number, log.severity_text, log.body, log.attributes, is_of_a_span])
        };
        telemetry.logs.iter().map(record).collect::<Vec<_>>()
    };
    assert_eq!(logs(cpp), logs(rust), "{what}: records of the log");

    let resource = |telemetry: &Telemetry| {
        let mut resource = telemetry.resource.clone();
        resource.retain(|key, _| !RESOURCE_DIFFERS.contains(&key.as_str()));
        resource
    };
    assert_eq!(resource(cpp), resource(rust), "{what}: resource");
    for telemetry in [cpp, rust] {
        assert!(RESOURCE_DIFFERS.iter().all(|key| telemetry.resource.contains_key(*key)), "{:?}", telemetry.resource);
    }
}

/// Runs a program on both backends. `None`: there is no opentelemetry-cpp.
fn both(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Option<(Telemetry, Telemetry)> {
    let (cpp, of_cpp) = observe(Backend::Cpp, program, args, variables)?;
    let (rust, of_rust) = observe(Backend::Rust, program, args, variables)?;
    assert_eq!((cpp.code, rust.code), (Some(0), Some(0)), "{}\n{}", cpp.stderr, rust.stderr);
    let said = |stderr: &str| stderr.lines().filter(|line| !line.contains(AT_OP)).collect::<String>();
    assert_eq!((said(&cpp.stderr), said(&rust.stderr)), (String::new(), String::new()), "{program} {args:?}");
    assert_eq!(cpp.stderr, rust.stderr, "{program} {args:?}");
    Some((of_cpp, of_rust))
}

/// Load, prefill, decode, errors, free; at each level of detail.
#[test]
fn an_inference_exports_the_same() {
    let model = prepared("LLAMA_OTEL_TINY");
    let model = model.to_str().expect("the path of a model is UTF-8");
    for detail in ["metrics", "request", "decode", "op"] {
        let Some((mut cpp, mut rust)) = both("workload", &[model], &[("LLAMA_OTEL_DETAIL", detail)]) else { return };
        match detail {
            "metrics" => assert!(cpp.spans.is_empty() && rust.spans.is_empty(), "spans at detail `metrics`"),
            _ => assert!(rust.span("llama_model_load").is_some_and(Span::failed), "the load that fails comes first"),
        }
        if detail == "request" {
            // which other batch is slow enough to be a span is a matter of time
            [&mut cpp, &mut rust].into_iter().for_each(leave_out_slow);
            assert!(rust.span("llama_generation").is_some() && rust.spans_named("llama_decode").len() > 1);
        }
        assert_equal(&format!("detail `{detail}`"), &cpp, &rust);
    }
}

type Variables<'a> = &'a [(&'a str, &'a str)];

const OP: (&str, &str) = ("LLAMA_OTEL_DETAIL", "op");

/// Attribute types, errors, levels, hostile strings, memory, the log, threads; over HTTP and gRPC, and with delta temporality.
#[test]
fn every_scenario_exports_the_same() {
    const DELTA: (&str, &str) = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let ways: [Variables; 3] = [&[OP], &[OP, DELTA], &[OP, GRPC]];
    for variables in ways {
        for scenario in ["nested", "errors", "levels", "private_path", "hostile", "memory", "logs", "threads"] {
            let Some((mut cpp, mut rust)) = both("scenario", &[scenario], variables) else { break };
            if scenario == "threads" {
                // which thread comes first is a matter of time
                let key = |span: &Span| (span.name.clone(), span.attribute("thread").and_then(Value::as_i64));
                for telemetry in [&mut cpp, &mut rust] {
                    telemetry.spans.sort_by_key(key);
                }
                assert_eq!(rust.spans.len(), 800);
            }
            if scenario == "logs" {
                assert!(rust.logs.len() > 1, "the log is exported");
            }
            assert_equal(&format!("{scenario} with {variables:?}"), &cpp, &rust);
            let temporality = rust.metric("llama.token.count").map(|tokens| tokens.temporality);
            let is_delta = variables.contains(&DELTA);
            assert!(temporality.is_none_or(|it| (it == Temporality::Delta) == is_delta), "{scenario}: {temporality:?}");
        }
    }
}

/// By W3C headers, for a thread, a context, a sequence; with a trace state, with baggage, and not sampled.
#[test]
fn parents_that_the_program_gives_are_the_same() {
    let variables = [OP, ("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user,tenant")];
    for mode in ["thread", "contexts", "sequences", "sequences_in_c", "flags"] {
        let Some((cpp, rust)) = both("embedding", &[mode], &variables) else { return };
        let is_given = |span: &Span| span.trace_id.bytes().all(|digit| digit == span.trace_id.as_bytes()[0]);
        assert!(rust.spans.iter().any(is_given), "{mode}: nothing has a parent of the program's");
        assert_equal(mode, &cpp, &rust);
    }
}

#[test]
fn the_resource_of_the_environment_is_read_alike() {
    let variables = [
        ("OTEL_SERVICE_NAME", "a service"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test, host.name = there"),
    ];
    let Some((cpp, rust)) = both("scenario", &["nested"], &variables) else { return };
    assert_eq!(cpp.resource["service.name"], json!("a service"));
    assert_equal("resource of the environment", &cpp, &rust);
}

#[test]
fn the_commit_and_the_number_of_the_build_are_exported() {
    let model = prepared("LLAMA_OTEL_TINY");
    let Some((cpp, rust)) = both("workload", &[model.to_str().unwrap()], &[]) else { return };
    for telemetry in [cpp, rust] {
        let of = |key: &str| telemetry.resource.get(key).cloned();
        assert_eq!((of("llama.commit"), of("llama.build.number")), (Some(json!("0123abc")), Some(json!(6097))));
    }
}

/// Ids come from the runtime: the SDK may not choose others.
#[test]
fn parents_and_children_share_a_trace() {
    let Some((_, telemetry)) = observe(Backend::Cpp, "scenario", &["nested"], &[]) else { return };
    let outer = telemetry.span("llama_model_load").expect("the outer span");
    let inner = telemetry.span("llama_model_load.hparams").expect("the inner span");
    assert_eq!(inner.parent.as_ref(), Some(&outer.span_id));
    assert_eq!(inner.trace_id, outer.trace_id);
    assert!(outer.start_unix_nano <= inner.start_unix_nano && inner.end_unix_nano <= outer.end_unix_nano);
}
