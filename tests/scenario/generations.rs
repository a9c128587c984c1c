//! Sequences that are prompted, continued, copied, cut back, shifted and given up.

use std::ptr;

use llama_otel_sys as sys;
use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Entry, Model};

/// A prompt of 10 tokens in two batches, 5 tokens; 7 more of a prompt, 3 tokens; the context is freed.
pub fn turns(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.chunk(0, 0, 6);
    context.prompt(0, 6, 4);
    context.generate(0, 10, 5);
    context.prompt(0, 15, 7);
    context.generate(0, 22, 3);
    let (n_p_eval, n_eval, seconds) = context.perf();
    json!({ "n_p_eval": n_p_eval, "n_eval": n_eval, "seconds": seconds })
}

pub fn eight(args: &Arguments) -> Value {
    eight_sequences(args, false)
}

pub fn eight_unified(args: &Arguments) -> Value {
    eight_sequences(args, true)
}

/// Prompts of 3 to 10 tokens in one batch, then four batches with a token of each; the memory is cleared.
fn eight_sequences(args: &Arguments, unified: bool) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 8 * 64, 8, |params| params.kv_unified = unified);
    let seqs: Vec<[i32; 1]> = (0..8).map(|seq| [seq]).collect();
    let mut entries = Vec::new();
    for (i, seqs) in seqs.iter().enumerate() {
        let n = 3 + i as i32;
        entries.extend((0..n).map(|pos| Entry { pos, seqs, output: pos == n - 1 }));
    }
    context.decode(&entries);
    for round in 0..4 {
        let tokens: Vec<_> =
            seqs.iter().enumerate().map(|(i, seqs)| Entry { pos: 3 + i as i32 + round, seqs, output: true }).collect();
        context.decode(&tokens);
    }
    let (n_p_eval, n_eval, seconds) = context.perf();
    context.clear();
    json!({ "n_p_eval": n_p_eval, "n_eval": n_eval, "seconds": seconds })
}

/// A prompt of 9 tokens, copied to two more sequences; each continues with 3 tokens in common batches.
pub fn shared(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 256, 3, |params| params.kv_unified = true);
    context.prompt(0, 0, 9);
    context.copy(0, 1);
    context.copy(0, 2);
    for round in 0..3 {
        let seqs = [[0], [1], [2]];
        let tokens: Vec<_> = seqs.iter().map(|seqs| Entry { pos: 9 + round, seqs, output: true }).collect();
        context.decode(&tokens);
    }
    context.remove(1, -1, -1);
    Value::Null
}

/// A prompt of 5 tokens; a token with three drafts of which one is accepted; a token with three drafts, all accepted.
pub fn speculative(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 5);
    context.drafts(0, 5, 4);
    assert!(context.remove(0, 7, -1));
    context.drafts(0, 7, 4);
    Value::Null
}

/// A window of 64 tokens: a prompt of 20, 40 tokens, 20 of them discarded behind the first four, 15 tokens more.
pub fn shift(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 64, 1);
    context.prompt(0, 0, 20);
    context.generate(0, 20, 40);
    assert!(context.remove(0, 4, 24));
    context.shift(0, 24, 60, -20);
    context.generate(0, 40, 15);
    context.clear();
    Value::Null
}

/// A prompt of 10 and 4 tokens; the next prompt shares 6 of the first, has 5 of its own, and 2 tokens follow. A third shares
/// all of that but the last token, which was generated.
pub fn prefix(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 10);
    context.generate(0, 10, 4);
    assert!(context.remove(0, 6, -1));
    context.prompt(0, 6, 5);
    context.generate(0, 11, 2);
    assert!(context.remove(0, 12, -1));
    context.prompt(0, 12, 4);
    Value::Null
}

/// A prompt of 6 tokens, one in each batch, as `llama_batch_get_one` gives them; then 4 tokens.
pub fn one_by_one(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    for pos in 0..5 {
        context.chunk(0, pos, 1);
    }
    context.prompt(0, 5, 1);
    context.generate(0, 6, 4);
    Value::Null
}

/// A prompt of 10 tokens in two batches that both have an output at their end, as `llama_batch_get_one` gives them; 3 tokens.
pub fn parts(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 6);
    context.prompt(0, 6, 4);
    context.generate(0, 10, 3);
    Value::Null
}

