//! The OpenTelemetry backend behind the `LLAMA_OTEL_*` macros.
//!
//! The runtime in C++ (`cpp/otel.cpp`) hands over ended spans and measurements. On the calling thread they are copied
//! into a ring of that thread ([`ring`]) and nothing else happens. One thread ([`pipeline`]) drains the rings, builds
//! what the OpenTelemetry SDK needs ([`span`], [`metric`]) and gives it to the exporters ([`export`]), which run on a
//! thread of their own. The standard `OTEL_*` variables decide what is exported and where to ([`config`]); with none
//! of them set nothing is started.

pub mod config;

mod abi;
mod export;
mod http;
mod metric;
mod pipeline;
#[rustfmt::skip]
pub mod registry;
mod ring;
mod span;
mod text;

use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use abi::{Control, MetricRecord, SpanRecord};
pub use config::Detail;

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
    }

    #[namespace = "llama_otel::shim"]
    extern "Rust" {
        unsafe fn start(control: *mut Control);
        unsafe fn span(record: *const SpanRecord, size: usize, strings: *const c_char, strings_size: usize);
        unsafe fn metric(record: *const MetricRecord, size: usize, strings: *const c_char, strings_size: usize);
        #[cxx_name = "flush"]
        fn flush_ms(timeout_ms: u32) -> bool;
        #[cxx_name = "shutdown"]
        fn shutdown_ms(timeout_ms: u32) -> bool;
    }
}

/// No panic crosses the bridge: what one leaves undone is telemetry, never inference.
fn guarded<T>(otherwise: T, f: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or(otherwise)
}

/// # Safety
/// `control` is the runtime's, which lives as long as the process.
unsafe fn start(control: *mut Control) {
    // SAFETY: the caller's promise.
    let Some(control) = (unsafe { control.as_ref::<'static>() }) else { return };
    guarded((), || pipeline::start(control));
}

/// # Safety
/// `record` heads `size` readable bytes (its attributes follow it), `strings` `strings_size`.
unsafe fn span(record: *const SpanRecord, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    unsafe { push(ring::Kind::Span, record.cast(), size, strings, strings_size) }
}

/// # Safety
/// As for [`span`].
unsafe fn metric(record: *const MetricRecord, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    unsafe { push(ring::Kind::Metric, record.cast(), size, strings, strings_size) }
}

/// # Safety
/// Both pointers are to that many readable bytes.
#[inline]
unsafe fn push(kind: ring::Kind, record: *const u8, size: usize, strings: *const c_char, strings_size: usize) {
    // SAFETY: the caller's promise.
    let (record, strings) = unsafe {
        (std::slice::from_raw_parts(record, size), std::slice::from_raw_parts(strings.cast::<u8>(), strings_size))
    };
    guarded((), || ring::push(kind, record, strings));
}

fn flush_ms(timeout_ms: u32) -> bool {
    flush(Duration::from_millis(timeout_ms.into()))
}

fn shutdown_ms(timeout_ms: u32) -> bool {
    shutdown(Duration::from_millis(timeout_ms.into()))
}

/// Delivers what was recorded so far, waiting at most `timeout`. True if all of it reached the receiver, or if telemetry is off.
pub fn flush(timeout: Duration) -> bool {
    guarded(false, || pipeline::flush(timeout))
}

/// Delivers what was recorded, then stops the threads and turns telemetry off. True if all of it reached the receiver in time.
/// Called at exit; the next `llama_backend_init` starts anew.
pub fn shutdown(timeout: Duration) -> bool {
    guarded(false, || pipeline::shutdown(timeout))
}

/// Whether telemetry is running.
pub fn is_active() -> bool {
    guarded(false, pipeline::is_active)
}

/// Switches the level of detail while running; without effect while telemetry is off.
pub fn set_detail(detail: Detail) {
    guarded((), || pipeline::set_detail(detail));
}

/// What was lost so far: (signal, reason, count). Also exported as `llama.otel.dropped`.
pub fn dropped() -> Vec<(&'static str, &'static str, u64)> {
    ring::dropped()
}
