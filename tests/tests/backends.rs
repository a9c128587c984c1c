//! Every backend that can run here, really run: tokens, the device's spans, and its memory.
//!
//! `cargo xtask test` and `cargo xtask backends --run NAMES` build the program and name in
//! `LLAMA_OTEL_BACKENDS` what it was built for; in `LLAMA_OTEL_BACKENDS_MISSING` why the rest was not.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_otel_tests::{Run, arguments, at_most, prepared, run_program};
use otlp_receiver::model::Span;
use otlp_receiver::{Receiver, Telemetry};
use serde_json::{Value, json};

/// Few enough tokens that no library for matrices is asked.
const SHORT: &str = "A short prompt";
/// Enough that it is.
const LONG: &str = "The longer a prompt is, the more of it is multiplied at once, and by a library for that.";
const N_PREDICT: u64 = 12;

/// The program built for this backend; `None`, after saying why, where there is none.
fn program(backend: &str) -> Option<PathBuf> {
    let built = std::env::var("LLAMA_OTEL_BACKENDS").unwrap_or_default();
    if built.split(',').any(|name| name == backend) {
        return Some(prepared("LLAMA_OTEL_DEMO_BACKENDS"));
    }
    let missing = std::env::var("LLAMA_OTEL_BACKENDS_MISSING").unwrap_or_default();
    let reason = missing.lines().find_map(|line| line.strip_prefix(&format!("{backend}: ")));
    match reason {
        Some(reason) => println!("SKIP: no program for {backend}: {reason}"),
        None => println!("SKIP: no program for {backend}; `cargo xtask backends --run {backend}` builds and tests one"),
    }
    None
}

/// Generates greedily. The pause before anything is freed lets the memory in use be exported.
fn generate(program: &Path, prompt: &str, rest: &[&str], variables: &[(&str, &str)]) -> (Run, Telemetry) {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let endpoint = receiver.http_endpoint();
    let model = prepared("LLAMA_OTEL_TINY");
    let n_predict = N_PREDICT.to_string();
    let mut args = arguments(&model, &["--prompt", prompt, "--n-predict", &n_predict, "--n-ctx", "256"]);
    args.extend(["--ignore-eos", "--sleep-ms", "700"]);
    args.extend(rest);
    let mut all = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "150"),
        ("LLAMA_OTEL_DETAIL", "decode"),
    ];
    all.extend(variables);
    let run = run_program(program, &args, &all);
    (run, receiver.stop())
}

fn tokens(run: &Run) -> Vec<i64> {
    run.done();
    run.events("token").iter().filter_map(|event| event["id"].as_i64()).collect()
}

fn devices(run: &Run) -> Vec<(String, String)> {
    let events = run.events("devices");
    let list = events.first().and_then(|event| event["devices"].as_array()).cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.iter().map(|device| (text(&device["name"]), text(&device["kind"]))).collect()
}

fn initialised<'t>(telemetry: &'t Telemetry, device: &str) -> &'t Span {
    let spans = telemetry.spans_named("ggml_backend_dev_init");
    let of_device = spans.iter().find(|span| span.attribute("llama.device.name") == Some(&json!(device)));
    of_device.unwrap_or_else(|| panic!("no span of the initialisation of {device}: {spans:?}"))
}

/// What is the same for every backend: one span for each call, and llama.cpp's own counts.
fn check_generation(run: &Run, telemetry: &Telemetry) {
    let done = run.done();
    assert_eq!(
        telemetry.spans_named("llama_decode").len() as u64,
        N_PREDICT,
        "the prompt and every token but the last"
    );
    assert_eq!(telemetry.spans_named("llama_sample_token").len() as u64, N_PREDICT);
    let tokens = telemetry.metric("llama.token.count").expect("tokens are counted");
    let count = done["perf"]["n_p_eval"].as_f64().unwrap() + done["perf"]["n_eval"].as_f64().unwrap();
    assert_eq!(tokens.total(), count);
    assert!(telemetry.spans.iter().all(|span| !span.failed()));
    assert!(telemetry.metric("llama.otel.dropped").is_none());
    let memory = telemetry.metric("llama.memory.usage").expect("memory is measured");
    assert!(memory.latest().iter().all(|point| point.value.map(|value| value.as_f64()) == Some(0.0)), "all is freed");
}

/// The weights, the cache and the compute buffer lay on the device, and not on the processor.
fn check_memory_on(telemetry: &Telemetry, device: &str, model_size: f64) {
    let memory = telemetry.metric("llama.memory.usage").expect("memory is measured");
    for kind in ["model", "kv", "compute"] {
        let most = memory
            .points
            .iter()
            .filter(|point| point.attributes["llama.memory.kind"] == json!(kind))
            .filter(|point| point.attributes["llama.device.name"].as_str().is_some_and(|name| name.starts_with(device)))
            .filter_map(|point| point.value)
            .fold(0.0, |most: f64, value| most.max(value.as_f64()));
        assert!(most > 0.0, "no {kind} memory on {device}: {:?}", memory.points);
        if kind == "model" {
            // The embeddings of the tokens stay with the processor.
            assert!(most > model_size / 4.0 && most < model_size * 1.5, "{most} bytes of {model_size} on {device}");
        }
    }
}

