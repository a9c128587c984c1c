//! llama.cpp in a program that has tracing of its own: whose child is what by W3C headers, and who decides.
//!
//! The same cases for each backend. Whoever includes this file has a type `Child`, what became of a program, a function
//! `run(program, arguments, variables)` that runs `embedding`, and `can_run(variables)`: whether this backend is here; false,
//! after it has said why, skips a test.

use otlp_receiver::model::Span;
use otlp_receiver::{Receiver, Telemetry};
use serde_json::{Value, json};

use super::{Child, can_run, run};

pub fn exported(mode: &str, variables: &[(&str, &str)]) -> Option<(Child, Telemetry)> {
    if !can_run(&[]) {
        return None;
    }
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "op")];
    all.extend(variables);
    let child = run("embedding", &[mode], &all);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{mode}");
    Some((child, receiver.stop()))
}

/// (name, digit of the trace that was given, digit of the parent that was given; `.` for others).
fn places<'a>(telemetry: &'a Telemetry, name: &str) -> Vec<(char, char)> {
    let digit = |id: &str| {
        let first = id.chars().next().unwrap_or('.');
        if id.chars().all(|c| c == first) { first } else { '.' }
    };
    let place = |span: &&'a Span| (digit(&span.trace_id), span.parent.as_deref().map_or('-', digit));
    telemetry.spans_named(name).iter().map(place).collect()
}

