//! Finds or builds llama.cpp, tells cargo what to link, and writes the bindings.
//!
//! It never reaches the network: fetching and patching is `cargo xtask`'s, and where something is
//! missing the error names the command.

mod bindings;
mod cmake;
mod env;
mod link;

use std::process::ExitCode;

use env::Env;

fn main() -> ExitCode {
    match run(&Env::of_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(env: &Env) -> Result<(), String> {
    let request = cmake::request(env)?;
    let built = cmake::obtain(env, &request)?;
    link::link(&built);
    link::describe(&built);
    bindings::generate(env, &built)
}
