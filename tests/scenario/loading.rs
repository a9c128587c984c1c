//! Models that come from several files, a `FILE *`, or the program itself, and loads that do not come to their end.

use std::ffi::{CString, c_void};

use llama_otel_sys as sys;
use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Model, c_path};

fn facts(model: &Model) -> Value {
    json!({ "n_params": model.n_params(), "size": model.size(), "n_vocab": model.n_vocab() })
}

/// The model is the first of several files, which llama.cpp finds by their names; then all of them, named by the caller.
pub fn splits(args: &Arguments) -> Value {
    let backend = Backend::init();
    let found = facts(&Model::load(&backend, &args.model));
    let mut paths: Vec<_> = std::fs::read_dir(&args.folder)
        .expect("the folder of the files")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let paths: Vec<CString> = paths.iter().map(|path| c_path(path)).collect();
    let mut pointers: Vec<_> = paths.iter().map(|path| path.as_ptr()).collect();
    // SAFETY: as many paths as said, which are C strings.
    let model = unsafe {
        let params = sys::llama_model_default_params();
        sys::llama_model_load_from_splits(pointers.as_mut_ptr(), pointers.len(), params)
    };
    json!({ "found": found, "named": facts(&Model::owned(&backend, model)) })
}

/// The model is read through a `FILE *`.
pub fn file_pointer(args: &Arguments) -> Value {
    let backend = Backend::init();
    // SAFETY: the file is open until it is closed, after the load.
    let model = unsafe {
        let file = libc::fopen(c_path(&args.model).as_ptr(), c"rb".as_ptr());
        assert!(!file.is_null(), "the model cannot be opened");
        let mut params = sys::llama_model_default_params();
        params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
        let model = sys::llama_model_load_from_file_ptr(file.cast(), params);
        libc::fclose(file);
        model
    };
    facts(&Model::owned(&backend, model))
}

/// Keys and shapes come from the file's head, the numbers from a function of this program.
pub fn user_tensors(args: &Arguments) -> Value {
    unsafe extern "C" fn fill(tensor: *mut sys::ggml_tensor, n_calls: *mut c_void) {
        // SAFETY: llama.cpp passes a tensor that is allocated, and the counter lives during the load.
        unsafe {
            *n_calls.cast::<u32>() += 1;
            let zeros = vec![0u8; sys::ggml_nbytes(tensor)];
            sys::ggml_backend_tensor_set(tensor, zeros.as_ptr().cast(), 0, zeros.len());
        }
    }
    let backend = Backend::init();
    let mut n_calls = 0u32;
    // SAFETY: the metadata lives during the load.
    let model = unsafe {
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        let metadata = sys::gguf_init_from_file(c_path(&args.model).as_ptr(), params);
        assert!(!metadata.is_null(), "the model has no head");
        let counter = (&raw mut n_calls).cast();
        let model = sys::llama_model_init_from_user(metadata, Some(fill), counter, sys::llama_model_default_params());
        sys::gguf_free(metadata);
        model
    };
    let facts = facts(&Model::owned(&backend, model));
    json!({ "model": facts, "n_calls": n_calls })
}

/// The progress callback says no after its second call.
pub fn cancelled(args: &Arguments) -> Value {
    unsafe extern "C" fn progress(_: f32, n_calls: *mut c_void) -> bool {
        // SAFETY: the counter lives during the load.
        let n_calls = unsafe { &mut *n_calls.cast::<u32>() };
        *n_calls += 1;
        *n_calls < 2
    }
    let _backend = Backend::init();
    let mut n_calls = 0u32;
    // SAFETY: the counter lives during the load.
    let model = unsafe {
        let mut params = sys::llama_model_default_params();
        params.progress_callback = Some(progress);
        params.progress_callback_user_data = (&raw mut n_calls).cast();
        sys::llama_model_load_from_file(c_path(&args.model).as_ptr(), params)
    };
    json!({ "null": model.is_null(), "n_calls": n_calls })
}

/// A model that cannot be loaded, whatever is wrong with it.
pub fn refused(args: &Arguments) -> Value {
    let _backend = Backend::init();
    // SAFETY: the path is a C string.
    let model =
        unsafe { sys::llama_model_load_from_file(c_path(&args.model).as_ptr(), sys::llama_model_default_params()) };
    json!({ "null": model.is_null() })
}
