//! Whatever a program may do to its sequences, in an order that nobody has chosen.

use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Entry, Model};

const N_SEQS: usize = 4;
const N_CTX: i32 = 512;

/// xorshift64*: the same steps on every system.
struct Steps(u64);

impl Steps {
    fn below(&mut self, n: i32) -> i32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as i32
    }
}

/// What the program knows of its sequences: how long they are, and whether cells of one are another's too.
#[derive(Default)]
struct Sequences {
    length: [i32; N_SEQS],
    shared: bool,
}

/// Twelve contexts with two hundred steps each. `n_served` adds up the sequences of every batch.
pub fn random(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut n_served = 0;
    for seed in 1..=12 {
        let mut context = Context::with(&model, N_CTX as u32, N_SEQS as u32, |params| params.kv_unified = true);
        let mut steps = Steps(seed);
        let mut sequences = Sequences::default();
        let mut n_evaluated = 0;
        for i in 0..200 {
            if i % 50 == 0 {
                // nobody could read thousands of generations a second, and telemetry does not have to keep them
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            if sequences.length.iter().sum::<i32>() > N_CTX - 100 {
                context.clear();
                sequences = Sequences::default();
            }
            let n_tokens = step(&mut context, &mut steps, &mut sequences);
            n_evaluated += n_tokens.iter().sum::<i32>();
            n_served += n_tokens.iter().filter(|n| **n > 0).count();
        }
        let (n_p_eval, n_eval, _) = context.perf();
        assert_eq!(n_evaluated, n_p_eval + n_eval, "seed {seed}: llama.cpp counts as this program does");
    }
    json!({ "n_served": n_served })
}

/// One step; the tokens that it gave each sequence.
fn step(context: &mut Context, steps: &mut Steps, sequences: &mut Sequences) -> [i32; N_SEQS] {
    let seq = steps.below(N_SEQS as i32);
    let length = sequences.length[seq as usize];
    match steps.below(12) {
        0..=5 => return batch(context, steps, sequences),
        6 if length > 0 => {
            let p0 = steps.below(length);
            assert!(context.remove(seq, p0, -1));
            sequences.length[seq as usize] = p0;
        }
        7 => {
            assert!(context.remove(seq, -1, -1));
            sequences.length[seq as usize] = 0;
        }
        8 => {
            let to = (seq + 1 + steps.below(N_SEQS as i32 - 1)) % N_SEQS as i32;
            assert!(context.remove(to, -1, -1));
            context.copy(seq, to);
            sequences.length[to as usize] = length;
            sequences.shared = true;
        }
        9 if length > 8 && !sequences.shared => {
            let (keep, discard) = (1 + steps.below(3), 1 + steps.below(4));
            assert!(context.remove(seq, keep, keep + discard));
            context.shift(seq, keep + discard, length, -discard);
            sequences.length[seq as usize] -= discard;
        }
        10 if steps.below(4) == 0 => {
            context.keep(seq);
            sequences.length = [0; N_SEQS];
            sequences.length[seq as usize] = length;
        }
        11 if steps.below(8) == 0 => {
            context.clear();
            *sequences = Sequences::default();
        }
        _ => {}
    }
    [0; N_SEQS]
}

/// Some sequences in one batch, each with a part of a prompt, a token, or a token and drafts.
fn batch(context: &mut Context, steps: &mut Steps, sequences: &mut Sequences) -> [i32; N_SEQS] {
    let mut n_tokens = [0; N_SEQS];
    let ids: Vec<[i32; 1]> = (0..N_SEQS as i32).map(|seq| [seq]).collect();
    let mut entries = Vec::new();
    for (seq, ids) in ids.iter().enumerate() {
        if steps.below(2) == 0 {
            continue;
        }
        let (n, all, last) = match steps.below(4) {
            0 => (2 + steps.below(8), false, true),
            1 => (1 + steps.below(8), false, false),
            2 => (2 + steps.below(4), true, true),
            _ => (1, true, true),
        };
        let first = sequences.length[seq];
        entries.extend((0..n).map(|i| Entry { pos: first + i, seqs: ids, output: all || (last && i == n - 1) }));
        n_tokens[seq] = n;
    }
    if !entries.is_empty() {
        context.decode(&entries);
    }
    for (length, n) in sequences.length.iter_mut().zip(n_tokens) {
        *length += n;
    }
    n_tokens
}
