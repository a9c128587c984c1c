//! A span record → what the SDK's exporters take.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link as SpanLink, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::abi::{Attr, AttrValue, FLAG_ERROR, FLAG_REMOTE_PARENT, FLAG_TRACESTATE, Link, SpanRecord, static_str};
use crate::registry::{self, Kind};
use crate::text::{MAX_BYTES, clean};

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

/// The bytes of a trace id.
pub fn trace_id(hi: u64, lo: u64) -> [u8; 16] {
    ((u128::from(hi) << 64) | u128::from(lo)).to_be_bytes()
}

/// The context of a sampled span of this process.
fn span_context(trace_id_hi: u64, trace_id_lo: u64, span_id: u64, trace_state: TraceState) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(trace_id(trace_id_hi, trace_id_lo)),
        SpanId::from_bytes(span_id.to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        trace_state,
    )
}

fn span_links(links: &[Link], dropped: u16, limit: usize) -> SpanLinks {
    let mut all = SpanLinks::default();
    all.links = links
        .iter()
        .take(limit)
        .map(|link| {
            SpanLink::with_context(span_context(link.trace_id_hi, link.trace_id_lo, link.span_id, TraceState::NONE))
        })
        .collect();
    all.dropped_count = u32::from(dropped) + links.len().saturating_sub(limit) as u32;
    all
}

/// What a span may have at most (`OTEL_SPAN_*_LIMIT`); the runtime's own limits are below it or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub attributes: usize,
    /// Characters of a string.
    pub value_length: usize,
    pub links: usize,
}

impl Default for Limits {
    /// The specification's.
    fn default() -> Self {
        Limits { attributes: 128, value_length: usize::MAX, links: 128 }
    }
}

impl Limits {
    /// Cuts strings and leaves out attributes; returns how many.
    fn apply(self, attributes: &mut Vec<KeyValue>) -> usize {
        let left_out = attributes.len().saturating_sub(self.attributes);
        attributes.truncate(self.attributes);
        if self.value_length < MAX_BYTES {
            for attribute in attributes {
                match &mut attribute.value {
                    Value::String(text) => cut(text, self.value_length),
                    Value::Array(Array::String(all)) => all.iter_mut().for_each(|text| cut(text, self.value_length)),
                    _ => {}
                }
            }
        }
        left_out
    }
}

fn cut(text: &mut StringValue, characters: usize) {
    if let Some((end, _)) = text.as_str().char_indices().nth(characters) {
        *text = text.as_str()[..end].to_owned().into();
    }
}

/// Splits the trace state off, which is the last attribute of a span that has one.
fn trace_state<'a>(record: &SpanRecord, attrs: &'a [Attr], strings: &[u8]) -> (&'a [Attr], TraceState) {
    match attrs.split_last().filter(|_| record.flags & FLAG_TRACESTATE != 0) {
        Some((last, attrs)) => match last.value(strings) {
            Some(AttrValue::Str(bytes)) => (attrs, String::from_utf8_lossy(bytes).parse().unwrap_or_default()),
            _ => (attrs, TraceState::NONE),
        },
        None => (attrs, TraceState::NONE),
    }
}

pub fn span_data(
    record: &SpanRecord,
    attrs: &[Attr],
    links: &[Link],
    strings: &[u8],
    epoch: Epoch,
    scope: &InstrumentationScope,
    limits: Limits,
) -> SpanData {
    let (attrs, trace_state) = trace_state(record, attrs, strings);
    let mut attributes = attributes(attrs, strings);
    let left_out = limits.apply(&mut attributes) as u32;
    let status = if record.flags & FLAG_ERROR != 0 {
        Status::error(clean(record.message.bytes(strings)))
    } else {
        Status::Unset
    };
    SpanData {
        span_context: span_context(record.trace_id_hi, record.trace_id_lo, record.span_id, trace_state),
        parent_span_id: SpanId::from_bytes(record.parent_span_id.to_be_bytes()),
        parent_span_is_remote: record.flags & FLAG_REMOTE_PARENT != 0,
        span_kind: SpanKind::Internal,
        // SAFETY: the runtime takes only string literals for names.
        name: unsafe { static_str(record.name) }.into(),
        start_time: epoch.wall(record.start_ns),
        end_time: epoch.wall(record.end_ns.max(record.start_ns)),
        attributes,
        dropped_attributes_count: u32::from(record.n_attrs_dropped) + left_out,
        events: SpanEvents::default(),
        links: span_links(links, record.n_links_dropped, limits.links),
        status,
        instrumentation_scope: scope.clone(),
    }
}
