//! The records of `otel-backend.h`, as Rust reads them. The C++ header asserts the same sizes.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU32, AtomicU64};

use cxx::{ExternType, type_id};

/// No histogram takes the duration of this span.
pub const NO_METRIC: u16 = 0xffff;

/// The full path of a model file may be exported.
pub const CAPTURE_MODEL_PATH: u32 = 1;

pub const FLAG_EXPORT: u8 = 1;
pub const FLAG_ERROR: u8 = 2;
pub const FLAG_REMOTE_PARENT: u8 = 4;

const TYPE_BOOL: u32 = 0;
const TYPE_INT: u32 = 1;
const TYPE_DOUBLE: u32 = 2;
const TYPE_STRING: u32 = 3;

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
        // SAFETY: every field of the union is plain data and the runtime writes all eight bytes.
        unsafe {
            match self.kind {
                TYPE_BOOL => Some(AttrValue::Bool(self.value.i != 0)),
                TYPE_INT => Some(AttrValue::Int(self.value.i)),
                TYPE_DOUBLE => Some(AttrValue::Double(self.value.d)),
                TYPE_STRING => Some(AttrValue::Str(self.value.s.bytes(strings))),
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
    pub n_attrs: u16,
    pub n_attrs_dropped: u16,
    pub flags: u8,
    reserved: u8,
}

/// One measurement, `llama_otel_metric_record`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MetricRecord {
    pub value: f64,
    pub metric: u16,
    pub n_attrs: u16,
    reserved: u32,
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
}

// SAFETY: the pointers are to strings of static storage and never change.
unsafe impl Sync for Control {}

impl Control {
    /// The version of llama.cpp, its commit, and the version of ggml; "unknown" where the build did not know.
    pub fn versions(&self) -> [&'static str; 3] {
        // SAFETY: otel.cpp sets them to string literals.
        unsafe { [static_str(self.llama_version), static_str(self.llama_commit), static_str(self.ggml_version)] }
    }
}

const _: () = assert!(size_of::<Attr>() == 24 && size_of::<SpanRecord>() == 72 && size_of::<MetricRecord>() == 16);

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
