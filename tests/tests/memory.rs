//! Memory and cells, against the sizes that llama.cpp logs, the state that it would save, and what the test itself put there.

use std::collections::BTreeMap;
use std::path::Path;

use llama_otel_tests::{Program, act, arguments, number, prepared, run_within};
use otlp_receiver::model::Metric;
use otlp_receiver::{Receiver, Telemetry};
use serde_json::json;
use tiny_gguf::{TinyHybrid, TinyModel, TinyRecurrent, Vocab};

const MIB: f64 = 1024.0 * 1024.0;

/// (device, kind) → MiB, summed over the lines `…: DEVICE KIND buffer size = N MiB` of the log.
fn logged(log: &str) -> BTreeMap<(String, String), (f64, u32)> {
    let mut sizes: BTreeMap<_, (f64, u32)> = BTreeMap::new();
    for line in log.lines() {
        let Some((left, right)) = line.split_once("buffer size =") else { continue };
        let words: Vec<&str> = left.split_whitespace().collect();
        let mib: f64 = right.trim().trim_end_matches("MiB").trim().parse().unwrap_or_else(|_| panic!("{line}"));
        let [.., device, kind] = words[..] else { panic!("{line}") };
        let kind = if kind == "RS" { "kv".to_owned() } else { kind.to_lowercase() };
        let sum = sizes.entry((device.to_owned(), kind)).or_default();
        sum.0 += mib;
        sum.1 += 1;
    }
    sizes
}

/// (device, kind) → the values of all exports, in order.
fn by_kind(metric: &Metric) -> BTreeMap<(String, String), Vec<f64>> {
    let name = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    metric
        .series()
        .into_iter()
        .map(|points| {
            let key =
                (name(&points[0].attributes["llama.device.name"]), name(&points[0].attributes["llama.memory.kind"]));
            (key, points.iter().map(|point| point.value.unwrap().as_f64()).collect())
        })
        .collect()
}

fn check_against_the_log(model: &Path, load: &str) {
    let script = format!("load {load}; context n_ctx=512; decode n=20; flush; unload");
    let (run, telemetry) = act(model, &script, &[]);
    let usage = by_kind(telemetry.metric("llama.memory.usage").unwrap());
    let logged = logged(&run.stderr);
    assert!(logged.len() >= 4, "model, kv, compute, output: {logged:?}\n{}", run.stderr);
    for (key, (mib, lines)) in &logged {
        let held = usage.get(key).unwrap_or_else(|| panic!("{key:?} is not in {usage:?}"))[0];
        // two digits are logged of each
        let tolerance = 0.005 * f64::from(*lines) + 1e-9;
        assert!((held / MIB - mib).abs() <= tolerance, "{key:?}: {held} By, llama.cpp logs {mib} MiB");
    }
    // each buffer is told where it was allocated, so that the spans say what a model or a context has on which device
    let mut told: BTreeMap<_, f64> = BTreeMap::new();
    let begin = ["llama_model_load.tensors", "llama_init_from_model", "llama_kv_cache_init"];
    for span in begin.iter().flat_map(|name| telemetry.spans_named(name)) {
        let events: Vec<_> = span.events.iter().filter(|event| event.name == "llama.allocated").collect();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        for event in &events {
            let key = (text(&event.attributes["llama.device.name"]), text(&event.attributes["llama.memory.kind"]));
            *told.entry(key).or_default() += event.attributes["llama.memory.size"].as_f64().unwrap();
        }
        if span.name == "llama_kv_cache_init" {
            let kv: f64 = events.iter().map(|event| event.attributes["llama.memory.size"].as_f64().unwrap()).sum();
            assert_eq!(number(span, "llama.memory.size"), kv);
            assert!(span.attribute("llama.model.name").is_some());
        }
    }
    for key in logged.keys() {
        assert_eq!(told.get(key), Some(&usage[key][0]), "{key:?}");
    }
    let on = |name: &str| number(telemetry.span(name).unwrap(), "llama.memory.size");
    let of = |kind: &str| told.iter().filter(|(key, _)| key.1 == kind).map(|(_, size)| size).sum::<f64>();
    assert_eq!(on("llama_model_load"), of("model"));
    assert_eq!(on("llama_init_from_model"), of("kv") + of("compute") + of("output") + of("other"));
    let init = telemetry.span("llama_init_from_model").unwrap();
    assert_eq!(number(init, "llama.context.compute.size"), of("compute"));
    assert_eq!(number(init, "llama.kv_cache.size"), of("kv"));
    // and nothing beside it but what llama.cpp does not log
    for key in usage.keys().filter(|key| !logged.contains_key(*key)) {
        assert_eq!(key.1, "other", "{usage:?} {logged:?}");
    }
    check_that_all_is_freed(&telemetry);
}

