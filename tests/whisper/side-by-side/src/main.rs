//! `side-by-side LIBRARY MODEL N_TOKENS`: loads `hearing`, decodes tokens one after the other, and has the other ggml multiply
//! before the model is loaded, after each token, and when llama.cpp is gone. Prints the versions of both.

use std::{
    error::Error,
    ffi::{CStr, CString},
    os::raw::c_char,
};

use libloading::{Library, Symbol};
use llama_otel_sys as llama;

type Version = unsafe extern "C" fn() -> *const c_char;
type Product = unsafe extern "C" fn(f32, f32) -> f32;
type Loads = unsafe extern "C" fn(*const c_char) -> bool;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, path, n_tokens] = arguments.as_slice() else {
        return Err("usage: side-by-side LIBRARY MODEL N_TOKENS".into());
    };
    let (path, n_tokens): (_, usize) = (CString::new(path.as_str())?, n_tokens.parse()?);
    // SAFETY: the library is `hearing`, whose functions have these types and outlive the program's use of them.
    unsafe {
        let library = Library::new(library)?;
        let product: Symbol<Product> = library.get(b"hearing_product")?;
        let version: Symbol<Version> = library.get(b"hearing_ggml_version")?;
        let loads: Symbol<Loads> = library.get(b"hearing_loads")?;
        let multiply = || match product(2.0, 3.0) {
            384.0 => Ok(()),
            other => Err(format!("the other ggml says that 64 times 2 times 3 is {other}")),
        };

        multiply()?;
        llama::llama_backend_init();
        decode(&path, n_tokens, &multiply)?;
        if loads(path.as_ptr()) {
            return Err("whisper.cpp took a model of llama.cpp for its own".into());
        }
        llama::llama_backend_free(); // delivers what was recorded
        multiply()?;

        let ours = CStr::from_ptr(llama::ggml_version()).to_str()?;
        println!("{ours} {}", CStr::from_ptr(version()).to_str()?);
    }
    Ok(())
}

/// Decodes the token that begins a text, that many times.
///
/// # Safety
/// The backend was initialised.
unsafe fn decode(
    path: &CStr,
    n_tokens: usize,
    after_each: &dyn Fn() -> Result<(), String>,
) -> Result<(), Box<dyn Error>> {
    // SAFETY: llama.cpp's own order; each pointer is checked, and none is used after its owner was freed.
    unsafe {
        let model = llama::llama_model_load_from_file(path.as_ptr(), llama::llama_model_default_params());
        if model.is_null() {
            return Err("the model could not be loaded".into());
        }
        let params = llama::llama_context_params { n_ctx: 128, n_threads: 2, ..llama::llama_context_default_params() };
        let context = llama::llama_init_from_model(model, params);
        if context.is_null() {
            return Err("the context could not be created".into());
        }
        let mut token = llama::llama_vocab_bos(llama::llama_model_get_vocab(model));
        for _ in 0..n_tokens {
            if llama::llama_decode(context, llama::llama_batch_get_one(&mut token, 1)) != 0 {
                return Err("a batch could not be decoded".into());
            }
            after_each()?;
        }
        llama::llama_free(context);
        llama::llama_model_free(model);
    }
    Ok(())
}
