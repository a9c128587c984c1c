//! What a program can ask of llama.cpp's telemetry where opentelemetry-cpp is behind it (feature `telemetry-cpp`).
//!
//! The names are those that this module has with the Rust backend. What is left out takes an `opentelemetry::Context` or the
//! program's providers: nothing of OpenTelemetry for Rust is linked here. `docs/embedding.md` is the guide.

use std::error::Error;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::bindings as c;

/// A level of `LLAMA_OTEL_DETAIL`; a higher one records all that a lower one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Detail {
    Off,
    Metrics,
    Request,
    Decode,
    Op,
}

const DETAILS: [(&str, Detail); 5] = [
    ("off", Detail::Off),
    ("metrics", Detail::Metrics),
    ("request", Detail::Request),
    ("decode", Detail::Decode),
    ("op", Detail::Op),
];

impl FromStr for Detail {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        DETAILS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, detail)| *detail).ok_or(())
    }
}

/// The values of the three W3C headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `traceparent`; empty: no parent.
    pub traceparent: String,
    /// `tracestate`; may be empty.
    pub tracestate: String,
    /// `baggage`; may be empty.
    pub baggage: String,
}

/// Why a parent was not taken, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentError {
    /// Nothing is set, and what was set before is cleared.
    Traceparent,
    /// The parent is set, without its trace state.
    Tracestate,
    /// The parent is set, without its baggage.
    Baggage,
    /// 4,096 contexts and sequences have a parent already, or there is no memory.
    NoRoom,
}

impl fmt::Display for ParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traceparent => "not a valid W3C traceparent",
            Self::Tracestate => "not a valid W3C tracestate; the parent is set without it",
            Self::Baggage => "not valid W3C baggage; the parent is set without it",
            Self::NoRoom => "no room for another parent",
        })
    }
}

impl Error for ParentError {}

/// Calls `set` with the three headers. A header with a NUL is malformed, which the runtime is shown by one that is malformed too.
fn given(headers: &Headers, set: impl FnOnce([*const c_char; 3]) -> c::llama_otel_result) -> Result<(), ParentError> {
    let texts = [&headers.traceparent, &headers.tracestate, &headers.baggage]
        .map(|header| CString::new(header.as_str()).unwrap_or_else(|_| c",=".to_owned()));
    Err(match set(texts.each_ref().map(|text| text.as_ptr())) {
        c::LLAMA_OTEL_OK => return Ok(()),
        c::LLAMA_OTEL_INVALID_TRACEPARENT => ParentError::Traceparent,
        c::LLAMA_OTEL_INVALID_TRACESTATE => ParentError::Tracestate,
        c::LLAMA_OTEL_INVALID_BAGGAGE => ParentError::Baggage,
        _ => ParentError::NoRoom,
    })
}

/// Sets the parent of this thread from W3C headers, until it is set again; with an empty `traceparent` it has none.
///
/// # Errors
/// A header is malformed; the variant says what was set all the same.
pub fn set_traceparent(headers: &Headers) -> Result<(), ParentError> {
    // SAFETY: three C strings that outlive the call.
    given(headers, |[parent, state, baggage]| unsafe { c::llama_otel_set_traceparent(parent, state, baggage) })
}

/// Sets the parent of what llama.cpp does for one of its contexts, or for one sequence of it, from W3C headers; with an
/// empty `traceparent` it is that of the context again, or of the thread. It ends with `llama_free`.
///
/// `context` is only compared, so that a wrong one has no effect.
///
/// # Errors
/// A header is malformed or there is no room; the variant says what was set all the same.
pub fn set_context_traceparent(
    context: *const c::llama_context,
    sequence: Option<i32>,
    headers: &Headers,
) -> Result<(), ParentError> {
    // SAFETY: three C strings that outlive the call; the address is only compared.
    given(headers, |[parent, state, baggage]| unsafe {
        match sequence {
            Some(id) => c::llama_otel_set_sequence_traceparent(context, id.max(0), parent, state, baggage),
            None => c::llama_otel_set_context_traceparent(context, parent, state, baggage),
        }
    })
}

/// The calling thread's deadline, from now on; `None`: none. Whatever llama.cpp does on this thread and ends later counts as timed
/// out. A time under a millisecond counts as one.
pub fn set_deadline(timeout: Option<Duration>) {
    let ms = timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
    // SAFETY: any number will do.
    unsafe { c::llama_otel_set_deadline(ms) }
}

/// Whether telemetry is running.
pub fn is_active() -> bool {
    // SAFETY: nothing is handed over.
    unsafe { c::llama_otel_is_active() }
}

/// Switches the level of detail while running; without effect while telemetry is not running.
pub fn set_detail(detail: Detail) {
    // SAFETY: any number will do.
    unsafe { c::llama_otel_set_detail(detail as u32) }
}

/// The level of detail at which is recorded now.
pub fn detail() -> Detail {
    // SAFETY: nothing is handed over.
    let level = unsafe { c::llama_otel_get_detail() };
    DETAILS[level.min(4) as usize].1
}

/// `false`: nothing leaves the process from now on and no span is recorded, but metrics go on being counted. `true`: exports, and
/// starts telemetry if it does not run. Whether telemetry is now as it was asked for.
pub fn set_export(on: bool) -> bool {
    // SAFETY: either will do.
    unsafe { c::llama_otel_set_export(on) }
}

fn milliseconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}

/// Delivers what was recorded so far, waiting at most `timeout`. True if all of it reached the receiver, or if telemetry is off.
pub fn flush(timeout: Duration) -> bool {
    // SAFETY: any time will do.
    unsafe { c::llama_otel_flush(milliseconds(timeout)) }
}

/// Delivers what was recorded, then stops the threads and turns telemetry off. True if all of it reached the receiver in time.
/// Called at exit; the next `llama_backend_init` starts anew.
pub fn shutdown(timeout: Duration) -> bool {
    // SAFETY: any time will do.
    unsafe { c::llama_otel_shutdown(milliseconds(timeout)) }
}

/// What was lost so far: (signal, reason, count). Also exported as `llama.otel.dropped`.
pub fn dropped() -> Vec<(&'static str, &'static str, u64)> {
    const SIGNALS: [&CStr; 3] = [c"traces", c"metrics", c"logs"];
    const REASONS: [&CStr; 5] = [c"ring_full", c"thread_limit", c"queue_full", c"export_failed", c"shutdown"];
    let all = SIGNALS.iter().flat_map(|signal| REASONS.iter().map(move |reason| (signal, reason)));
    // SAFETY: two C strings of static life.
    let counted = all
        .map(|(signal, reason)| (signal, reason, unsafe { c::llama_otel_dropped(signal.as_ptr(), reason.as_ptr()) }));
    let name = |text: &'static CStr| text.to_str().unwrap_or_default();
    counted.filter(|(_, _, n)| *n > 0).map(|(signal, reason, n)| (name(signal), name(reason), n)).collect()
}
