//! The received telemetry, normalised: what tests read and what `--format json` prints.
//!
//! Field order and names are a format that scripts rely on. This file knows nothing of OTLP's
//! wire types; `normalise` does.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Attribute names and values, sorted by name. Bytes are lower-case hex strings; non-finite
/// doubles are the strings `NaN`, `Infinity`, `-Infinity`, as in OTLP's own JSON.
pub type Attributes = BTreeMap<String, Value>;

/// Everything that was accepted, of every export, merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Spans sorted by start, then by end descending (a parent precedes its children).
    pub spans: Vec<Span>,
    /// One entry per metric stream, in order of name.
    pub metrics: Vec<Metric>,
    /// Attributes of the resource; of several resources the last one wins, name by name.
    pub resource: Attributes,
    /// Log records sorted by time.
    pub logs: Vec<LogRecord>,
}

/// One span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub name: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// The parent's span id; `None` for a root.
    pub parent: Option<String>,
    /// W3C `tracestate`; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_state: String,
    /// Nanoseconds since the epoch.
    pub start_unix_nano: u64,
    /// Nanoseconds since the epoch.
    pub end_unix_nano: u64,
    pub attributes: Attributes,
    pub events: Vec<Event>,
    pub links: Vec<Link>,
    pub status: Status,
    pub kind: SpanKind,
}

impl Span {
    /// Duration in seconds; 0 where the end precedes the start.
    pub fn seconds(&self) -> f64 {
        self.end_unix_nano.saturating_sub(self.start_unix_nano) as f64 / 1e9
    }

    /// An attribute's value, if the span has it.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.get(name)
    }

    /// Whether the span's status is an error.
    pub fn failed(&self) -> bool {
        self.status.code == StatusCode::Error
    }
}

/// Something that happened at one instant within a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub name: String,
    pub time_unix_nano: u64,
    pub attributes: Attributes,
}

/// A reference from a span to another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub trace_id: String,
    pub span_id: String,
    pub attributes: Attributes,
}

/// How a span ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub code: StatusCode,
    /// Empty unless the code is `Error`.
    pub message: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusCode {
    #[default]
    Unset,
    Ok,
    Error,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// One metric stream with the points of every export (a time series per attribute set).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub name: String,
    /// UCUM unit, `{thing}` for counts; may be empty.
    pub unit: String,
    pub kind: MetricKind,
    /// Whether a sum only grows; false for the other kinds.
    pub monotonic: bool,
    /// What a point's figures count from; a gauge has no temporality.
    pub temporality: Temporality,
    pub description: String,
    /// In order of arrival.
    pub points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    Sum,
    Gauge,
    Histogram,
    ExponentialHistogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Temporality {
    Unspecified,
    Delta,
    Cumulative,
}

/// The figures of one attribute set at one export. A sum or gauge has `value`; a histogram has
/// the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub attributes: Attributes,
    pub start_unix_nano: u64,
    pub time_unix_nano: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Upper bounds (inclusive) of all buckets but the last, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_counts: Option<Vec<u64>>,
    /// Present in exponential histograms only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential: Option<Exponential>,
}

/// The buckets of an exponential histogram: bucket `i` ends at `2^((offset + i + 1) / 2^scale)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exponential {
    pub scale: i32,
    pub zero_count: u64,
    pub positive: ExponentialBuckets,
    pub negative: ExponentialBuckets,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExponentialBuckets {
    pub offset: i32,
    pub bucket_counts: Vec<u64>,
}

/// A measured value, an integer or a double as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Int(i64),
    Double(f64),
}

impl Number {
    /// The value as a double (integers beyond 2^53 are rounded).
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Self::Int(a.saturating_add(b)),
            (a, b) => Self::Double(a.as_f64() + b.as_f64()),
        }
    }
}

impl Metric {
    /// The state of each attribute set after the last export, ordered by attributes: the last
    /// point by time, or, where the temporality is delta, all points added up.
    pub fn latest(&self) -> Vec<Point> {
        let mut latest: Vec<Point> = Vec::new();
        for points in self.series() {
            let mut points = points.into_iter();
            let Some(first) = points.next() else { continue };
            let state = if self.temporality == Temporality::Delta {
                points.fold(first.clone(), |state, point| state.plus(point))
            } else {
                points.last().unwrap_or(first).clone()
            };
            latest.push(state);
        }
        latest
    }

    /// The points of each attribute set, ordered by time; the sets ordered by attributes.
    pub fn series(&self) -> Vec<Vec<&Point>> {
        let mut sets: BTreeMap<String, Vec<&Point>> = BTreeMap::new();
        for point in &self.points {
            let key = Value::from_iter(point.attributes.clone()).to_string();
            sets.entry(key).or_default().push(point);
        }
        let mut series: Vec<_> = sets.into_values().collect();
        for points in &mut series {
            points.sort_by_key(|point| point.time_unix_nano);
        }
        series
    }

