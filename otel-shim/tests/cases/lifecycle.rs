//! Begins and ends: whatever the program does to itself, telemetry neither hangs nor crashes it, and delivers what it can.
//!
//! The same cases for each backend. Whoever includes this file has a type `Child`, what became of a program, a function
//! `lifecycle(arguments, variables)` that runs one (`None` from it, after it has said why, skips a test), and `plugin()`, where
//! the library is that the program loads and closes.

use std::{thread, time::Duration};

use otlp_receiver::{Behaviour, Receiver, Telemetry};
use serde_json::json;

#[cfg(unix)]
use super::plugin;
use super::{Child, lifecycle};

/// Runs a mode against a receiver, over HTTP, and returns what arrived until the process had ended.
fn live(arguments: &[&str], variables: &[(&str, &str)]) -> Option<(Child, Telemetry)> {
    let receiver = Receiver::start().unwrap().unrecorded();
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    all.extend(variables);
    Some((lifecycle(arguments, &all)?, receiver.stop()))
}

/// Runs a mode that must end well and without a word.
fn lives_well(arguments: &[&str]) -> Option<(Child, Telemetry)> {
    let (child, telemetry) = live(arguments, &[])?;
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    Some((child, telemetry))
}

#[test]
#[cfg(unix)]
fn a_child_without_exec_is_silent_and_its_parent_goes_on() {
    let Some((child, telemetry)) = lives_well(&["fork"]) else { return };
    assert_eq!(child.report["child"], json!(7), "the child's flush and exit: {}", child.report);
    assert!(child.report["seconds"].as_f64().unwrap() < 3.0, "{}", child.report);
    assert_eq!(telemetry.spans.len(), 20, "the parent's, before and after");
}

#[test]
#[cfg(unix)]
fn a_library_that_is_closed_leaves_its_threads_their_code() {
    let Some(path) = plugin() else { return };
    let Some((_, telemetry)) = lives_well(&["plugin", path.to_str().unwrap()]) else { return };
    assert_eq!(telemetry.spans.len(), 30, "three times ten, the last ones at the end of the process");
}

#[test]
fn exit_from_another_thread_delivers() {
    let Some((_, telemetry)) = lives_well(&["exit-in-thread"]) else { return };
    assert_eq!(telemetry.spans.len(), 20);
}

#[test]
fn exit_while_threads_are_at_work_is_clean() {
    let Some((child, telemetry)) = lives_well(&["exit-while-working"]) else { return };
    assert!(!telemetry.spans.is_empty());
    assert!(child.time < Duration::from_secs(8), "{:?}", child.time);
}

/// Runs a mode whose receiver never answers, to an end without an error.
fn unanswered(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Child> {
    let receiver = Receiver::start().unwrap().unrecorded();
    receiver.set_behaviour(Behaviour::Silent);
    let endpoint = receiver.http_endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")];
    all.extend(variables);
    let child = lifecycle(arguments, &all)?;
    assert_eq!(child.code, Some(0), "{arguments:?}: {}", child.stderr);
    Some(child)
}

/// `OTEL_BSP_EXPORT_TIMEOUT`, at most five seconds, and one more for the process itself.
#[test]
fn exit_during_an_export_waits_for_a_bounded_time() {
    thread::scope(|scope| {
        for (milliseconds, limit) in [("500", 0.5), ("5000", 5.0), ("30000", 5.0)] {
            scope.spawn(move || {
                let variables = [
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "30000"),
                    ("OTEL_BSP_EXPORT_TIMEOUT", milliseconds),
                    ("OTEL_BSP_SCHEDULE_DELAY", "10"),
                ];
                let Some(child) = unanswered(&["decode", "5000"], &variables) else { return };
                let seconds = child.time.as_secs_f64();
                assert!(seconds < limit + 1.0, "OTEL_BSP_EXPORT_TIMEOUT={milliseconds}: {seconds} s");
            });
        }
    });
}

/// A program of which one thread waits for an answer; the end of the process takes no longer.
fn beside_who_waits(mode: &str, timeout_ms: &str) -> Option<Child> {
    unanswered(&[mode, timeout_ms], &[("OTEL_BSP_EXPORT_TIMEOUT", "500")])
}

/// A load of a model asks for a start; nothing of that waits for whom another thread waits for.
#[test]
fn a_model_is_loaded_while_another_thread_flushes_or_shuts_down() {
    for mode in ["beside-flush", "beside-shutdown"] {
        let Some(child) = beside_who_waits(mode, "3000") else { return };
        let seconds = |key: &str| child.report[key].as_f64().unwrap();
        assert!(seconds("waited") > 2.0, "{mode}: it has the time that it was given: {}", child.report);
        assert!(seconds("seconds") < 0.5, "{mode}: nobody else waits: {}", child.report);
        assert_eq!(child.report["active"], json!(true), "{mode}: {}", child.report);
    }
}

#[test]
fn the_end_of_the_process_does_not_wait_for_another_thread_s_flush() {
    let Some(child) = beside_who_waits("exit-while-flushing", "60000") else { return };
    assert!(child.time < Duration::from_secs(5), "{:?}", child.time);
}

#[test]
fn static_and_thread_local_objects_may_record_in_any_order() {
    let Some((_, telemetry)) = lives_well(&["statics"]) else { return };
    let who: Vec<_> = telemetry.spans.iter().filter_map(|span| span.attribute("who")?.as_str()).collect();
    for name in ["thread", "constructed after telemetry"] {
        assert!(who.contains(&name), "{name} is missing: {who:?}");
    }
    assert!(!who.contains(&"constructed before telemetry"), "destroyed when telemetry had ended: {who:?}");
}

#[test]
fn two_starts_are_one_two_shutdowns_too_and_a_start_after_them_works() {
    let Some((child, telemetry)) = lives_well(&["double"]) else { return };
    for key in ["first", "second", "off", "on"] {
        assert_eq!(child.report[key], json!(true), "{key}: {}", child.report);
    }
    assert_eq!(telemetry.spans.len(), 20, "what came between the two lives is nobody's");
}

#[test]
fn contexts_may_be_freed_while_telemetry_shuts_down() {
    let Some((child, telemetry)) = lives_well(&["free-during-shutdown"]) else { return };
    assert!(!telemetry.spans.is_empty());
    assert!(child.time < Duration::from_secs(8), "{:?}", child.time);
}
