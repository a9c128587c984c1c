//! The OpenTelemetry backend behind the `LLAMA_OTEL_*` macros.
//!
//! The runtime in C++ (`cpp/otel.cpp`) hands over ended spans and measurements. On the calling thread they are copied
//! into a ring of that thread ([`ring`]) and nothing else happens. One thread ([`pipeline`]) drains the rings, builds
//! what the OpenTelemetry SDK needs ([`span`], [`metric`], [`event`]) and gives it to the exporters ([`export`]), which run on a
//! thread of their own. The standard `OTEL_*` variables decide what is exported and where to ([`config`]); with none
//! of them set nothing is started.

pub mod config;

mod abi;
mod event;
mod export;
mod host;
mod http;
mod inject;
mod life;
mod log;
mod mark;
mod metric;
mod pipeline;
mod priority;
mod process;
mod propagation;
mod proxy;
#[rustfmt::skip]
pub mod registry;
mod resource;
mod ring;
mod span;
mod text;
mod tls;

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use abi::{Control, EventRecord, MetricRecord, SpanRecord};
pub use config::Detail;
pub use host::{IdGeneratorForLlama, Providers, ProvidersError};
pub use propagation::{
    Headers, ParentError, ParentGuard, attach, attach_current, follow_current_context, set_context_parent,
    set_context_traceparent, set_traceparent, with_parent,
};

#[cxx::bridge]
mod ffi {
    unsafe extern "C++" {
        include!("otel-backend.h");
        #[cxx_name = "llama_otel_control"]
        type Control = crate::abi::Control;
        #[cxx_name = "llama_otel_span_record"]
        type SpanRecord = crate::abi::SpanRecord;
        #[cxx_name = "llama_otel_metric_record"]
        type MetricRecord = crate::abi::MetricRecord;
        #[cxx_name = "llama_otel_event_record"]
        type EventRecord = crate::abi::EventRecord;
    }

    #[namespace = "llama_otel::shim"]
    extern "Rust" {
        #[cxx_name = "attach"]
        unsafe fn attach_raw(control: *mut Control);
        unsafe fn start(control: *mut Control);
        unsafe fn span(record: *const SpanRecord, size: usize, strings: *const c_char, strings_size: usize);
        unsafe fn metric(record: *const MetricRecord, size: usize, strings: *const c_char, strings_size: usize);
        unsafe fn event(record: *const EventRecord, size: usize, strings: *const c_char, strings_size: usize);
        unsafe fn entries(entries: *const c_char, size: usize);
        #[cxx_name = "flush"]
        fn flush_ms(timeout_ms: u32) -> bool;
        #[cxx_name = "shutdown"]
        fn shutdown_ms(timeout_ms: u32) -> bool;
        #[cxx_name = "set_detail"]
        fn set_detail_raw(detail: u32);
        fn set_export(on: bool) -> bool;
        fn is_active() -> bool;
        #[cxx_name = "dropped"]
        unsafe fn dropped_raw(signal: *const c_char, reason: *const c_char) -> u64;
    }
}

/// No panic crosses the bridge: what one leaves undone is telemetry, never inference.
#[inline(always)] // what is recorded would travel through memory
fn guarded<T>(otherwise: T, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or(otherwise)
}

/// # Safety
/// `control` is the runtime's, which lives as long as the process.
unsafe fn attach_raw(control: *mut Control) {
    // SAFETY: the caller's promise.
    if let Some(control) = unsafe { control.as_ref::<'static>() } {
        propagation::attach_control(control);
    }
}