fn check_that_all_is_freed(telemetry: &Telemetry) {
    let usage = by_kind(telemetry.metric("llama.memory.usage").unwrap());
    let peak = by_kind(telemetry.metric("llama.memory.peak").unwrap());
    for (key, values) in &usage {
        assert_eq!(*values.last().unwrap(), 0.0, "{key:?} is freed");
        let highest = values.iter().copied().fold(0.0, f64::max);
        assert!(*peak[key].last().unwrap() >= highest.max(1.0), "{key:?}: {values:?}, peak {:?}", peak[key]);
    }
    let counts =
        |name: &str| by_kind(telemetry.metric(name).unwrap()).into_iter().map(|(key, v)| (key, *v.last().unwrap()));
    let (allocated, freed) = ("llama.memory.allocations", "llama.memory.deallocations");
    assert_eq!(counts(allocated).collect::<Vec<_>>(), counts(freed).collect::<Vec<_>>());
    let bytes =
        |name: &str| telemetry.metric(name).unwrap().latest().iter().map(|point| point.sum.unwrap()).sum::<f64>();
    let total = bytes("llama.memory.allocation.size");
    assert_eq!(total, bytes("llama.memory.deallocation.size"));
    assert!(total >= peak.values().map(|values| *values.last().unwrap()).sum());
    for name in ["usage", "limit"] {
        if let Some(cells) = telemetry.metric(&format!("llama.kv_cache.cells.{name}")) {
            assert_eq!(cells.total(), 0.0, "cells {name}: {:?}", cells.latest());
        }
    }
}

#[test]
fn memory_is_what_llama_cpp_logs_and_zero_when_all_is_freed() {
    check_against_the_log(&prepared("LLAMA_OTEL_TINY"), "mmap=0");
    check_against_the_log(&prepared("LLAMA_OTEL_TINY"), "mmap=1");
    check_against_the_log(&prepared("LLAMA_OTEL_GEMMA"), "mmap=1");
}

#[test]
fn the_kv_cache_is_as_large_as_the_state_that_fills_it() {
    let script = "load; context n_ctx=256 n_batch=256; state; decode n=256; state; flush";
    let (run, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), script, &[]);
    assert_eq!(run.acts("decode")[0]["ret"], 0);
    let sizes: Vec<f64> = run.acts("state").iter().map(|act| act["size"].as_f64().unwrap()).collect();
    let usage = by_kind(telemetry.metric("llama.memory.usage").unwrap());
    let kv = usage.iter().find(|(key, _)| key.1 == "kv").unwrap().1[0];
    let saved = sizes[1] - sizes[0];
    // the state has the cells' data, some bytes that describe each cell, and the logits of the last output
    let (cell, logits) = (64.0 * 256.0, 4.0 * 512.0);
    assert!(kv <= saved && saved <= kv + cell + logits, "{kv} By of cache, {saved} By of state");
}

#[test]
fn an_allocation_that_fails_is_counted_and_says_how_much_was_asked_for() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: address space is limited by `ulimit -v`");
        return;
    }
    // the cells themselves take 200 MB, their data 1 GB, which is not there
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let model = prepared("LLAMA_OTEL_TINY");
    let run = run_within(
        Some(1_000_000),
        Program::Instrumented,
        &arguments(&model, &["--verbose", "--act", "load; context n_ctx=4000000 n_batch=32"]),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", "decode")],
    );
    let telemetry = receiver.stop();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.acts("context")[0]["ok"], false, "{}", run.stderr);
    assert_eq!(telemetry.metric("llama.memory.allocation.failures").unwrap().total(), 1.0);
    let span = telemetry.span("llama_init_from_model").unwrap();
    assert_eq!(span.attribute("error.type"), Some(&json!("init_failed")));
    let failed =
        telemetry.spans.iter().flat_map(|span| &span.events).find(|event| event.name == "llama.allocation_failed");
    let failed = failed.unwrap_or_else(|| panic!("{:?}", telemetry.spans));
    assert_eq!(failed.attributes["llama.memory.kind"], "kv");
    assert!(failed.attributes["llama.memory.size"].as_u64().unwrap() >= 4_000_000 * 256, "{failed:?}");
    check_that_all_is_freed(&telemetry);
}

/// Cells in use after each flush, of this pool.
fn cells(telemetry: &Telemetry, what: &str, pool: &str) -> Vec<f64> {
    let metric = telemetry.metric(&format!("llama.kv_cache.cells.{what}")).unwrap();
    let series = metric.series();
    let of_pool = series.iter().find(|points| points[0].attributes["llama.kv_cache.pool"] == pool);
    of_pool.unwrap_or_else(|| panic!("{:?}", metric.points)).iter().map(|point| point.value.unwrap().as_f64()).collect()
}

