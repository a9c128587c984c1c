//! What the registry may say: names, units, closed sets. One function for each rule, and each
//! rule has a test with a sample that breaks it.

use std::collections::{BTreeMap, BTreeSet};

use super::registry::{Attribute, Metric, Problem, Registry};
use super::schema::{Instrument, ScalarType};

/// Namespaces in which this project names things.
const OWN: [&str; 2] = ["llama.", "ggml."];

/// Names of the OpenTelemetry conventions that are in use; there are no others outside [`OWN`].
const EXTERNAL_ATTRIBUTES: [&str; 10] = [
    "error.type",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.token.type",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "hw.id",
    "hw.name",
];
const EXTERNAL_METRICS: [&str; 5] = [
    "gen_ai.client.token.usage",
    "gen_ai.server.time_per_output_token",
    "gen_ai.server.time_to_first_token",
    "hw.gpu.memory.limit",
    "hw.gpu.memory.usage",
];

/// Words that are units; a unit belongs into `unit`.
const UNIT_WORDS: [&str; 21] = [
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "ms",
    "msec",
    "millis",
    "milliseconds",
    "us",
    "usec",
    "micros",
    "microseconds",
    "ns",
    "nanoseconds",
    "bytes",
    "kb",
    "mb",
    "gb",
    "mib",
    "percent",
];

/// Everything that is wrong, by rule and then by name.
pub fn check(registry: &Registry) -> Vec<Problem> {
    let rules: [fn(&Registry, &mut Vec<Problem>); 14] = [
        names_are_well_formed,
        names_are_own_or_known,
        names_carry_no_unit,
        metrics_carry_no_total,
        units_are_allowed,
        units_fit_the_name,
        utilizations_are_gauges,
        buckets_are_ascending,
        sets_have_members,
        metric_attributes_are_bounded,
        attributes_are_used,
        texts_are_sentences,
        identifiers_are_unique,
        operations_are_spans,
    ];
    let mut problems = Vec::new();
    for rule in rules {
        rule(registry, &mut problems);
    }
    problems
}

fn names_are_well_formed(registry: &Registry, problems: &mut Vec<Problem>) {
    let well_formed = |name: &str| {
        name.contains('.')
            && name.split('.').all(|part| {
                part.starts_with(|c: char| c.is_ascii_lowercase())
                    && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            })
    };
    let attributes = registry.attributes.iter().map(|(name, a)| (name, &a.origin));
    let metrics = registry.metrics.iter().map(|(name, m)| (name, &m.origin));
    let events = registry.events.iter().map(|(name, e)| (name, &e.origin));
    for (name, origin) in attributes.chain(metrics).chain(events) {
        if !well_formed(name) {
            problems.push(Problem::new(origin, "a name is lower_snake_case words, joined by dots, at least two"));
        }
    }
}

fn names_are_own_or_known(registry: &Registry, problems: &mut Vec<Problem>) {
    let own = |name: &str| OWN.iter().any(|prefix| name.starts_with(prefix));
    for (name, attribute) in &registry.attributes {
        if !own(name) && !EXTERNAL_ATTRIBUTES.contains(&name.as_str()) {
            problems.push(Problem::new(&attribute.origin, outside("attribute")));
        }
    }
    for (name, metric) in &registry.metrics {
        if !own(name) && !EXTERNAL_METRICS.contains(&name.as_str()) {
            problems.push(Problem::new(&metric.origin, outside("metric")));
        }
    }
}

fn outside(what: &str) -> String {
    format!(
        "no new {what} outside llama.* and ggml.*; if the conventions define it, add it to the list in xtask/src/codegen/lint.rs"
    )
}

