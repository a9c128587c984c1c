//! A T5 model of a small size: an encoder, and a decoder that attends to what the encoder made of the prompt.

use std::path::Path;

use crate::{Error, GgufWriter, Tensor, Value, tensor::check_heads};

/// An encoder and a decoder with random weights and tokens without text.
#[derive(Clone, Debug)]
pub struct TinyEncoderDecoder {
    /// `general.name`.
    pub name: String,
    /// Layers of the encoder.
    pub layers: u32,
    /// Layers of the decoder.
    pub decoder_layers: u32,
    /// Width of the embedding; a multiple of `heads`.
    pub embd: u32,
    /// Width of the feed-forward part.
    pub ff: u32,
    /// Attention heads.
    pub heads: u32,
    /// Context length that the model claims to be trained for, in tokens.
    pub ctx: u32,
    /// Tokens.
    pub vocab: u32,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for TinyEncoderDecoder {
    /// Two layers each of width 32: 200 KB.
    fn default() -> Self {
        Self {
            name: "tiny-random-t5".to_owned(),
            layers: 2,
            decoder_layers: 2,
            embd: 32,
            ff: 64,
            heads: 2,
            ctx: 512,
            vocab: 256,
            seed: 0,
        }
    }
}

/// Distances between tokens that have a bias of their own.
const BUCKETS: u32 = 32;
/// The token that the decoder begins with, the same as of padding in T5.
const DECODER_START: u32 = 0;

impl TinyEncoderDecoder {
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
        let mut gguf = GgufWriter::new("t5");
        gguf.key("general.name", Value::String(self.name.clone()));
        gguf.numbers(
            "t5",
            &[
                ("context_length", self.ctx),
                ("embedding_length", self.embd),
                ("block_count", self.layers),
                ("decoder_block_count", self.decoder_layers),
                ("feed_forward_length", self.ff),
                ("attention.head_count", self.heads),
                ("attention.relative_buckets_count", BUCKETS),
                ("decoder_start_token_id", DECODER_START),
                ("vocab_size", self.vocab),
            ],
        );
        gguf.key("t5.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
            .key("tokenizer.ggml.model", Value::String("no_vocab".to_owned()));
        self.put_tensors(&mut gguf)?;
        Ok(gguf)
    }

    fn put_tensors(&self, gguf: &mut GgufWriter) -> Result<(), Error> {
        let [embd, heads, vocab] = [self.embd, self.heads, self.vocab].map(u64::from);
        gguf.tensor(Tensor::random(self.seed, "token_embd.weight", &[embd, vocab])?);
        for (side, layers) in [("enc", self.layers), ("dec", self.decoder_layers)] {
            gguf.tensor(Tensor::constant(&format!("{side}.output_norm.weight"), &[embd], 1.0)?);
            // one bias for all layers, as T5 has it
            let bias = format!("{side}.blk.0.attn_rel_b.weight");
            gguf.tensor(Tensor::random(self.seed, &bias, &[heads, BUCKETS.into()])?);
            for layer in 0..layers {
                self.put_attention(gguf, &format!("{side}.blk.{layer}.attn"))?;
                if side == "dec" {
                    self.put_attention(gguf, &format!("{side}.blk.{layer}.cross_attn"))?;
                }
                self.put_feed_forward(gguf, &format!("{side}.blk.{layer}"))?;
            }
        }
        Ok(())
    }

    fn put_attention(&self, gguf: &mut GgufWriter, prefix: &str) -> Result<(), Error> {
        let embd = u64::from(self.embd);
        gguf.tensor(Tensor::constant(&format!("{prefix}_norm.weight"), &[embd], 1.0)?);
        for part in ["q", "k", "v", "o"] {
            gguf.tensor(Tensor::random(self.seed, &format!("{prefix}_{part}.weight"), &[embd, embd])?);
        }
        Ok(())
    }

    fn put_feed_forward(&self, gguf: &mut GgufWriter, prefix: &str) -> Result<(), Error> {
        let [embd, ff] = [self.embd, self.ff].map(u64::from);
        gguf.tensor(Tensor::constant(&format!("{prefix}.ffn_norm.weight"), &[embd], 1.0)?)
            .tensor(Tensor::random(self.seed, &format!("{prefix}.ffn_up.weight"), &[embd, ff])?)
            .tensor(Tensor::random(self.seed, &format!("{prefix}.ffn_down.weight"), &[ff, embd])?);
        Ok(())
    }
}