    /// The latest values added over all attribute sets (for sums; for gauges it means little).
    pub fn total(&self) -> f64 {
        self.latest().iter().filter_map(|point| point.value).map(Number::as_f64).sum()
    }

    /// The number of measurements in a histogram, over all attribute sets.
    pub fn count(&self) -> u64 {
        self.latest().iter().filter_map(|point| point.count).sum()
    }

    /// The latest point whose attributes contain all of `attributes`.
    pub fn point(&self, attributes: &[(&str, Value)]) -> Option<Point> {
        self.latest()
            .into_iter()
            .find(|point| attributes.iter().all(|(name, value)| point.attributes.get(*name) == Some(value)))
    }
}

impl Point {
    /// The mean of a histogram, in the metric's unit; `None` while it is empty.
    pub fn mean(&self) -> Option<f64> {
        match (self.sum, self.count) {
            (Some(sum), Some(count)) if count > 0 => Some(sum / count as f64),
            _ => None,
        }
    }

    /// An estimate of the quantile `q` (0 to 1) of a histogram with explicit bounds: linear
    /// within the bucket, clipped to the recorded minimum and maximum.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (bounds, counts) = (self.bounds.as_ref()?, self.bucket_counts.as_ref()?);
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * total as f64;
        let mut below = 0.0;
        for (index, &count) in counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                let last = bounds.last().copied();
                let lower = index.checked_sub(1).and_then(|i| bounds.get(i).copied());
                let lower = lower.or(self.min).unwrap_or(0.0);
                let upper = bounds.get(index).copied().or(self.max).or(last).unwrap_or(lower);
                let lower = self.min.map_or(lower, |min| lower.max(min));
                let upper = self.max.map_or(upper, |max| upper.min(max)).max(lower);
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        self.max
    }

    fn plus(mut self, other: &Self) -> Self {
        fn pick<T: Copy>(a: Option<T>, b: Option<T>, both: impl Fn(T, T) -> T) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(both(a, b)),
                (a, b) => a.or(b),
            }
        }
        self.time_unix_nano = other.time_unix_nano;
        self.value = pick(self.value, other.value, Number::plus);
        self.count = pick(self.count, other.count, |a, b| a.saturating_add(b));
        self.sum = pick(self.sum, other.sum, |a, b| a + b);
        self.min = pick(self.min, other.min, f64::min);
        self.max = pick(self.max, other.max, f64::max);
        if self.bounds == other.bounds
            && let (Some(mine), Some(theirs)) = (&mut self.bucket_counts, &other.bucket_counts)
        {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine = mine.saturating_add(*theirs);
            }
        }
        // Scales may differ between exports; rescaling is left to whoever needs it.
        self.exponential.clone_from(&other.exponential);
        self
    }
}

/// One log record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    pub time_unix_nano: u64,
    pub observed_unix_nano: u64,
    /// OTLP's severity number, 1 (trace) to 24 (fatal); 0 if unset.
    pub severity_number: i32,
    pub severity_text: String,
    pub event_name: String,
    pub body: Value,
    pub attributes: Attributes,
    /// Empty unless the record was written within a span.
    pub trace_id: String,
    pub span_id: String,
}

/// A span with the spans below it, both in order of start.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    pub span: &'a Span,
    pub children: Vec<Node<'a>>,
}

