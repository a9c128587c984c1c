//! What the environment asks for: the standard `OTEL_*` variables and `LLAMA_OTEL_*`. Pure: variables in, a [`Config`] out.
//!
//! A wrong value never stops the program: it gives one warning with the variable's name and the default that is used.
//! What an OTLP exporter needs is in [`otlp`], how a value is read in [`reader`].

mod otlp;
mod reader;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

pub use crate::registry::Detail;
pub use otlp::{Compression, Otlp, Protocol, Temporality};

use crate::abi::{PROPAGATOR_BAGGAGE, PROPAGATOR_RPC, PROPAGATOR_TRACECONTEXT};
use crate::log::Level;
use crate::span::Limits;
use reader::{Reader, named};

named!(Detail, "off" => Detail::Off, "metrics" => Detail::Metrics, "request" => Detail::Request, "decode" => Detail::Decode, "op" => Detail::Op);

/// Where a signal goes (`OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, `OTEL_LOGS_EXPORTER`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exporter {
    /// An OTLP receiver.
    #[default]
    Otlp,
    /// Standard output.
    Console,
    /// Nowhere.
    None,
}

named!(Exporter, "otlp" => Exporter::Otlp, "console" => Exporter::Console, "none" => Exporter::None);

/// How histograms are aggregated (`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistogramAggregation {
    /// With the buckets of the registry.
    #[default]
    ExplicitBuckets,
    /// With at most 160 buckets that fit themselves to the values.
    Base2Exponential,
}

named!(HistogramAggregation, "explicit_bucket_histogram" => HistogramAggregation::ExplicitBuckets,
    "base2_exponential_bucket_histogram" => HistogramAggregation::Base2Exponential);

named!(Level, "none" => Level::None, "error" => Level::Error, "warn" => Level::Warn, "info" => Level::Info,
    "debug" => Level::Info, "verbose" => Level::Info, "all" => Level::Info);

/// Everything the environment decides, but for what the OTLP exporters read themselves: headers, compression, the resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub detail: Detail,
    pub traces_exporter: Exporter,
    pub metrics_exporter: Exporter,
    pub logs_exporter: Exporter,
    pub traces_otlp: Otlp,
    pub metrics_otlp: Otlp,
    pub logs_otlp: Otlp,
    pub temporality: Temporality,
    pub histograms: HistogramAggregation,
    /// `OTEL_SERVICE_NAME`, which wins over the one among `OTEL_RESOURCE_ATTRIBUTES`.
    pub service_name: Option<String>,
    /// Share of new traces that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// The flag of a parent from outside decides about what is below it.
    pub parent_based: bool,
    /// Headers of a parent from outside that count, bits of `llama_otel_propagator`.
    pub propagators: u32,
    /// Entries of the baggage that become attributes (`LLAMA_OTEL_BAGGAGE_ATTRIBUTES`).
    pub baggage_attributes: Vec<String>,
    pub span_limits: Limits,
    /// Longest wait before a span is exported (`OTEL_BSP_SCHEDULE_DELAY`).
    pub schedule_delay: Duration,
    /// Spans that wait for the exporter at most (`OTEL_BSP_MAX_QUEUE_SIZE`).
    pub max_queue_size: usize,
    /// Spans in one request at most (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    pub max_export_batch_size: usize,
    /// Longest wait for one request of spans (`OTEL_BSP_EXPORT_TIMEOUT`).
    pub span_export_timeout: Duration,
    /// The same three for records of the log (`OTEL_BLRP_SCHEDULE_DELAY`, `_MAX_QUEUE_SIZE`, `_EXPORT_TIMEOUT`).
    pub log_schedule_delay: Duration,
    pub log_max_queue_size: usize,
    pub log_export_timeout: Duration,
    /// `OTEL_METRIC_EXPORT_INTERVAL`.
    pub metric_interval: Duration,
    /// `OTEL_METRIC_EXPORT_TIMEOUT`.
    pub metric_export_timeout: Duration,
    /// Export the full path of the model file (`LLAMA_OTEL_CAPTURE_MODEL_PATH`); without it only the file's name.
    pub capture_model_path: bool,
    /// What telemetry says about itself on standard error (`OTEL_LOG_LEVEL`).
    pub log_level: Level,
    /// What was wrong in the environment, a line each.
    pub warnings: Vec<String>,
}

/// The variables of the environment that telemetry reads, by name.
pub type Variables = BTreeMap<String, String>;

/// The process's `OTEL_*` and `LLAMA_OTEL_*` variables; an empty one counts as unset, as the specification says.
pub fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| {
            (name.starts_with("OTEL_") || name.starts_with("LLAMA_OTEL_")) && !value.trim().is_empty()
        })
        .collect()
}

