//! Processes that end with their contexts still there.

use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::process::exit;

use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Model};

/// Says what there is to say, and ends the process with everything in it.
fn leave(facts: &Value) -> ! {
    println!("{facts}");
    std::io::stdout().flush().expect("standard output");
    exit(0)
}

/// One context with a prompt of 6 and 2 tokens, another with two sequences of 4 and 5 tokens, of which the first is removed.
pub fn idle(args: &Arguments) -> Value {
    let backend = ManuallyDrop::new(Backend::init());
    let model = ManuallyDrop::new(Model::load(&backend, &args.model));
    let mut one = ManuallyDrop::new(Context::new(&model, 256, 1));
    one.prompt(0, 0, 6);
    one.generate(0, 6, 2);
    let mut two = ManuallyDrop::new(Context::new(&model, 256, 2));
    two.prompt(0, 0, 4);
    two.prompt(1, 0, 5);
    two.remove(0, -1, -1);
    leave(&json!({}))
}
