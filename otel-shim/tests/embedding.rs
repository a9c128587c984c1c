//! llama.cpp in a program that has tracing of its own: whose child is what, and who decides.

mod child;

use child::{Child, run};
use otlp_receiver::model::Span;
use otlp_receiver::{Receiver, Telemetry};
use serde_json::{Value, json};

fn exported(mode: &str, variables: &[(&str, &str)]) -> (Child, Telemetry) {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "op")];
    all.extend(variables);
    let child = run("embedding", &[mode], &all);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{mode}");
    (child, receiver.stop())
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
    let (_, telemetry) = exported("thread", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user, tenant")]);
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
    let (_, telemetry) = exported("thread", &[]);
    assert_eq!(telemetry.spans_named("llama_decode")[0].attribute("user"), None);
}

#[test]
fn propagators_decide_which_headers_count() {
    let names = ("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user");
    let (_, telemetry) = exported("thread", &[("OTEL_PROPAGATORS", "tracecontext"), names]);
    assert_eq!(places(&telemetry, "llama_decode")[0], ('1', '1'));
    assert_eq!(telemetry.spans_named("llama_decode")[0].attribute("user"), None);
    let (_, telemetry) = exported("thread", &[("OTEL_PROPAGATORS", "none"), names]);
    assert_eq!(places(&telemetry, "llama_decode")[0], ('.', '-'));
}

#[test]
fn each_context_has_its_own_parent_until_it_is_freed() {
    let (_, telemetry) = exported("contexts", &[]);
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
    let (_, telemetry) = exported("sequences", &[]);
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
    let (child, telemetry) = exported("sequences_in_c", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user")]);
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
fn a_rust_context_is_the_parent_of_a_context_or_a_sequence() {
    let (_, telemetry) = exported("context_parents", &[]);
    let decodes = telemetry.spans_named("llama_decode");
    let id = |n: u64| format!("{n:016x}");
    let parents: Vec<_> = decodes.iter().map(|span| span.parent.clone().unwrap_or_default()).collect();
    assert_eq!(parents, [id(7), id(8), id(7), String::new()]);
    assert_eq!(decodes[1].trace_id, format!("{:032x}", 8));
    let states: Vec<_> = decodes.iter().map(|span| span.trace_state.as_str()).collect();
    assert_eq!(states, ["vendor=x", "vendor=x", "vendor=x", ""]);
    let inner = telemetry.spans_named("llama_ubatch")[0];
    assert_eq!((inner.parent.as_deref(), &inner.trace_id), (Some(decodes[1].span_id.as_str()), &decodes[1].trace_id));
}

#[test]
fn the_parent_s_flag_decides_unless_the_sampler_is_another() {
    let sampled = |variables: &[(&str, &str)]| {
        let (_, telemetry) = exported("flags", variables);
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
fn a_rust_context_is_a_parent_while_it_is_asked_to_be() {
    let (_, telemetry) = exported("rust_context", &[("LLAMA_OTEL_BAGGAGE_ATTRIBUTES", "user")]);
    let parents: Vec<_> =
        telemetry.spans_named("llama_decode").iter().map(|span| span.parent.clone().unwrap_or_default()).collect();
    let id = |n: u64| format!("{n:016x}");
    assert_eq!(parents, [id(7), id(8), id(7), String::new(), String::new(), id(9)]);
    let first = telemetry.spans_named("llama_decode")[0];
    assert_eq!((first.trace_state.as_str(), first.attribute("user")), ("vendor=x", Some(&json!("a b"))));
    assert_eq!(telemetry.spans_named("llama_decode")[5].trace_state, "vendor=x");
}

#[test]
fn the_host_s_providers_take_everything() {
    let child = run("embedding", &["host"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let report = &child.report;
    assert_eq!(
        (&report["delivered"], &report["shut_down"], &report["resource"]),
        (&json!(true), &json!(true), &json!("the host"))
    );
    let spans = report["spans"].as_array().unwrap();
    let named = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    let decodes = named("llama_decode");
    assert_eq!(
        (named("llama_init_from_model").len(), decodes.len(), named("llama_ubatch").len()),
        (1, 2, 2),
        "{spans:?}"
    );
    assert_eq!(decodes[0]["parent"], report["request"], "the current span is the parent");
    assert_eq!(decodes[1]["parent"], json!("0".repeat(16)));
    for (inner, outer) in named("llama_ubatch").iter().zip(&decodes) {
        assert_eq!(
            (&inner["parent"], &inner["trace"], &inner["scope"]),
            (&outer["id"], &outer["trace"], &json!("llama.cpp"))
        );
    }
    let generation = named("llama_generation")[0];
    assert_eq!(generation["links"], json!([decodes[0]["id"]]), "ids are those of the runtime");
    let metrics = report["metrics"].as_array().unwrap();
    assert!(metrics.contains(&json!("llama.decode.batch.size")), "{metrics:?}");
    let later = report["all"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|span| span["name"] == "later" || span["name"] == "request")
        .count();
    assert_eq!(later, 2, "the provider is not shut down");
}

#[test]
fn the_host_s_sampler_decides_about_whole_traces() {
    let child = run("embedding", &["host_ratio"], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let spans = child.report["spans"].as_array().unwrap();
    let count = |name: &str| spans.iter().filter(|span| span["name"] == name).count();
    assert!((50..150).contains(&count("llama_decode")), "{} of 200", count("llama_decode"));
    assert_eq!(count("llama_decode"), count("llama_ubatch"));
}

#[test]
fn a_tracing_span_is_the_parent() {
    let child = run("embedding", &["tracing"], &[("LLAMA_OTEL_DETAIL", "decode")]);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{}", child.report);
    let spans = child.report["spans"].as_array().unwrap();
    let named =
        |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"));
    assert_eq!(named("llama_decode")["parent"], named("handle_request")["id"]);
    assert_eq!(named("llama_decode")["trace"], named("handle_request")["trace"]);
}

#[test]
fn detail_and_export_are_switched_while_it_runs() {
    let (child, telemetry) = exported("switches", &[]);
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
