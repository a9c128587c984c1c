//! Figures that llama.cpp's public API tells, or a clock of this program's own: what is exported must be the same.

use std::ffi::CStr;
use std::time::Instant;

use llama_otel_sys as sys;
use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Entry, Model};

/// What a model and two contexts say of themselves, and a prompt of 40 tokens, 3 of them with outputs, in the first one.
pub fn facts(args: &Arguments) -> Value {
    let backend = Backend::init();
    // SAFETY: the path is a C string; the model is alive; what it says of itself fits into the buffer or is cut.
    let (model, of_model) = unsafe {
        let mut params = sys::llama_model_default_params();
        params.n_gpu_layers = 3;
        params.split_mode = sys::LLAMA_SPLIT_MODE_ROW;
        params.load_mode = sys::LLAMA_LOAD_MODE_MMAP;
        let path = crate::llama::c_path(&args.model);
        let model = Model::owned(&backend, sys::llama_model_load_from_file(path.as_ptr(), params));
        let mut text = [0; 256];
        sys::llama_model_desc(model.raw, text.as_mut_ptr(), text.len());
        let of_model = json!({
            "n_layer": sys::llama_model_n_layer(model.raw),
            "n_ctx_train": sys::llama_model_n_ctx_train(model.raw),
            "desc": CStr::from_ptr(text.as_ptr()).to_string_lossy(),
        });
        (model, of_model)
    };
    let mut contexts = Vec::new();
    for (n_ctx, flash_attn) in [(512, sys::LLAMA_FLASH_ATTN_TYPE_ENABLED), (256, sys::LLAMA_FLASH_ATTN_TYPE_DISABLED)] {
        let mut context = Context::with(&model, n_ctx, 2, |params| {
            params.n_threads = 2;
            params.n_threads_batch = 3;
            params.flash_attn_type = flash_attn;
        });
        if contexts.is_empty() {
            let seqs = [0];
            let entries: Vec<_> = (0..40).map(|pos| Entry { pos, seqs: &seqs, output: pos >= 37 }).collect();
            context.decode(&entries);
        }
        // SAFETY: the context is alive.
        contexts.push(unsafe {
            json!({
                "n_ctx": sys::llama_n_ctx(context.raw),
                "n_batch": sys::llama_n_batch(context.raw),
                "n_ubatch": sys::llama_n_ubatch(context.raw),
                "n_seq_max": sys::llama_n_seq_max(context.raw),
                "n_threads": sys::llama_n_threads(context.raw),
                "n_threads_batch": sys::llama_n_threads_batch(context.raw),
                "perf_s": context.perf().2,
            })
        });
    }
    json!({ "model": of_model, "contexts": contexts })
}

/// Adds the time that a call took.
fn timed<T>(seconds: &mut f64, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    *seconds += start.elapsed().as_secs_f64();
    result
}

/// Ten times a model, a context, a prompt of 64 tokens, 20 tokens that are sampled: seconds by this program's clock.
pub fn clock(args: &Arguments) -> Value {
    const N_SAMPLED: i32 = 20;
    let (mut backend_s, mut load, mut init, mut prompt, mut decode, mut sample, mut sample_perf) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let backend = timed(&mut backend_s, Backend::init);
    for _ in 0..10 {
        let model = timed(&mut load, || Model::load(&backend, &args.model));
        let mut context = timed(&mut init, || Context::new(&model, 4096, 1));
        timed(&mut prompt, || context.prompt(0, 0, 64));
        // SAFETY: the chain takes over its samplers, and the logits of the last batch are there.
        unsafe {
            let mut params = sys::llama_sampler_chain_default_params();
            params.no_perf = false;
            let chain = sys::llama_sampler_chain_init(params);
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_top_k(40));
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_dist(1));
            for i in 0..N_SAMPLED {
                timed(&mut sample, || sys::llama_sampler_sample(chain, context.raw, -1));
                timed(&mut decode, || context.prompt(0, 64 + i, 1));
            }
            let perf = sys::llama_perf_sampler(chain);
            assert_eq!(perf.n_sample, N_SAMPLED);
            sample_perf += perf.t_sample_ms / 1e3;
            sys::llama_sampler_free(chain);
        }
    }
    json!({
        "backend": backend_s, "load": load, "init": init, "prompt": prompt, "decode": decode,
        "sample": sample, "sample_perf": sample_perf, "n_sampled": 10 * N_SAMPLED,
    })
}

/// An encoder's texts: seconds by this program's clock.
pub fn clock_encode(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 512, 1, |params| {
        params.embeddings = true;
        params.n_batch = 512;
        params.n_ubatch = 512;
    });
    let seqs = [0];
    let text: Vec<_> = (0..256).map(|pos| Entry { pos, seqs: &seqs, output: true }).collect();
    let mut seconds = 0.0;
    for _ in 0..20 {
        assert_eq!(timed(&mut seconds, || context.try_encode(&text)), 0);
        context.synchronize();
    }
    json!({ "encode": seconds })
}

/// Contexts that llama.cpp refuses: without a model, without a batch size, with quantised values but no flash attention.
pub fn refused_contexts(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    // SAFETY: the model is alive or null, which is refused.
    unsafe {
        let create = |model, change: fn(&mut sys::llama_context_params)| {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = 64;
            change(&mut params);
            sys::llama_init_from_model(model, params).is_null()
        };
        let no_model = create(std::ptr::null_mut(), |_| {});
        let no_batch = create(model.raw, |params| (params.n_batch, params.n_ubatch) = (0, 0));
        let no_flash = create(model.raw, |params| {
            params.type_v = sys::GGML_TYPE_Q8_0;
            params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        });
        json!({ "null": [no_model, no_batch, no_flash] })
    }
}
