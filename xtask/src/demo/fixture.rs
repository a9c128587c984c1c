//! Telemetry as a run leaves it, made up: what the reports are tried on.

use otlp_receiver::Telemetry;
use otlp_receiver::model::{
    Attributes, Event, Metric, MetricKind, Number, Point, Span, SpanKind, Status, StatusCode, Temporality,
};
use serde_json::{Value, json};

/// What the run below holds at its peak, in bytes.
pub const PEAK_MEMORY: f64 = 291_000_000.0 + 9_437_184.0 + 15_728_640.0 + 1_048_576.0;

const EPOCH: u64 = 1_795_600_000_000_000_000;

/// Where simulated time stands, and what was recorded.
struct Simulation {
    now: u64,
    spans: Vec<Span>,
    state: u64,
}

impl Simulation {
    fn new() -> Self {
        Self { now: EPOCH, spans: Vec::new(), state: 7 }
    }

    /// A uniform number in 0..1, the same in each run.
    fn random(&mut self) -> f64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as f64 / (1_u64 << 31) as f64
    }

    fn wait(&mut self, micros: f64) {
        self.now += (micros * 1e3) as u64;
    }

    fn open(&mut self, name: &str, parent: Option<usize>) -> usize {
        let index = self.spans.len();
        let parent = parent.and_then(|parent| self.spans.get(parent));
        self.spans.push(Span {
            name: name.to_owned(),
            trace_id: parent.map_or(format!("{:032x}", index + 1), |parent| parent.trace_id.clone()),
            span_id: format!("{:016x}", index + 1),
            parent: parent.map(|parent| parent.span_id.clone()),
            start_unix_nano: self.now,
            end_unix_nano: self.now,
            attributes: Attributes::new(),
            events: vec![],
            links: vec![],
            status: Status { code: StatusCode::Ok, message: String::new() },
            trace_state: String::new(),
            kind: SpanKind::Internal,
        });
        index
    }

    fn close(&mut self, index: usize, attributes: Value) {
        let span = &mut self.spans[index];
        span.end_unix_nano = self.now;
        if let Value::Object(map) = attributes {
            span.attributes = map.into_iter().collect();
        }
    }

    fn span(&mut self, name: &str, parent: Option<usize>, micros: f64, attributes: Value) -> usize {
        let index = self.open(name, parent);
        self.wait(micros);
        self.close(index, attributes);
        index
    }

    fn fail(&mut self, index: usize, error_type: &str, message: &str) {
        let span = &mut self.spans[index];
        span.status = Status { code: StatusCode::Error, message: message.to_owned() };
        span.attributes.insert("error.type".to_owned(), json!(error_type));
    }

    fn backend_init(&mut self) {
        let devices = json!(["CPU|cpu|Some processor|25769803776|21474836480"]);
        self.span(
            "llama_backend_init",
            None,
            1_240.0,
            json!({ "llama.backend.count": 1, "llama.backend.devices": devices }),
        );
        self.wait(180.0);
    }

    fn load(&mut self, model: &str) {
        let load = self.open("llama_model_load", None);
        self.wait(3_000.0);
        self.span("llama_model_load.hparams", Some(load), 900.0, json!({}));
        self.span("llama_model_load.vocab", Some(load), 92_000.0, json!({ "llama.model.n_tokens": 262_144 }));
        let tensors = json!({ "llama.model.n_tensors": 236, "llama.model.size": 291_000_000 });
        self.span("llama_model_load.tensors", Some(load), 8_400.0, tensors.clone());
        self.span("llama_model_load.data", Some(load), 214_000.0, tensors);
        self.wait(1_500.0);
        self.close(
            load,
            json!({
                "llama.model.name": model, "llama.model.file": "gemma-3-270m-Q8_0.gguf", "llama.model.arch": "gemma3",
                "llama.model.ftype": "Q8_0", "llama.model.n_params": 268_098_176, "llama.model.size": 291_000_000,
                "llama.model.n_tokens": 262_144, "llama.model.n_layer": 18, "llama.model.n_ctx_train": 32_768,
                "llama.model.n_tensors": 236, "llama.model.use_mmap": true, "llama.model.load.outcome": "ok",
            }),
        );
        self.wait(420.0);
    }

    fn context(&mut self) {
        let context = self.open("llama_init_from_model", None);
        self.wait(600.0);
        self.span("llama_kv_cache_init", Some(context), 4_100.0, json!({}));
        self.wait(7_300.0);
        self.close(
            context,
            json!({
                "llama.alias": "llama_new_context_with_model", "llama.context.id": 1, "llama.context.n_ctx": 512,
                "llama.context.n_batch": 512, "llama.context.n_ubatch": 512, "llama.context.n_seq_max": 1,
                "llama.context.n_threads": 1, "llama.context.flash_attn": "enabled", "llama.kv_cache.size": 9_437_184,
            }),
        );
        self.wait(900.0);
    }

    fn decode(&mut self, tokens: u64, used: u64) -> usize {
        let phase = if tokens > 1 { "prefill" } else { "decode" };
        let jitter = self.random();
        let slow = if used == 31 { 14_000.0 } else { 0.0 };
        let micros = if tokens > 1 { 31_000.0 } else { 21_500.0 + 2_600.0 * jitter * jitter + slow };
        self.span(
            "llama_decode",
            None,
            micros,
            json!({
                "llama.context.id": 1, "llama.batch.n_tokens": tokens, "llama.batch.n_outputs": 1,
                "llama.batch.n_seqs": 1, "llama.batch.n_ubatches": 1, "llama.decode.phase": phase,
                "llama.decode.status": "ok", "llama.kv_cache.cells.used": used, "llama.kv_cache.cells.total": 512,
                "llama.graph.reused": tokens == 1,
            }),
        )
    }

    fn sample(&mut self) {
        self.wait(20.0);
        let micros = 640.0 + 210.0 * self.random();
        self.span(
            "llama_sample_token",
            None,
            micros,
            json!({ "llama.sampling.chain": ["greedy"], "llama.sampling.candidates": 262_144 }),
        );
        self.wait(60.0);
    }

    fn free(&mut self) {
        self.wait(300.0);
        self.span(
            "llama_free",
            None,
            1_700.0,
            json!({
                "llama.context.id": 1, "llama.context.tokens_evaluated": 69, "llama.context.t_eval_us": 1_460_000,
                "llama.memory.size": 26_214_400,
            }),
        );
        self.span("llama_model_free", None, 8_800.0, json!({ "llama.memory.size": 291_000_000 }));
    }

    fn finish(mut self, metrics: Vec<Metric>) -> Telemetry {
        self.spans.sort_by_key(|span| (span.start_unix_nano, std::cmp::Reverse(span.end_unix_nano)));
        let resource = json!({
            "service.name": "llama-otel-demo", "telemetry.sdk.language": "rust", "telemetry.sdk.name": "opentelemetry",
            "llama.version": "0.6.0", "llama.commit": "9e3b928fd8c9", "llama.build.number": 9812,
            "ggml.backends": ["CPU"], "os.type": "linux", "process.pid": 4242,
        });
        let Value::Object(resource) = resource else { unreachable!("an object above") };
        Telemetry { spans: self.spans, metrics, resource: resource.into_iter().collect(), logs: vec![] }
    }
}