fn names_carry_no_unit(registry: &Registry, problems: &mut Vec<Problem>) {
    let attributes = registry
        .attributes
        .iter()
        // The plan's names stay as they are.
        .filter(|(_, attribute)| attribute.plan.is_none())
        .map(|(name, attribute)| (name, &attribute.origin));
    let metrics = registry.metrics.iter().map(|(name, metric)| (name, &metric.origin));
    for (name, origin) in attributes.chain(metrics) {
        if let Some(word) = name.split(['.', '_']).find(|word| UNIT_WORDS.contains(word)) {
            problems.push(Problem::new(origin, format!("`{word}` is a unit; leave it out of the name")));
        }
    }
}

fn metrics_carry_no_total(registry: &Registry, problems: &mut Vec<Problem>) {
    for (name, metric) in &registry.metrics {
        if name.ends_with("_total") || name.ends_with(".total") {
            problems.push(Problem::new(&metric.origin, "no `total` at the end; exporters add it where it belongs"));
        }
    }
}

/// Whether the unit is an annotation such as `{token}`.
fn is_thing(unit: &str) -> bool {
    unit.strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|thing| !thing.is_empty() && thing.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

fn units_are_allowed(registry: &Registry, problems: &mut Vec<Problem>) {
    for metric in registry.metrics.values() {
        if !matches!(metric.unit.as_str(), "s" | "By" | "1") && !is_thing(&metric.unit) {
            problems.push(Problem::new(
                &metric.origin,
                format!(
                    "unit `{}`: durations are in `s`, sizes in `By`, ratios in `1`, counts in `{{thing}}`",
                    metric.unit
                ),
            ));
        }
    }
}

fn units_fit_the_name(registry: &Registry, problems: &mut Vec<Problem>) {
    for (name, metric) in &registry.metrics {
        let last = name.rsplit('.').next().unwrap_or_default();
        let has = |word: &str| name.split('.').any(|part| part == word);
        let is_time = matches!(last, "duration" | "time") || last.starts_with("time_");
        let is_bytes = has("memory") && matches!(last, "usage" | "limit" | "size" | "peak");
        let unit = metric.unit.as_str();

        let complaint = if is_time != (unit == "s") {
            Some("a name ends in `duration`, `time` or `time_…` if and only if the unit is `s`")
        } else if is_bytes && unit != "By" {
            Some("an amount of memory is in `By`")
        } else if unit == "By" && !is_bytes && last != "size" {
            Some("the unit `By` belongs to a `size` or to an amount of memory")
        } else if last == "count" && !is_thing(unit) {
            Some("a count is in `{thing}`")
        } else {
            None
        };
        if let Some(complaint) = complaint {
            problems.push(Problem::new(&metric.origin, format!("unit `{unit}`: {complaint}")));
        }
    }
}

fn utilizations_are_gauges(registry: &Registry, problems: &mut Vec<Problem>) {
    for (name, metric) in &registry.metrics {
        let named = name.ends_with(".utilization");
        let measured = metric.unit == "1" && metric.instrument == Instrument::Gauge;
        if named != measured && (named || metric.unit == "1") {
            problems.push(Problem::new(
                &metric.origin,
                "a ratio is a gauge with the unit `1` and a name that ends in `.utilization`",
            ));
        }
    }
}

fn buckets_are_ascending(registry: &Registry, problems: &mut Vec<Problem>) {
    for metric in registry.metrics.values() {
        let ascending = metric.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = metric.buckets.iter().all(|b| b.is_finite() && *b > 0.0);
        let complaint = match (metric.instrument, metric.buckets.is_empty()) {
            (Instrument::Histogram, true) => "a histogram needs bucket boundaries",
            (Instrument::Histogram, false) if !(ascending && positive) => "bucket boundaries are positive and ascend",
            (Instrument::Histogram, false) | (_, true) => continue,
            (_, false) => "only a histogram has bucket boundaries",
        };
        problems.push(Problem::new(&metric.origin, complaint));
    }
}

fn sets_have_members(registry: &Registry, problems: &mut Vec<Problem>) {
    for attribute in registry.attributes.values() {
        if attribute.closed && attribute.members.is_empty() {
            problems.push(Problem::new(&attribute.origin, "a closed set needs members"));
        }
        let mut seen = BTreeSet::new();
        for member in &attribute.members {
            if !seen.insert(("id", &member.id)) || !seen.insert(("value", &member.value)) {
                problems.push(Problem::new(&attribute.origin, format!("the member `{}` is listed twice", member.id)));
            }
        }
    }
}

/// Every attribute of a metric multiplies its series.
fn metric_attributes_are_bounded(registry: &Registry, problems: &mut Vec<Problem>) {
    let bounded = |attribute: &Attribute| {
        attribute.closed
            || attribute.kind == ScalarType::Boolean
            || attribute.bounded_by.as_deref().is_some_and(|reason| !reason.trim().is_empty())
    };
    let used: BTreeMap<&str, &Metric> = registry
        .metrics
        .values()
        .flat_map(|metric| metric.attributes.iter().map(move |u| (u.key.as_str(), metric)))
        .collect();
    for (key, metric) in used {
        let Some(attribute) = registry.attributes.get(key) else {
            continue;
        };
        if !bounded(attribute) {
            problems.push(Problem::new(
                &attribute.origin,
                format!(
                    "used by `{}`: give it members, or say under annotations.llama_otel.bounded_by what bounds its values",
                    metric.origin.id
                ),
            ));
        }
    }
}

fn attributes_are_used(registry: &Registry, problems: &mut Vec<Problem>) {
    let used: BTreeSet<&str> = registry.uses().map(|u| u.key.as_str()).collect();
    for (key, attribute) in &registry.attributes {
        if !used.contains(key.as_str()) {
            problems.push(Problem::new(&attribute.origin, "no span, metric or resource uses this attribute"));
        }
    }
}

fn texts_are_sentences(registry: &Registry, problems: &mut Vec<Problem>) {
    let attributes = registry.attributes.values().flat_map(|attribute| {
        let members = attribute.members.iter().map(|member| (&attribute.origin, &member.brief));
        members.chain([(&attribute.origin, &attribute.brief)])
    });
    let metrics = registry.metrics.values().map(|metric| (&metric.origin, &metric.brief));
    let spans = registry.spans.values().map(|span| (&span.origin, &span.brief));
    let events = registry.events.values().map(|event| (&event.origin, &event.brief));
    for (origin, brief) in attributes.chain(metrics).chain(spans).chain(events) {
        if brief.trim() != brief || !brief.ends_with('.') || brief.contains(['\n', '|']) {
            problems.push(Problem::new(
                origin,
                format!("brief {brief:?}: one line that ends with a full stop, without `|`"),
            ));
        }
    }
}

/// Dots and underscores look the same in an identifier.
fn identifiers_are_unique(registry: &Registry, problems: &mut Vec<Problem>) {
    let attributes: Vec<_> = registry.attributes.iter().map(|(n, a)| (n, &a.origin)).collect();
    let metrics: Vec<_> = registry.metrics.iter().map(|(n, m)| (n, &m.origin)).collect();
    for names in [attributes, metrics] {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, origin) in names {
            if let Some(other) = seen.insert(name.replace('.', "_"), name) {
                problems.push(Problem::new(origin, format!("differs from `{other}` only in dots and underscores")));
            }
        }
    }
}