/// What the device has is what ggml tells the program; of a GPU it is exported under the conventions' name too.
fn check_device_memory(run: &Run, telemetry: &Telemetry, device: &str, kind: &str) {
    let told = run.events("devices")[0]["devices"].as_array().unwrap().iter().find(|d| d["name"] == device).unwrap();
    let latest = |metric: &str, key: &str| {
        let metric = telemetry.metric(metric).unwrap_or_else(|| panic!("no metric {metric}"));
        metric.point(&[(key, json!(device))]).and_then(|point| point.value).map(|value| value.as_f64())
    };
    let limit = latest("llama.device.memory.limit", "llama.device.name");
    assert_eq!(limit, told["memory"].as_f64(), "{told}");
    let usage = latest("llama.device.memory.usage", "llama.device.name");
    assert!(usage.is_some_and(|usage| usage >= 0.0) && usage <= limit, "{usage:?} of {limit:?}");
    if kind == "gpu" {
        assert_eq!((latest("hw.gpu.memory.limit", "hw.id"), latest("hw.gpu.memory.usage", "hw.id")), (limit, usage));
    }
}

/// A device that computes beside the processor: everything is on it, and what is measured says so.
fn check_offload(run: &Run, telemetry: &Telemetry, device: &str, kind: &str) {
    check_generation(run, telemetry);
    assert!(devices(run).contains(&(device.to_owned(), kind.to_owned())), "{:?}", devices(run));
    let span = initialised(telemetry, device);
    assert_eq!(span.attribute("llama.device.type"), Some(&json!(kind)));
    let total = span.attribute("llama.device.memory.total").and_then(Value::as_f64).unwrap_or(0.0);
    assert!(total > 1e6, "the device has memory: {total}");
    check_device_memory(run, telemetry, device, kind);
    check_memory_on(telemetry, device, run.events("loaded")[0]["size"].as_f64().unwrap());
    // On an asynchronous device, the time of a decode is complete only after the wait.
    assert!(telemetry.spans_named("llama_synchronize").len() as u64 >= N_PREDICT, "every decode is waited for");
    let decode = telemetry.metric("llama.decode.duration").expect("decodes are timed");
    let measured: f64 = decode.latest().iter().filter_map(|point| point.sum).sum();
    let perf = &run.done()["perf"];
    let llama = (perf["t_p_eval_ms"].as_f64().unwrap() + perf["t_eval_ms"].as_f64().unwrap()) / 1e3;
    assert!((measured - llama).abs() <= 0.02 * llama + 2e-5, "{measured} s, llama.cpp says {llama} s");
}

#[test]
fn blas_multiplies_the_prompt() {
    let Some(program) = program("blas") else {
        return;
    };
    let (run, telemetry) = generate(&program, LONG, &[], &[]);
    check_generation(&run, &telemetry);
    let blas = "BLAS";
    assert!(devices(&run).contains(&(blas.to_owned(), "accel".to_owned())), "{:?}", devices(&run));
    assert_eq!(initialised(&telemetry, blas).attribute("llama.device.type"), Some(&json!("accel")));
    let start = telemetry.span("llama_backend_init").expect("a start");
    let names = start.attribute("llama.backend.devices").and_then(Value::as_array).cloned().unwrap_or_default();
    assert!(names.contains(&json!(blas)) && names.contains(&json!("CPU")), "{names:?}");
    assert_eq!(tokens(&run).len() as u64, N_PREDICT);

    // it computes one operation after another, so their times cost no more than the reading of a clock
    let (timed, telemetry) = generate(&program, LONG, &[], &[("LLAMA_OTEL_DETAIL", "op")]);
    assert_eq!(tokens(&timed), tokens(&run));
    assert_eq!(ops_on(&telemetry, blas), ["MUL_MAT"]);
    assert!(ops_on(&telemetry, "CPU").len() > 5, "and the rest is the processor's");
    let (_, telemetry) =
        generate(&program, LONG, &[], &[("LLAMA_OTEL_DETAIL", "op"), ("LLAMA_OTEL_OP_CALLBACK", "false")]);
    assert!(ops_on(&telemetry, blas).is_empty());
}

