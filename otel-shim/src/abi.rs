//! The records of `otel-backend.h`, as Rust reads them. The C++ header asserts the same sizes.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use cxx::{ExternType, type_id};

/// No histogram takes the duration of this span.
pub const NO_METRIC: u16 = 0xffff;

/// The full path of a model file may be exported.
pub const CAPTURE_MODEL_PATH: u32 = 1;

pub const FLAG_EXPORT: u8 = 1;
pub const FLAG_ERROR: u8 = 2;
pub const FLAG_REMOTE_PARENT: u8 = 4;
/// No span of the runtime's is its parent.
pub const FLAG_LOCAL_ROOT: u8 = 8;
/// The last attribute is the span's trace state.
pub const FLAG_TRACESTATE: u8 = 16;

/// The headers of a given parent that count, `llama_otel_propagator`.
pub const PROPAGATOR_TRACECONTEXT: u32 = 1;
pub const PROPAGATOR_BAGGAGE: u32 = 2;
pub const PROPAGATOR_RPC: u32 = 4;

const TYPE_BOOL: u32 = 0;
const TYPE_INT: u32 = 1;
const TYPE_DOUBLE: u32 = 2;
const TYPE_STRING: u32 = 3;
const TYPE_LITERAL: u32 = 4;

/// A range of the string bytes that follow a record's attributes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Str {
    pub offset: u32,
    pub length: u32,
}

impl Str {
    /// The bytes in `strings`; empty if the range does not lie within them.
    pub fn bytes(self, strings: &[u8]) -> &[u8] {
        let start = self.offset as usize;
        strings.get(start..start.saturating_add(self.length as usize)).unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
union RawValue {
    i: i64,
    d: f64,
    s: Str,
    literal: *const c_char,
}

/// One attribute of a record.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attr {
    key: *const c_char,
    value: RawValue,
    kind: u32,
    reserved: u32,
}

/// The value of an [`Attr`], with strings still as the bytes that the program gave.
pub enum AttrValue<'a> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(&'a [u8]),
}

impl Attr {
    /// # Safety
    /// The attribute was written by the runtime: `key` points to a NUL-terminated string of static storage.
    pub unsafe fn key(&self) -> &'static str {
        // SAFETY: the caller's promise.
        unsafe { static_str(self.key) }
    }

    /// The value; `None` for a type that this version does not know.
    pub fn value<'a>(&self, strings: &'a [u8]) -> Option<AttrValue<'a>> {
        // SAFETY: every field of the union is plain data and the runtime writes all eight bytes; a literal is of static storage.
        unsafe {
            match self.kind {
                TYPE_BOOL => Some(AttrValue::Bool(self.value.i != 0)),
                TYPE_INT => Some(AttrValue::Int(self.value.i)),
                TYPE_DOUBLE => Some(AttrValue::Double(self.value.d)),
                TYPE_STRING => Some(AttrValue::Str(self.value.s.bytes(strings))),
                TYPE_LITERAL => Some(AttrValue::Str(static_str(self.value.literal).as_bytes())),
                _ => None,
            }
        }
    }
}

/// An ended span, `llama_otel_span_record`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SpanRecord {
    pub name: *const c_char,
    pub trace_id_hi: u64,
    pub trace_id_lo: u64,
    pub span_id: u64,
    pub parent_span_id: u64,
    pub start_ns: i64,
    pub end_ns: i64,
    pub message: Str,
    pub metric: u16,
    pub n_links_dropped: u16,
    pub n_attrs: u8,
    pub n_attrs_dropped: u8,
    pub n_links: u8,
    pub flags: u8,
}

/// Another span that a span has to do with, `llama_otel_link`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Link {
    pub trace_id_hi: u64,
    pub trace_id_lo: u64,
    pub span_id: u64,
}

/// A measurement, `llama_otel_metric_record`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MetricRecord {
    pub value: f64,
    pub metric: u16,
    pub n_attrs: u16,
    /// That it was measured, in a row: for histograms.
    pub n_times: u32,
}

/// Something that happened at one instant, `llama_otel_event_record`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EventRecord {
    pub name: *const c_char,
    pub trace_id_hi: u64,
    pub trace_id_lo: u64,
    /// 0: no exported span was open.
    pub span_id: u64,
    pub time_ns: i64,
    pub message: Str,
    pub n_attrs: u16,
    /// OpenTelemetry's number; 0: not a record of the log.
    pub severity: u16,
    reserved: u32,
}