/// # Safety
/// `control` is the runtime's, which lives as long as the process.
unsafe fn start(control: *mut Control) {
    // SAFETY: the caller's promise.
    let Some(control) = (unsafe { control.as_ref::<'static>() }) else { return };
    guarded((), || {
        inject::point("start");
        life::start(control);
    });
}

/// # Safety
/// `record` heads `size` readable bytes (its attributes follow it), `strings` `strings_size`.
unsafe fn span(record: *const SpanRecord, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    unsafe { push(record.cast(), size, strings, strings_size, ring::Kind::Span) }
}

/// # Safety
/// As for [`span`].
unsafe fn metric(record: *const MetricRecord, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    unsafe { push(record.cast(), size, strings, strings_size, ring::Kind::Metric) }
}

/// # Safety
/// As for [`span`].
unsafe fn event(record: *const EventRecord, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    unsafe { push(record.cast(), size, strings, strings_size, ring::Kind::Event) }
}

/// # Safety
/// `size` readable bytes, of entries as `otel-backend.h` describes them.
unsafe fn entries(entries: *const c_char, size: usize) {
    // SAFETY: the caller's promise.
    let entries = unsafe { std::slice::from_raw_parts(entries.cast::<u8>(), size) };
    record(move || ring::push_entries_quickly(entries), move || ring::push_entries(entries));
}

/// # Safety
/// Both pointers are to that many readable bytes.
#[inline(never)] // once, so that all of it is inlined here
unsafe fn push(record: *const u8, size: usize, strings: *const c_char, strings_size: usize, kind: ring::Kind) {
    // SAFETY: the caller's promise.
    let (record, strings) = unsafe {
        (std::slice::from_raw_parts(record, size), std::slice::from_raw_parts(strings.cast::<u8>(), strings_size))
    };
    self::record(move || ring::push_quickly(kind, record, strings), move || ring::push(kind, record, strings));
}

/// To catch a panic takes a tenth of the time of a record: so `quickly`, which cannot panic, comes first, and `push` where it
/// did nothing.
#[inline(always)]
fn record(quickly: impl FnOnce() -> bool, push: impl FnOnce()) {
    if inject::is_on() || !quickly() {
        push_guarded(push);
    }
}

#[cold]
fn push_guarded(push: impl FnOnce()) {
    let is_recorded = guarded(false, || {
        inject::point("push");
        push();
        true
    });
    if !is_recorded {
        guarded((), || life::give_up("after an error of its own (above); inference goes on without"));
    }
}

fn flush_ms(timeout_ms: u32) -> bool {
    flush(Duration::from_millis(timeout_ms.into()))
}

fn shutdown_ms(timeout_ms: u32) -> bool {
    shutdown(Duration::from_millis(timeout_ms.into()))
}

fn set_detail_raw(detail: u32) {
    guarded((), || life::set_detail(detail));
}

/// # Safety
/// Both are null or C strings.
unsafe fn dropped_raw(signal: *const c_char, reason: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    let wanted = |text: *const c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes());
    let (signal, reason) = (wanted(signal), wanted(reason));
    let all = |wanted: Option<&[u8]>, name: &str| wanted.is_none_or(|wanted| wanted == name.as_bytes());
    guarded(0, || ring::dropped().iter().filter(|(s, r, _)| all(signal, s) && all(reason, r)).map(|(_, _, n)| n).sum())
}

/// What the runtime holds back of this thread: it is in a callback of llama.cpp's.
fn hand_over() {
    if let Some(control) = propagation::control() {
        // SAFETY: the runtime's own function, which any thread may call.
        unsafe { (control.hand_over)() };
    }
}

/// Hands the program's own providers over, before its first call of llama.cpp: spans go through its tracer provider's
/// sampler and processors, metrics through its meter provider's views and readers, and the program's current span becomes
/// the parent of llama.cpp's ([`follow_current_context`]). Of the `OTEL_*` variables only `OTEL_SDK_DISABLED`,
/// `OTEL_PROPAGATORS`, `OTEL_LOG_LEVEL` and the limits of spans still count. The providers stay the program's: they are
/// flushed with [`flush`], never shut down.
///
/// # Errors
/// Telemetry runs already, or the tracer provider lacks [`IdGeneratorForLlama`]; nothing is changed.
pub fn use_providers(providers: Providers) -> Result<(), ProvidersError> {
    providers.hand_over()
}

/// `false`: nothing leaves the process from now on and no span is recorded, but metrics go on being counted, so that their
/// sums are right later. `true`: exports, and starts telemetry with the defaults of `OTEL_*` if it does not run (after
/// `llama_backend_init` or a model load). Whether telemetry is now as it was asked for.
pub fn set_export(on: bool) -> bool {
    guarded(false, || life::set_export(on))
}

/// Delivers what was recorded so far, waiting at most `timeout`. True if all of it reached the receiver, or if telemetry is off.
pub fn flush(timeout: Duration) -> bool {
    hand_over();
    guarded(false, || life::flush(timeout))
}

/// Delivers what was recorded, then stops the threads and turns telemetry off. True if all of it reached the receiver in time.
/// Called at exit; the next `llama_backend_init` starts anew.
pub fn shutdown(timeout: Duration) -> bool {
    hand_over();
    guarded(false, || life::shutdown(timeout))
}

/// Whether telemetry is running.
pub fn is_active() -> bool {
    guarded(false, life::is_active)
}

/// Switches the level of detail while running; without effect while telemetry is not running. After [`Detail::Off`] another
/// level turns it on again.
pub fn set_detail(detail: Detail) {
    guarded((), || life::set_detail(detail as u32));
}

/// The level of detail at which is recorded now.
pub fn detail() -> Detail {
    let level = propagation::control().map_or(0, |control| control.detail.load(std::sync::atomic::Ordering::Relaxed));
    [Detail::Off, Detail::Metrics, Detail::Request, Detail::Decode, Detail::Op][level.min(4) as usize]
}

unsafe extern "C" {
    // of the runtime in C++, which is always linked beside this crate
    safe fn llama_otel_set_deadline(timeout_ms: u64);
}

/// The calling thread's deadline, from now on; `None`: none. Whatever llama.cpp does on this thread and ends later counts as timed
/// out (`llama.timeout.count`), and if the abort callback stops it, its `error.type` is `timeout`. Nothing is stopped by the
/// deadline itself. A time under a millisecond counts as one.
pub fn set_deadline(timeout: Option<Duration>) {
    llama_otel_set_deadline(timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)));
}

/// What was lost so far: (signal, reason, count). Also exported as `llama.otel.dropped`.
pub fn dropped() -> Vec<(&'static str, &'static str, u64)> {
    ring::dropped()
}

#[cfg(doctest)]
#[doc = include_str!(concat!(env!("OUT_DIR"), "/embedding.md"))]
struct Guide;
