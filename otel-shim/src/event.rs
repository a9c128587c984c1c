//! An event record → an event of its span and, if it is of the log, what the SDK's log exporters take.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{Event, SpanId, TraceFlags, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::SpanEvents;

use crate::abi::{Attr, EventRecord, static_str};
use crate::registry::key::LLAMA_LOG_MESSAGE;
use crate::span::{Epoch, attributes, trace_id};
use crate::text::clean;

/// Events that wait for the end of their spans. A span that is not exported after all never takes its own.
const MAX_WAITING: usize = 1024;
/// Events of one span, the SDK's own limit; a loop that fails must not make a span of any size.
const MAX_OF_SPAN: usize = 128;

/// Events whose spans are still open.
#[derive(Default)]
pub struct OpenEvents {
    waiting: VecDeque<(u64, Event)>,
}

impl OpenEvents {
    /// Keeps the event for its span; the oldest goes if there are too many.
    pub fn add(&mut self, record: &EventRecord, attrs: &[Attr], strings: &[u8], epoch: Epoch) {
        if record.span_id == 0 {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        let mut attributes = attributes(attrs, strings);
        if record.severity > 0 {
            attributes.push(KeyValue::new(LLAMA_LOG_MESSAGE, clean(record.message.bytes(strings))));
        }
        let name = Cow::Borrowed(name(record));
        self.waiting.push_back((record.span_id, Event::new(name, epoch.wall(record.time_ns), attributes, 0)));
    }

    /// The events of the span, which has ended.
    pub fn take(&mut self, span_id: u64) -> SpanEvents {
        let mut events = SpanEvents::default();
        if self.waiting.iter().all(|(id, _)| *id != span_id) {
            return events;
        }
        for (id, event) in std::mem::take(&mut self.waiting) {
            if id != span_id {
                self.waiting.push_back((id, event));
            } else if events.events.len() < MAX_OF_SPAN {
                events.events.push(event);
            } else {
                events.dropped_count += 1;
            }
        }
        events
    }
}

fn name(record: &EventRecord) -> &'static str {
    // SAFETY: the runtime takes only string literals for names.
    unsafe { static_str(record.name) }
}

/// Makes records of the log: only the SDK's logger can.
pub struct LogRecords {
    logger: SdkLogger,
    made: Made,
    _provider: SdkLoggerProvider,
}

/// The processor that catches what the logger makes.
#[derive(Clone, Debug, Default)]
struct Made(Arc<Mutex<Option<SdkLogRecord>>>);

impl LogProcessor for Made {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogRecords {
    pub fn new(scope: &InstrumentationScope, resource: &Resource) -> Self {
        let made = Made::default();
        let provider =
            SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(made.clone()).build();
        LogRecords { logger: provider.logger_with_scope(scope.clone()), made, _provider: provider }
    }

    /// The record of the log; `None` for an event that is none.
    pub fn make(&self, record: &EventRecord, attrs: &[Attr], strings: &[u8], epoch: Epoch) -> Option<SdkLogRecord> {
        let severity = severity(record.severity)?;
        let mut log = self.logger.create_log_record();
        log.set_timestamp(epoch.wall(record.time_ns));
        log.set_observed_timestamp(epoch.wall(record.time_ns));
        log.set_event_name(name(record));
        log.set_severity_number(severity);
        log.set_severity_text(severity.name());
        log.set_body(AnyValue::from(clean(record.message.bytes(strings))));
        for attribute in attributes(attrs, strings) {
            log.add_attribute(attribute.key, AnyValue::from(attribute.value.as_str().into_owned()));
        }
        if record.span_id != 0 {
            let trace = trace_id(record.trace_id_hi, record.trace_id_lo);
            let span = SpanId::from_bytes(record.span_id.to_be_bytes());
            log.set_trace_context(TraceId::from_bytes(trace), span, Some(TraceFlags::SAMPLED));
        }
        self.logger.emit(log);
        self.made.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// OpenTelemetry's numbers; the runtime gives those of errors.
fn severity(number: u16) -> Option<Severity> {
    match number {
        0 => None,
        1..=12 => Some(Severity::Info),
        13..=16 => Some(Severity::Warn),
        _ => Some(Severity::Error),
    }
}
