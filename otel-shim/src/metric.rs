//! Measurements → the SDK's instruments. Runs on the drain thread only.

use std::ffi::c_void;

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::{KeyValue, Value};

use crate::abi::{Attr, MetricRecord, NO_METRIC, SpanRecord, Teller};
use crate::guarded;
use crate::registry::{Instrument, METRICS, Metric, MetricDef, ValueType};
use crate::ring;
use crate::span::{attributes, duration_s, key_value};

/// Lets go of what the runtime has counted.
pub fn forget(teller: Teller) {
    unsafe extern "C" fn tell(_: *mut c_void, _: *const MetricRecord, _: usize) {}
    // SAFETY: the runtime's function; `tell` looks at nothing.
    unsafe { teller(tell, std::ptr::null_mut()) };
}

enum Recorder {
    CounterU64(Counter<u64>),
    CounterF64(Counter<f64>),
    UpDownI64(UpDownCounter<i64>),
    UpDownF64(UpDownCounter<f64>),
    GaugeI64(Gauge<i64>),
    GaugeF64(Gauge<f64>),
    Histogram(Histogram<f64>),
}

impl Recorder {
    fn new(meter: &Meter, def: &'static MetricDef) -> Self {
        macro_rules! build {
            ($method:ident) => {
                meter.$method(def.name).with_unit(def.unit).with_description(def.description)
            };
        }
        match (def.instrument, def.value) {
            (Instrument::Counter, ValueType::Int) => Recorder::CounterU64(build!(u64_counter).build()),
            (Instrument::Counter, ValueType::Double) => Recorder::CounterF64(build!(f64_counter).build()),
            (Instrument::UpDownCounter, ValueType::Int) => Recorder::UpDownI64(build!(i64_up_down_counter).build()),
            (Instrument::UpDownCounter, ValueType::Double) => Recorder::UpDownF64(build!(f64_up_down_counter).build()),
            (Instrument::Gauge, ValueType::Int) => Recorder::GaugeI64(build!(i64_gauge).build()),
            (Instrument::Gauge, ValueType::Double) => Recorder::GaugeF64(build!(f64_gauge).build()),
            (Instrument::Histogram, _) => {
                Recorder::Histogram(build!(f64_histogram).with_boundaries(def.buckets.to_vec()).build())
            }
        }
    }

    fn record(&self, value: f64, n_times: u32, attributes: &[KeyValue]) {
        match self {
            Recorder::CounterU64(counter) => counter.add(value as u64, attributes),
            Recorder::CounterF64(counter) => counter.add(value, attributes),
            Recorder::UpDownI64(counter) => counter.add(value as i64, attributes),
            Recorder::UpDownF64(counter) => counter.add(value, attributes),
            Recorder::GaugeI64(gauge) => gauge.record(value as i64, attributes),
            Recorder::GaugeF64(gauge) => gauge.record(value, attributes),
            Recorder::Histogram(histogram) => (0..n_times).for_each(|_| histogram.record(value, attributes)),
        }
    }
}

/// One instrument for every metric of the registry that is in use; an instrument is made when it is first recorded.
pub struct Instruments {
    meter: Meter,
    recorders: Vec<Option<Recorder>>,
    exported_drops: Vec<(&'static str, &'static str, u64)>,
}

impl Instruments {
    pub fn new(meter: Meter) -> Self {
        Instruments { meter, recorders: METRICS.iter().map(|_| None).collect(), exported_drops: Vec::new() }
    }

    fn record_as(&mut self, id: u16, value: f64, n_times: u32, mut attributes: Vec<KeyValue>) {
        let Some(metric) = Metric::from_u16(id) else { return };
        let def = metric.def();
        if def.attributes.contains(&"gen_ai.provider.name") {
            attributes.push(KeyValue::new("gen_ai.provider.name", "llama.cpp"));
            if attributes.iter().all(|attribute| attribute.key.as_str() != "gen_ai.operation.name") {
                attributes.push(KeyValue::new("gen_ai.operation.name", "text_completion"));
            }
        }
        let recorder = self.recorders[metric as usize].get_or_insert_with(|| Recorder::new(&self.meter, def));
        recorder.record(value, n_times, &attributes);
    }

    /// One measurement of the runtime's.
    pub fn measurement(&mut self, record: &MetricRecord, attrs: &[Attr], strings: &[u8]) {
        let attributes = attrs.iter().filter_map(|attr| key_value(attr, strings)).collect();
        self.record_as(record.metric, record.value, record.n_times, attributes);
    }

    /// What the runtime keeps up to date, or has counted.
    pub fn ask(&mut self, teller: Teller) {
        unsafe extern "C" fn tell(to: *mut c_void, record: *const MetricRecord, size: usize) {
            // SAFETY: `to` is the instruments that are lent below. The record has `size` bytes, its attributes and no strings in them.
            let (instruments, record, attrs) = unsafe {
                let n = (size - size_of::<MetricRecord>()) / size_of::<Attr>();
                (&mut *to.cast::<Instruments>(), &*record, std::slice::from_raw_parts(record.add(1).cast::<Attr>(), n))
            };
            guarded((), || instruments.measurement(record, attrs, &[]));
        }
        // SAFETY: the runtime's function, which calls `tell` on this thread, which is the only one that asks.
        unsafe { teller(tell, std::ptr::from_mut(self).cast()) };
    }

    /// The duration of a span that has a histogram, with those of its attributes that the histogram has.
    pub fn span_duration(&mut self, record: &SpanRecord, attrs: &[Attr], strings: &[u8]) {
        if record.metric == NO_METRIC {
            return;
        }
        let Some(metric) = Metric::from_u16(record.metric) else { return };
        let wanted = metric.def().attributes;
        let attributes = attributes(attrs, strings)
            .into_iter()
            .filter(|attribute| wanted.contains(&attribute.key.as_str()))
            .collect();
        self.record_as(record.metric, duration_s(record), 1, attributes);
    }

    /// A figure of telemetry itself.
    pub fn own(&mut self, metric: Metric, value: f64, attributes: &[(&'static str, &'static str)]) {
        self.record_as(
            metric as u16,
            value,
            1,
            attributes.iter().map(|(key, value)| KeyValue::new(*key, Value::from(*value))).collect(),
        );
    }

    /// Brings `llama.otel.dropped` up to what was counted.
    pub fn drops(&mut self) {
        for (signal, reason, total) in ring::dropped() {
            let seen = match self.exported_drops.iter_mut().find(|(s, r, _)| (*s, *r) == (signal, reason)) {
                Some((_, _, seen)) => std::mem::replace(seen, total),
                None => {
                    self.exported_drops.push((signal, reason, total));
                    0
                }
            };
            if total > seen {
                self.own(
                    Metric::LlamaOtelDropped,
                    (total - seen) as f64,
                    &[("llama.otel.signal", signal), ("llama.otel.reason", reason)],
                );
            }
        }
    }
}