/// Names of the operations that were timed on this device. Their times are within those that it was busy.
fn ops_on(telemetry: &Telemetry, device: &str) -> Vec<String> {
    let count = telemetry.metric("ggml.op.count").expect("operations are counted").latest();
    let on_device = |attributes: &otlp_receiver::model::Attributes| attributes["llama.device.name"] == json!(device);
    let mut names: Vec<_> = count
        .iter()
        .filter(|point| on_device(&point.attributes))
        .map(|point| point.attributes["ggml.op"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    let duration = telemetry.metric("ggml.op.duration").expect("operations are timed").latest();
    let ops: f64 = duration.iter().filter(|p| on_device(&p.attributes)).filter_map(|p| p.sum).sum();
    let busy = telemetry.metric("llama.device.busy.time").expect("devices are busy").latest();
    let busy: f64 =
        busy.iter().filter(|p| on_device(&p.attributes)).filter_map(|p| p.value).map(|value| value.as_f64()).sum();
    assert!(at_most(ops, busy), "{device}: operations {ops} s, busy {busy} s");
    names
}

#[test]
fn vulkan_computes_on_its_device() {
    let Some(program) = program("vulkan") else {
        return;
    };
    // A driver in software is a device of the kind CPU, which ggml leaves out unless it is named.
    let variables = [("GGML_VK_VISIBLE_DEVICES", "0")];
    let (run, telemetry) = generate(&program, SHORT, &["--device", "Vulkan0"], &variables);
    if run.code == Some(2) {
        println!("SKIP: no Vulkan driver here ({}); on Debian: apt-get install mesa-vulkan-drivers", run.stderr.trim());
        return;
    }
    let (_, kind) = devices(&run).into_iter().find(|(name, _)| name == "Vulkan0").expect("the device was found");
    check_offload(&run, &telemetry, "Vulkan0", &kind);
    assert_eq!(tokens(&run).len() as u64, N_PREDICT);

    // it goes on by itself and computes operations together: only who asks for it has them timed one by one
    let device = ["--device", "Vulkan0"];
    let variables = [("GGML_VK_VISIBLE_DEVICES", "0"), ("LLAMA_OTEL_DETAIL", "op")];
    let (untimed, telemetry) = generate(&program, SHORT, &device, &variables);
    assert_eq!(tokens(&untimed), tokens(&run));
    assert!(ops_on(&telemetry, "Vulkan0").is_empty());
    let variables = [variables[0], variables[1], ("LLAMA_OTEL_OP_CALLBACK", "true")];
    let (timed, telemetry) = generate(&program, SHORT, &device, &variables);
    assert_eq!(tokens(&timed).len() as u64, N_PREDICT);
    let ops = ops_on(&telemetry, "Vulkan0");
    assert!(ops.len() > 5 && ops.contains(&"MUL_MAT".to_owned()), "{ops:?}");
}

#[test]
fn cuda_computes_on_its_device() {
    let Some(program) = program("cuda") else {
        return;
    };
    let (run, telemetry) = generate(&program, SHORT, &["--device", "CUDA0"], &[]);
    if run.code == Some(2) {
        println!("SKIP: no NVIDIA GPU with a driver here ({})", run.stderr.trim());
        return;
    }
    check_offload(&run, &telemetry, "CUDA0", "gpu");
    assert_eq!(tokens(&run).len() as u64, N_PREDICT);
}

#[test]
fn opencl_computes_on_its_device() {
    let Some(program) = program("opencl") else {
        return;
    };
    // ggml drops a driver in software as it drops every GPU for which it has no kernels
    let device = "GPUOpenCL";
    let (run, telemetry) = generate(&program, SHORT, &["--device", device], &[]);
    if run.code == Some(2) {
        println!("SKIP: no OpenCL driver with an Adreno or Intel GPU here ({})", run.stderr.trim());
        return;
    }
    check_offload(&run, &telemetry, device, "gpu");
    assert_eq!(tokens(&run).len() as u64, N_PREDICT);
}

#[test]
fn metal_computes_on_its_device() {
    let Some(program) = program("metal") else {
        return;
    };
    let probe = run_program(&program, &arguments(&prepared("LLAMA_OTEL_TINY"), &["--n-predict", "1"]), &[]);
    let Some((name, kind)) = devices(&probe).into_iter().find(|(name, _)| name.starts_with("MTL") || name == "Metal")
    else {
        println!("SKIP: no Apple GPU here: {:?}", devices(&probe));
        return;
    };
    let (run, telemetry) = generate(&program, SHORT, &["--device", &name], &[]);
    check_offload(&run, &telemetry, &name, &kind);
}

/// An RPC server in a process of its own. It ends when its standard input is closed.
struct Server {
    child: Child,
    endpoint: String,
    receiver: Receiver,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where a test fails before it stops the server.
        let _ = self.child.kill();
    }
}

impl Server {
    fn start(program: &Path) -> Server {
        let receiver = Receiver::start().expect("a receiver on the loopback");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let endpoint = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["--rpc-serve", &endpoint]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()).env("LLAMA_OTEL_DETAIL", "decode");
        let mut child = command.spawn().expect("the server starts");
        let limit = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&endpoint).is_err() {
            assert_eq!(child.try_wait().expect("its state"), None, "the server ended before it listened");
            assert!(Instant::now() < limit, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, endpoint, receiver }
    }

    /// Ends it as whoever started it would, and returns what it reported.
    fn stop(mut self) -> Telemetry {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("the server ends").success());
        self.receiver.snapshot()
    }
}