/// Runs steps with a flush behind each, and returns the cells of the pool after each.
fn cells_after(model: &Path, context: &str, pool: &str, steps: &[&str]) -> Vec<f64> {
    let script: String = steps.iter().map(|step| format!("{step}; flush\n")).collect();
    let (run, telemetry) = act(model, &format!("load\ncontext {context}\n{script}"), &[]);
    assert!(run.acts("flush").iter().all(|act| act["delivered"] == true), "{:?}", run.events);
    let mut used = cells(&telemetry, "usage", pool);
    let freed = used.split_off(steps.len());
    assert!(!freed.is_empty() && freed.iter().all(|used| *used == 0.0), "freed with the context: {freed:?}");
    used
}

#[test]
fn cells_are_what_the_test_decoded_in_a_cache_for_each_sequence() {
    let steps = [
        ("batch tokens=0:5,1:3", 8.0),
        ("decode seq=0 n=1", 9.0),
        ("rm seq=0 p0=4", 7.0),
        ("cp src=0 dst=1", 8.0),
        ("rm seq=1 p0=0 p1=2", 6.0),
        ("clear", 0.0),
        ("decode seq=0 n=3", 3.0),
    ];
    let used = cells_after(&prepared("LLAMA_OTEL_TINY"), "n_ctx=512 n_seq=2", "full", &steps.map(|(step, _)| step));
    assert_eq!(used, steps.map(|(_, used)| used));
}

#[test]
fn cells_are_what_the_test_decoded_in_one_cache_for_all_sequences() {
    let steps = [
        ("decode seq=0 n=6", 6.0),
        ("cp src=0 dst=1", 6.0), // the same cells
        ("decode seq=1 n=1", 7.0),
        ("decode seq=0 n=3", 10.0),
        ("keep seq=1", 7.0),
        ("add seq=1 p0=0 p1=-1 delta=-2", 5.0), // two are shifted out of the window
        ("decode seq=1 n=1", 6.0),
        ("rm seq=1", 0.0),
    ];
    let used =
        cells_after(&prepared("LLAMA_OTEL_TINY"), "n_ctx=512 n_seq=2 unified=1", "full", &steps.map(|(step, _)| step));
    assert_eq!(used, steps.map(|(_, used)| used));
}

#[test]
fn a_full_cache_is_full_and_a_batch_without_a_slot_changes_nothing() {
    let script = "load\ncontext n_ctx=256 n_batch=256\ndecode n=256\nflush\ndecode n=1\nflush";
    let (run, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), script, &[]);
    assert_eq!(run.acts("decode").iter().map(|act| act["ret"].clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);
    assert_eq!(cells(&telemetry, "usage", "full")[..2], [256.0, 256.0]);
    assert_eq!(cells(&telemetry, "limit", "full")[0], 256.0);
    assert_eq!(cells(&telemetry, "utilization", "full")[0], 1.0);
}

#[test]
fn a_model_with_a_sliding_window_has_two_pools() {
    let (_, telemetry) =
        act(&prepared("LLAMA_OTEL_GEMMA"), "load\ncontext n_ctx=2048 swa_full=0\ndecode n=30\nflush", &[]);
    assert_eq!(cells(&telemetry, "usage", "full")[0], 30.0);
    assert_eq!(cells(&telemetry, "usage", "swa")[0], 30.0);
    assert_eq!(cells(&telemetry, "limit", "full")[0], 2048.0);
    let window = cells(&telemetry, "limit", "swa")[0];
    assert!((512.0..2048.0).contains(&window), "the window of 512 and room for a batch: {window}");
}

#[test]
fn a_recurrent_model_has_a_state_for_each_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mamba.gguf");
    TinyRecurrent::default().write(&model).unwrap();
    let steps = [
        ("decode seq=0 n=5", 1.0),
        ("decode seq=1 n=2", 2.0),
        ("decode seq=0 n=1", 2.0),
        ("rm seq=0", 1.0),
        ("clear", 0.0),
    ];
    let used = cells_after(&model, "n_ctx=512 n_seq=4", "recurrent", &steps.map(|(step, _)| step));
    assert_eq!(used, steps.map(|(_, used)| used));
    check_against_the_log(&model, "mmap=0");
}

