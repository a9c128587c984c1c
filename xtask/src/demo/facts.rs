//! What one wants to know of a run first, read off the telemetry.
//!
//! Each figure comes from the best source that is there (an attribute or a metric that states it,
//! else the spans); what cannot be known is absent, not zero.

use super::rows::spread;
use otlp_receiver::Telemetry;
use otlp_receiver::model::{Metric, Number, Span, Temporality};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Times in seconds, sizes in bytes, rates per second.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    pub model: ModelFacts,
    pub n_ctx: Option<u64>,
    pub n_threads: Option<u64>,
    /// Prompt tokens.
    pub input_tokens: Option<u64>,
    /// Generated tokens.
    pub output_tokens: Option<u64>,
    pub time_to_first_token: Option<f64>,
    pub time_per_output_token: Option<f64>,
    /// Prompt tokens per second.
    pub prompt_rate: Option<f64>,
    /// Generated tokens per second.
    pub output_rate: Option<f64>,
    pub load_time: Option<f64>,
    /// The most that was held at once.
    pub peak_memory: Option<f64>,
    /// What it was used for at that moment, the largest first.
    pub memory: Vec<Share>,
    /// From the first span's start to the last one's end.
    pub wall_time: f64,
    /// Where that time went, in order of occurrence.
    pub phases: Vec<Share>,
    pub kv_cache: Option<KvCache>,
    pub errors: Vec<Failure>,
    /// How many operations failed: the failed spans, or more where the library counted more
    /// (a low level of detail has no spans).
    pub error_count: u64,
    /// Spans and records that were lost on the way, as the library itself counted.
    pub dropped: f64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub struct ModelFacts {
    pub name: Option<String>,
    pub arch: Option<String>,
    pub ftype: Option<String>,
    pub n_params: Option<u64>,
    pub size: Option<u64>,
}

/// A part of a whole.
#[derive(Debug, PartialEq, Serialize)]
pub struct Share {
    pub label: String,
    pub value: f64,
}

/// Cells of the KV cache in use, over time.
#[derive(Debug, PartialEq, Serialize)]
pub struct KvCache {
    pub total: Option<f64>,
    /// (seconds since the first span's start, cells in use), in order of time.
    pub used: Vec<(f64, f64)>,
}

/// A failed span.
#[derive(Debug, PartialEq, Serialize)]
pub struct Failure {
    pub span: String,
    pub span_id: String,
    /// The value of `error.type`, if it has one.
    pub error_type: Option<String>,
    pub message: String,
    /// Since the first span's start.
    pub at: f64,
}

impl Facts {
    /// Reads the facts off a run.
    pub fn of(telemetry: &Telemetry) -> Self {
        let start = start_of(telemetry);
        let end = telemetry.spans.iter().map(|span| span.end_unix_nano).max().unwrap_or(start);
        let wall_time = seconds_between(start, end);
        let load = telemetry.span("llama_model_load");
        let context = telemetry.span("llama_init_from_model");
        let integer = |span: Option<&Span>, name| span?.attribute(name)?.as_u64();
        let (peak_memory, memory) = memory(telemetry);
        let errors = errors(telemetry, start);
        let counted_errors = telemetry.metric("llama.error.count").map_or(0, |it| it.total() as u64);
        let time_to_first_token = time_to_first_token(telemetry);
        let time_per_output_token = time_per_output_token(telemetry);
        Self {
            model: model(load),
            n_ctx: integer(context, "llama.context.n_ctx"),
            n_threads: integer(context, "llama.context.n_threads"),
            input_tokens: input_tokens(telemetry),
            output_tokens: output_tokens(telemetry),
            time_to_first_token,
            time_per_output_token,
            prompt_rate: prompt_rate(telemetry),
            output_rate: generation(telemetry, "llama.generation.decode.throughput")
                .or_else(|| time_per_output_token.filter(|time| *time > 0.0).map(f64::recip)),
            load_time: load.map(Span::seconds).or_else(|| mean(telemetry, "llama.model.load.duration", &[])),
            peak_memory,
            memory,
            wall_time,
            phases: phases(telemetry, wall_time),
            kv_cache: kv_cache(telemetry, start),
            error_count: counted_errors.max(errors.len() as u64),
            errors,
            dropped: telemetry.metric("llama.otel.dropped").map_or(0.0, Metric::total),
        }
    }
}

/// Where a report's time begins, in nanoseconds since the epoch: the first span's start, or the
/// first export where there are no spans.
pub fn start_of(telemetry: &Telemetry) -> u64 {
    let spans = telemetry.spans.iter().map(|span| span.start_unix_nano).min();
    let points = telemetry.metrics.iter().flat_map(|metric| &metric.points);
    spans.or_else(|| points.map(|point| point.time_unix_nano).min()).unwrap_or(0)
}