#[test]
fn rpc_computes_in_another_process_and_both_report() {
    let Some(program) = program("rpc") else {
        return;
    };
    let server = Server::start(&program);
    let endpoint = server.endpoint.clone();
    let (run, telemetry) = generate(&program, SHORT, &["--rpc", &endpoint, "--device", "RPC0"], &[]);
    check_offload(&run, &telemetry, "RPC0", "gpu");
    let (here, _) = generate(&program, SHORT, &[], &[]);
    assert_eq!(tokens(&run), tokens(&here), "the same code computes it, elsewhere");
    let served = server.stop();
    initialised(&served, "CPU");
    assert_eq!(served.spans_named("llama_backend_init").len(), 1);
    assert!(served.spans_named("llama_decode").is_empty(), "it computes graphs and knows no batches");
    assert!(served.spans_named(SERVED).is_empty(), "without LLAMA_OTEL_PROPAGATE_RPC nothing is carried");
}

const SERVED: &str = "llama_rpc_graph_compute";
const PROPAGATE: (&str, &str) = ("LLAMA_OTEL_PROPAGATE_RPC", "true");

#[test]
fn rpc_carries_one_trace() {
    let Some(program) = program("rpc") else {
        return;
    };
    let server = Server::start(&program);
    let endpoint = server.endpoint.clone();
    let (run, telemetry) = generate(&program, SHORT, &["--rpc", &endpoint, "--device", "RPC0"], &[PROPAGATE]);
    check_offload(&run, &telemetry, "RPC0", "gpu");
    let (here, _) = generate(&program, SHORT, &[], &[]);
    assert_eq!(tokens(&run), tokens(&here), "what is carried changes no token");
    let served = server.stop();
    let graphs = served.spans_named(SERVED);
    for decode in telemetry.spans_named("llama_decode") {
        let of_it =
            |graph: &&&Span| graph.trace_id == decode.trace_id && graph.parent.as_ref() == Some(&decode.span_id);
        assert!(graphs.iter().find(of_it).is_some(), "no graph of the batch {decode:?} in {graphs:?}");
    }
    for graph in &graphs {
        assert!(graph.attribute("llama.graph.nodes").and_then(Value::as_i64) > Some(0), "{graph:?}");
        assert_eq!(graph.attribute("llama.device.name"), Some(&json!("CPU")));
        assert!(telemetry.spans.iter().any(|span| Some(&span.span_id) == graph.parent.as_ref()), "{graph:?}");
    }
}

/// Upstream's own server knows nothing of what is carried.
#[test]
fn rpc_servers_without_telemetry_take_what_is_carried() {
    let Some(program) = program("rpc") else {
        return;
    };
    let Some(upstream) = std::env::var_os("LLAMA_OTEL_DEMO_RPC_PRISTINE").map(PathBuf::from) else {
        println!("SKIP: no server of upstream's own; `cargo xtask test` builds one");
        return;
    };
    let server = Server::start(&upstream);
    let endpoint = server.endpoint.clone();
    let arguments = ["--rpc", &endpoint, "--device", "RPC0"];
    let (run, telemetry) = generate(&program, SHORT, &arguments, &[PROPAGATE]);
    check_offload(&run, &telemetry, "RPC0", "gpu");
    let (plain, _) = generate(&program, SHORT, &arguments, &[]);
    assert_eq!(tokens(&run), tokens(&plain));
    assert!(server.stop().spans.is_empty());
}

#[test]
fn backends_are_found_when_the_program_runs() {
    let Some(program) = std::env::var_os("LLAMA_OTEL_DEMO_DYNAMIC").map(PathBuf::from) else {
        println!("SKIP: no program with dynamic backends; `cargo xtask backends --run dynamic` builds and tests one");
        return;
    };
    let (run, telemetry) = generate(&program, SHORT, &[], &[]);
    check_generation(&run, &telemetry);
    initialised(&telemetry, "CPU");
    let names: Vec<_> = devices(&run).into_iter().map(|(name, _)| name).collect();
    let built = std::env::var("LLAMA_OTEL_BACKENDS").unwrap_or_default();
    if built.split(',').any(|name| name == "blas") {
        assert!(names.contains(&"BLAS".to_owned()), "{names:?}");
    }
}