impl Telemetry {
    /// The spans by parenthood. A span whose parent was not received is a root, and so is the
    /// earliest span of a cycle, so that every span appears exactly once.
    pub fn tree(&self) -> Vec<Node<'_>> {
        let known: HashSet<(&str, &str)> =
            self.spans.iter().map(|span| (span.trace_id.as_str(), span.span_id.as_str())).collect();
        let mut children: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
        let mut roots = Vec::new();
        for (index, span) in self.spans.iter().enumerate() {
            let parent = span.parent.as_deref().map(|parent| (span.trace_id.as_str(), parent));
            match parent.filter(|parent| known.contains(parent)) {
                Some(parent) => children.entry(parent).or_default().push(index),
                None => roots.push(index),
            }
        }
        let mut seen = vec![false; self.spans.len()];
        let mut tree: Vec<_> = roots.into_iter().filter_map(|root| self.node(root, &children, &mut seen)).collect();
        for index in 0..self.spans.len() {
            tree.extend(self.node(index, &children, &mut seen));
        }
        tree.sort_by_key(|node| node.span.start_unix_nano);
        tree
    }

    fn node<'a>(
        &'a self,
        index: usize,
        children: &HashMap<(&str, &str), Vec<usize>>,
        seen: &mut [bool],
    ) -> Option<Node<'a>> {
        let span = self.spans.get(index)?;
        if std::mem::replace(seen.get_mut(index)?, true) {
            return None;
        }
        let below = children.get(&(span.trace_id.as_str(), span.span_id.as_str()));
        let children = below.into_iter().flatten().filter_map(|&child| self.node(child, children, seen)).collect();
        Some(Node { span, children })
    }

    /// The first span of this name.
    pub fn span(&self, name: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.name == name)
    }

    /// All spans of this name, in order of start.
    pub fn spans_named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The parent of a span, if it was received.
    pub fn parent_of(&self, span: &Span) -> Option<&Span> {
        let parent = span.parent.as_deref()?;
        self.spans.iter().find(|it| it.span_id == parent && it.trace_id == span.trace_id)
    }

    /// The first metric of this name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }

    /// Restores the documented order of spans, metrics and logs.
    pub(crate) fn sort(&mut self) {
        self.spans.sort_by_key(|span| (span.start_unix_nano, std::cmp::Reverse(span.end_unix_nano)));
        self.metrics.sort_by(|a, b| a.name.cmp(&b.name));
        self.logs.sort_by_key(|log| log.time_unix_nano);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, start: u64) -> Span {
        Span {
            name: id.into(),
            trace_id: "t".into(),
            span_id: id.into(),
            parent: parent.map(Into::into),
            start_unix_nano: start,
            end_unix_nano: start + 1,
            attributes: Attributes::new(),
            events: vec![],
            links: vec![],
            status: Status::default(),
            trace_state: String::new(),
            kind: SpanKind::Internal,
        }
    }

    fn names(nodes: &[Node]) -> Vec<String> {
        nodes.iter().map(|node| format!("{}[{}]", node.span.name, names(&node.children).join(" "))).collect()
    }

    #[test]
    fn tree_keeps_every_span_once_even_with_orphans_and_cycles() {
        let telemetry = Telemetry {
            spans: vec![
                span("root", None, 1),
                span("x", Some("y"), 2),
                span("y", Some("x"), 3),
                span("child", Some("root"), 4),
                span("orphan", Some("missing"), 5),
                span("own", Some("own"), 6),
            ],
            ..Telemetry::default()
        };
        assert_eq!(names(&telemetry.tree()), ["root[child[]]", "x[y[]]", "orphan[]", "own[]"]);
    }

    fn metric(temporality: Temporality, points: Vec<Point>) -> Metric {
        Metric {
            name: "m".into(),
            unit: "s".into(),
            kind: MetricKind::Histogram,
            monotonic: false,
            temporality,
            description: String::new(),
            points,
        }
    }

    fn histogram(time: u64, counts: [u64; 3], sum: f64) -> Point {
        Point {
            time_unix_nano: time,
            count: Some(counts.iter().sum()),
            sum: Some(sum),
            min: Some(0.5),
            max: Some(8.0),
            bounds: Some(vec![1.0, 2.0]),
            bucket_counts: Some(counts.to_vec()),
            ..Point::default()
        }
    }

    #[test]
    fn latest_takes_the_last_cumulative_point_and_adds_up_deltas() {
        let points = vec![histogram(2, [3, 1, 1], 12.0), histogram(1, [1, 1, 0], 2.0)];
        let cumulative = metric(Temporality::Cumulative, points.clone());
        assert_eq!(cumulative.latest(), vec![points[0].clone()]);
        let delta = metric(Temporality::Delta, points);
        assert_eq!(delta.latest(), vec![histogram(2, [4, 2, 1], 14.0)]);
        assert_eq!(delta.count(), 7);
    }

    #[test]
    fn quantiles_are_interpolated_within_minimum_and_maximum() {
        let point = histogram(1, [2, 2, 0], 5.0);
        assert_eq!(point.quantile(0.5), Some(1.0));
        assert_eq!(point.quantile(0.25), Some(0.75));
        assert_eq!(point.quantile(0.75), Some(1.5));
        assert_eq!(histogram(1, [0, 0, 4], 20.0).quantile(1.0), Some(8.0));
        assert_eq!(histogram(1, [0, 0, 0], 0.0).quantile(0.5), None);
    }

    #[test]
    fn serialises_to_the_promised_format() {
        let telemetry = Telemetry { spans: vec![span("a", None, 7)], ..Telemetry::default() };
        assert_eq!(
            serde_json::to_string(&telemetry).unwrap(),
            r#"{"spans":[{"name":"a","trace_id":"t","span_id":"a","parent":null,"start_unix_nano":7,"end_unix_nano":8,"attributes":{},"events":[],"links":[],"status":{"code":"unset","message":""},"kind":"internal"}],"metrics":[],"resource":{},"logs":[]}"#
        );
    }
}