/// A run of 6 prompt and 64 generated tokens on one thread.
pub fn run(model: &str) -> Telemetry {
    let mut it = Simulation::new();
    it.backend_init();
    it.load(model);
    it.context();
    let generation = it.open("llama_generation", None);
    let start = it.now;
    let mut metrics = Metrics::new(model, &it);
    it.decode(6, 6);
    it.sample();
    let first = it.now;
    metrics.decoded(&it, 6);
    for used in 7..70 {
        it.decode(1, used);
        it.sample();
        metrics.decoded(&it, used);
    }
    let per_token = (it.now - first) as f64 / 63e9;
    let to_first = (first - start) as f64 / 1e9;
    it.close(
        generation,
        json!({
            "llama.context.id": 1, "llama.sequence.id": 0, "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "llama.cpp", "gen_ai.request.model": model, "gen_ai.usage.input_tokens": 6,
            "gen_ai.usage.output_tokens": 64, "llama.generation.time_to_first_token": to_first,
            "llama.generation.time_per_output_token": per_token, "llama.generation.prompt.throughput": 6.0 / 0.031,
            "llama.generation.decode.throughput": 1.0 / per_token, "llama.generation.finish": "freed",
        }),
    );
    it.free();
    let metrics = metrics.finish(&it, to_first, per_token);
    it.finish(metrics)
}

/// A run whose fourth decode finds no slot in the KV cache.
pub fn failed_decode(model: &str) -> Telemetry {
    let mut it = Simulation::new();
    it.backend_init();
    it.load(model);
    it.context();
    it.decode(6, 6);
    for used in 7..17 {
        it.sample();
        it.decode(1, used);
    }
    it.sample();
    let failed = it.decode(1, 16);
    it.spans[failed].attributes.insert("llama.decode.status".to_owned(), json!("no_kv_slot"));
    it.fail(failed, "no_kv_slot", "llama_decode returned 1: no free slot in the KV cache");
    let time_unix_nano = it.now - 400_000;
    let attributes = [("llama.batch.n_tokens".to_owned(), json!(1))].into();
    it.spans[failed].events.push(Event { name: "exception".to_owned(), time_unix_nano, attributes });
    it.free();
    it.finish(vec![])
}

/// A run whose model file does not exist.
pub fn failed_load(file: &str) -> Telemetry {
    let mut it = Simulation::new();
    it.backend_init();
    let load = it.span("llama_model_load", None, 310.0, json!({ "llama.model.file": file }));
    it.fail(load, "file_not_found", &format!("failed to open GGUF file '{file}'"));
    it.finish(vec![])
}

/// Metrics of a run, exported each 200 ms.
struct Metrics {
    metrics: Vec<Metric>,
    model: String,
    next_export: u64,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    sample: Vec<f64>,
}

const MEMORY: [(&str, i64); 4] =
    [("model", 291_000_000), ("kv", 9_437_184), ("compute", 15_728_640), ("output", 1_048_576)];

