//! The program's spans as parents of llama.cpp's: an [`opentelemetry::Context`] for a thread, a context or a sequence of
//! llama.cpp, and W3C headers where there is none.

use std::ffi::{CString, c_char, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering};

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceState};

use crate::abi::{Control, HostSpan};

/// The runtime's control block; null until its library is there.
static CONTROL: AtomicPtr<Control> = AtomicPtr::new(std::ptr::null_mut());

pub fn attach_control(control: &'static Control) {
    CONTROL.store(std::ptr::from_ref(control).cast_mut(), Ordering::Release);
}

/// The runtime's control block, which lives as long as the process.
pub fn control() -> Option<&'static Control> {
    // SAFETY: only `attach_control` writes it.
    unsafe { CONTROL.load(Ordering::Acquire).as_ref() }
}

/// Why a parent was not taken, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParentError {
    /// Nothing is set, and what was set before is cleared.
    #[error("not a valid W3C traceparent")]
    Traceparent,
    /// The parent is set, without its trace state.
    #[error("not a valid W3C tracestate; the parent is set without it")]
    Tracestate,
    /// The parent is set, without its baggage.
    #[error("not valid W3C baggage; the parent is set without it")]
    Baggage,
    /// 4,096 contexts and sequences have a parent already, or there is no memory.
    #[error("no room for another parent")]
    NoRoom,
    /// The library of llama.cpp in this program was built without telemetry.
    #[error("llama.cpp has no telemetry in this program")]
    NoRuntime,
}

fn check(result: u32) -> Result<(), ParentError> {
    Err(match result {
        0 => return Ok(()),
        1 => ParentError::Traceparent,
        2 => ParentError::Tracestate,
        3 => ParentError::Baggage,
        _ => ParentError::NoRoom,
    })
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

impl Headers {
    /// The current span and the baggage of a context; without a valid span, no parent.
    pub fn of(context: &Context) -> Self {
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return Headers::default();
        }
        let baggage = context.baggage().iter().map(|(key, (value, _))| format!("{key}={}", percent(value.as_str())));
        Headers {
            traceparent: format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()),
            tracestate: span.trace_state().header(),
            baggage: baggage.collect::<Vec<_>>().join(","),
        }
    }
}

/// What W3C Baggage does not allow in a value, percent-encoded.
fn percent(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b',' | b';' | b'\\' | b'%' | 0..=0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            _ => out.push(byte as char),
        }
    }
    out
}

/// A parent of the runtime's making; freed if it is not handed over.
struct Given(*mut c_void);

impl Given {
    fn new(control: &Control, headers: &Headers, remote: bool) -> (Self, Result<(), ParentError>) {
        if headers.traceparent.is_empty() {
            return (Given(std::ptr::null_mut()), Ok(()));
        }
        let Ok(traceparent) = CString::new(headers.traceparent.as_str()) else {
            return (Given(std::ptr::null_mut()), Err(ParentError::Traceparent));
        };
        // a header with a NUL is malformed, which the runtime is shown by one that is malformed too
        let text = |header: &str| CString::new(header).unwrap_or_else(|_| c",=".to_owned());
        let (tracestate, baggage) = (text(&headers.tracestate), text(&headers.baggage));
        let mut result = 0;
        // SAFETY: three C strings that outlive the call.
        let given = unsafe {
            (control.make_parent)(traceparent.as_ptr(), tracestate.as_ptr(), baggage.as_ptr(), remote, &raw mut result)
        };
        (Given(given), check(result))
    }

    fn into_raw(self) -> *mut c_void {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let (false, Some(control)) = (self.0.is_null(), control()) {
            // SAFETY: `make_parent` or `swap_parent` gave it, and nobody else has it.
            unsafe { (control.free_parent)(self.0) };
        }
    }
}

fn swap(parent: Given) -> Given {
    match control() {
        // SAFETY: the runtime takes what it made and gives what it had.
        Some(control) => Given(unsafe { (control.swap_parent)(parent.into_raw()) }),
        None => Given(std::ptr::null_mut()),
    }
}

/// While it lives, the spans that llama.cpp opens on this thread have the parent that it was made with. Guards of one
/// thread are dropped in the reverse order, which scopes do by themselves; it cannot be sent to another thread.
#[must_use = "the parent is taken away when the guard is dropped"]
pub struct ParentGuard {
    before: Option<Given>,
    _thread: PhantomData<*const ()>,
}

impl fmt::Debug for ParentGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParentGuard")
    }
}

impl Drop for ParentGuard {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            drop(swap(before));
        }
    }
}

/// The span and the baggage of `context` become the parent of what llama.cpp does on this thread, until the guard is
/// dropped. A context without a valid span takes the thread's parent away for that time. About 1 µs.
///
/// The guard belongs to the thread, not to a task: with an asynchronous runtime do not hold it over an `.await`.
pub fn attach(context: &Context) -> ParentGuard {
    let Some(control) = control() else { return ParentGuard { before: None, _thread: PhantomData } };
    let remote = context.span().span_context().is_remote();
    let (given, _) = Given::new(control, &Headers::of(context), remote);
    ParentGuard { before: Some(swap(given)), _thread: PhantomData }
}

/// [`attach`] with the current context, which is that of the current `tracing` span too where the program's
/// `tracing-opentelemetry` layer is on the same version of `opentelemetry` (0.33) as this crate.
pub fn attach_current() -> ParentGuard {
    attach(&Context::current())
}

/// Calls `f`; what llama.cpp does in it has the span of `context` as its parent.
pub fn with_parent<T>(context: &Context, f: impl FnOnce() -> T) -> T {
    let _guard = attach(context);
    f()
}

