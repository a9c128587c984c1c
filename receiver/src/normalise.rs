//! From OTLP's wire types to the model.

use crate::model::{
    Attributes, Event, Exponential, ExponentialBuckets, Link, LogRecord, Metric, MetricKind, Number, Point, Span,
    SpanKind, Status, StatusCode, Telemetry, Temporality,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::{logs::v1 as logs, trace::v1 as trace};
use serde_json::Value;

/// Adds the spans of one export.
pub fn add_traces(telemetry: &mut Telemetry, request: &ExportTraceServiceRequest) {
    for of_resource in &request.resource_spans {
        add_resource(telemetry, of_resource.resource.as_ref());
        let spans = of_resource.scope_spans.iter().flat_map(|of_scope| &of_scope.spans);
        telemetry.spans.extend(spans.map(span));
    }
    telemetry.sort();
}

/// Adds the points of one export to the metrics they belong to.
pub fn add_metrics(telemetry: &mut Telemetry, request: &ExportMetricsServiceRequest) {
    for of_resource in &request.resource_metrics {
        add_resource(telemetry, of_resource.resource.as_ref());
        for sent in of_resource.scope_metrics.iter().flat_map(|of_scope| &of_scope.metrics) {
            let Some(mut metric) = metric(sent) else {
                continue;
            };
            let known = telemetry.metrics.iter_mut().find(|known| {
                known.name == metric.name
                    && known.unit == metric.unit
                    && known.kind == metric.kind
                    && known.temporality == metric.temporality
            });
            match known {
                Some(known) => known.points.append(&mut metric.points),
                None => telemetry.metrics.push(metric),
            }
        }
    }
    telemetry.sort();
}

/// Adds the records of one export.
pub fn add_logs(telemetry: &mut Telemetry, request: &ExportLogsServiceRequest) {
    for of_resource in &request.resource_logs {
        add_resource(telemetry, of_resource.resource.as_ref());
        let records = of_resource.scope_logs.iter().flat_map(|of_scope| &of_scope.log_records);
        telemetry.logs.extend(records.map(log_record));
    }
    telemetry.sort();
}

fn add_resource(telemetry: &mut Telemetry, resource: Option<&Resource>) {
    if let Some(resource) = resource {
        telemetry.resource.append(&mut attributes(&resource.attributes));
    }
}

fn span(span: &trace::Span) -> Span {
    Span {
        name: span.name.clone(),
        trace_id: hex::encode(&span.trace_id),
        span_id: hex::encode(&span.span_id),
        trace_state: span.trace_state.clone(),
        parent: is_set(&span.parent_span_id).then(|| hex::encode(&span.parent_span_id)),
        start_unix_nano: span.start_time_unix_nano,
        end_unix_nano: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|event| Event {
                name: event.name.clone(),
                time_unix_nano: event.time_unix_nano,
                attributes: attributes(&event.attributes),
            })
            .collect(),
        links: span
            .links
            .iter()
            .map(|link| Link {
                trace_id: hex::encode(&link.trace_id),
                span_id: hex::encode(&link.span_id),
                attributes: attributes(&link.attributes),
            })
            .collect(),
        status: span.status.as_ref().map(status).unwrap_or_default(),
        kind: match span.kind() {
            trace::span::SpanKind::Unspecified => SpanKind::Unspecified,
            trace::span::SpanKind::Internal => SpanKind::Internal,
            trace::span::SpanKind::Server => SpanKind::Server,
            trace::span::SpanKind::Client => SpanKind::Client,
            trace::span::SpanKind::Producer => SpanKind::Producer,
            trace::span::SpanKind::Consumer => SpanKind::Consumer,
        },
    }
}

fn status(status: &trace::Status) -> Status {
    let code = match status.code() {
        trace::status::StatusCode::Unset => StatusCode::Unset,
        trace::status::StatusCode::Ok => StatusCode::Ok,
        trace::status::StatusCode::Error => StatusCode::Error,
    };
    Status { code, message: status.message.clone() }
}

