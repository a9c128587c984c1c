//! Graphs, operations and devices, against what llama.cpp itself counts.

use std::collections::BTreeMap;

use llama_otel_tests::{Program, act, arguments, at_most, prepared, run};
use otlp_receiver::Telemetry;
use otlp_receiver::model::Metric;
use serde_json::json;

const SCRIPT: &str = "load; context n_ctx=512 count_ops=@; decode n=20; decode n=1; decode n=1; perf; ops";

/// Sum by operation.
fn by_op(metric: &Metric) -> BTreeMap<String, f64> {
    let name = |attributes: &otlp_receiver::model::Attributes| attributes["ggml.op"].as_str().unwrap().to_owned();
    metric
        .latest()
        .iter()
        .map(|p| (name(&p.attributes), p.value.map_or_else(|| p.sum.unwrap(), |v| v.as_f64())))
        .collect()
}

fn sum(telemetry: &Telemetry, metric: &str) -> f64 {
    let points = telemetry.metric(metric).unwrap_or_else(|| panic!("no {metric}")).latest();
    points.iter().map(|p| p.value.map_or_else(|| p.sum.unwrap(), |v| v.as_f64())).sum()
}

/// What the scheduler's callback of a program over the pristine tree is asked about, without the views.
fn counted_by_ggml(model: &std::path::Path) -> BTreeMap<String, f64> {
    let run = run(Program::Pristine, &arguments(model, &["--act", &SCRIPT.replace('@', "1")]), &[]);
    let ops = run.acts("ops")[0]["ops"].as_object().unwrap().clone();
    let views = ["NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"];
    ops.into_iter().filter(|(op, _)| !views.contains(&op.as_str())).map(|(op, n)| (op, n.as_f64().unwrap())).collect()
}

/// One run, and how much of the device's busy time the operations take.
fn operations_share(model: &std::path::Path, callback: &str, expected: &BTreeMap<String, f64>) -> f64 {
    let variables = [("LLAMA_OTEL_DETAIL", "op"), ("LLAMA_OTEL_OP_CALLBACK", callback)];
    let (_, telemetry) = act(model, &SCRIPT.replace('@', "0"), &variables);
    let mut counts = by_op(telemetry.metric("ggml.op.count").unwrap());
    if callback == "false" {
        // what the CPU backend computes together with the operation before it is that operation's
        let (fused, all) = (counts.insert("MUL".into(), expected["MUL"]), expected["MUL"]);
        assert!(fused.unwrap_or(0.0) <= all, "{fused:?} of {all}");
    }
    assert_eq!(&counts, expected, "callback {callback}");

    let ops = by_op(telemetry.metric("ggml.op.duration").unwrap());
    let (ops, busy) = (ops.values().sum::<f64>(), sum(&telemetry, "llama.device.busy.time"));
    let graphs = sum(&telemetry, "llama.graph.compute.duration");
    assert!(at_most(ops, busy), "operations {ops} s, device {busy} s");
    assert!(at_most(busy, graphs), "device {busy} s, graphs {graphs} s");
    ops / busy
}

#[test]
fn operations_are_those_that_ggml_computes_and_their_times_add_up() {
    for model in ["LLAMA_OTEL_TINY", "LLAMA_OTEL_GEMMA"] {
        let model = prepared(model);
        let expected = counted_by_ggml(&model);
        for callback in ["false", "true"] {
            // What is missing between the operations is other programs' where they take the processor: less than half, once.
            let mut shares = (0..5).map(|_| operations_share(&model, callback, &expected));
            assert!(
                shares.any(|share| share > 0.5),
                "in five runs less than half of the device's time was in operations"
            );
        }
    }
}

#[test]
fn below_detail_op_no_operation_is_timed() {
    let (_, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), &SCRIPT.replace('@', "0"), &[]);
    assert!(telemetry.metric("ggml.op.count").is_none() && telemetry.metric("ggml.op.duration").is_none());
    assert!(telemetry.metric("llama.device.busy.time").is_some());
}

#[test]
fn graphs_are_those_that_llama_cpp_computed() {
    let (run, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), &SCRIPT.replace('@', "0"), &[]);
    let perf = run.acts("perf")[0];
    assert_eq!(telemetry.metric("llama.graph.compute.duration").unwrap().count(), 3);
    let reuses = telemetry.metric("llama.graph.compute.reuses").map_or(0.0, Metric::total);
    assert_eq!(reuses, perf["n_reused"].as_f64().unwrap());
    assert!(reuses >= 1.0, "the second token's graph is the first one's");
    let evaluated = (perf["t_p_eval_ms"].as_f64().unwrap() + perf["t_eval_ms"].as_f64().unwrap()) / 1e3;
    let graphs = sum(&telemetry, "llama.graph.compute.duration");
    assert!(at_most(graphs, evaluated), "graphs {graphs} s, llama.cpp says {evaluated} s for evaluating");
    let splits = telemetry.metric("llama.graph.compute.splits").unwrap().latest();
    assert!(splits.iter().all(|point| point.mean() == Some(1.0)), "one device: {splits:?}");
    let nodes = telemetry.metric("llama.graph.compute.nodes").unwrap().latest();
    assert!(nodes.iter().all(|point| point.min > Some(20.0)), "{nodes:?}");
    let built: u64 = nodes.iter().filter_map(|point| point.count).sum();
    assert_eq!(built as f64 + reuses, 3.0, "each of the three graphs was built, or is one that was");
}

