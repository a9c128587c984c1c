//! `ordinary MODEL.gguf N_TOKENS`: decodes a prompt, generates greedily, prints how many tokens went in and came out.

use std::error::Error;
use std::num::NonZeroU32;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(wanted)) = (args.next(), args.next()) else {
        return Err("usage: ordinary MODEL.gguf N_TOKENS".into());
    };
    let wanted: usize = wanted.parse()?;

    let backend = LlamaBackend::init()?;
    let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default())?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(256))
        .with_n_threads(1)
        .with_n_threads_batch(1);
    let mut context = model.new_context(&backend, params)?;

    let prompt = model.vocab().tokenize(b"The quick brown fox", true, false);
    let mut batch = LlamaBatch::new(256, 1);
    for (position, token) in (0..).zip(&prompt) {
        batch.add(*token, position, &[0], position as usize + 1 == prompt.len())?;
    }
    context.decode(&mut batch)?;

    let mut sampler = LlamaSampler::greedy();
    let mut position = i32::try_from(prompt.len())?;
    let mut generated = 0;
    while generated < wanted {
        let token = sampler.sample(&context, batch.n_tokens() - 1);
        generated += 1;
        batch.clear();
        batch.add(token, position, &[0], true)?;
        context.decode(&mut batch)?;
        position += 1;
    }
    println!("{} {generated}", prompt.len());
    Ok(())
}
