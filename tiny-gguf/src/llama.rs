//! A llama model of any small size: the keys and tensors that llama.cpp asks of that architecture.

use std::path::Path;

use crate::{Damage, Error, GgufWriter, Tensor, TensorType, Value, Weights, tensor::DEVIATION};

/// What the model's tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocab {
    /// `<unk>`, `<s>`, `</s>`, one token for each byte, and the space mark: every text can be tokenised.
    Byte,
    /// That many tokens without text: no text can be tokenised, but a decode step costs the least.
    None(u32),
}

/// A llama model with random weights.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// `general.name`.
    pub name: String,
    /// Transformer layers.
    pub layers: u32,
    /// Width of the embedding; a multiple of `heads`.
    pub embd: u32,
    /// Width of the feed-forward part.
    pub ff: u32,
    /// Attention heads; a multiple of `kv_heads`.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Context length that the model claims to be trained for, in tokens.
    pub ctx: u32,
    /// Tokens.
    pub vocab: Vocab,
    /// Encoding of the matrices; norms are always f32.
    pub weights: TensorType,
    /// The output matrix is the token embedding, not one of its own.
    pub tied: bool,
    /// Chooses the weights.
    pub seed: u64,
}

impl Default for TinyModel {
    /// Two layers of width 64 with a byte vocabulary: 430 KB.
    fn default() -> Self {
        Self {
            name: "tiny-random-llama".to_owned(),
            layers: 2,
            embd: 64,
            ff: 128,
            heads: 4,
            kv_heads: 2,
            ctx: 2048,
            vocab: Vocab::Byte,
            weights: TensorType::F32,
            tied: false,
            seed: 0,
        }
    }
}

impl TinyModel {
    /// The smallest useful model: one layer of width 32 without vocabulary, for measuring what a decode step
    /// costs besides computing.
    pub fn smallest() -> Self {
        Self {
            layers: 1,
            embd: 32,
            ff: 64,
            heads: 2,
            kv_heads: 1,
            vocab: Vocab::None(256),
            tied: true,
            ..Self::default()
        }
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> u32 {
        match self.vocab {
            Vocab::Byte => 3 + 256 + 1,
            Vocab::None(count) => count,
        }
    }

    /// Writes the model.
    ///
    /// # Errors
    /// The sizes do not fit together, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.gguf()?.write(path)
    }

    /// Writes the model, damaged.
    ///
    /// # Errors
    /// Those of [`write`](Self::write); what the damage names is not there.
    pub fn write_damaged(&self, path: impl AsRef<Path>, damage: Damage<'_>) -> Result<(), Error> {
        self.gguf()?.write_damaged(path, damage)
    }

    /// The model's keys and tensors, to be changed before writing.
    ///
    /// # Errors
    /// The sizes do not fit together.
    pub fn gguf(&self) -> Result<GgufWriter, Error> {
        self.check()?;
        let mut gguf = GgufWriter::new("llama");
        self.put_keys(&mut gguf);
        self.put_vocab(&mut gguf);
        self.put_tensors(&mut gguf)?;
        Ok(gguf)
    }

    fn check(&self) -> Result<(), Error> {
        let shape =
            |what: &str, value: u32, rule: String| Error::Shape { what: what.to_owned(), value: value.into(), rule };
        let sizes = [
            ("layers", self.layers),
            ("embd", self.embd),
            ("ff", self.ff),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("ctx", self.ctx),
            ("vocab", self.n_vocab()),
        ];
        for (what, value) in sizes {
            if value == 0 {
                return Err(shape(what, value, "at least 1".to_owned()));
            }
        }
        if !self.embd.is_multiple_of(self.heads) || !(self.embd / self.heads).is_multiple_of(2) {
            return Err(shape("embd", self.embd, format!("an even multiple of heads ({})", self.heads)));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(shape("heads", self.heads, format!("a multiple of kv_heads ({})", self.kv_heads)));
        }
        Ok(())
    }

    fn put_keys(&self, gguf: &mut GgufWriter) {
        gguf.key("general.name", Value::String(self.name.clone()));
        let numbers = [
            ("context_length", self.ctx),
            ("embedding_length", self.embd),
            ("block_count", self.layers),
            ("feed_forward_length", self.ff),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("rope.dimension_count", self.embd / self.heads),
            ("vocab_size", self.n_vocab()),
        ];
        gguf.numbers("llama", &numbers);
        gguf.key("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        gguf.key("llama.rope.freq_base", Value::F32(10_000.0));
    }

    fn put_vocab(&self, gguf: &mut GgufWriter) {
        if self.vocab != Vocab::Byte {
            gguf.key("tokenizer.ggml.model", Value::String("no_vocab".to_owned()));
            return;
        }
        const NORMAL: i32 = 1;
        const UNKNOWN: i32 = 2;
        const CONTROL: i32 = 3;
        const BYTE: i32 = 6;
        let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
        let mut tokens: Vec<_> = special.iter().map(|(text, kind)| (text.to_string(), *kind, 0.0)).collect();
        tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE, 0.0)));
        tokens.push(("\u{2581}".to_owned(), NORMAL, -1.0));
        gguf.key("tokenizer.ggml.model", Value::String("llama".to_owned()))
            .key("tokenizer.ggml.tokens", Value::Strings(tokens.iter().map(|token| token.0.clone()).collect()))
            .key("tokenizer.ggml.scores", Value::F32s(tokens.iter().map(|token| token.2).collect()))
            .key("tokenizer.ggml.token_type", Value::I32s(tokens.iter().map(|token| token.1).collect()))
            .key("tokenizer.ggml.bos_token_id", Value::U32(1))
            .key("tokenizer.ggml.eos_token_id", Value::U32(2))
            .key("tokenizer.ggml.unknown_token_id", Value::U32(0));
    }

    fn put_tensors(&self, gguf: &mut GgufWriter) -> Result<(), Error> {
        let [embd, ff, vocab] = [self.embd, self.ff, self.n_vocab()].map(u64::from);
        let kv = u64::from(self.embd / self.heads * self.kv_heads);
        gguf.tensor(self.matrix("token_embd.weight", embd, vocab)?);
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            gguf.tensor(norm(&name("attn_norm"), embd)?)
                .tensor(self.matrix(&name("attn_q"), embd, embd)?)
                .tensor(self.matrix(&name("attn_k"), embd, kv)?)
                .tensor(self.matrix(&name("attn_v"), embd, kv)?)
                .tensor(self.matrix(&name("attn_output"), embd, embd)?)
                .tensor(norm(&name("ffn_norm"), embd)?)
                .tensor(self.matrix(&name("ffn_gate"), embd, ff)?)
                .tensor(self.matrix(&name("ffn_up"), embd, ff)?)
                .tensor(self.matrix(&name("ffn_down"), ff, embd)?);
        }
        gguf.tensor(norm("output_norm.weight", embd)?);
        if !self.tied {
            gguf.tensor(self.matrix("output.weight", embd, vocab)?);
        }
        Ok(())
    }

    fn matrix(&self, name: &str, columns: u64, rows: u64) -> Result<Tensor, Error> {
        let weights = Weights::of_tensor(self.seed, name, DEVIATION).take((columns * rows) as usize);
        Tensor::new(name, &[columns, rows], self.weights, weights)
    }
}

fn norm(name: &str, width: u64) -> Result<Tensor, Error> {
    Tensor::constant(name, &[width], 1.0)
}