#[test]
fn a_thread_s_traceparent_is_the_parent_of_what_begins_on_it() {
    let Some((_, telemetry)) = exported("thread", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user, tenant")]) else { return };
    assert_eq!(places(&telemetry, "llama_decode"), [('1', '1'), ('.', '-'), ('.', '-')]);
    let given = telemetry.spans_named("llama_decode")[0];
    let inner = telemetry.spans_named("llama_ubatch")[0];
    assert_eq!(
        (inner.trace_id.as_str(), inner.parent.as_deref()),
        (given.trace_id.as_str(), Some(given.span_id.as_str()))
    );
    assert_eq!((given.attribute("user"), given.attribute("tenant")), (Some(&json!("ann")), Some(&json!("blue sky"))));
    assert_eq!(
        (given.attribute("secret"), inner.attribute("user")),
        (None, None),
        "what was named, on direct children"
    );
    assert_eq!((given.trace_state.as_str(), inner.trace_state.as_str()), ("vendor=x,other=y", "vendor=x,other=y"));
}

#[test]
fn no_baggage_leaves_the_process_unasked() {
    let Some((_, telemetry)) = exported("thread", &[]) else { return };
    assert_eq!(telemetry.spans_named("llama_decode")[0].attribute("user"), None);
}

#[test]
fn propagators_decide_which_headers_count() {
    let names = ("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user");
    let Some((_, telemetry)) = exported("thread", &[("OTEL_PROPAGATORS", "tracecontext"), names]) else { return };
    assert_eq!(places(&telemetry, "llama_decode")[0], ('1', '1'));
    assert_eq!(telemetry.spans_named("llama_decode")[0].attribute("user"), None);
    let Some((_, telemetry)) = exported("thread", &[("OTEL_PROPAGATORS", "none"), names]) else { return };
    assert_eq!(places(&telemetry, "llama_decode")[0], ('.', '-'));
}

#[test]
fn each_context_has_its_own_parent_until_it_is_freed() {
    let Some((_, telemetry)) = exported("contexts", &[]) else { return };
    let expected = [('1', '1'), ('2', '2'), ('1', '1'), ('2', '2'), ('.', '-')];
    assert_eq!(places(&telemetry, "llama_decode"), expected);
    assert_eq!(places(&telemetry, "llama_sample_token"), &expected[..4], "what follows a batch belongs to its context");
    let ubatches = places(&telemetry, "llama_ubatch");
    assert_eq!(ubatches.iter().map(|(trace, _)| *trace).collect::<String>(), "1212");
    let generations = places(&telemetry, "llama_generation");
    assert!(
        !generations.is_empty() && generations.iter().all(|(trace, parent)| trace == parent && *trace != '.'),
        "{generations:?}"
    );
}

#[test]
fn a_sequence_s_parent_wins_over_its_context_s() {
    let Some((_, telemetry)) = exported("sequences", &[]) else { return };
    assert_eq!(
        places(&telemetry, "llama_decode"),
        [('1', '1'), ('2', '2')],
        "a batch of two, and one of sequence 1 alone"
    );
    let of = |seq: i64| {
        let mine = |span: &&&Span| span.attribute("llama.sequence.id") == Some(&json!(seq));
        telemetry
            .spans_named("llama_generation")
            .iter()
            .filter(mine)
            .map(|span| span.trace_id.clone())
            .collect::<Vec<_>>()
    };
    assert!(of(0).iter().all(|trace| *trace == "1".repeat(32)) && !of(0).is_empty());
    assert!(of(1).iter().all(|trace| *trace == "2".repeat(32)) && !of(1).is_empty());
}

#[test]
fn a_sequence_s_parent_is_set_and_taken_away_in_c() {
    let Some((child, telemetry)) = exported("sequences_in_c", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user")]) else {
        return;
    };
    // the third has a malformed trace state, the fourth is malformed itself
    assert_eq!(child.report, json!([0, 0, 2, 1, 0, 0, 0]));
    let expected = [('1', '1'), ('2', '2'), ('3', '3'), ('1', '1'), ('1', '1'), ('.', '-')];
    assert_eq!(places(&telemetry, "llama_decode"), expected);
    let decodes = telemetry.spans_named("llama_decode");
    let handed_on: Vec<_> = decodes.iter().map(|span| (span.trace_state.as_str(), span.attribute("user"))).collect();
    assert_eq!((handed_on[0], handed_on[1]), (("", None), ("vendor=x", Some(&json!("ann")))));
    assert!(handed_on[2..].iter().all(|one| *one == ("", None)), "{handed_on:?}");
}

#[test]
fn the_parent_s_flag_decides_unless_the_sampler_is_another() {
    if !can_run(&[]) {
        return;
    }
    let sampled = |variables: &[(&str, &str)]| {
        let (_, telemetry) = exported("flags", variables).expect("it can run");
        places(&telemetry, "llama_decode").iter().map(|(trace, _)| *trace).collect::<String>()
    };
    assert_eq!(sampled(&[]), "2", "the default");
    let by = |sampler: &str| sampled(&[("OTEL_TRACES_SAMPLER", sampler)]);
    assert_eq!(by("parentbased_always_on"), "2");
    assert_eq!(by("parentbased_always_off"), "2");
    assert_eq!(by("always_on"), "12");
    assert_eq!(by("always_off"), "");
}

#[test]
fn detail_and_export_are_switched_while_it_runs() {
    let Some((child, telemetry)) = exported("switches", &[]) else { return };
    let levels: Vec<Value> = child.report["report"].as_array().unwrap().iter().map(|row| row[1].clone()).collect();
    assert_eq!(levels, [4, 2, 0, 4, 1, 4].map(|level| json!(level)), "{}", child.report);
    let yes = json!(true);
    assert_eq!([&child.report["off"], &child.report["on"], &child.report["flushed_again"]], [&yes, &yes, &yes]);
    assert_eq!(child.report["flushed"], json!(false), "nothing leaves while the export is off, and the flush says so");
    assert_eq!(child.report["dropped"], json!(0));
    let spans = telemetry.spans_named("llama_decode").len();
    assert_eq!(spans, 3, "not at request, not while off, not while nothing is exported");
    assert_eq!(telemetry.metric("llama.decode.batch.size").unwrap().count(), 5, "metrics go on but while off");
}

#[test]
fn a_program_may_ask_for_telemetry_without_a_variable() {
    if !can_run(&[]) {
        return;
    }
    let child = run("embedding", &["asked"], &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!(
        (&child.report["before"], &child.report["on"], &child.report["active"]),
        (&json!(false), &json!(false), &json!(false))
    );
    let child = run("embedding", &["asked"], &[]);
    assert_eq!(
        (&child.report["before"], &child.report["on"], &child.report["active"]),
        (&json!(false), &json!(true), &json!(true))
    );
}
