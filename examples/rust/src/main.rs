//! `llama-otel-example MODEL.gguf N_TOKENS`: greedy tokens from the model's first one on. Telemetry needs no line here: set
//! `OTEL_EXPORTER_OTLP_ENDPOINT`. The one call of `otel` shows that a program can do more.

use std::{error::Error, ffi::CString};

use llama_otel_sys as llama;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, n_tokens] = arguments.as_slice() else {
        return Err("usage: llama-otel-example MODEL.gguf N_TOKENS".into());
    };
    let (path, n_tokens) = (CString::new(path.as_str())?, n_tokens.parse()?);
    // SAFETY: llama.cpp's own order, and no pointer is used after its owner was freed.
    unsafe {
        llama::llama_backend_init();
        let model = llama::llama_model_load_from_file(path.as_ptr(), llama::llama_model_default_params());
        if model.is_null() {
            return Err("the model could not be loaded".into());
        }
        let mut params = llama::llama_context_default_params();
        params.n_ctx = 128;
        (params.n_threads, params.n_threads_batch) = (1, 1);
        let context = llama::llama_init_from_model(model, params);
        if context.is_null() {
            return Err("the context could not be created".into());
        }
        // as a server would with the header of the request that it answers
        if let Ok(traceparent) = std::env::var("TRACEPARENT") {
            let headers = llama::otel::Headers { traceparent, ..Default::default() };
            llama::otel::set_context_traceparent(context, None, &headers)?;
        }
        generate(model, context, n_tokens)?;
        llama::llama_free(context);
        llama::llama_model_free(model);
        llama::llama_backend_free(); // delivers what was recorded
    }
    Ok(())
}

/// Prints that many tokens, each after the one before it.
///
/// # Safety
/// The context is the model's, and both are alive.
unsafe fn generate(
    model: *const llama::llama_model,
    context: *mut llama::llama_context,
    n_tokens: usize,
) -> Result<(), Box<dyn Error>> {
    // SAFETY: as the caller promises; the sampler is freed last, and the chain owns what is added to it.
    unsafe {
        let sampler = llama::llama_sampler_chain_init(llama::llama_sampler_chain_default_params());
        llama::llama_sampler_chain_add(sampler, llama::llama_sampler_init_greedy());
        let mut token = llama::llama_vocab_bos(llama::llama_model_get_vocab(model));
        for _ in 0..n_tokens {
            if llama::llama_decode(context, llama::llama_batch_get_one(&mut token, 1)) != 0 {
                return Err("a batch could not be decoded".into());
            }
            token = llama::llama_sampler_sample(sampler, context, -1);
            println!("{token}");
        }
        llama::llama_sampler_free(sampler);
    }
    Ok(())
}
