//! A Mamba model of a small size: its memory is one recurrent state for each sequence, whatever its length.

use std::path::Path;

use crate::{Error, GgufWriter, Tensor, Value};

/// A recurrent model with random weights and tokens without text.
#[derive(Clone, Debug)]
pub struct TinyRecurrent {
    /// `general.name`.
    pub name: String,
    /// Layers.
    pub layers: u32,
    /// Width of the embedding; a multiple of 16.
    pub embd: u32,
    /// Context length that the model claims to be trained for, in tokens.
    pub ctx: u32,
    /// Tokens.
    pub vocab: u32,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for TinyRecurrent {
    /// Two layers of width 32: 120 KB.
    fn default() -> Self {
        Self { name: "tiny-random-mamba".to_owned(), layers: 2, embd: 32, ctx: 2048, vocab: 256, seed: 0 }
    }
}

pub(crate) const CONV: u64 = 4;
pub(crate) const STATE: u64 = 16;

impl TinyRecurrent {
    /// Writes the model.
    ///
    /// # Errors
    /// The sizes do not fit together, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.gguf()?.write(path)
    }

    /// The model's keys and tensors, to be changed before writing.
    ///
    /// # Errors
    /// The sizes do not fit together.
    pub fn gguf(&self) -> Result<GgufWriter, Error> {
        if self.embd == 0 || !self.embd.is_multiple_of(16) {
            let rule = "a multiple of 16".to_owned();
            return Err(Error::Shape { what: "embd".to_owned(), value: self.embd.into(), rule });
        }
        let (inner, rank) = (2 * self.embd, self.embd / 16);
        let mut gguf = GgufWriter::new("mamba");
        gguf.key("general.name", Value::String(self.name.clone()));
        gguf.numbers(
            "mamba",
            &[
                ("context_length", self.ctx),
                ("embedding_length", self.embd),
                ("block_count", self.layers),
                ("feed_forward_length", 0),
                ("attention.head_count", 0),
                ("vocab_size", self.vocab),
                ("ssm.conv_kernel", CONV as u32),
                ("ssm.inner_size", inner),
                ("ssm.state_size", STATE as u32),
                ("ssm.time_step_rank", rank),
            ],
        );
        gguf.key("mamba.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
            .key("tokenizer.ggml.model", Value::String("no_vocab".to_owned()));
        self.put_tensors(&mut gguf, inner.into(), rank.into())?;
        Ok(gguf)
    }

    fn put_tensors(&self, gguf: &mut GgufWriter, inner: u64, rank: u64) -> Result<(), Error> {
        let [embd, vocab] = [self.embd, self.vocab].map(u64::from);
        gguf.tensor(Tensor::random(self.seed, "token_embd.weight", &[embd, vocab])?);
        gguf.tensor(Tensor::constant("output_norm.weight", &[embd], 1.0)?);
        for layer in 0..self.layers {
            gguf.tensor(Tensor::constant(&format!("blk.{layer}.attn_norm.weight"), &[embd], 1.0)?);
            put_mixer(gguf, self.seed, layer, embd, inner, rank)?;
        }
        Ok(())
    }
}

/// The tensors of a layer's state space, which models that have other layers too share.
pub(crate) fn put_mixer(
    gguf: &mut GgufWriter,
    seed: u64,
    layer: u32,
    embd: u64,
    inner: u64,
    rank: u64,
) -> Result<(), Error> {
    let name = |part: &str| format!("blk.{layer}.{part}");
    let random = |part: &str, dims: &[u64]| Tensor::random(seed, &name(part), dims);
    gguf.tensor(random("ssm_in.weight", &[embd, 2 * inner])?)
        .tensor(random("ssm_conv1d.weight", &[CONV, inner])?)
        .tensor(random("ssm_conv1d.bias", &[inner])?)
        .tensor(random("ssm_x.weight", &[inner, rank + 2 * STATE])?)
        .tensor(random("ssm_dt.weight", &[rank, inner])?)
        .tensor(random("ssm_dt.bias", &[inner])?)
        // negative, so that a state decays
        .tensor(Tensor::constant(&name("ssm_a"), &[STATE, inner], -1.0)?)
        .tensor(Tensor::constant(&name("ssm_d"), &[inner], 1.0)?)
        .tensor(random("ssm_out.weight", &[inner, embd])?);
    Ok(())
}