/// The runtime counts an error under the name of the span that was open.
fn operations_are_spans(registry: &Registry, problems: &mut Vec<Problem>) {
    let Some(operation) = registry.attributes.get("llama.operation") else {
        return;
    };
    let listed: BTreeSet<&str> = operation.members.iter().map(|m| m.value.as_str()).collect();
    let expected: BTreeSet<&str> = registry.spans.keys().map(String::as_str).chain(["_OTHER"]).collect();
    for name in listed.symmetric_difference(&expected) {
        problems.push(Problem::new(&operation.origin, format!("`{name}`: the members are the spans and `_OTHER`")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::{MANIFEST, Source, load};
    use super::*;

    const PIN: &str = "{ name: x, description: x, semconv_version: 0.1.0, dependencies: [ { name: otel, version: 1.0.0, schema_url: 'https://example.org/1.0.0' } ] }";

    /// A registry with one metric, one span and two attributes, in which `from` is replaced by `to`.
    fn sample(from: &str, to: &str) -> Vec<Problem> {
        let good = r#"
groups:
  - id: registry.sample
    type: attribute_group
    brief: Sample.
    attributes:
      - id: llama.phase
        stability: development
        brief: A set.
        type:
          members:
            - { id: one, value: one, stability: development, brief: "One." }
            - { id: two, value: two, stability: development, brief: "Two." }
      - id: llama.model.name
        type: string
        stability: development
        brief: An open one.
        annotations: { llama_otel: { bounded_by: models } }
  - id: metric.llama.work.duration
    type: metric
    metric_name: llama.work.duration
    stability: development
    instrument: histogram
    unit: "s"
    brief: A metric.
    annotations:
      code_generation: { metric_value_type: double }
      llama_otel: { area: inference, buckets: [0.1, 1, 10] }
    attributes:
      - { ref: llama.phase, requirement_level: required }
      - { ref: llama.model.name, requirement_level: required }
  - id: span.llama_work
    type: span
    span_kind: internal
    stability: development
    brief: A span.
    annotations: { llama_otel: { area: inference, detail: request } }
    attributes:
      - { ref: llama.phase, requirement_level: { conditionally_required: If known. } }
"#;
        assert!(from.is_empty() || good.contains(from), "the sample has no {from:?}");
        let text = if from.is_empty() { good.to_owned() } else { good.replace(from, to) };
        let sources = [Source { file: MANIFEST.into(), text: PIN.into() }, Source { file: "sample.yaml".into(), text }];
        let (registry, mut problems) = load(&sources);
        if problems.is_empty() {
            problems = check(&registry);
        }
        problems
    }

    /// Asserts that the change makes exactly one problem, and that it is the expected one.
    #[track_caller]
    fn breaks(from: &str, to: &str, id: &str, message: &str) {
        let problems = sample(from, to);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0].origin.file, "sample.yaml");
        assert_eq!(problems[0].origin.id, id);
        assert!(problems[0].message.contains(message), "{}", problems[0].message);
    }

    #[test]
    fn the_sample_is_good() {
        assert_eq!(sample("", ""), []);
    }

    #[test]
    fn rejects_malformed_names() {
        breaks("llama.work.duration", "llama.Work.duration", "metric.llama.Work.duration", "lower_snake_case");
    }

    #[test]
    fn rejects_foreign_namespaces() {
        for namespace in ["gen_ai", "hw.gpu", "otel", "my"] {
            let name = format!("{namespace}.work.duration");
            breaks("llama.work.duration", &name, &format!("metric.{name}"), "no new metric");
        }
        breaks("llama.model.name", "gen_ai.llama.name", "gen_ai.llama.name", "no new attribute");
    }

    #[test]
    fn rejects_units_in_names() {
        breaks("llama.work.duration", "llama.work_ms.duration", "metric.llama.work_ms.duration", "`ms` is a unit");
        breaks("llama.phase", "llama.phase_us", "llama.phase_us", "`us` is a unit");
    }

    #[test]
    fn accepts_the_plans_unit_in_a_name() {
        let from = "llama.model.name\n        type: string\n        stability: development\n        brief: An open one.\n        annotations: { llama_otel: {";
        let to = from.replacen("llama.model.name", "llama.model.t_us", 1) + " plan: model.t_us,";
        let problems = sample(from, &to);
        // Only the use of the old name is left to complain about.
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].message.contains("no file defines"), "{problems:#?}");
    }

    #[test]
    fn rejects_total() {
        breaks(
            "metric.llama.work.duration\n    type: metric\n    metric_name: llama.work.duration\n    stability: development\n    instrument: histogram\n    unit: \"s\"",
            "metric.llama.work_total\n    type: metric\n    metric_name: llama.work_total\n    stability: development\n    instrument: histogram\n    unit: \"{piece}\"",
            "metric.llama.work_total",
            "no `total`",
        );
    }

    #[test]
    fn rejects_other_units() {
        let problems = sample(r#"unit: "s""#, r#"unit: "ms""#);
        assert!(problems.iter().any(|p| p.message.starts_with("unit `ms`: durations are in `s`")), "{problems:#?}");
        let problems = sample(r#"unit: "s""#, r#"unit: "{}""#);
        assert!(problems.iter().any(|p| p.message.starts_with("unit `{}`: durations are")), "{problems:#?}");
    }

    #[test]
    fn rejects_units_that_do_not_fit_the_name() {
        breaks(r#"unit: "s""#, r#"unit: "By""#, "metric.llama.work.duration", "if and only if the unit is `s`");
        breaks("llama.work.duration", "llama.work.size", "metric.llama.work.size", "if and only if the unit is `s`");
        let renamed = |name: &str, unit: &str| {
            let from = "metric.llama.work.duration\n    type: metric\n    metric_name: llama.work.duration\n    stability: development\n    instrument: histogram\n    unit: \"s\"";
            sample(from, &from.replace("llama.work.duration", name).replace("\"s\"", unit))
                .into_iter()
                .map(|p| p.message)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(renamed("llama.memory.usage", "'{page}'").contains("an amount of memory is in `By`"));
        assert!(renamed("llama.work.pieces", "By").contains("belongs to a `size`"));
        assert!(renamed("llama.work.count", "By").contains("belongs to a `size`"));
        assert!(renamed("llama.work.count", "'1'").contains("a count is in `{thing}`"));
        assert_eq!(renamed("llama.memory.usage", "By"), "");
        assert_eq!(renamed("llama.work.count", "'{piece}'"), "");
    }

    #[test]
    fn rejects_ratios_that_are_no_gauges() {
        let problems = sample(
            "metric.llama.work.duration\n    type: metric\n    metric_name: llama.work.duration\n    stability: development\n    instrument: histogram\n    unit: \"s\"",
            "metric.llama.work.utilization\n    type: metric\n    metric_name: llama.work.utilization\n    stability: development\n    instrument: histogram\n    unit: \"1\"",
        );
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].message.contains("a ratio is a gauge"));
    }

    #[test]
    fn rejects_bad_buckets() {
        let id = "metric.llama.work.duration";
        breaks("[0.1, 1, 10]", "[]", id, "needs bucket boundaries");
        breaks("[0.1, 1, 10]", "[0.1, 10, 1]", id, "ascend");
        breaks("[0.1, 1, 10]", "[0, 1]", id, "positive");
        breaks("[0.1, 1, 10]", "[.nan]", id, "positive");
        breaks("instrument: histogram", "instrument: counter", id, "only a histogram");
    }

    #[test]
    fn rejects_empty_and_repeated_sets() {
        let members = "members:\n            - { id: one, value: one, stability: development, brief: \"One.\" }\n            - { id: two, value: two, stability: development, brief: \"Two.\" }";
        breaks(members, "members: []", "llama.phase", "needs members");
        breaks("id: two", "id: one", "llama.phase", "listed twice");
        breaks("value: two", "value: one", "llama.phase", "listed twice");
    }

    #[test]
    fn rejects_unbounded_metric_attributes() {
        breaks(
            "annotations: { llama_otel: { bounded_by: models } }",
            "",
            "llama.model.name",
            "used by `metric.llama.work.duration`",
        );
        breaks("bounded_by: models", "bounded_by: ' '", "llama.model.name", "bounded_by");
    }

    #[test]
    fn rejects_unused_attributes() {
        breaks(
            "      - { ref: llama.model.name, requirement_level: required }\n",
            "",
            "llama.model.name",
            "no span, metric or resource",
        );
    }

    #[test]
    fn rejects_careless_texts() {
        breaks("A metric.", "A metric", "metric.llama.work.duration", "full stop");
        breaks("A span.", "'A span | another.'", "span.llama_work", "full stop");
        breaks("\"Two.\"", "\"\"", "llama.phase", "full stop");
    }

    #[test]
    fn rejects_names_that_collide_as_identifiers() {
        let problems = sample(
            "  - id: registry.sample\n    type: attribute_group\n    brief: Sample.\n    attributes:\n",
            "  - id: registry.sample\n    type: attribute_group\n    brief: Sample.\n    attributes:\n      - { id: llama.model_name, type: string, stability: development, brief: A twin. }\n",
        );
        assert!(problems.iter().any(|p| p.message.contains("only in dots and underscores")), "{problems:#?}");
    }

    #[test]
    fn rejects_operations_that_are_no_spans() {
        let set = |values: &str| {
            let from = "      - { ref: llama.phase, requirement_level: { conditionally_required: If known. } }\n";
            let members: Vec<String> = values
                .split(' ')
                .enumerate()
                .map(|(i, v)| format!("{{ id: m{i}, value: {v}, stability: development, brief: V. }}"))
                .collect();
            let to = format!(
                "      - {{ ref: llama.operation, requirement_level: required }}\n  - id: registry.operation\n    type: attribute_group\n    brief: Operation.\n    attributes:\n      - {{ id: llama.operation, stability: development, brief: One., type: {{ members: [{}] }} }}\n",
                members.join(", ")
            );
            sample(from, &to).into_iter().map(|p| p.message).collect::<Vec<_>>()
        };
        assert!(set("llama_work _OTHER").is_empty());
        assert_eq!(set("llama_work"), ["`_OTHER`: the members are the spans and `_OTHER`"]);
        assert_eq!(set("llama_work llama_gone _OTHER"), ["`llama_gone`: the members are the spans and `_OTHER`"]);
    }

    // What `load` refuses, with the same sample.

    #[test]
    fn rejects_unknown_refs() {
        let problems = sample("- { ref: llama.model.name,", "- { ref: llama.model.nmae,");
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(
            problems[0].to_string(),
            "sample.yaml: `metric.llama.work.duration`: refers to `llama.model.nmae`, which no file defines"
        );
    }

    #[test]
    fn rejects_unknown_fields_with_their_place() {
        breaks(
            "instrument: histogram",
            "instrument: histogram\n    colour: red",
            "metric.llama.work.duration",
            "unknown field `colour`",
        );
        breaks("span_kind: internal", "span_kind: server", "span.llama_work", "unknown variant `server`");
        let problems = sample("type: string\n", "type: str\n");
        assert!(problems[0].message.contains("attribute `llama.model.name`: unknown variant `str`"), "{problems:#?}");
        let problems = sample("requirement_level: { conditionally_required: If known. }", "requirement_level: always");
        assert!(problems[0].message.contains("attribute `llama.phase`: unknown variant `always`"), "{problems:#?}");
    }

    #[test]
    fn rejects_duplicates() {
        breaks(
            "  - id: span.llama_work\n",
            "  - id: registry.sample\n    type: attribute_group\n    brief: Again.\n  - id: span.llama_work\n",
            "registry.sample",
            "taken by another group",
        );
        breaks(
            "- { ref: llama.model.name,",
            "- { ref: llama.phase, requirement_level: required }\n      - { ref: llama.model.name,",
            "metric.llama.work.duration",
            "twice",
        );
    }

    #[test]
    fn rejects_incomplete_groups() {
        breaks("    unit: \"s\"\n", "", "metric.llama.work.duration", "a metric needs");
        breaks("detail: request", "plan: x", "span.llama_work", "a span needs");
        breaks(
            "metric_name: llama.work.duration",
            "metric_name: llama.other.duration",
            "metric.llama.work.duration",
            "the id must be `metric.llama.other.duration`",
        );
        breaks(
            "    brief: A span.\n",
            "    brief: A span.\n    extends: nothing\n",
            "span.llama_work",
            "no attribute_group",
        );
    }

    #[test]
    fn rejects_a_missing_pin() {
        let (_, problems) = load(&[]);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].origin.file, MANIFEST);
    }
}
