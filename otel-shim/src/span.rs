//! A span record → what the SDK's exporters take.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::abi::{Attr, AttrValue, FLAG_ERROR, FLAG_REMOTE_PARENT, SpanRecord, static_str};
use crate::registry::{self, Kind};
use crate::text::clean;

/// Relates the clock of the records (monotonic, nanoseconds) to the wall clock.
#[derive(Clone, Copy)]
pub struct Epoch {
    monotonic_ns: i64,
    wall: SystemTime,
}

impl Epoch {
    /// The two clocks read one after the other.
    pub fn now(monotonic_ns: i64) -> Self {
        Epoch { monotonic_ns, wall: SystemTime::now() }
    }

    pub fn wall(self, monotonic_ns: i64) -> SystemTime {
        let offset = monotonic_ns.saturating_sub(self.monotonic_ns);
        let distance = Duration::from_nanos(offset.unsigned_abs());
        let wall = if offset < 0 { self.wall.checked_sub(distance) } else { self.wall.checked_add(distance) };
        wall.unwrap_or(self.wall)
    }
}

/// One attribute as a key and a value; `None` for a type that this version does not know.
pub fn key_value(attr: &Attr, strings: &[u8]) -> Option<KeyValue> {
    // SAFETY: the attribute comes out of a ring, into which only the runtime writes.
    let key = unsafe { attr.key() };
    let value = match attr.value(strings)? {
        AttrValue::Bool(value) => Value::Bool(value),
        AttrValue::Int(value) => Value::I64(value),
        AttrValue::Double(value) => Value::F64(value),
        // the runtime has no arrays: the names in one are separated by commas
        AttrValue::Str(bytes) if registry::attribute(key).is_some_and(|a| a.kind == Kind::StringArray) => Value::Array(
            Array::String(clean(bytes).split(',').filter(|s| !s.is_empty()).map(|s| s.to_owned().into()).collect()),
        ),
        AttrValue::Str(bytes) => Value::String(clean(bytes).into()),
    };
    Some(KeyValue::new(key, value))
}

/// The attributes with each key once, as OTLP demands: the last value stands.
pub fn attributes(attrs: &[Attr], strings: &[u8]) -> Vec<KeyValue> {
    let mut all: Vec<KeyValue> = Vec::with_capacity(attrs.len());
    for attribute in attrs.iter().filter_map(|attr| key_value(attr, strings)) {
        match all.iter_mut().find(|other| other.key == attribute.key) {
            Some(other) => *other = attribute,
            None => all.push(attribute),
        }
    }
    all
}

/// Seconds from start to end.
pub fn duration_s(record: &SpanRecord) -> f64 {
    record.end_ns.saturating_sub(record.start_ns) as f64 * 1e-9
}

pub fn span_data(
    record: &SpanRecord,
    attrs: &[Attr],
    strings: &[u8],
    epoch: Epoch,
    scope: &InstrumentationScope,
) -> SpanData {
    let trace_id = (u128::from(record.trace_id_hi) << 64) | u128::from(record.trace_id_lo);
    let status = if record.flags & FLAG_ERROR != 0 {
        Status::error(clean(record.message.bytes(strings)))
    } else {
        Status::Unset
    };
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(trace_id.to_be_bytes()),
            SpanId::from_bytes(record.span_id.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::from_bytes(record.parent_span_id.to_be_bytes()),
        parent_span_is_remote: record.flags & FLAG_REMOTE_PARENT != 0,
        span_kind: SpanKind::Internal,
        // SAFETY: the runtime takes only string literals for names.
        name: unsafe { static_str(record.name) }.into(),
        start_time: epoch.wall(record.start_ns),
        end_time: epoch.wall(record.end_ns.max(record.start_ns)),
        attributes: attributes(attrs, strings),
        dropped_attributes_count: record.n_attrs_dropped.into(),
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: scope.clone(),
    }
}
