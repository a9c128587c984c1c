//! Generations against what the program did: docs/generations.md, case by case.

use std::path::Path;

use llama_otel_tests::{count, number, prepared};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Span;
use serde_json::{Value, json};

fn scenario(name: &str, model: &Path, detail: &str) -> (Value, Telemetry) {
    llama_otel_tests::scenario(env!("CARGO_BIN_EXE_llama-otel-scenario"), &[Path::new(name), model], detail)
}

/// The generations of a run in the order of their starts.
fn generations(telemetry: &Telemetry) -> Vec<&Span> {
    telemetry.spans_named("llama_generation")
}

fn finish(span: &Span) -> &str {
    span.attribute("llama.generation.finish").and_then(|value| value.as_str()).unwrap_or_default()
}

/// (input, of them cached, output) of a generation.
fn tokens(span: &Span) -> (u64, u64, u64) {
    let of = |key| number(span, key) as u64;
    (of("gen_ai.usage.input_tokens"), of("gen_ai.usage.cache_read.input_tokens"), of("gen_ai.usage.output_tokens"))
}

fn sequence(span: &Span) -> i64 {
    number(span, "llama.sequence.id") as i64
}

/// Each link of a span leads to an exported span of that name, and that one leads back.
fn check_links(telemetry: &Telemetry) {
    let find = |id: &str| telemetry.spans.iter().find(|span| span.span_id == id);
    for (from, to) in [("llama_generation", "llama_decode"), ("llama_decode", "llama_generation")] {
        for span in telemetry.spans_named(from) {
            for link in &span.links {
                let other = find(&link.span_id).unwrap_or_else(|| panic!("a link of {from} leads nowhere"));
                assert_eq!((other.name.as_str(), &other.trace_id), (to, &link.trace_id));
                assert_eq!(
                    other.attribute("llama.context.id"),
                    span.attribute("llama.context.id"),
                    "{from} and {to} are of one context"
                );
                assert!(
                    other.links.len() >= 16 || other.links.iter().any(|link| link.span_id == span.span_id),
                    "{to} does not lead back to {from}"
                );
            }
        }
    }
}

#[test]
fn a_second_prompt_begins_a_second_generation() {
    let (facts, telemetry) = scenario("turns", &prepared("LLAMA_OTEL_TINY"), "decode");
    let all = generations(&telemetry);
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(10, 0, 6), (15 + 7, 15, 4)]);
    assert_eq!(all.iter().map(|span| finish(span)).collect::<Vec<_>>(), ["next_prompt", "freed"]);
    assert_eq!(all.iter().map(|span| span.links.len()).collect::<Vec<_>>(), [7, 4]);
    assert!(all.iter().all(|span| span.parent.is_none() && !span.failed()));
    check_links(&telemetry);

    // the prompt was given in two batches, of which the second ended it
    let decodes = telemetry.spans_named("llama_decode");
    let ttft = number(all[0], "llama.generation.time_to_first_token");
    let measured = (decodes[1].end_unix_nano - decodes[0].start_unix_nano) as f64 / 1e9;
    assert!((ttft - measured).abs() < 0.02 * measured + 2e-4, "{ttft} s, from span to span {measured} s");
    let per_token = number(all[0], "llama.generation.time_per_output_token");
    let measured = (decodes[6].end_unix_nano - decodes[1].end_unix_nano) as f64 / 1e9 / 5.0;
    assert!((per_token - measured).abs() < 0.02 * measured + 2e-4, "{per_token} s, from span to span {measured} s");

    // one count for each generation, with what the spans say
    let histogram = |name: &str| telemetry.metric(name).unwrap_or_else(|| panic!("no metric {name}"));
    assert_eq!(histogram("gen_ai.server.time_to_first_token").count(), 2);
    assert_eq!(histogram("gen_ai.server.time_per_output_token").count(), 2);
    let usage = |kind: &str| {
        let point = histogram("gen_ai.client.token.usage").point(&[("gen_ai.token.type", json!(kind))]).unwrap();
        (point.count.unwrap(), point.sum.unwrap())
    };
    assert_eq!((usage("input"), usage("output")), ((2, 32.0), (2, 10.0)));
    let point = histogram("gen_ai.server.time_to_first_token").latest().remove(0);
    assert_eq!(point.attributes["gen_ai.operation.name"], json!("text_completion"));
    assert_eq!(point.attributes["gen_ai.provider.name"], json!("llama.cpp"));
    assert_eq!(point.attributes["gen_ai.request.model"], json!("tiny-random-llama"));

    // llama.cpp's own count, which knows no sequences: as many in all
    let evaluated = facts["n_p_eval"].as_u64().unwrap() + facts["n_eval"].as_u64().unwrap();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total() as u64, evaluated);
}