/// A prompt of 64 tokens in two physical batches is aborted, after 20 calls of the callback; the context is freed.
pub fn aborted(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 8);
    let mut left = 20;
    context.abort_after(&raw mut left);
    let entries: Vec<_> = (8..72).map(|pos| Entry { pos, seqs: &[0], output: pos == 71 }).collect();
    let status = context.try_decode(&entries);
    context.abort_after(ptr::null_mut());
    json!({ "status": status })
}

/// A prompt that does not fit beside another sequence; that one is removed, and the prompt repeated.
pub fn retried(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 256, 2, |params| params.kv_unified = true);
    for i in 0..4 {
        context.chunk(0, 60 * i, 60);
    }
    let entries: Vec<_> = (0..40).map(|pos| Entry { pos, seqs: &[1], output: pos == 39 }).collect();
    let status = context.try_decode(&entries);
    context.remove(0, -1, -1);
    context.decode(&entries);
    context.generate(1, 40, 2);
    json!({ "status": status })
}

/// Three sequences, of which one is kept and continued.
pub fn kept(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 3 * 64, 3);
    for seq in 0..3 {
        context.prompt(seq, 0, 4 + seq);
    }
    context.keep(1);
    context.generate(1, 5, 2);
    Value::Null
}

/// Embeddings of 12 tokens by a model that could generate.
pub fn embeddings(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 256, 1, |params| {
        params.embeddings = true;
        params.pooling_type = sys::LLAMA_POOLING_TYPE_MEAN;
    });
    context.drafts(0, 0, 12);
    Value::Null
}

/// A prompt of 8 and 3 tokens through `llama_process`.
pub fn process(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    for (first, n) in [(0, 8), (8, 1), (9, 1), (10, 1)] {
        // SAFETY: the batch lives until it is freed, and the entries that are set were added.
        unsafe {
            let batch = sys::llama_batch_ext_init(context.raw);
            for pos in first..first + n {
                let entry = sys::llama_batch_ext_add_token(batch, 0, 5 + pos);
                assert!(sys::llama_batch_ext_set_pos(batch, entry, &pos));
                assert!(sys::llama_batch_ext_set_output_logits(batch, entry, pos == first + n - 1));
            }
            assert_eq!(sys::llama_process(context.raw, sys::LLAMA_PROCESS_TYPE_DECODE, batch), 0);
            sys::llama_batch_ext_free(batch);
        }
        context.synchronize();
    }
    Value::Null
}

/// An encoder: a text of 12 tokens, one of 5, an aborted one of 7.
pub fn encode(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 256, 1, |params| params.embeddings = true);
    let text = |n: i32| (0..n).map(|pos| Entry { pos, seqs: &[0], output: true }).collect::<Vec<_>>();
    assert_eq!(context.try_encode(&text(12)), 0);
    context.synchronize();
    assert_eq!(context.try_decode(&text(5)), 0); // without memory, it is encoded
    context.synchronize();
    let mut left = 0;
    context.abort_after(&raw mut left);
    let status = context.try_encode(&text(7));
    context.abort_after(ptr::null_mut());
    let (n_p_eval, _, _) = context.perf();
    json!({ "status": status, "n_p_eval": n_p_eval })
}

/// An encoder with a decoder: a text of 12 tokens, encoded, and 5 tokens decoded from the start token on; all cleared; one of 7
/// tokens, encoded a second time after an abort, and 2 tokens.
pub fn encode_decode(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    // SAFETY: the model is alive.
    assert!(unsafe { sys::llama_model_has_encoder(model.raw) && sys::llama_model_has_decoder(model.raw) });
    let mut context = Context::new(&model, 128, 1);
    let text = |n: i32| (0..n).map(|pos| Entry { pos, seqs: &[0], output: true }).collect::<Vec<_>>();
    assert_eq!(context.try_encode(&text(12)), 0);
    context.generate(0, 0, 5);
    context.clear();
    let mut left = 0;
    context.abort_after(&raw mut left);
    let status = context.try_encode(&text(9));
    context.abort_after(ptr::null_mut());
    context.synchronize();
    assert_eq!(context.try_encode(&text(7)), 0);
    context.generate(0, 0, 2);
    let (n_p_eval, n_eval, _) = context.perf();
    json!({ "status": status, "n_p_eval": n_p_eval, "n_eval": n_eval })
}
