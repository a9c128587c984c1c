//! What is measured, by name: the loops of cpp/hot.cpp and the same work through the SDKs.

use std::time::Duration;

use otel_shim::Detail;
use serde_json::{Value, json};

use crate::peer;

macro_rules! loops {
    ($($name:ident)*) => {
        unsafe extern "C" {
            $(safe fn $name(n: u64);)*
        }
    };
}

loops! {
    llama_otel_bench_empty
    llama_otel_bench_clock
    llama_otel_bench_span
    llama_otel_bench_span_below_detail
    llama_otel_bench_span_not_sampled
    llama_otel_bench_span_with_attributes
    llama_otel_bench_attributes
    llama_otel_bench_metric
    llama_otel_bench_metric_with_attribute
}

unsafe extern "C" {
    safe fn llama_otel_bench_start();
}

/// A loop of one operation.
#[derive(Clone, Copy)]
pub struct Work {
    pub name: &'static str,
    pub run: fn(u64),
    /// Detail while it runs; `None` for what has nothing to do with this project's telemetry.
    pub detail: Option<Detail>,
    /// Operations in one timed block: of those that fill a ring as many as leave it less than a quarter full.
    pub block: u64,
    /// Brings what it recorded out of the way, so that every block finds empty queues.
    pub flush: fn(),
}

fn nothing() {}

pub fn flush() {
    otel_shim::flush(Duration::from_secs(5));
}

const UNRECORDED: u64 = 20_000;
const RECORDED: u64 = 400;

macro_rules! work {
    ($name:literal, $run:path, $detail:expr, $block:expr, $flush:path) => {
        Work { name: $name, run: |n| $run(n), detail: $detail, block: $block, flush: $flush }
    };
}

/// Everything that is compared, the work of the SDKs after ours.
pub fn all() -> Vec<Work> {
    let (off, decode) = (Some(Detail::Off), Some(Detail::Decode));
    let mut all = vec![
        work!("empty", llama_otel_bench_empty, None, UNRECORDED, nothing),
        work!("clock", llama_otel_bench_clock, None, UNRECORDED, nothing),
        work!("off.span", llama_otel_bench_span, off, UNRECORDED, nothing),
        work!("off.attributes", llama_otel_bench_attributes, off, UNRECORDED, nothing),
        work!("off.metric", llama_otel_bench_metric, off, UNRECORDED, nothing),
        work!("off.span_with_attributes", llama_otel_bench_span_with_attributes, off, UNRECORDED, nothing),
        work!("span_below_detail", llama_otel_bench_span_below_detail, decode, UNRECORDED, nothing),
        work!("span_not_sampled", llama_otel_bench_span_not_sampled, decode, UNRECORDED, nothing),
        work!("span", llama_otel_bench_span, decode, RECORDED, flush),
        work!("span_with_attributes", llama_otel_bench_span_with_attributes, decode, RECORDED, flush),
        work!("metric", llama_otel_bench_metric, decode, RECORDED, flush),
        work!("metric_with_attribute", llama_otel_bench_metric_with_attribute, decode, RECORDED, flush),
        work!("sdk.span_with_attributes", peer::span_with_attributes, None, RECORDED, peer::flush),
        work!("sdk.metric", peer::metric, None, RECORDED, nothing),
        work!("sdk.metric_with_attribute", peer::metric_with_attribute, None, RECORDED, nothing),
    ];
    all.extend(peer::cpp());
    all
}

/// Starts telemetry as the environment says.
///
/// # Errors
/// The environment asks for none.
pub fn start() -> Result<(), String> {
    llama_otel_bench_start();
    match otel_shim::is_active() {
        true => Ok(()),
        false => Err("no telemetry: set OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()),
    }
}

/// As [`start`], whatever comes of it.
pub fn start_if_asked() {
    llama_otel_bench_start();
}

/// Runs one kind of work and nothing else, for a profiler. `None` if there is none of that name.
pub fn by_name(name: &str, n: u64) -> Option<Value> {
    let work = all().into_iter().find(|work| work.name == name)?;
    start_if_asked();
    if let Some(detail) = work.detail {
        otel_shim::set_detail(detail);
    }
    (work.run)(n);
    Some(json!({ "work": name, "n": n }))
}

/// Records that were lost so far, of every signal and for every reason.
pub fn dropped() -> u64 {
    otel_shim::dropped().iter().map(|(_, _, n)| n).sum()
}
