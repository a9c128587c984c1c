//! whisper.cpp and its ggml, with these functions to the outside and nothing else: of a `cdylib` Rust exports what is
//! `no_mangle`, and no symbol of a static library that is linked into it.

use std::{ffi::CStr, os::raw::c_char};

use whisper_rs::{WhisperContext, WhisperContextParameters, whisper_rs_sys as whisper};

/// Width and height of the matrices.
const SIDE: i64 = 64;

/// Version of the ggml inside, as `ggml_version` says it: static text.
#[unsafe(no_mangle)]
pub extern "C" fn hearing_ggml_version() -> *const c_char {
    // SAFETY: it needs nothing.
    unsafe { whisper::ggml_version() }
}

/// An element of the product of two matrices of 64 × 64, one full of `a` and one of `b`, so `64 a b`; computed by two threads of
/// this ggml. Not a number if it could not be computed.
#[unsafe(no_mangle)]
pub extern "C" fn hearing_product(a: f32, b: f32) -> f32 {
    // SAFETY: ggml's own order; nothing is used after the context that owns it was freed.
    unsafe {
        let memory = whisper::ggml_init_params { mem_size: 4 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: false };
        let context = whisper::ggml_init(memory);
        if context.is_null() {
            return f32::NAN;
        }
        let full_of = |value| {
            let matrix = whisper::ggml_new_tensor_2d(context, whisper::ggml_type_GGML_TYPE_F32, SIDE, SIDE);
            whisper::ggml_set_f32(matrix, value)
        };
        let product = whisper::ggml_mul_mat(context, full_of(a), full_of(b));
        let graph = whisper::ggml_new_graph(context);
        whisper::ggml_build_forward_expand(graph, product);
        let status = whisper::ggml_graph_compute_with_ctx(context, graph, 2);
        let element = whisper::ggml_get_f32_1d(product, 0);
        whisper::ggml_free(context);
        if status == whisper::ggml_status_GGML_STATUS_SUCCESS { element } else { f32::NAN }
    }
}

/// Whether whisper.cpp takes that file for a model of its own.
///
/// # Safety
/// `path` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hearing_loads(path: *const c_char) -> bool {
    // SAFETY: as the caller promises.
    let path = unsafe { CStr::from_ptr(path) };
    path.to_str().is_ok_and(|path| {
        WhisperContext::new_with_params(path, WhisperContextParameters { use_gpu: false, ..Default::default() }).is_ok()
    })
}