impl Config {
    /// `None`: telemetry is off, because no `OTEL_*` variable is set, because `OTEL_SDK_DISABLED` is true, because the detail is
    /// `off`, or because no signal has an exporter.
    pub fn from_variables(variables: &Variables) -> Option<Config> {
        let asked = variables.keys().any(|name| name.starts_with("OTEL_") && name != "OTEL_SDK_DISABLED");
        let config = Self::read(variables).filter(|_| asked)?;
        (config.detail != Detail::Off && config.exports()).then_some(config)
    }

    /// The program asks for telemetry by a call: off only by `OTEL_SDK_DISABLED` or because no signal has an exporter.
    pub fn asked_for(variables: &Variables) -> Option<Config> {
        Self::read(variables).filter(Config::exports)
    }

    /// The program has providers of its own, whose sampler decides: off only by `OTEL_SDK_DISABLED`.
    pub fn for_host(variables: &Variables) -> Option<Config> {
        Self::read(variables).map(|config| Config { sample_ratio: 1.0, parent_based: true, ..config })
    }

    fn exports(&self) -> bool {
        [self.traces_exporter, self.metrics_exporter, self.logs_exporter].iter().any(|to| *to != Exporter::None)
    }

    fn read(variables: &Variables) -> Option<Config> {
        let mut read = Reader::new(variables);
        if read.boolean("OTEL_SDK_DISABLED") {
            return None;
        }
        let (sample_ratio, parent_based) = sampler(&mut read);
        let max_queue_size = read.count("OTEL_BSP_MAX_QUEUE_SIZE", 8_192);
        read.resource();
        read.op_callback();
        let config = Config {
            detail: read.named("LLAMA_OTEL_DETAIL", Detail::Request),
            traces_exporter: read.named("OTEL_TRACES_EXPORTER", Exporter::default()),
            metrics_exporter: read.named("OTEL_METRICS_EXPORTER", Exporter::default()),
            logs_exporter: read.named("OTEL_LOGS_EXPORTER", Exporter::default()),
            traces_otlp: Otlp::read(&mut read, "TRACES"),
            metrics_otlp: Otlp::read(&mut read, "METRICS"),
            logs_otlp: Otlp::read(&mut read, "LOGS"),
            temporality: read.named("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", Temporality::default()),
            histograms: read
                .named("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", HistogramAggregation::default()),
            service_name: read.get("OTEL_SERVICE_NAME").map(str::to_owned),
            sample_ratio,
            parent_based,
            propagators: propagators(&mut read)
                | if read.boolean("LLAMA_OTEL_PROPAGATE_RPC") { PROPAGATOR_RPC } else { 0 },
            baggage_attributes: read.list("LLAMA_OTEL_BAGGAGE_ATTRIBUTES").into_iter().map(str::to_owned).collect(),
            span_limits: span_limits(&mut read),
            schedule_delay: read.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            max_queue_size,
            max_export_batch_size: read.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).min(max_queue_size),
            span_export_timeout: read.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
            log_schedule_delay: read.milliseconds("OTEL_BLRP_SCHEDULE_DELAY", 1_000),
            log_max_queue_size: read.count("OTEL_BLRP_MAX_QUEUE_SIZE", 2_048),
            log_export_timeout: read.milliseconds("OTEL_BLRP_EXPORT_TIMEOUT", 30_000),
            metric_interval: read.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            metric_export_timeout: read.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
            capture_model_path: read.boolean("LLAMA_OTEL_CAPTURE_MODEL_PATH"),
            log_level: read.named("OTEL_LOG_LEVEL", Level::Info),
            warnings: Vec::new(),
        };
        Some(Config { warnings: read.into_warnings(), ..config })
    }

    /// A new trace is recorded if the upper 63 bits of the lower half of its id are below this: the `TraceIdRatioBased` sampler's rule.
    pub fn sample_threshold(&self) -> u64 {
        if self.sample_ratio >= 1.0 { u64::MAX } else { (self.sample_ratio.max(0.0) * (1u64 << 63) as f64) as u64 }
    }
}

/// The share of new traces, and whether a parent from outside decides instead.
fn sampler(read: &mut Reader) -> (f64, bool) {
    const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    const EXPECTED: &str = "always_on, always_off, traceidratio, or one of these behind parentbased_";
    let Some(text) = read.get(SAMPLER).map(str::to_ascii_lowercase) else { return (1.0, true) };
    let (name, parent_based) = text.strip_prefix("parentbased_").map_or((text.as_str(), false), |name| (name, true));
    match name {
        "always_on" => (1.0, parent_based),
        "always_off" => (0.0, parent_based),
        "traceidratio" => (ratio(read), parent_based),
        _ => {
            read.warn(SAMPLER, EXPECTED, "parentbased_always_on");
            (1.0, true)
        }
    }
}

