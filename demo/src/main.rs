//! The instrumented program behind `cargo xtask demo` and the end-to-end tests: it knows nothing
//! of telemetry, as any program on llama.cpp.

mod act;
mod args;
mod devices;
mod engine;
mod generate;
mod output;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match generate::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
