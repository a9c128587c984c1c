//! Generates greedily from a model that the crate's llama.cpp loads, below a parent of its own, and prints how many tokens it
//! decoded: `MODEL N_PREDICT`.

use std::{error::Error, ffi::CString, time::Duration};

use llama_otel_sys::{self as llama, otel};

/// A parent as it comes with a request.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(n_predict)) = (args.next(), args.next()) else { return Err("MODEL N_PREDICT".into()) };
    let (path, n_predict) = (CString::new(path)?, n_predict.parse()?);
    eprintln!("{}", llama::version());
    eprintln!("{}", llama::llama_otel_build().to_str()?);
    // SAFETY: nothing before it.
    unsafe { llama::llama_backend_init() };
    otel::set_detail(otel::Detail::Decode);
    otel::set_traceparent(&otel::Headers { traceparent: TRACEPARENT.into(), ..otel::Headers::default() })?;
    let n_decoded = generate(&path, n_predict)?;
    let has_arrived = otel::flush(Duration::from_secs(10));
    // SAFETY: everything of it was freed.
    unsafe { llama::llama_backend_free() };
    println!("{n_decoded}");
    has_arrived.then_some(()).ok_or_else(|| format!("not everything arrived: {:?}", otel::dropped()).into())
}

fn generate(path: &CString, n_predict: usize) -> Result<usize, Box<dyn Error>> {
    // SAFETY: llama.cpp's own order; each pointer is checked, and none is used after its owner was freed.
    unsafe {
        let model = llama::llama_model_load_from_file(path.as_ptr(), llama::llama_model_default_params());
        if model.is_null() {
            return Err("the model could not be loaded".into());
        }
        let params = llama::llama_context_params {
            n_ctx: 64,
            n_threads: 1,
            n_threads_batch: 1,
            ..llama::llama_context_default_params()
        };
        let context = llama::llama_init_from_model(model, params);
        if context.is_null() {
            return Err("the context could not be created".into());
        }
        let sampler = llama::llama_sampler_init_greedy();
        let mut token = llama::llama_vocab_bos(llama::llama_model_get_vocab(model));
        let mut n_decoded = 0;
        for _ in 0..n_predict {
            let status = llama::llama_decode(context, llama::llama_batch_get_one(&mut token, 1));
            if status != 0 {
                return Err(format!("llama_decode: {status}").into());
            }
            token = llama::llama_sampler_sample(sampler, context, -1);
            n_decoded += 1;
        }
        llama::llama_sampler_free(sampler);
        llama::llama_free(context);
        llama::llama_model_free(model);
        Ok(n_decoded)
    }
}