/// Sets the parent of this thread from W3C headers, until it is set again; with an empty `traceparent` it has none.
///
/// # Errors
/// A header is malformed; the variant says what was set all the same.
pub fn set_traceparent(headers: &Headers) -> Result<(), ParentError> {
    let (given, result) = Given::new(control().ok_or(ParentError::NoRuntime)?, headers, true);
    drop(swap(given));
    result
}

/// Sets the parent of what llama.cpp does for one of its contexts, or for one sequence of it, from W3C headers; with an
/// empty `traceparent` it is that of the context again, or of the thread. It ends with `llama_free`.
///
/// `context` is a `llama_context *`. It is only compared, so that a wrong one has no effect.
///
/// # Errors
/// A header is malformed or there is no room; the variant says what was set all the same.
pub fn set_context_traceparent<C>(
    context: *const C,
    sequence: Option<i32>,
    headers: &Headers,
) -> Result<(), ParentError> {
    set_for(context.cast(), sequence, headers, true)
}

/// [`set_context_traceparent`] from an OpenTelemetry context.
///
/// # Errors
/// As there.
pub fn set_context_parent<C>(context: *const C, sequence: Option<i32>, parent: &Context) -> Result<(), ParentError> {
    let remote = parent.span().span_context().is_remote();
    set_for(context.cast(), sequence, &Headers::of(parent), remote)
}

fn set_for(context: *const c_void, sequence: Option<i32>, headers: &Headers, remote: bool) -> Result<(), ParentError> {
    let control = control().ok_or(ParentError::NoRuntime)?;
    let (given, result) = Given::new(control, headers, remote);
    let sequence = sequence.map_or(-1, |sequence| sequence.max(0));
    // SAFETY: the runtime takes what it made; the address is only compared.
    check(unsafe { (control.set_parent)(context, sequence, given.into_raw()) })?;
    result
}

/// Whether llama.cpp's spans take the program's current [`Context`] as their parent by themselves, where nothing more
/// particular is given. On in host mode ([`crate::use_providers`]); costs about 10 ns for each span without a parent in
/// llama.cpp.
pub fn follow_current_context(follow: bool) {
    if let Some(control) = control() {
        let function: *mut c_void = if follow { host_span as *mut c_void } else { std::ptr::null_mut() };
        control.host_span.store(function, Ordering::Release);
    }
}

/// # Safety
/// `out` is the runtime's, its span id is 0.
unsafe extern "C" fn host_span(out: *mut HostSpan) {
    // SAFETY: the caller's promise.
    let out = unsafe { &mut *out };
    crate::guarded((), || Context::map_current(|context| write_span(context.span().span_context(), out)));
}

fn write_span(span: &SpanContext, out: &mut HostSpan) {
    if !span.is_valid() {
        return;
    }
    let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
    out.trace_id_hi = (trace_id >> 64) as u64;
    out.trace_id_lo = trace_id as u64;
    out.span_id = u64::from_be_bytes(span.span_id().to_bytes());
    out.sampled = span.is_sampled().into();
    out.remote = span.is_remote().into();
    if *span.trace_state() != TraceState::NONE {
        let state = cut(&span.trace_state().header(), out.tracestate.len()).to_owned();
        out.tracestate[..state.len()].copy_from_slice(state.as_bytes());
        out.n_tracestate = state.len() as u16;
    }
}

/// A trace state cut at a whole member to `max` bytes.
fn cut(state: &str, max: usize) -> &str {
    if state.len() <= max {
        return state;
    }
    state.as_bytes()[..=max].iter().rposition(|&byte| byte == b',').map_or("", |comma| &state[..comma])
}

/// The keys of baggage that become attributes, for the runtime: static storage, a null pointer at the end.
pub fn set_baggage_keys(control: &Control, keys: &[String]) {
    let strings = keys.iter().filter_map(|key| CString::new(key.as_str()).ok());
    let mut list: Vec<*const c_char> = strings.map(|key| key.into_raw().cast_const()).collect();
    list.push(std::ptr::null());
    // spans that are under way may read the list of before: none is freed, there is one for each start
    let list = if keys.is_empty() { std::ptr::null_mut() } else { Box::leak(list.into_boxed_slice()).as_mut_ptr() };
    control.baggage_keys.store(list, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

    fn context() -> Context {
        let state = TraceState::from_key_value([("vendor", "x"), ("other", "y")]).unwrap();
        let span = SpanContext::new(
            TraceId::from(0x0af7651916cd43dd8448eb211c80319c),
            SpanId::from(0xb7ad6b7169203331),
            TraceFlags::SAMPLED,
            false,
            state,
        );
        Context::new().with_remote_span_context(span).with_baggage([KeyValue::new("user", "a b,c%")])
    }

    #[test]
    fn a_context_as_headers() {
        let headers = Headers::of(&context());
        assert_eq!(headers.traceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(headers.tracestate, "vendor=x,other=y");
        assert_eq!(headers.baggage, "user=a%20b%2Cc%25");
        assert_eq!(Headers::of(&Context::new()), Headers::default());
    }

    #[test]
    fn a_long_trace_state_loses_whole_members() {
        assert_eq!(cut("a=1,b=2,c=3", 11), "a=1,b=2,c=3");
        assert_eq!(cut("a=1,b=2,c=3", 10), "a=1,b=2");
        assert_eq!(cut("a=1,b=2,c=3", 7), "a=1,b=2");
        assert_eq!(cut("a=1,b=2,c=3", 2), "");
    }
}
