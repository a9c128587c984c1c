//! Reads written files back with a parser that shares no code with the writer.

use std::collections::BTreeMap;

use tiny_gguf::{Damage, TensorType, TinyModel, Vocab};

/// What the file says: keys with their text form, tensors with type, dimensions and extent in the file.
struct Parsed {
    keys: BTreeMap<String, String>,
    tensors: BTreeMap<String, (u32, Vec<u64>, usize)>,
    data_start: usize,
}

struct Cursor<'a>(&'a [u8], usize);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.0[self.1..self.1 + N].try_into().unwrap();
        self.1 += N;
        bytes
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    fn string(&mut self) -> String {
        let length = self.u64() as usize;
        let bytes = self.0[self.1..self.1 + length].to_vec();
        self.1 += length;
        String::from_utf8(bytes).unwrap()
    }
    fn value(&mut self, kind: u32) -> String {
        match kind {
            4 => self.u32().to_string(),
            5 => i32::from_le_bytes(self.take()).to_string(),
            6 => f32::from_le_bytes(self.take()).to_string(),
            7 => (self.take::<1>()[0] == 1).to_string(),
            8 => self.string(),
            9 => {
                let element = self.u32();
                let count = self.u64();
                (0..count).map(|_| self.value(element)).collect::<Vec<_>>().join("|")
            }
            10 => self.u64().to_string(),
            other => panic!("value type {other}"),
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut cursor = Cursor(bytes, 0);
    assert_eq!(&cursor.take::<4>(), b"GGUF");
    assert_eq!(cursor.u32(), 3);
    let (n_tensors, n_keys) = (cursor.u64(), cursor.u64());
    let mut keys = BTreeMap::new();
    for _ in 0..n_keys {
        let key = cursor.string();
        let kind = cursor.u32();
        keys.insert(key, cursor.value(kind));
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..n_tensors {
        let name = cursor.string();
        let dims = (0..cursor.u32()).map(|_| cursor.u64()).collect();
        let kind = cursor.u32();
        tensors.insert(name, (kind, dims, cursor.u64() as usize));
    }
    assert_eq!((keys.len() as u64, tensors.len() as u64), (n_keys, n_tensors));
    Parsed { keys, tensors, data_start: cursor.1.next_multiple_of(32) }
}

fn bytes_of(kind: u32, dims: &[u64]) -> usize {
    let count = dims.iter().product::<u64>() as usize;
    match kind {
        0 => count * 4,
        1 => count * 2,
        8 => count / 32 * 34,
        other => panic!("tensor type {other}"),
    }
}

fn bytes(model: &TinyModel) -> Vec<u8> {
    model.gguf().unwrap().to_bytes().unwrap()
}

#[test]
fn the_default_model_has_what_llama_cpp_asks_for() {
    let bytes = bytes(&TinyModel::default());
    let parsed = parse(&bytes);
    let key = |name: &str| parsed.keys[name].as_str();
    assert_eq!(key("general.architecture"), "llama");
    assert_eq!(key("llama.block_count"), "2");
    assert_eq!(key("llama.embedding_length"), "64");
    assert_eq!(key("llama.attention.head_count_kv"), "2");
    assert_eq!(key("llama.attention.layer_norm_rms_epsilon"), "0.00001");
    let tokens: Vec<_> = key("tokenizer.ggml.tokens").split('|').collect();
    assert_eq!((tokens.len(), tokens[1], tokens[3 + 0x41], tokens[259]), (260, "<s>", "<0x41>", "\u{2581}"));
    assert_eq!(key("tokenizer.ggml.scores").split('|').count(), 260);
    assert_eq!(key("tokenizer.ggml.token_type").split('|').count(), 260);
    assert_eq!(parsed.tensors.len(), 1 + 2 * 9 + 2);
    assert_eq!(parsed.tensors["token_embd.weight"].1, [64, 260]);
    assert_eq!(parsed.tensors["blk.1.attn_k.weight"].1, [64, 32]);
    assert_eq!(parsed.tensors["blk.0.ffn_down.weight"].1, [128, 64]);
}

#[test]
fn tensor_data_is_aligned_and_fills_the_file() {
    for weights in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
        let bytes = bytes(&TinyModel { weights, ..TinyModel::default() });
        let parsed = parse(&bytes);
        let mut extents: Vec<_> =
            parsed.tensors.values().map(|(kind, dims, offset)| (*offset, bytes_of(*kind, dims))).collect();
        extents.sort();
        let mut next = 0;
        for (offset, length) in extents {
            assert_eq!(offset, next, "{weights:?}");
            next = (offset + length).next_multiple_of(32);
        }
        assert_eq!(parsed.data_start + next, bytes.len(), "{weights:?}");
    }
}

#[test]
fn norms_are_ones_in_f32() {
    let bytes = bytes(&TinyModel { weights: TensorType::Q8_0, ..TinyModel::default() });
    let parsed = parse(&bytes);
    let (kind, dims, offset) = &parsed.tensors["output_norm.weight"];
    assert_eq!((*kind, dims.as_slice()), (0, &[64u64] as &[_]));
    let start = parsed.data_start + offset;
    assert!(bytes[start..start + 256].chunks(4).all(|value| value == 1f32.to_le_bytes()));
}

#[test]
fn the_same_description_gives_the_same_bytes() {
    let default = bytes(&TinyModel::default());
    assert_eq!(default, bytes(&TinyModel::default()));
    assert_ne!(default, bytes(&TinyModel { seed: 1, ..TinyModel::default() }));
}

#[test]
fn a_tied_model_has_no_output_matrix() {
    let parsed = parse(&bytes(&TinyModel { tied: true, ..TinyModel::default() }));
    assert!(!parsed.tensors.contains_key("output.weight"));
}

#[test]
fn the_smallest_model_has_no_vocabulary() {
    let bytes = bytes(&TinyModel::smallest());
    let parsed = parse(&bytes);
    assert_eq!(parsed.keys["tokenizer.ggml.model"], "no_vocab");
    assert_eq!(parsed.keys["llama.vocab_size"], "256");
    assert!(!parsed.keys.contains_key("tokenizer.ggml.tokens"));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let wrong = [
        TinyModel { embd: 66, ..TinyModel::default() },
        TinyModel { embd: 12, ff: 12, ..TinyModel::default() },
        TinyModel { kv_heads: 3, ..TinyModel::default() },
        TinyModel { layers: 0, ..TinyModel::default() },
        TinyModel { vocab: Vocab::None(0), ..TinyModel::default() },
        TinyModel { ff: 48, weights: TensorType::Q8_0, ..TinyModel::default() },
    ];
    for model in wrong {
        assert!(model.gguf().is_err(), "{model:?}");
    }
}

#[test]
fn damage_is_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.gguf");
    let model = TinyModel::default();
    let whole = bytes(&model);
    let damaged = |damage| {
        model.write_damaged(&path, damage).unwrap();
        std::fs::read(&path).unwrap()
    };
    assert_eq!(damaged(Damage::TruncatedAt(100)), whole[..100]);
    let bad = damaged(Damage::BadMagic);
    assert_eq!((&bad[..4], &bad[4..]), (b"XXXX" as &[u8], &whole[4..]));
    let without_key = parse(&damaged(Damage::Without("llama.block_count")));
    assert!(!without_key.keys.contains_key("llama.block_count"));
    let without_tensor = parse(&damaged(Damage::Without("output_norm.weight")));
    assert!(!without_tensor.tensors.contains_key("output_norm.weight"));
    assert!(model.write_damaged(&path, Damage::Without("no.such.key")).is_err());
    assert!(model.write_damaged(&path, Damage::TruncatedAt(usize::MAX)).is_err());
}