fn seconds_between(start: u64, end: u64) -> f64 {
    end.saturating_sub(start) as f64 / 1e9
}

fn model(load: Option<&Span>) -> ModelFacts {
    let text = |name| Some(load?.attribute(name)?.as_str()?.to_owned());
    let integer = |name| load?.attribute(name)?.as_u64();
    ModelFacts {
        name: text("llama.model.name").or_else(|| text("llama.model.file")),
        arch: text("llama.model.arch"),
        ftype: text("llama.model.ftype"),
        n_params: integer("llama.model.n_params"),
        size: integer("llama.model.size"),
    }
}

fn is_prefill(span: &Span) -> bool {
    match span.attribute("llama.decode.phase").and_then(Value::as_str) {
        Some(phase) => phase == "prefill",
        None => span.attribute("llama.batch.n_tokens").and_then(Value::as_u64) > Some(1),
    }
}

fn decodes(telemetry: &Telemetry, prefill: bool) -> impl Iterator<Item = &Span> {
    let spans = telemetry.spans.iter().filter(|span| span.name == "llama_decode");
    spans.filter(move |span| is_prefill(span) == prefill)
}

/// A figure of the first generation.
fn generation(telemetry: &Telemetry, attribute: &str) -> Option<f64> {
    telemetry.span("llama_generation")?.attribute(attribute)?.as_f64()
}

/// The mean of a histogram over the points with these attributes.
fn mean(telemetry: &Telemetry, name: &str, attributes: &[(&str, Value)]) -> Option<f64> {
    telemetry.metric(name)?.point(attributes)?.mean()
}