#[test]
fn eight_sequences_in_one_batch_are_eight_generations() {
    for name in ["eight", "eight-unified"] {
        let (facts, telemetry) = scenario(name, &prepared("LLAMA_OTEL_TINY"), "decode");
        let all = generations(&telemetry);
        assert_eq!(all.len(), 8, "{name}");
        for span in &all {
            assert_eq!(tokens(span), (3 + sequence(span) as u64, 0, 5), "{name}");
            assert_eq!((finish(span), span.links.len()), ("cleared", 5), "{name}");
        }
        check_links(&telemetry);
        let decodes = telemetry.spans_named("llama_decode");
        let phases: Vec<_> =
            decodes.iter().map(|span| span.attribute("llama.decode.phase").cloned().unwrap()).collect();
        assert_eq!(phases, [json!("prefill"), json!("decode"), json!("decode"), json!("decode"), json!("decode")]);
        assert!(decodes.iter().all(|span| number(span, "llama.batch.n_seqs") == 8.0 && span.links.len() == 8));
        assert_eq!(count(&telemetry, "llama.token.count", "llama.decode.phase", "decode"), 32.0, "{name}");
        let prompts: f64 = (3..=10).map(f64::from).sum();
        assert_eq!(count(&telemetry, "llama.token.count", "llama.decode.phase", "prefill"), prompts, "{name}");
        // llama.cpp counts batches of several tokens as prompts, whatever they are
        assert_eq!(facts["n_p_eval"].as_f64().unwrap(), prompts + 32.0);
        assert_eq!(telemetry.metric("llama.decode.sequences").unwrap().latest()[0].mean(), Some(8.0), "{name}");
    }
}

#[test]
fn copies_of_a_prompt_are_generations_without_one() {
    let (_, telemetry) = scenario("shared", &prepared("LLAMA_OTEL_TINY"), "decode");
    let mut all = generations(&telemetry);
    all.sort_by_key(|span| sequence(span));
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(9, 0, 4), (9, 9, 4), (9, 9, 4)]);
    assert_eq!(all.iter().map(|span| finish(span)).collect::<Vec<_>>(), ["freed", "cleared", "freed"]);
    let ttft = "llama.generation.time_to_first_token";
    assert_eq!(all.iter().map(|span| span.attribute(ttft).is_some()).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(telemetry.metric("gen_ai.server.time_to_first_token").unwrap().count(), 1);
    check_links(&telemetry);
}

#[test]
fn refused_drafts_are_no_output() {
    let (_, telemetry) = scenario("speculative", &prepared("LLAMA_OTEL_TINY"), "decode");
    let all = generations(&telemetry);
    assert_eq!(all.len(), 1);
    assert_eq!(tokens(all[0]), (5, 0, 1 + 2 + 4));
    assert_eq!(number(all[0], "llama.generation.n_removed"), 2.0);
    assert_eq!(count(&telemetry, "llama.token.count", "llama.decode.phase", "decode"), 8.0, "all were evaluated");
}

#[test]
fn a_shifted_context_is_one_generation() {
    let (_, telemetry) = scenario("shift", &prepared("LLAMA_OTEL_TINY"), "request");
    let all = generations(&telemetry);
    assert_eq!(all.len(), 1);
    assert_eq!((tokens(all[0]), finish(all[0])), ((20, 0, 1 + 40 + 15), "cleared"));
    let exported = telemetry.spans_named("llama_decode").len();
    assert!(exported < 20, "{exported} of 56: at detail request the prompt, and what a busy machine delays");
    assert_eq!(all[0].links.len(), exported.min(16));
    assert_eq!(number(all[0], "llama.generation.n_batches"), 56.0);
    let utilization = telemetry.metric("llama.context.utilization").unwrap();
    assert_eq!(utilization.latest()[0].value.unwrap().as_f64(), 0.0, "cleared");
}

