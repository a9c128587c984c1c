//! The registry against what the end-to-end tests have seen exported: nothing that it does not name, and nothing that it names
//! and no test has seen.
//!
//! Every receiver of the tests leaves what it accepted in a folder of the run. What no test here can see, for want of hardware or
//! because only older trees have it, says so in the registry (`annotations.llama_otel.unseen`). What is `planned` must not be exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{
    registry::{Registry, Use},
    schema::{Instrument, ScalarType, Status},
};

type Attributes = BTreeMap<String, Value>;

/// The parts of a receiver's record that count here.
#[derive(Default, Deserialize)]
struct Telemetry {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    resource: Attributes,
    logs: Vec<Log>,
}

#[derive(Deserialize)]
struct Span {
    name: String,
    attributes: Attributes,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    name: String,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Metric {
    name: String,
    unit: String,
    kind: String,
    monotonic: bool,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Log {
    event_name: String,
    attributes: Attributes,
}

/// What was exported, as (kind, name) and (kind, name, attribute), and what is wrong with it.
#[derive(Default)]
struct Seen {
    names: BTreeSet<(&'static str, String)>,
    keys: BTreeSet<(&'static str, String, String)>,
    wrong: BTreeSet<String>,
}

/// Compares the records of `folder` with the registry.
///
/// # Errors
/// Every difference, a line each; a record that cannot be read.
pub fn check(registry: &Registry, folder: &Path) -> Result<String> {
    let mut seen = Seen::default();
    let mut records = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("no test left a record in {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let telemetry: Telemetry = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        seen.add(registry, &telemetry);
        records += 1;
    }
    let (missing, excused) = seen.missing(registry);
    let wrong: Vec<_> = seen.wrong.iter().cloned().chain(missing).collect();
    if wrong.is_empty() {
        let mut report =
            format!("the registry and {records} records of exports agree; not seen, for the reason given:\n");
        excused.iter().for_each(|line| report.push_str(&format!("  {line}\n")));
        return Ok(report);
    }
    bail!("the registry and what was exported differ in {} places:\n  {}", wrong.len(), wrong.join("\n  "));
}

/// Spans and metrics of the programs' own, which tests export beside ours.
fn is_ours(name: &str) -> bool {
    ["llama", "ggml", "gen_ai.", "hw."].iter().any(|prefix| name.starts_with(prefix))
}

impl Seen {
    fn add(&mut self, registry: &Registry, telemetry: &Telemetry) {
        for span in telemetry.spans.iter().filter(|span| is_ours(&span.name)) {
            match registry.spans.get(&span.name) {
                Some(def) => self.used("span", &span.name, def.status, &def.attributes, &span.attributes, registry),
                None => self.unknown("span", &span.name),
            }
            for event in &span.events {
                self.event(registry, &event.name, &event.attributes);
            }
        }
        for log in &telemetry.logs {
            // the body has what the event has as an attribute
            match registry.events.contains_key(&log.event_name) {
                true => self.used("event", &log.event_name, Status::Live, &[], &log.attributes, registry),
                false => self.unknown("log record", &log.event_name),
            }
        }
        for metric in telemetry.metrics.iter().filter(|metric| is_ours(&metric.name)) {
            let Some(def) = registry.metrics.get(&metric.name) else {
                self.unknown("metric", &metric.name);
                continue;
            };
            if metric.unit != def.unit {
                self.wrong.insert(format!(
                    "metric {}: unit `{}` is exported, `{}` registered",
                    metric.name, metric.unit, def.unit
                ));
            }
            let (kind, monotonic) = match def.instrument {
                Instrument::Counter => ("sum", true),
                Instrument::UpDownCounter => ("sum", false),
                Instrument::Gauge => ("gauge", false),
                Instrument::Histogram => ("histogram", false),
            };
            if metric.kind != kind || metric.monotonic != monotonic {
                self.wrong.insert(format!("metric {}: a {} is exported, not a {kind}", metric.name, metric.kind));
            }
            for point in &metric.points {
                self.used("metric", &metric.name, def.status, &def.attributes, &point.attributes, registry);
            }
        }
        for (key, value) in telemetry.resource.iter().filter(|(key, _)| is_ours(key)) {
            let attributes = BTreeMap::from([(key.clone(), value.clone())]);
            self.used("resource", "", Status::Live, &registry.resource, &attributes, registry);
        }
    }

    fn event(&mut self, registry: &Registry, name: &str, attributes: &Attributes) {
        match registry.events.get(name) {
            Some(def) => self.used("event", name, def.status, &def.attributes, attributes, registry),
            None => self.unknown("event", name),
        }
    }

    fn unknown(&mut self, kind: &str, name: &str) {
        self.wrong.insert(format!("{kind} {name}: exported, but not registered"));
    }

    fn used(
        &mut self,
        kind: &'static str,
        name: &str,
        status: Status,
        uses: &[Use],
        attributes: &Attributes,
        registry: &Registry,
    ) {
        if status == Status::Planned {
            self.wrong.insert(format!("{kind} {name}: exported, but registered as planned"));
        }
        self.names.insert((kind, name.to_owned()));
        for (key, value) in attributes {
            if key == "otel.metric.overflow" && kind == "metric" {
                continue; // the SDK's own
            }
            if !uses.iter().any(|used| used.key == *key) {
                self.wrong.insert(format!("{kind} {name}: has `{key}`, which is not registered for it"));
            }
            if let Some(def) = registry.attributes.get(key) {
                let fits = match def.kind {
                    ScalarType::String => value.is_string(),
                    ScalarType::Int => value.is_i64() || value.is_u64(),
                    ScalarType::Double => value.is_f64(),
                    ScalarType::Boolean => value.is_boolean(),
                    ScalarType::StringArray => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
                };
                if !fits {
                    self.wrong.insert(format!("{kind} {name}: `{key}` has the wrong type: {value}"));
                }
                let is_member = |text: &str| def.members.iter().any(|member| member.value == text);
                if def.closed && !value.as_str().is_some_and(is_member) {
                    self.wrong.insert(format!("{kind} {name}: `{key}` has a value that is not registered: {value}"));
                }
            }
            self.keys.insert((kind, name.to_owned(), key.clone()));
        }
    }

    /// What is registered and was not seen: without an excuse, and with one.
    fn missing(&self, registry: &Registry) -> (Vec<String>, Vec<String>) {
        let spans = registry.spans.iter().map(|(name, def)| ("span", name, def.status, &def.unseen, &def.attributes));
        let events =
            registry.events.iter().map(|(name, def)| ("event", name, def.status, &def.unseen, &def.attributes));
        let metrics =
            registry.metrics.iter().map(|(name, def)| ("metric", name, def.status, &def.unseen, &def.attributes));
        let (mut missing, mut excused) = (Vec::new(), Vec::new());
        for (kind, name, status, unseen, uses) in spans.chain(events).chain(metrics) {
            if status == Status::Planned {
                excused.push(format!("{kind} {name}: planned, not exported"));
                continue;
            }
            match (self.names.contains(&(kind, name.clone())), unseen) {
                (false, Some(why)) => excused.push(format!("{kind} {name}: {why}")),
                (false, None) => missing.push(format!("{kind} {name}: registered, but no test has seen it exported")),
                // what takes a device is seen where there is one
                (true, _) => self.missing_keys(kind, name, uses, registry, &mut missing, &mut excused),
            }
        }
        self.missing_keys("resource", "", &registry.resource, registry, &mut missing, &mut excused);
        (missing, excused)
    }

    fn missing_keys(
        &self,
        kind: &'static str,
        name: &str,
        uses: &[Use],
        registry: &Registry,
        missing: &mut Vec<String>,
        excused: &mut Vec<String>,
    ) {
        for used in uses {
            if self.keys.contains(&(kind, name.to_owned(), used.key.clone())) {
                continue;
            }
            let general = registry.attributes.get(&used.key).and_then(|def| def.unseen.as_ref());
            match used.unseen.as_ref().or(general) {
                Some(why) => excused.push(format!("{kind} {name}: `{}`: {why}", used.key)),
                // what may be on every span: an error, a missed deadline, a buffer of every operation would be a test of tests
                None if matches!(used.key.as_str(), "error.type" | "llama.deadline.exceeded" | "llama.memory.size") => {
                }
                None => missing.push(format!("{kind} {name}: no test has seen `{}`", used.key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::{MANIFEST, Source, load};
    use super::*;

    const REGISTRY: &str = r#"
groups:
  - id: registry.sample
    type: attribute_group
    brief: Sample.
    attributes:
      - id: llama.phase
        stability: development
        brief: A set.
        type: { members: [ { id: one, value: one, stability: development, brief: "One." } ] }
      - { id: llama.size, type: int, stability: development, brief: "A size." }
      - { id: llama.gpu, type: int, stability: development, brief: "A figure.", annotations: { llama_otel: { unseen: it takes a GPU } } }
  - id: span.llama_sample
    type: span
    span_kind: internal
    stability: development
    brief: A span.
    annotations: { llama_otel: { area: model, detail: request } }
    attributes:
      - { ref: llama.size, requirement_level: recommended }
      - { ref: llama.gpu, requirement_level: recommended }
  - id: metric.llama.sample.count
    type: metric
    metric_name: llama.sample.count
    stability: development
    instrument: counter
    unit: "{sample}"
    brief: A count.
    annotations: { code_generation: { metric_value_type: int }, llama_otel: { area: model } }
    attributes: [ { ref: llama.phase, requirement_level: required } ]
"#;

    fn differences(record: &str) -> String {
        let manifest = "{ name: x, description: x, semconv_version: 0.1.0, dependencies: [ { name: otel, version: 1.0.0, schema_url: 'https://example.org/1.0.0' } ] }";
        let source = |file: &str, text: &str| Source { file: file.into(), text: text.into() };
        let (registry, problems) = load(&[source(MANIFEST, manifest), source("sample.yaml", REGISTRY)]);
        assert!(problems.is_empty(), "{problems:?}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1.json"), record).unwrap();
        match check(&registry, folder.path()) {
            Ok(report) => report,
            Err(error) => format!("{error:#}"),
        }
    }

    fn record(span: &str, metric: &str) -> String {
        format!("{{\"spans\":[{span}],\"metrics\":[{metric}],\"resource\":{{}},\"logs\":[]}}")
    }

    const SPAN: &str = r#"{"name":"llama_sample","attributes":{"llama.size":3},"events":[]}"#;
    const METRIC: &str = r#"{"name":"llama.sample.count","unit":"{sample}","kind":"sum","monotonic":true,"points":[{"attributes":{"llama.phase":"one"}}]}"#;

    #[test]
    fn what_agrees_passes_and_says_what_could_not_be_seen() {
        let report = differences(&record(SPAN, METRIC));
        assert!(report.contains("agree") && report.contains("`llama.gpu`: it takes a GPU"), "{report}");
    }

    #[test]
    fn every_difference_is_named() {
        for (span, metric, expected) in [
            ("", METRIC, "span llama_sample: registered, but no test has seen it exported"),
            (r#"{"name":"llama_sample","attributes":{},"events":[]}"#, METRIC, "no test has seen `llama.size`"),
            (
                r#"{"name":"llama_other","attributes":{},"events":[]}"#,
                METRIC,
                "span llama_other: exported, but not registered",
            ),
            (
                r#"{"name":"llama_sample","attributes":{"llama.size":"3"},"events":[]}"#,
                METRIC,
                "`llama.size` has the wrong type",
            ),
            (
                r#"{"name":"llama_sample","attributes":{"llama.new":3},"events":[]}"#,
                METRIC,
                "has `llama.new`, which is not registered",
            ),
            (
                r#"{"name":"llama_sample","attributes":{"llama.size":3},"events":[{"name":"llama.e","attributes":{}}]}"#,
                METRIC,
                "event llama.e: exported",
            ),
            (SPAN, &METRIC.replace("{sample}", "s"), "unit `s` is exported"),
            (SPAN, &METRIC.replace("true", "false"), "not a sum"),
            (SPAN, &METRIC.replace("\"one\"", "\"two\""), "a value that is not registered"),
            (
                &SPAN.replace("\"llama.size\":3", "\"llama.size\":3,\"llama.gpu\":1"),
                "",
                "metric llama.sample.count: registered, but",
            ),
        ] {
            let report = differences(&record(span, metric));
            assert!(report.contains(expected), "{expected}: {report}");
        }
    }
}
