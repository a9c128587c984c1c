//! Eight threads, each with a context of its own on one model.

use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Model};

/// Thread `i` decodes a prompt of 5 + i tokens and then 3 + i tokens, four times.
pub fn threads(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let counts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let model = &model;
                scope.spawn(move || {
                    let mut context = Context::new(model, 256, 1);
                    for _ in 0..4 {
                        context.prompt(0, 0, 5 + i);
                        context.generate(0, 5 + i, 3 + i);
                        context.clear();
                    }
                    let (n_p_eval, n_eval, _) = context.perf();
                    n_p_eval + n_eval
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread")).collect()
    });
    json!({ "n_evaluated": counts })
}