#[test]
fn a_common_beginning_is_read_from_the_cache() {
    let (_, telemetry) = scenario("prefix", &prepared("LLAMA_OTEL_TINY"), "request");
    let all = generations(&telemetry);
    assert_eq!(
        all.iter().map(|span| tokens(span)).collect::<Vec<_>>(),
        [(10, 0, 5), (6 + 5, 6, 3), (12 + 4, 12, 1)],
        "what made room for a prompt was generated before"
    );
    assert_eq!(all.iter().map(|span| finish(span)).collect::<Vec<_>>(), ["next_prompt", "next_prompt", "freed"]);
    assert!(all.iter().all(|span| number(span, "llama.generation.n_removed") == 0.0));
}

#[test]
fn a_prompt_token_by_token_is_a_prompt() {
    let (_, telemetry) = scenario("one-by-one", &prepared("LLAMA_OTEL_TINY"), "request");
    let all = generations(&telemetry);
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(6, 0, 5)]);
    assert_eq!(count(&telemetry, "llama.token.count", "llama.decode.phase", "prefill"), 6.0);
}

#[test]
fn an_output_at_the_end_of_each_part_does_not_end_the_prompt() {
    let (_, telemetry) = scenario("parts", &prepared("LLAMA_OTEL_TINY"), "decode");
    let all = generations(&telemetry);
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(10, 0, 4)]);
    let decodes = telemetry.spans_named("llama_decode");
    let measured = (decodes[1].end_unix_nano - decodes[0].start_unix_nano) as f64 / 1e9;
    assert!(number(all[0], "llama.generation.time_to_first_token") >= 0.98 * measured, "to the end of the last part");
}

#[test]
fn an_abort_in_the_middle_of_a_prompt_is_the_end_of_its_generation() {
    let (facts, telemetry) = scenario("aborted", &prepared("LLAMA_OTEL_TINY"), "request");
    assert_eq!(facts["status"], json!(2));
    let all = generations(&telemetry);
    assert_eq!((all.len(), finish(all[0])), (1, "error"));
    assert_eq!(all[0].attribute("error.type"), Some(&json!("aborted")));
    assert!(all[0].failed());
    assert_eq!(tokens(all[0]), (8, 0, 1), "the tokens of the aborted batch are not counted");
    let failed: Vec<_> = telemetry.spans_named("llama_decode").into_iter().filter(|span| span.failed()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].attribute("llama.decode.status"), Some(&json!("aborted")));
    check_links(&telemetry);
}

#[test]
fn a_batch_that_is_repeated_is_counted_once() {
    let (facts, telemetry) = scenario("retried", &prepared("LLAMA_OTEL_TINY"), "request");
    assert_eq!(facts["status"], json!(1));
    let mut all = generations(&telemetry);
    all.sort_by_key(|span| sequence(span));
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(240, 0, 0), (40, 0, 3)]);
    assert_eq!(all.iter().map(|span| finish(span)).collect::<Vec<_>>(), ["cleared", "freed"]);
    assert!(all.iter().all(|span| !span.failed()));
}

#[test]
fn keeping_one_sequence_ends_the_others() {
    let (_, telemetry) = scenario("kept", &prepared("LLAMA_OTEL_TINY"), "request");
    let mut all = generations(&telemetry);
    all.sort_by_key(|span| sequence(span));
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(4, 0, 1), (5, 0, 3), (6, 0, 1)]);
    assert_eq!(all.iter().map(|span| finish(span)).collect::<Vec<_>>(), ["cleared", "freed", "cleared"]);
}

#[test]
fn a_checkpoint_takes_back_what_lies_behind_it() {
    let (_, telemetry) = scenario("checkpoint", &prepared("LLAMA_OTEL_TINY"), "request");
    let all = generations(&telemetry);
    assert_eq!(all.len(), 1);
    assert_eq!((tokens(all[0]), finish(all[0])), ((6, 0, 1 + 2 + 1), "freed"));
    assert_eq!(number(all[0], "llama.generation.n_removed"), 3.0);
}

#[test]
fn embeddings_are_no_output_tokens() {
    let (_, telemetry) = scenario("embeddings", &prepared("LLAMA_OTEL_TINY"), "request");
    let all = generations(&telemetry);
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(12, 0, 0)]);
    assert_eq!(all[0].attribute("gen_ai.operation.name"), Some(&json!("embeddings")));
    assert!(telemetry.metric("gen_ai.server.time_to_first_token").is_none());
}

