//! A Jamba model of a small size: layers with a recurrent state and layers with attention, so that its memory is both.

use std::path::Path;

use crate::{
    Error, GgufWriter, Tensor, Value,
    mamba::{CONV, STATE, put_mixer},
    tensor::check_heads,
};

/// A hybrid model with random weights and tokens without text. Every other layer has attention, the first has a state.
#[derive(Clone, Debug)]
pub struct TinyHybrid {
    /// `general.name`.
    pub name: String,
    /// Layers; at least 2, so that there is one of each kind.
    pub layers: u32,
    /// Width of the embedding; a multiple of 16 and of `heads`.
    pub embd: u32,
    /// Width of the feed-forward part.
    pub ff: u32,
    /// Attention heads, with as many key/value heads.
    pub heads: u32,
    /// Context length that the model claims to be trained for, in tokens.
    pub ctx: u32,
    /// Tokens.
    pub vocab: u32,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for TinyHybrid {
    /// Two layers of width 32: 140 KB.
    fn default() -> Self {
        Self {
            name: "tiny-random-jamba".to_owned(),
            layers: 2,
            embd: 32,
            ff: 64,
            heads: 2,
            ctx: 2048,
            vocab: 256,
            seed: 0,
        }
    }
}

impl TinyHybrid {
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
        self.check()?;
        let (inner, rank) = (2 * self.embd, self.embd / 16);
        let mut gguf = GgufWriter::new("jamba");
        gguf.key("general.name", Value::String(self.name.clone()));
        gguf.numbers(
            "jamba",
            &[
                ("context_length", self.ctx),
                ("embedding_length", self.embd),
                ("block_count", self.layers),
                ("feed_forward_length", self.ff),
                ("attention.head_count", self.heads),
                ("vocab_size", self.vocab),
                ("ssm.conv_kernel", CONV as u32),
                ("ssm.inner_size", inner),
                ("ssm.state_size", STATE as u32),
                ("ssm.time_step_rank", rank),
            ],
        );
        // a layer without key/value heads is one with a state
        let kv_heads = (0..self.layers).map(|layer| if has_attention(layer) { self.heads as i32 } else { 0 });
        gguf.key("jamba.attention.head_count_kv", Value::I32s(kv_heads.collect()))
            .key("jamba.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
            .key("tokenizer.ggml.model", Value::String("no_vocab".to_owned()));
        self.put_tensors(&mut gguf, inner.into(), rank.into())?;
        Ok(gguf)
    }

    fn check(&self) -> Result<(), Error> {
        let shape = |what: &str, value: u32, rule: String| {
            Err(Error::Shape { what: what.to_owned(), value: value.into(), rule })
        };
        if self.layers < 2 {
            return shape("layers", self.layers, "at least 2".to_owned());
        }
        if self.embd == 0 || !self.embd.is_multiple_of(16) {
            return shape("embd", self.embd, "a multiple of 16".to_owned());
        }
        check_heads(self.embd, self.heads)
    }

    fn put_tensors(&self, gguf: &mut GgufWriter, inner: u64, rank: u64) -> Result<(), Error> {
        let [embd, ff, vocab] = [self.embd, self.ff, self.vocab].map(u64::from);
        let random = |name: &str, dims: &[u64]| Tensor::random(self.seed, name, dims);
        gguf.tensor(random("token_embd.weight", &[embd, vocab])?);
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            gguf.tensor(Tensor::constant(&name("attn_norm.weight"), &[embd], 1.0)?);
            if has_attention(layer) {
                for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                    gguf.tensor(random(&name(&format!("{part}.weight")), &[embd, embd])?);
                }
            } else {
                put_mixer(gguf, self.seed, layer, embd, inner, rank)?;
                for (part, width) in [("ssm_dt_norm", rank), ("ssm_b_norm", STATE), ("ssm_c_norm", STATE)] {
                    gguf.tensor(Tensor::constant(&name(&format!("{part}.weight")), &[width], 1.0)?);
                }
            }
            gguf.tensor(Tensor::constant(&name("ffn_norm.weight"), &[embd], 1.0)?)
                .tensor(random(&name("ffn_gate.weight"), &[embd, ff])?)
                .tensor(random(&name("ffn_up.weight"), &[embd, ff])?)
                .tensor(random(&name("ffn_down.weight"), &[ff, embd])?);
        }
        gguf.tensor(Tensor::constant("output_norm.weight", &[embd], 1.0)?);
        Ok(())
    }
}

fn has_attention(layer: u32) -> bool {
    layer % 2 == 1
}