#[test]
fn the_devices_are_on_the_span_of_the_backends() {
    let (run, telemetry) = act(&prepared("LLAMA_OTEL_TINY"), "load; context", &[]);
    let span = telemetry.span("llama_backend_init").unwrap();
    assert_eq!(span.attribute("llama.backend.count"), Some(&json!(1)));
    assert_eq!(span.attribute("llama.backend.devices"), Some(&json!(["CPU"])));
    let devices: Vec<_> = span.events.iter().filter(|event| event.name == "llama.device").collect();
    assert_eq!(devices.len(), 1, "{:?}", span.events);
    let device = &devices[0].attributes;
    assert_eq!((&device["llama.device.name"], &device["llama.backend.name"]), (&json!("CPU"), &json!("CPU")));
    assert_eq!(device["llama.device.type"], "cpu");
    let named = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if let Some(line) = named.lines().find(|line| line.starts_with("model name")) {
        let name = line.split_once(':').unwrap().1.trim();
        assert_eq!(device["llama.device.description"].as_str().unwrap().trim(), name);
    }
    let free = device["llama.device.memory.free"].as_f64().unwrap();
    assert!(free > 0.0 && free <= device["llama.device.memory.total"].as_f64().unwrap(), "{free}");
    // what the system says, within what other programs take meanwhile
    let total = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        total.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<f64>().ok());
    if let Some(kib) = total {
        let reported = device["llama.device.memory.total"].as_f64().unwrap();
        assert!((reported / 1024.0 - kib).abs() < 0.02 * kib, "{reported} By, the system has {kib} KiB");
        let limit = telemetry.metric("llama.device.memory.limit").unwrap();
        assert_eq!(limit.latest()[0].value.unwrap().as_f64(), reported);
    }
    let usage = telemetry.metric("llama.device.memory.usage").unwrap().latest();
    assert!(usage[0].value.unwrap().as_f64() >= 0.0 && usage[0].attributes["llama.device.name"] == json!("CPU"));
    let init = telemetry.spans_named("ggml_backend_dev_init");
    assert!(
        !init.is_empty() && init.iter().all(|span| span.attribute("llama.backend.name") == Some(&json!("CPU"))),
        "{}",
        run.stderr
    );
}

#[test]
fn a_physical_batch_says_what_its_graph_took() {
    let model = prepared("LLAMA_OTEL_TINY");
    // what is missing between the parts is another program's where it takes the processor just then: so once in five runs
    let mut shares = (0..5).map(|_| smallest_share_of_parts(&model));
    assert!(shares.any(|share| share > 0.3), "in five runs the parts were less than a third of a physical batch");
}

/// One run of three physical batches; the smallest part of one of them that building, allocating and computing its graph took.
fn smallest_share_of_parts(model: &std::path::Path) -> f64 {
    let (_, telemetry) = act(model, &SCRIPT.replace('@', "0"), &[("LLAMA_OTEL_DETAIL", "op")]);
    let ubatches = telemetry.spans_named("llama_ubatch");
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!((ubatches.len(), decodes.len()), (3, 3));
    // the third token's graph is the second one's
    let shares = [false, false, true].into_iter().enumerate().map(|(i, reused)| {
        let (ubatch, decode) = (ubatches[i], decodes[i]);
        assert_eq!(decode.attribute("llama.graph.reused"), Some(&json!(reused)), "{i}");
        let time = |key: &str| ubatch.attribute(key).and_then(|value| value.as_f64());
        let (build, alloc) = (time("llama.graph.build.time"), time("llama.graph.alloc.time"));
        assert_eq!((build.is_some(), alloc.is_some()), (!reused, !reused), "{i}");
        assert!(reused || (build > Some(0.0) && alloc > Some(0.0)), "{i}: {build:?} {alloc:?}");
        let parts = build.unwrap_or(0.0) + alloc.unwrap_or(0.0) + time("llama.graph.compute.time").unwrap();
        let whole = (ubatch.end_unix_nano - ubatch.start_unix_nano) as f64 / 1e9;
        assert!(at_most(parts, whole), "{i}: {parts} s of {whole} s");
        parts / whole
    });
    shares.fold(1.0, f64::min)
}