impl Metrics {
    fn new(model: &str, it: &Simulation) -> Self {
        let (prefill, decode, sample) = (vec![], vec![], vec![]);
        Self { metrics: vec![], model: model.to_owned(), next_export: it.now, prefill, decode, sample }
    }

    fn decoded(&mut self, it: &Simulation, used: u64) {
        let latest: Vec<_> = it.spans.iter().rev().take(2).map(Span::seconds).collect();
        self.sample.push(latest[0]);
        if used == 6 {
            self.prefill.push(latest[1])
        } else {
            self.decode.push(latest[1])
        }
        if it.now >= self.next_export {
            self.export(it.now, used as f64, true);
            self.next_export = it.now + 200_000_000;
        }
    }

    fn finish(mut self, it: &Simulation, to_first: f64, per_token: f64) -> Vec<Metric> {
        self.export(it.now, 0.0, false);
        let model = json!({ "gen_ai.operation.name": "text_completion", "gen_ai.request.model": self.model });
        self.histogram("gen_ai.server.time_to_first_token", "s", it.now, &model, &[to_first]);
        self.histogram("gen_ai.server.time_per_output_token", "s", it.now, &model, &[per_token]);
        let model = json!({ "llama.model.name": self.model });
        self.histogram("llama.model.load.duration", "s", it.now, &model, &[0.3198]);
        self.value("llama.model.load.tensors", "{tensor}", true, it.now, &model, Number::Int(236));
        self.metrics.sort_by(|a, b| a.name.cmp(&b.name));
        self.metrics
    }

    fn export(&mut self, now: u64, used: f64, holds: bool) {
        let (prefill, decode) = (json!({ "llama.decode.phase": "prefill" }), json!({ "llama.decode.phase": "decode" }));
        for (phase, durations) in [(&prefill, self.prefill.clone()), (&decode, self.decode.clone())] {
            if !durations.is_empty() {
                self.histogram("llama.decode.duration", "s", now, phase, &durations);
                let tokens = if phase == &prefill { 6 } else { durations.len() as i64 };
                self.value("llama.token.count", "{token}", true, now, phase, Number::Int(tokens));
            }
        }
        self.histogram("llama.sampler.duration", "s", now, &json!({}), &self.sample.clone());
        for (kind, bytes) in MEMORY {
            let attributes = json!({ "llama.device.name": "CPU", "llama.memory.kind": kind });
            let (bytes, highest) = (if holds { bytes } else { 0 }, bytes);
            self.value("llama.memory.usage", "By", false, now, &attributes, Number::Int(bytes));
            self.gauge("llama.memory.peak", "By", now, &attributes, highest as f64);
        }
        let pool = json!({ "llama.context.id": 1, "llama.kv_cache.pool": "full" });
        self.gauge("llama.kv_cache.cells.usage", "{cell}", now, &pool, used);
        self.gauge("llama.kv_cache.cells.utilization", "1", now, &pool, used / 512.0);
    }

    fn add(&mut self, name: &str, unit: &str, kind: MetricKind, monotonic: bool, point: Point) {
        if let Some(metric) = self.metrics.iter_mut().find(|metric| metric.name == name) {
            metric.points.push(point);
            return;
        }
        let temporality = if kind == MetricKind::Gauge { Temporality::Unspecified } else { Temporality::Cumulative };
        self.metrics.push(Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            kind,
            monotonic,
            temporality,
            description: format!("What {name} says."),
            points: vec![point],
        });
    }

    fn value(&mut self, name: &str, unit: &str, monotonic: bool, now: u64, attributes: &Value, value: Number) {
        let point = Point { value: Some(value), ..point(now, attributes) };
        self.add(name, unit, MetricKind::Sum, monotonic, point);
    }

    fn gauge(&mut self, name: &str, unit: &str, now: u64, attributes: &Value, value: f64) {
        let point = Point { value: Some(Number::Double(value)), ..point(now, attributes) };
        self.add(name, unit, MetricKind::Gauge, false, point);
    }

    fn histogram(&mut self, name: &str, unit: &str, now: u64, attributes: &Value, values: &[f64]) {
        let bounds: Vec<f64> = (0..22).map(|step| 1e-4 * 1.6_f64.powi(step)).collect();
        let mut bucket_counts = vec![0; bounds.len() + 1];
        for value in values {
            bucket_counts[bounds.partition_point(|bound| bound < value)] += 1;
        }
        let point = Point {
            count: Some(values.len() as u64),
            sum: Some(values.iter().sum()),
            min: values.iter().copied().reduce(f64::min),
            max: values.iter().copied().reduce(f64::max),
            bounds: Some(bounds),
            bucket_counts: Some(bucket_counts),
            ..point(now, attributes)
        };
        self.add(name, unit, MetricKind::Histogram, false, point);
    }
}

fn point(now: u64, attributes: &Value) -> Point {
    let attributes = attributes.as_object().cloned().unwrap_or_default().into_iter().collect();
    Point { attributes, start_unix_nano: EPOCH, time_unix_nano: now, ..Point::default() }
}