fn ratio(read: &mut Reader) -> f64 {
    const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
    match read.get(ARG).map(str::parse::<f64>) {
        None => 1.0,
        Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
        Some(_) => {
            read.warn(ARG, "a number from 0 to 1", "1");
            1.0
        }
    }
}

fn propagators(read: &mut Reader) -> u32 {
    const NAME: &str = "OTEL_PROPAGATORS";
    const ALL: u32 = PROPAGATOR_TRACECONTEXT | PROPAGATOR_BAGGAGE;
    let names: Vec<String> = read.list(NAME).into_iter().map(str::to_ascii_lowercase).collect();
    if names.is_empty() {
        return ALL;
    }
    let mut bits = 0;
    for name in &names {
        bits |= match name.as_str() {
            "tracecontext" => PROPAGATOR_TRACECONTEXT,
            "baggage" => PROPAGATOR_BAGGAGE,
            "none" => 0,
            _ => {
                read.warn(NAME, "a list of tracecontext, baggage, or none", "tracecontext,baggage");
                return ALL;
            }
        };
    }
    bits
}

/// A limit of spans wins over the one for all.
fn span_limits(read: &mut Reader) -> Limits {
    let default = Limits::default();
    let value_length = read.limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", default.value_length);
    let attributes = read.limit("OTEL_ATTRIBUTE_COUNT_LIMIT", default.attributes);
    Limits {
        value_length: read.limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", value_length),
        attributes: read.limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes),
        links: read.limit("OTEL_SPAN_LINK_COUNT_LIMIT", default.links),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Option<Config> {
        Config::from_variables(&variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn off_unless_asked_for() {
        assert_eq!(config(&[]), None);
        assert_eq!(config(&[("LLAMA_OTEL_DETAIL", "op")]), None);
        assert_eq!(config(&[("OTEL_SDK_DISABLED", "false")]), None);
        assert_eq!(
            config(&[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]),
            None
        );
        assert_eq!(
            config(&[
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_METRICS_EXPORTER", "none"),
                ("OTEL_LOGS_EXPORTER", "none")
            ]),
            None
        );
        assert_eq!(config(&[("OTEL_SERVICE_NAME", "x"), ("LLAMA_OTEL_DETAIL", "off")]), None);
    }

    #[test]
    fn the_specification_s_defaults() {
        let config = config(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]).unwrap();
        assert_eq!(config.detail, Detail::Request);
        assert_eq!((config.traces_exporter, config.metrics_exporter), (Exporter::Otlp, Exporter::Otlp));
        assert_eq!(config.schedule_delay, Duration::from_secs(5));
        assert_eq!(config.max_export_batch_size, 512);
        assert_eq!(config.metric_interval, Duration::from_secs(60));
        assert_eq!(config.sample_threshold(), u64::MAX);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn a_wrong_value_warns_once_and_keeps_the_default() {
        let config = config(&[
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("LLAMA_OTEL_DETAIL", "everything"),
        ])
        .unwrap();
        assert_eq!(config.schedule_delay, Duration::from_secs(5));
        assert_eq!(config.sample_ratio, 1.0);
        assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
        assert!(
            config
                .warnings
                .iter()
                .any(|w| w == "OTEL_BSP_SCHEDULE_DELAY=soon: expected a whole number above 0; using 5000")
        );
    }

    #[test]
    fn a_signal_s_own_variable_wins() {
        let config = config(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://127.0.0.1:4318"),
        ])
        .unwrap();
        let of = |otlp: &Otlp| (otlp.protocol, otlp.timeout, otlp.tls);
        assert_eq!(of(&config.traces_otlp), (Protocol::Grpc, Duration::from_millis(250), false));
        assert_eq!(of(&config.metrics_otlp), (Protocol::HttpProtobuf, Duration::from_secs(10), true));
        assert_eq!(config.metrics_otlp.endpoint, "https://127.0.0.1:4318");
    }

    #[test]
    fn sampling() {
        let half =
            config(&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")]).unwrap();
        assert_eq!(half.sample_threshold(), 1 << 62);
        assert_eq!(config(&[("OTEL_TRACES_SAMPLER", "always_off")]).unwrap().sample_threshold(), 0);
    }

    #[test]
    fn a_batch_is_never_larger_than_the_queue() {
        let config = config(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).unwrap();
        assert_eq!(config.max_export_batch_size, 100);
    }
}