#[test]
fn callers_of_llama_process_are_seen() {
    let (_, telemetry) = scenario("process", &prepared("LLAMA_OTEL_TINY"), "decode");
    assert_eq!(telemetry.spans_named("llama_decode").len(), 4);
    let all = generations(&telemetry);
    assert_eq!(all.iter().map(|span| tokens(span)).collect::<Vec<_>>(), [(8, 0, 4)]);
}

/// More than two thousand steps: no token is lost, none is counted twice, and every generation ends once.
#[test]
fn whatever_is_done_to_sequences_their_generations_add_up() {
    let (facts, telemetry) = scenario("random", &prepared("LLAMA_OTEL_TINY"), "request");
    assert!(telemetry.metric("llama.otel.dropped").is_none(), "the program waits so that none is");
    let all = generations(&telemetry);
    assert!(all.len() > 500, "{}", all.len());
    let mut n_evaluated = 0;
    for span in &all {
        let (input, cached, output) = tokens(span);
        let removed = number(span, "llama.generation.n_removed") as u64;
        n_evaluated += input - cached + output.saturating_sub(1) + removed;
        assert!(span.start_unix_nano <= span.end_unix_nano && !span.failed());
    }
    assert_eq!(n_evaluated as f64, telemetry.metric("llama.token.count").unwrap().total());
    let n_batches: f64 = all.iter().map(|span| number(span, "llama.generation.n_batches")).sum();
    assert_eq!(n_batches, facts["n_served"].as_f64().unwrap());
    let ids: std::collections::HashSet<_> = all.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn eight_threads_with_a_context_each_are_not_mixed_up() {
    let (facts, telemetry) = scenario("threads", &prepared("LLAMA_OTEL_TINY"), "op");
    let all = generations(&telemetry);
    assert_eq!(all.len(), 8 * 4);
    for span in &all {
        let (input, cached, output) = tokens(span);
        assert!((5..13).contains(&input), "{input}");
        assert_eq!((cached, output, finish(span)), (0, input - 2 + 1, "cleared"), "a thread's own numbers");
        let context = span.attribute("llama.context.id");
        assert_eq!(all.iter().filter(|other| other.attribute("llama.context.id") == context).count(), 4);
    }
    check_links(&telemetry);
    for ubatch in telemetry.spans_named("llama_ubatch") {
        let batch = telemetry.parent_of(ubatch).expect("a physical batch lies in a batch");
        assert_eq!((batch.name.as_str(), &batch.trace_id), ("llama_decode", &ubatch.trace_id));
        assert_eq!(number(batch, "llama.batch.n_tokens"), number(ubatch, "llama.ubatch.n_tokens"), "its own batch");
        assert!(batch.start_unix_nano <= ubatch.start_unix_nano && ubatch.end_unix_nano <= batch.end_unix_nano);
    }
    for name in ["llama_decode", "llama_generation", "llama_free"] {
        assert!(telemetry.spans_named(name).iter().all(|span| span.parent.is_none()), "{name} is a root");
    }
    let evaluated: f64 = facts["n_evaluated"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).sum();
    assert_eq!(telemetry.metric("llama.token.count").unwrap().total(), evaluated);
    assert!(telemetry.metric("llama.otel.dropped").is_none());
}

#[test]
fn what_is_under_way_when_the_process_ends_is_delivered() {
    let (_, telemetry) = scenario("exit", &prepared("LLAMA_OTEL_TINY"), "decode");
    let mut all = generations(&telemetry);
    all.sort_by_key(|span| (number(span, "llama.context.id") as u64, sequence(span)));
    let ended: Vec<_> = all.iter().map(|span| (finish(span), tokens(span))).collect();
    assert_eq!(ended, [("shutdown", (6, 0, 3)), ("cleared", (4, 0, 1)), ("shutdown", (5, 0, 1))]);
    assert!(all.iter().all(|span| !span.failed() && number(span, "llama.generation.time_to_first_token") > 0.0));
    check_links(&telemetry);
    assert_eq!(telemetry.metric("gen_ai.client.token.usage").unwrap().count(), 2 * 3, "input and output of each");
}
