//! What the environment asks for: the standard `OTEL_*` variables and `LLAMA_OTEL_DETAIL`. Pure: variables in, a [`Config`] out.
//!
//! A wrong value never stops the program: it gives one warning with the variable's name and the default that is used.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use crate::registry::Detail;

impl FromStr for Detail {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "off" => Detail::Off,
            "metrics" => Detail::Metrics,
            "request" => Detail::Request,
            "decode" => Detail::Decode,
            "op" => Detail::Op,
            _ => return Err(()),
        })
    }
}

/// Where a signal goes (`OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`).
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

impl FromStr for Exporter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "otlp" => Exporter::Otlp,
            "console" => Exporter::Console,
            "none" => Exporter::None,
            _ => return Err(()),
        })
    }
}

/// How OTLP is spoken (`OTEL_EXPORTER_OTLP_PROTOCOL` and its form for one signal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    HttpProtobuf,
    Grpc,
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "http/protobuf" => Protocol::HttpProtobuf,
            "grpc" => Protocol::Grpc,
            _ => return Err(()),
        })
    }
}

/// What decides about the OTLP exporter of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Otlp {
    pub protocol: Protocol,
    /// Longest wait for an answer (`OTEL_EXPORTER_OTLP_TIMEOUT` and its form for one signal).
    pub timeout: Duration,
    /// Whether the endpoint is an `https://` one.
    pub tls: bool,
}

/// Everything the environment decides, but for what the OTLP exporters read themselves (endpoint, headers, compression).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub detail: Detail,
    pub traces: Exporter,
    pub metrics: Exporter,
    pub traces_otlp: Otlp,
    pub metrics_otlp: Otlp,
    /// Share of new traces that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// Longest wait before a span is exported (`OTEL_BSP_SCHEDULE_DELAY`).
    pub schedule_delay: Duration,
    /// Spans that wait for the exporter at most (`OTEL_BSP_MAX_QUEUE_SIZE`).
    pub max_queue_size: usize,
    /// Spans in one request at most (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    pub max_export_batch_size: usize,
    /// Longest wait for one request of spans (`OTEL_BSP_EXPORT_TIMEOUT`).
    pub span_export_timeout: Duration,
    /// `OTEL_METRIC_EXPORT_INTERVAL`.
    pub metric_interval: Duration,
    /// `OTEL_METRIC_EXPORT_TIMEOUT`.
    pub metric_export_timeout: Duration,
    /// Export the full path of the model file (`LLAMA_OTEL_CAPTURE_MODEL_PATH`); without it only the file's name.
    pub capture_model_path: bool,
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
    /// `off`, or because neither traces nor metrics have an exporter.
    pub fn from_variables(variables: &Variables) -> Option<Config> {
        let mut read = Reader { variables, warnings: Vec::new() };
        let disabled = read.boolean("OTEL_SDK_DISABLED");
        if disabled || !variables.keys().any(|name| name.starts_with("OTEL_") && name != "OTEL_SDK_DISABLED") {
            return None;
        }
        let config = Config {
            detail: read.named("LLAMA_OTEL_DETAIL", "off, metrics, request, decode, op", Detail::Request, "request"),
            traces: read.named("OTEL_TRACES_EXPORTER", "otlp, console, none", Exporter::default(), "otlp"),
            metrics: read.named("OTEL_METRICS_EXPORTER", "otlp, console, none", Exporter::default(), "otlp"),
            traces_otlp: read.otlp("TRACES"),
            metrics_otlp: read.otlp("METRICS"),
            sample_ratio: read.sample_ratio(),
            schedule_delay: read.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            max_queue_size: read.count("OTEL_BSP_MAX_QUEUE_SIZE", 8_192),
            max_export_batch_size: read.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            span_export_timeout: read.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000),
            metric_interval: read.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
            metric_export_timeout: read.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000),
            capture_model_path: read.boolean("LLAMA_OTEL_CAPTURE_MODEL_PATH"),
            warnings: Vec::new(),
        };
        let nowhere = config.traces == Exporter::None && config.metrics == Exporter::None;
        if nowhere || config.detail == Detail::Off {
            return None;
        }
        Some(Config {
            max_export_batch_size: config.max_export_batch_size.min(config.max_queue_size),
            warnings: read.warnings,
            ..config
        })
    }

    /// A new trace is recorded if the upper 63 bits of the lower half of its id are below this: the `TraceIdRatioBased` sampler's rule.
    pub fn sample_threshold(&self) -> u64 {
        if self.sample_ratio >= 1.0 { u64::MAX } else { (self.sample_ratio.max(0.0) * (1u64 << 63) as f64) as u64 }
    }
}

