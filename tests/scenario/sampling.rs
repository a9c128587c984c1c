//! Tokens that are sampled in each of the ways that llama.cpp has.

use llama_otel_sys as sys;
use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Model, Token};

/// A chain of these samplers, which it owns.
fn chain(samplers: &[*mut sys::llama_sampler]) -> *mut sys::llama_sampler {
    // SAFETY: the chain takes over the samplers; the parameters are upstream's defaults.
    unsafe {
        let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
        for sampler in samplers {
            sys::llama_sampler_chain_add(chain, *sampler);
        }
        chain
    }
}

/// What llama.cpp's own programs do: the caller has the candidates, applies a grammar's stand-in (a bias, which selects none)
/// and the chain, and accepts.
fn apply_as_common(
    context: &Context,
    n_vocab: i32,
    bias: *mut sys::llama_sampler,
    chain: *mut sys::llama_sampler,
) -> Token {
    // SAFETY: there are as many logits as tokens; the array lives during the calls.
    unsafe {
        let logits = std::slice::from_raw_parts(sys::llama_get_logits_ith(context.raw, -1), n_vocab as usize);
        let mut data: Vec<_> =
            (0..n_vocab).zip(logits).map(|(id, logit)| sys::llama_token_data { id, logit: *logit, p: 0.0 }).collect();
        let mut candidates =
            sys::llama_token_data_array { data: data.as_mut_ptr(), size: data.len(), selected: -1, sorted: false };
        sys::llama_sampler_apply(bias, &raw mut candidates);
        sys::llama_sampler_apply(chain, &raw mut candidates);
        let token = (*candidates.data.add(candidates.selected as usize)).id;
        sys::llama_sampler_accept(chain, token);
        token
    }
}

/// 3 tokens by `llama_sampler_sample` on a chain, 2 on a single sampler, 4 as llama.cpp's programs sample.
pub fn samplers(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 8);
    // SAFETY: the samplers are alive until they are freed; the logits are there.
    unsafe {
        let random = chain(&[
            sys::llama_sampler_init_top_k(20),
            sys::llama_sampler_init_top_p(0.9, 1),
            sys::llama_sampler_init_min_p(0.05, 1),
            sys::llama_sampler_init_temp(0.7),
            sys::llama_sampler_init_dist(1),
        ]);
        let greedy = sys::llama_sampler_init_greedy();
        let bias = sys::llama_sampler_init_logit_bias(
            model.n_vocab(),
            1,
            &sys::llama_logit_bias { token: 0, bias: f32::NEG_INFINITY },
        );
        for _ in 0..3 {
            sys::llama_sampler_sample(random, context.raw, -1);
        }
        for _ in 0..2 {
            sys::llama_sampler_sample(greedy, context.raw, -1);
        }
        for _ in 0..4 {
            apply_as_common(&context, model.n_vocab(), bias, random);
        }
        for sampler in [random, greedy, bias] {
            sys::llama_sampler_free(sampler);
        }
    }
    json!({ "n_sampled": 3 + 2 + 4 })
}

/// 3 tokens that a sampler in the graph has chosen: 2 fetched through `llama_sampler_sample`, 1 directly.
pub fn backend_sampler(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    // SAFETY: the chain lives until the context is gone.
    let greedy = chain(&[unsafe { sys::llama_sampler_init_greedy() }]);
    let mut config = sys::llama_sampler_seq_config { seq_id: 0, sampler: greedy };
    let mut context = Context::with(&model, 256, 1, |params| {
        params.samplers = &raw mut config;
        params.n_samplers = 1;
    });
    let mut tokens = Vec::new();
    context.prompt(0, 0, 8);
    for pos in 8..11 {
        // SAFETY: the last batch had an output.
        let token = unsafe {
            if pos < 10 {
                sys::llama_sampler_sample(greedy, context.raw, -1)
            } else {
                sys::llama_get_sampled_token_ith(context.raw, -1)
            }
        };
        tokens.push(token);
        if pos < 10 {
            context.generate(0, pos, 1);
        }
    }
    drop(context);
    // SAFETY: the context that used it is gone.
    unsafe { sys::llama_sampler_free(greedy) };
    json!({ "n_sampled": tokens.iter().filter(|token| **token >= 0).count() })
}
