//! Cells of the KV cache: what is put in, taken out, shared and shifted, and a cache that is full.

use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Entry, Model};

/// Two sequences of 20 and 10 tokens in one cache; then, each followed by a token of sequence 0: 4 removed from the end of it,
/// sequence 1 copied to 2, sequence 1 removed, sequence 0 shifted over 5 discarded tokens; at last all cleared and one token.
/// `used` has the cells after each of those tokens, as the cells that this program put there.
pub fn cells(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 256, 3, |params| params.kv_unified = true);
    let mut used = Vec::new();
    context.prompt(0, 0, 20);
    used.push(20);
    context.prompt(1, 0, 10);
    used.push(30);
    assert!(context.remove(0, 16, -1));
    context.prompt(0, 16, 1);
    used.push(16 + 10 + 1);
    context.copy(1, 2); // in one cache the copy shares the cells
    context.prompt(0, 17, 1);
    used.push(16 + 10 + 2);
    assert!(context.remove(1, -1, -1)); // and they stay, they are the other sequence's too
    context.prompt(0, 18, 1);
    used.push(16 + 10 + 3);
    assert!(context.remove(0, 2, 7));
    context.shift(0, 7, 19, -5);
    context.prompt(0, 14, 1);
    used.push(16 + 10 + 4 - 5);
    context.clear();
    context.prompt(0, 0, 1);
    used.push(1);
    json!({ "used": used, "total": 256 })
}

/// A cache of 256 cells is filled; the token behind the last has no room.
pub fn full(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    for i in 0..4 {
        context.chunk(0, 64 * i, 64);
    }
    let status = context.try_decode(&[Entry { pos: 256, seqs: &[0], output: true }]);
    json!({ "status": status })
}

/// A recurrent model: two sequences of 8 and 5 tokens, 3 more of the first, a part that it does not give up, one token more.
pub fn recurrent(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 2);
    context.prompt(0, 0, 8);
    context.prompt(1, 0, 5);
    context.generate(0, 8, 3);
    let gave_up = context.remove(0, 6, -1);
    context.generate(0, 11, 1);
    let (n_p_eval, n_eval, _) = context.perf();
    json!({ "gave_up": gave_up, "n_p_eval": n_p_eval, "n_eval": n_eval })
}

/// A batch whose logits there is no memory for, then one with a single output. The model has as many tokens as that takes.
pub fn no_memory(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::with(&model, 1024, 1, |params| params.n_batch = 512);
    context.prompt(0, 0, 8);
    let bytes = 512 * model.n_vocab() as u64 * 4;
    let limited = limit_address_space(bytes / 2);
    let seqs = [0];
    let entries: Vec<_> = (8..8 + 512).map(|pos| Entry { pos, seqs: &seqs, output: true }).collect();
    let status = context.try_decode(&entries);
    limited.lift();
    context.prompt(0, 8, 1);
    json!({ "status": status, "bytes": bytes })
}

struct Limited(libc::rlimit);

/// So many bytes more than the process has now.
fn limit_address_space(more: u64) -> Limited {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the size of this process");
    let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    // SAFETY: both calls are given a structure of their own.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as u64;
        let mut before = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut before), 0);
        let limit = libc::rlimit { rlim_cur: pages * page + more, ..before };
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
        Limited(before)
    }
}

impl Limited {
    fn lift(self) {
        // SAFETY: the limit is the one that was there.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const self.0) }, 0);
    }
}