/// `None` for a summary: nothing of ours sends one.
fn metric(metric: &metrics::Metric) -> Option<Metric> {
    use metrics::metric::Data;
    let (kind, monotonic, temporality, points) = match metric.data.as_ref()? {
        Data::Gauge(it) => {
            (MetricKind::Gauge, false, Temporality::Unspecified, it.data_points.iter().map(number_point).collect())
        }
        Data::Sum(it) => (
            MetricKind::Sum,
            it.is_monotonic,
            temporality(it.aggregation_temporality()),
            it.data_points.iter().map(number_point).collect(),
        ),
        Data::Histogram(it) => (
            MetricKind::Histogram,
            false,
            temporality(it.aggregation_temporality()),
            it.data_points.iter().map(histogram_point).collect(),
        ),
        Data::ExponentialHistogram(it) => (
            MetricKind::ExponentialHistogram,
            false,
            temporality(it.aggregation_temporality()),
            it.data_points.iter().map(exponential_point).collect(),
        ),
        Data::Summary(_) => return None,
    };
    Some(Metric {
        name: metric.name.clone(),
        unit: metric.unit.clone(),
        kind,
        monotonic,
        temporality,
        description: metric.description.clone(),
        points,
    })
}

fn temporality(temporality: metrics::AggregationTemporality) -> Temporality {
    match temporality {
        metrics::AggregationTemporality::Unspecified => Temporality::Unspecified,
        metrics::AggregationTemporality::Delta => Temporality::Delta,
        metrics::AggregationTemporality::Cumulative => Temporality::Cumulative,
    }
}

fn number_point(point: &metrics::NumberDataPoint) -> Point {
    use metrics::number_data_point::Value;
    Point {
        attributes: attributes(&point.attributes),
        start_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        value: point.value.as_ref().map(|value| match *value {
            Value::AsInt(value) => Number::Int(value),
            Value::AsDouble(value) => Number::Double(value),
        }),
        ..Point::default()
    }
}

fn histogram_point(point: &metrics::HistogramDataPoint) -> Point {
    Point {
        attributes: attributes(&point.attributes),
        start_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        count: Some(point.count),
        sum: point.sum,
        min: point.min,
        max: point.max,
        bounds: Some(point.explicit_bounds.clone()),
        bucket_counts: Some(point.bucket_counts.clone()),
        ..Point::default()
    }
}

fn exponential_point(point: &metrics::ExponentialHistogramDataPoint) -> Point {
    use metrics::exponential_histogram_data_point::Buckets;
    let buckets = |buckets: Option<&Buckets>| {
        buckets.map_or_else(ExponentialBuckets::default, |it| ExponentialBuckets {
            offset: it.offset,
            bucket_counts: it.bucket_counts.clone(),
        })
    };
    Point {
        attributes: attributes(&point.attributes),
        start_unix_nano: point.start_time_unix_nano,
        time_unix_nano: point.time_unix_nano,
        count: Some(point.count),
        sum: point.sum,
        min: point.min,
        max: point.max,
        exponential: Some(Exponential {
            scale: point.scale,
            zero_count: point.zero_count,
            positive: buckets(point.positive.as_ref()),
            negative: buckets(point.negative.as_ref()),
        }),
        ..Point::default()
    }
}

fn log_record(record: &logs::LogRecord) -> LogRecord {
    let id = |bytes: &[u8]| {
        if is_set(bytes) { hex::encode(bytes) } else { String::new() }
    };
    LogRecord {
        time_unix_nano: record.time_unix_nano,
        observed_unix_nano: record.observed_time_unix_nano,
        severity_number: record.severity_number,
        severity_text: record.severity_text.clone(),
        event_name: record.event_name.clone(),
        body: record.body.as_ref().map_or(Value::Null, any_value),
        attributes: attributes(&record.attributes),
        trace_id: id(&record.trace_id),
        span_id: id(&record.span_id),
    }
}

/// An id of zeros means none, as an empty one does.
fn is_set(id: &[u8]) -> bool {
    id.iter().any(|&byte| byte != 0)
}

fn attributes(pairs: &[KeyValue]) -> Attributes {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.as_ref().map_or(Value::Null, any_value))).collect()
}

fn any_value(value: &AnyValue) -> Value {
    match &value.value {
        None | Some(any_value::Value::StringValueStrindex(_)) => Value::Null,
        Some(any_value::Value::StringValue(it)) => Value::from(it.as_str()),
        Some(any_value::Value::BoolValue(it)) => Value::from(*it),
        Some(any_value::Value::IntValue(it)) => Value::from(*it),
        Some(any_value::Value::DoubleValue(it)) => double(*it),
        Some(any_value::Value::ArrayValue(it)) => it.values.iter().map(any_value).collect(),
        Some(any_value::Value::KvlistValue(it)) => Value::from_iter(attributes(&it.values)),
        Some(any_value::Value::BytesValue(it)) => Value::from(hex::encode(it)),
    }
}

fn double(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            Value::from(match value {
                f64::INFINITY => "Infinity",
                f64::NEG_INFINITY => "-Infinity",
                _ => "NaN",
            })
        },
        Value::Number,
    )
}
