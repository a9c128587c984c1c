//! `bench-hot`: what the macros cost by themselves, without llama.cpp. Each command measures one thing in a process of
//! its own and prints one line of JSON; `cargo xtask bench` makes rows of it.
//!
//! `compare ROUNDS` · `answer` · `off` · `quiet` · `threads ROUNDS` · `sustain SPANS_PER_SECOND SECONDS` · `idle SECONDS` · `run WORK N`
//!
//! All but `off` need an OTLP receiver in the environment.

mod allocations;
mod answer;
mod compare;
#[path = "../cpu_time.rs"]
mod cpu_time;
mod peer;
mod quiet;
mod sustain;
mod tasks;
mod threads;
mod work;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

const USAGE: &str = "usage: bench-hot compare ROUNDS | answer | off | quiet | threads ROUNDS | sustain SPANS_PER_SECOND SECONDS \
                     | idle SECONDS | run WORK N";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bench-hot: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<serde_json::Value, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text}: not a number\n{USAGE}"));
    match args {
        ["compare", rounds] => compare::run(number(rounds)?),
        ["answer"] => answer::run(),
        ["off"] => Ok(quiet::off()),
        ["quiet"] => quiet::recording(),
        ["threads", rounds] => threads::run(number(rounds)?),
        ["sustain", rate, seconds] => sustain::run(number(rate)?, number(seconds)?),
        ["idle", seconds] => sustain::idle(number(seconds)?),
        ["run", work, n] => work::by_name(work, number(n)?).ok_or_else(|| format!("{work}: no such work")),
        _ => Err(USAGE.to_owned()),
    }
}
