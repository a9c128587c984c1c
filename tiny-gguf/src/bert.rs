//! A BERT model of a small size: an encoder, which has no memory, gives embeddings and no text.

use std::path::Path;

use crate::{Error, GgufWriter, Tensor, Value, tensor::check_heads};

/// An encoder with random weights and tokens without text.
#[derive(Clone, Debug)]
pub struct TinyEncoder {
    /// `general.name`.
    pub name: String,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the embedding; a multiple of `heads`.
    pub embd: u32,
    /// Width of the feed-forward part.
    pub ff: u32,
    /// Attention heads.
    pub heads: u32,
    /// Longest text in tokens.
    pub ctx: u32,
    /// Tokens.
    pub vocab: u32,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for TinyEncoder {
    /// Two layers of width 32: 170 KB.
    fn default() -> Self {
        Self {
            name: "tiny-random-bert".to_owned(),
            layers: 2,
            embd: 32,
            ff: 64,
            heads: 2,
            ctx: 512,
            vocab: 256,
            seed: 0,
        }
    }
}

const TOKEN_TYPES: u32 = 2;
const MEAN_POOLING: u32 = 1;

impl TinyEncoder {
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
        check_heads(self.embd, self.heads)?;
        let mut gguf = GgufWriter::new("bert");
        gguf.key("general.name", Value::String(self.name.clone()));
        gguf.numbers(
            "bert",
            &[
                ("context_length", self.ctx),
                ("embedding_length", self.embd),
                ("block_count", self.layers),
                ("feed_forward_length", self.ff),
                ("attention.head_count", self.heads),
                ("vocab_size", self.vocab),
                ("pooling_type", MEAN_POOLING),
            ],
        );
        gguf.key("bert.attention.layer_norm_epsilon", Value::F32(1e-5))
            .key("bert.attention.causal", Value::Bool(false))
            .key("tokenizer.ggml.model", Value::String("no_vocab".to_owned()))
            .key("tokenizer.ggml.token_type_count", Value::U32(TOKEN_TYPES));
        self.put_tensors(&mut gguf)?;
        Ok(gguf)
    }

    fn put_tensors(&self, gguf: &mut GgufWriter) -> Result<(), Error> {
        let [embd, ff, vocab, ctx] = [self.embd, self.ff, self.vocab, self.ctx].map(u64::from);
        gguf.tensor(self.random("token_embd.weight", &[embd, vocab])?)
            .tensor(self.random("token_types.weight", &[embd, TOKEN_TYPES.into()])?)
            .tensor(self.random("position_embd.weight", &[embd, ctx])?);
        norm(gguf, "token_embd_norm", embd)?;
        for layer in 0..self.layers {
            let mut linear = |part: &str, columns: u64, rows: u64| -> Result<(), Error> {
                gguf.tensor(self.random(&format!("blk.{layer}.{part}.weight"), &[columns, rows])?)
                    .tensor(self.random(&format!("blk.{layer}.{part}.bias"), &[rows])?);
                Ok(())
            };
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                linear(part, embd, embd)?;
            }
            linear("ffn_up", embd, ff)?;
            linear("ffn_down", ff, embd)?;
            for part in ["attn_output_norm", "layer_output_norm"] {
                norm(gguf, &format!("blk.{layer}.{part}"), embd)?;
            }
        }
        Ok(())
    }

    fn random(&self, name: &str, dims: &[u64]) -> Result<Tensor, Error> {
        Tensor::random(self.seed, name, dims)
    }
}

/// A layer norm that changes nothing.
fn norm(gguf: &mut GgufWriter, name: &str, width: u64) -> Result<(), Error> {
    gguf.tensor(Tensor::constant(&format!("{name}.weight"), &[width], 1.0)?).tensor(Tensor::constant(
        &format!("{name}.bias"),
        &[width],
        0.0,
    )?);
    Ok(())
}