#[test]
fn a_hybrid_model_has_cells_and_states() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("jamba.gguf");
    TinyHybrid::default().write(&model).unwrap();
    let steps = [
        ("decode seq=0 n=5", 5.0, 1.0),
        ("decode seq=1 n=2", 7.0, 2.0),
        ("decode seq=0 n=1", 8.0, 2.0),
        ("rm seq=0", 2.0, 1.0),
        ("cp src=1 dst=2", 4.0, 1.0), // the state is both's until one goes on
        ("decode seq=2 n=1", 5.0, 2.0),
        ("clear", 0.0, 0.0),
    ];
    for (pool, expected) in
        [("full", steps.map(|(_, cells, _)| cells)), ("recurrent", steps.map(|(.., states)| states))]
    {
        let used = cells_after(&model, "n_ctx=512 n_seq=4", pool, &steps.map(|(step, ..)| step));
        assert_eq!(used, expected, "{pool}");
    }
    check_against_the_log(&model, "mmap=0");
}

/// (pool, cells, layers) of each part of the memory of a context.
fn pools(model: &Path, context: &str) -> Vec<(String, f64, f64)> {
    let script = format!("load\ncontext {context}\ndecode n=1\nflush");
    let (_, telemetry) = act(model, &script, &[("LLAMA_OTEL_DETAIL", "request")]);
    let span = telemetry.span("llama_kv_cache_init").unwrap();
    let created = span.events.iter().filter(|event| event.name == "llama.kv_cache.pool_created");
    let pools: Vec<_> = created
        .map(|event| {
            let number = |key: &str| event.attributes[key].as_f64().unwrap();
            let pool = event.attributes["llama.kv_cache.pool"].as_str().unwrap().to_owned();
            (pool, number("llama.kv_cache.cells.total"), number("llama.kv_cache.n_layer"))
        })
        .collect();
    for (pool, total, _) in &pools {
        assert_eq!(cells(&telemetry, "limit", pool)[0], *total, "{pool}: as the batch says");
    }
    let init = telemetry.span("llama_init_from_model").unwrap();
    for key in ["llama.kv_cache.type_k", "llama.kv_cache.type_v"] {
        assert_eq!(init.attribute(key), Some(&json!("f16")), "upstream's default");
    }
    pools
}

#[test]
fn a_context_s_memory_is_created_part_by_part() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| folder.path().join(name);
    let (mamba, jamba) = (write("mamba.gguf"), write("jamba.gguf"));
    TinyRecurrent::default().write(&mamba).unwrap();
    TinyHybrid { layers: 5, ..TinyHybrid::default() }.write(&jamba).unwrap();
    let part = |pool: &str, cells: u32, layers: u32| (pool.to_owned(), f64::from(cells), f64::from(layers));
    assert_eq!(pools(&prepared("LLAMA_OTEL_TINY"), "n_ctx=512 n_seq=2"), [part("full", 512, 2)]);
    assert_eq!(pools(&mamba, "n_ctx=512 n_seq=4"), [part("recurrent", 4, 2)]);
    assert_eq!(pools(&jamba, "n_ctx=512 n_seq=2"), [part("full", 512, 2), part("recurrent", 2, 3)]);
    // of Gemma's 18 layers, every sixth sees the whole context
    let gemma = pools(&prepared("LLAMA_OTEL_GEMMA"), "n_ctx=2048 swa_full=0");
    assert_eq!(gemma[0], part("full", 2048, 3));
    assert_eq!((gemma[1].0.as_str(), gemma[1].2), ("swa", 15.0));
}

#[test]
fn a_batch_whose_logits_have_no_room_is_an_allocation_that_failed() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: address space is limited by setrlimit, and counted in /proc");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("wide.gguf");
    TinyModel { vocab: Vocab::None(100_000), ..TinyModel::smallest() }.write(&model).unwrap();
    let (facts, telemetry) = llama_otel_tests::scenario(
        env!("CARGO_BIN_EXE_llama-otel-scenario"),
        &[Path::new("no-memory"), &model],
        "decode",
    );
    assert_eq!(facts["status"], json!(-2));
    let decodes = telemetry.spans_named("llama_decode");
    let errors: Vec<_> = decodes.iter().map(|span| span.attribute("error.type").cloned()).collect();
    assert_eq!(errors, [None, Some(json!("alloc_failed")), None]);
    let failed = decodes[1].events.iter().find(|event| event.name == "llama.allocation_failed").unwrap();
    assert_eq!(failed.attributes["llama.memory.kind"], json!("output"));
    assert!(failed.attributes["llama.memory.size"].as_u64() >= facts["bytes"].as_u64());
    let counted = telemetry.metric("llama.error.count").unwrap();
    let attributes = [("llama.operation", json!("llama_decode")), ("error.type", json!("alloc_failed"))];
    assert_eq!(counted.point(&attributes).unwrap().value.unwrap().as_f64(), 1.0);
}