fn phase(name: &str) -> [(&'static str, Value); 1] {
    [("llama.decode.phase", Value::from(name))]
}

fn counted(telemetry: &Telemetry, phase_name: &str) -> Option<u64> {
    let point = telemetry.metric("llama.token.count")?.point(&phase(phase_name))?;
    point.value.map(|value| value.as_f64() as u64)
}

fn input_tokens(telemetry: &Telemetry) -> Option<u64> {
    let from_spans = || {
        let tokens = decodes(telemetry, true).filter_map(|span| span.attribute("llama.batch.n_tokens")?.as_u64());
        Some(tokens.sum()).filter(|sum: &u64| *sum > 0)
    };
    generation(telemetry, "gen_ai.usage.input_tokens")
        .map(|tokens| tokens as u64)
        .or_else(from_spans)
        .or_else(|| counted(telemetry, "prefill"))
}

fn output_tokens(telemetry: &Telemetry) -> Option<u64> {
    let sampled = telemetry.spans_named("llama_sample_token").len() as u64;
    Some(sampled)
        .filter(|count| *count > 0)
        .or_else(|| generation(telemetry, "gen_ai.usage.output_tokens").map(|it| it as u64))
        .or_else(|| counted(telemetry, "decode"))
}

fn time_to_first_token(telemetry: &Telemetry) -> Option<f64> {
    let from_spans = || {
        let start = decodes(telemetry, true).next()?.start_unix_nano;
        let first = telemetry.span("llama_sample_token")?;
        Some(seconds_between(start, first.end_unix_nano))
    };
    generation(telemetry, "llama.generation.time_to_first_token")
        .or_else(|| mean(telemetry, "gen_ai.server.time_to_first_token", &[]))
        .or_else(from_spans)
}

fn time_per_output_token(telemetry: &Telemetry) -> Option<f64> {
    let from_spans = || {
        let mut decodes = decodes(telemetry, false).filter(|span| !span.failed());
        let first = decodes.next()?;
        let (last, rest) = decodes.fold((first, 0_u32), |(_, count), span| (span, count + 1));
        let time = seconds_between(first.start_unix_nano, last.end_unix_nano);
        Some(time / f64::from(rest + 1))
    };
    generation(telemetry, "llama.generation.time_per_output_token")
        .or_else(|| mean(telemetry, "gen_ai.server.time_per_output_token", &[]))
        .or_else(from_spans)
        .or_else(|| mean(telemetry, "llama.decode.duration", &phase("decode")))
}

fn prompt_rate(telemetry: &Telemetry) -> Option<f64> {
    let from_spans = || {
        let time: f64 = decodes(telemetry, true).map(Span::seconds).sum();
        let tokens = input_tokens(telemetry)? as f64;
        (time > 0.0).then(|| tokens / time)
    };
    generation(telemetry, "llama.generation.prompt.throughput").or_else(from_spans)
}

/// The peak over the exports and its parts. An export may have missed the peak (all is zero again at the end); each part's
/// own peak is a metric too.
fn memory(telemetry: &Telemetry) -> (Option<f64>, Vec<Share>) {
    let exported = telemetry.metric("llama.memory.usage").map(peak_of).unwrap_or_default();
    let stated = highest(telemetry);
    let sum = |parts: &BTreeMap<String, f64>| parts.values().sum::<f64>();
    let parts = if sum(&stated) > sum(&exported) { stated } else { exported };
    let peak = Some(sum(&parts)).filter(|sum| *sum > 0.0);
    let mut shares: Vec<_> =
        parts.into_iter().filter(|(_, value)| *value > 0.0).map(|(label, value)| Share { label, value }).collect();
    shares.sort_by(|a, b| b.value.total_cmp(&a.value));
    (peak, shares)
}

fn peak_of(metric: &Metric) -> BTreeMap<String, f64> {
    let mut held: BTreeMap<String, f64> = BTreeMap::new();
    let mut peak: BTreeMap<String, f64> = BTreeMap::new();
    let mut points: Vec<_> = metric.points.iter().collect();
    points.sort_by_key(|point| point.time_unix_nano);
    // One export states all parts at one time; only complete exports are compared.
    for export in points.chunk_by(|a, b| a.time_unix_nano == b.time_unix_nano) {
        for point in export {
            let value = point.value.map_or(0.0, Number::as_f64);
            let held = held.entry(memory_label(&point.attributes)).or_default();
            *held = if metric.temporality == Temporality::Delta { *held + value } else { value };
        }
        if held.values().sum::<f64>() > peak.values().sum() {
            peak.clone_from(&held);
        }
    }
    peak
}

fn memory_label(attributes: &otlp_receiver::model::Attributes) -> String {
    let text = |name| attributes.get(name).and_then(Value::as_str);
    let parts = [text("llama.device.name"), text("llama.memory.kind")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The most that was held at one time, by device and kind.
fn highest(telemetry: &Telemetry) -> BTreeMap<String, f64> {
    let points = telemetry.metric("llama.memory.peak").map(Metric::latest).unwrap_or_default();
    points.iter().filter_map(|point| Some((memory_label(&point.attributes), point.value?.as_f64()))).collect()
}

const PHASES: [&str; 8] =
    ["backend init", "model load", "context init", "prompt", "decode", "sampling", "state", "free"];

/// Which phase of a run a span's time counts for; `None` for a span that only wraps others.
pub fn phase_of(span: &Span) -> Option<&'static str> {
    match span.name.as_str() {
        "llama_backend_init" | "ggml_backend_dev_init" => Some("backend init"),
        name if name.starts_with("llama_model_load") => Some("model load"),
        "llama_init_from_model" | "llama_kv_cache_init" => Some("context init"),
        "llama_decode" if is_prefill(span) => Some("prompt"),
        "llama_decode" | "llama_encode" | "llama_ubatch" | "llama_synchronize" => Some("decode"),
        "llama_sample_token" => Some("sampling"),
        "llama_state_save" | "llama_state_load" => Some("state"),
        "llama_free" | "llama_model_free" => Some("free"),
        _ => None,
    }
}

fn phases(telemetry: &Telemetry, wall_time: f64) -> Vec<Share> {
    let mut times: BTreeMap<&str, f64> = BTreeMap::new();
    for span in &telemetry.spans {
        // The time of a nested span is in its parent's already.
        let nested = telemetry.parent_of(span).is_some_and(|parent| phase_of(parent).is_some());
        if let Some(phase) = phase_of(span).filter(|_| !nested) {
            *times.entry(phase).or_default() += span.seconds();
        }
    }
    let mut shares: Vec<_> =
        PHASES.iter().filter_map(|&phase| Some(Share { label: phase.to_owned(), value: *times.get(phase)? })).collect();
    let rest = wall_time - times.values().sum::<f64>();
    if rest > 0.0 {
        shares.push(Share { label: "outside".to_owned(), value: rest });
    }
    shares
}

fn kv_cache(telemetry: &Telemetry, start: u64) -> Option<KvCache> {
    let decodes = telemetry.spans.iter().filter(|span| span.name == "llama_decode");
    let mut used: Vec<_> = decodes
        .clone()
        .filter_map(|span| {
            let cells = span.attribute("llama.kv_cache.cells.used")?.as_f64()?;
            Some((span.end_unix_nano, cells))
        })
        .collect();
    let mut total = decodes.filter_map(|span| span.attribute("llama.kv_cache.cells.total")?.as_f64()).reduce(f64::max);
    if used.is_empty() {
        let mut at: BTreeMap<u64, f64> = BTreeMap::new();
        for point in &telemetry.metric("llama.kv_cache.cells.usage")?.points {
            *at.entry(point.time_unix_nano).or_default() += point.value?.as_f64();
        }
        used = at.into_iter().collect();
        total = telemetry.metric("llama.kv_cache.cells.limit").map(Metric::total);
    }
    used.sort_by_key(|(time, _)| *time);
    let used: Vec<_> = used.into_iter().map(|(time, cells)| (seconds_between(start, time), cells)).collect();
    Some(KvCache { total, used }).filter(|cache| !cache.used.is_empty())
}

fn errors(telemetry: &Telemetry, start: u64) -> Vec<Failure> {
    let failed = telemetry.spans.iter().filter(|span| span.failed());
    failed
        .map(|span| Failure {
            span: span.name.clone(),
            span_id: span.span_id.clone(),
            error_type: span.attribute("error.type").and_then(Value::as_str).map(str::to_owned),
            message: span.status.message.clone(),
            at: seconds_between(start, span.start_unix_nano),
        })
        .collect()
}

/// Median and 99th percentile of the time to decode one token.
pub fn token_latency(telemetry: &Telemetry) -> Option<(f64, f64)> {
    let durations: Vec<_> = decodes(telemetry, false).map(Span::seconds).collect();
    (!durations.is_empty()).then(|| spread(durations)).map(|spread| (spread.p50, spread.p99))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() <= expected * 0.05)
    }

    #[test]
    fn a_run_yields_every_fact() {
        let facts = Facts::of(&fixture::run("gemma"));
        assert_eq!(facts.model.name.as_deref(), Some("gemma"));
        assert_eq!((facts.input_tokens, facts.output_tokens), (Some(6), Some(64)));
        assert!(near(facts.peak_memory, fixture::PEAK_MEMORY), "{:?}", facts.peak_memory);
        assert_eq!(facts.memory[0].label, "CPU model");
        let cache = facts.kv_cache.unwrap();
        assert_eq!((cache.total, cache.used.len()), (Some(512.0), 64));
        assert_eq!(cache.used.last().unwrap().1, 69.0);
        assert!(facts.errors.is_empty());
        let labels: Vec<_> = facts.phases.iter().map(|phase| phase.label.as_str()).collect();
        assert_eq!(
            labels,
            ["backend init", "model load", "context init", "prompt", "decode", "sampling", "free", "outside"]
        );
        let sum: f64 = facts.phases.iter().map(|phase| phase.value).sum();
        assert!((sum - facts.wall_time).abs() < 1e-9);
    }

    #[test]
    fn spans_alone_give_the_same_rates_as_the_generation_states() {
        let full = fixture::run("gemma");
        let mut bare = full.clone();
        bare.spans.retain(|span| span.name != "llama_generation");
        bare.metrics.clear();
        let (full, bare) = (Facts::of(&full), Facts::of(&bare));
        assert_eq!((bare.input_tokens, bare.output_tokens), (Some(6), Some(64)));
        assert!(near(bare.time_to_first_token, full.time_to_first_token.unwrap()));
        assert!(near(bare.output_rate, full.output_rate.unwrap()));
        assert!(near(bare.prompt_rate, full.prompt_rate.unwrap()));
        assert_eq!(bare.peak_memory, None, "only the metrics say it");
    }

    #[test]
    fn metrics_alone_start_at_their_first_export() {
        let mut telemetry = fixture::run("gemma");
        telemetry.spans.clear();
        let facts = Facts::of(&telemetry);
        assert_eq!((facts.input_tokens, facts.output_tokens), (Some(6), Some(63)));
        assert_eq!(facts.kv_cache.map(|cache| cache.used[0]), Some((0.0, 6.0)));
        assert_eq!(facts.wall_time, 0.0);
    }

    #[test]
    fn nothing_known_is_nothing_claimed() {
        assert_eq!(Facts::of(&Telemetry::default()), Facts::default());
    }

    #[test]
    fn a_failure_is_reported_with_its_type() {
        let facts = Facts::of(&fixture::failed_load("x.gguf"));
        assert_eq!((facts.errors.len(), facts.error_count), (1, 1));
        assert_eq!(facts.errors[0].span, "llama_model_load");
        assert_eq!(facts.errors[0].error_type.as_deref(), Some("file_not_found"));
    }
}