struct Reader<'a> {
    variables: &'a Variables,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn warn(&mut self, name: &str, value: &str, expected: &str, default: impl fmt::Display) {
        self.warnings.push(format!("{name}={value}: expected {expected}; using {default}"));
    }

    fn boolean(&mut self, name: &str) -> bool {
        let Some(text) = self.get(name).map(str::to_owned) else { return false };
        match text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.warn(name, &text, "true or false", "false");
                false
            }
        }
    }

    fn named<T: FromStr>(&mut self, name: &str, expected: &str, default: T, default_name: &str) -> T {
        let Some(text) = self.get(name).map(str::to_owned) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.warn(name, &text, &format!("one of {expected}"), default_name);
            default
        })
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        let Some(text) = self.get(name).map(str::to_owned) else { return default };
        match text.parse() {
            Ok(n) if n > 0 => n,
            _ => {
                self.warn(name, &text, "a whole number above 0", default);
                default
            }
        }
    }

    fn milliseconds(&mut self, name: &str, default: usize) -> Duration {
        Duration::from_millis(self.count(name, default) as u64)
    }

    /// The variable of one signal, or else the one for all.
    fn otlp(&mut self, signal: &str) -> Otlp {
        let name = |reader: &Self, setting: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_{setting}");
            if reader.get(&own).is_some() { own } else { format!("OTEL_EXPORTER_OTLP_{setting}") }
        };
        let (protocol, timeout) = (name(self, "PROTOCOL"), name(self, "TIMEOUT"));
        let tls = self.get(&name(self, "ENDPOINT")).is_some_and(|endpoint| endpoint.starts_with("https://"));
        Otlp {
            protocol: self.named(&protocol, "http/protobuf, grpc", Protocol::default(), "http/protobuf"),
            timeout: self.milliseconds(&timeout, 10_000),
            tls,
        }
    }

    fn sample_ratio(&mut self) -> f64 {
        const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
        const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(sampler) = self.get(SAMPLER).map(str::to_owned) else { return 1.0 };
        match sampler.to_ascii_lowercase().as_str() {
            "always_on" | "parentbased_always_on" => 1.0,
            "always_off" | "parentbased_always_off" => 0.0,
            "traceidratio" | "parentbased_traceidratio" => {
                let Some(arg) = self.get(ARG).map(str::to_owned) else { return 1.0 };
                match arg.parse::<f64>() {
                    Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
                    _ => {
                        self.warn(ARG, &arg, "a number from 0 to 1", "1");
                        1.0
                    }
                }
            }
            _ => {
                self.warn(
                    SAMPLER,
                    &sampler,
                    "always_on, always_off, traceidratio, or one of these behind parentbased_",
                    "parentbased_always_on",
                );
                1.0
            }
        }
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
        assert_eq!(config(&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")]), None);
        assert_eq!(config(&[("OTEL_SERVICE_NAME", "x"), ("LLAMA_OTEL_DETAIL", "off")]), None);
    }

    #[test]
    fn the_specification_s_defaults() {
        let config = config(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]).unwrap();
        assert_eq!(config.detail, Detail::Request);
        assert_eq!((config.traces, config.metrics), (Exporter::Otlp, Exporter::Otlp));
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
        assert_eq!(
            config.traces_otlp,
            Otlp { protocol: Protocol::Grpc, timeout: Duration::from_millis(250), tls: false }
        );
        assert_eq!(
            config.metrics_otlp,
            Otlp { protocol: Protocol::HttpProtobuf, timeout: Duration::from_secs(10), tls: true }
        );
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