/// What heads a record among several, `llama_otel_entry`: the record and its strings follow, then the next head.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    /// 1: a span, 2: a measurement, 3: an event.
    pub kind: u32,
    pub record: u32,
    pub strings: u32,
    pub reserved: u32,
}

/// What the runtime shares with its backend, `llama_otel_control`.
#[repr(C)]
pub struct Control {
    pub detail: AtomicU32,
    pub capture: AtomicU32,
    pub sample_threshold: AtomicU64,
    pub now_ns: Option<unsafe extern "C" fn() -> i64>,
    llama_version: *const c_char,
    llama_commit: *const c_char,
    ggml_version: *const c_char,
    pub llama_build_number: i64,
    ggml_backends: *const c_char,
    pub parent_based: AtomicU32,
    pub propagators: AtomicU32,
    /// Null, or C strings of static storage with a null pointer behind them.
    pub baggage_keys: AtomicPtr<*const c_char>,
    /// Null, or an `unsafe extern "C" fn(*mut HostSpan)`.
    pub host_span: AtomicPtr<c_void>,
    pub make_parent: unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, bool, *mut u32) -> *mut c_void,
    pub swap_parent: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub free_parent: unsafe extern "C" fn(*mut c_void),
    pub set_parent: unsafe extern "C" fn(*const c_void, i32, *mut c_void) -> u32,
    /// Hands over the spans of the generations that are under way, on the calling thread.
    pub end_generations: unsafe extern "C" fn(),
    /// Hands over what the runtime still holds back of the calling thread.
    pub hand_over: unsafe extern "C" fn(),
    /// Tells the gauges that are kept up to date: a record of so many bytes for each.
    pub observe: Teller,
    /// Tells what was counted since it was last asked, in the same way.
    pub counted: Teller,
}

/// Calls the function for each measurement that it has to tell, with what it is given for it, a record and its bytes.
pub type Teller = unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void, *const MetricRecord, usize), *mut c_void);

/// The program's own current span, `llama_otel_host_span`.
#[repr(C)]
pub struct HostSpan {
    pub trace_id_hi: u64,
    pub trace_id_lo: u64,
    pub span_id: u64,
    pub sampled: u8,
    pub remote: u8,
    pub n_tracestate: u16,
    pub tracestate: [u8; 256],
}

// SAFETY: the pointers are to strings and functions of static storage; those that change are atomic.
unsafe impl Sync for Control {}

impl Control {
    /// The version of llama.cpp, its commit, and the version of ggml; "unknown" where the build did not know.
    pub fn versions(&self) -> [&'static str; 3] {
        // SAFETY: otel.cpp sets them to string literals.
        unsafe { [static_str(self.llama_version), static_str(self.llama_commit), static_str(self.ggml_version)] }
    }

    /// Names of the backends that are compiled in.
    pub fn ggml_backends(&self) -> impl Iterator<Item = &'static str> {
        // SAFETY: as above.
        unsafe { static_str(self.ggml_backends) }.split(',').filter(|name| !name.is_empty())
    }
}

const _: () = assert!(size_of::<EventRecord>() == 56);
const _: () = assert!(size_of::<Attr>() == 24 && size_of::<Link>() == 24);
const _: () = assert!(size_of::<HostSpan>() == 288);
const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(size_of::<SpanRecord>() == 72 && size_of::<MetricRecord>() == 16);

macro_rules! extern_type {
    ($type:ty, $name:literal) => {
        // SAFETY: `otel-backend.h` defines the type of that name with this layout; it is only passed by pointer.
        unsafe impl ExternType for $type {
            type Id = type_id!($name);
            type Kind = cxx::kind::Opaque;
        }
    };
}
extern_type!(SpanRecord, "llama_otel_span_record");
extern_type!(MetricRecord, "llama_otel_metric_record");
extern_type!(EventRecord, "llama_otel_event_record");
extern_type!(Control, "llama_otel_control");

/// # Safety
/// `text` is null or points to a NUL-terminated string of static storage.
pub unsafe fn static_str(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}
