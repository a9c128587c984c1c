//! `cargo xtask VERB`: everything a developer runs. Parses the command line and hands over to one
//! file per verb; nothing else happens here.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use format::Format;

mod backends;
mod bench;
mod build;
mod cache;
mod ci;
mod codegen;
mod context;
mod demo;
mod doctor;
mod drift;
mod export;
mod files;
mod format;
mod fuzz;
mod install;
mod model;
mod package;
mod patch;
mod point;
mod program;
mod progress;
mod python;
mod resolved;
mod sources;
mod test;
mod tools;
mod upstream;
mod vendor;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Vendor, patch, build and test llama-otel", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print results and errors only: no progress, no messages
    #[arg(long, short, global = true)]
    quiet: bool,
    /// The checkout to work in, instead of the one this program was built from
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    checkout: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Get a pristine llama.cpp tree into vendor/<pin>/src
    Vendor(vendor::Args),
    /// Derive vendor/<pin>/patched, with our lines inserted
    Patch(patch::Args),
    /// Patch every published llama.cpp tree in memory and report each point's fate
    Drift(drift::Args),
    /// Write what others build with: a series for git am, a patched tree, a drop-in for llama-cpp-sys-2
    Export(export::Args),
    /// Make one self-contained crate of llama-otel-sys, ready for `cargo publish`
    Package(package::Args),
    /// Draft a point, explain what became of one, find a lost one
    Point(point::Args),
    /// Build llama.cpp into target/llama-otel/<pin>/<backend>
    Build(build::Args),
    /// Do all of it: get, patch and build llama.cpp, run a model, and show its telemetry
    Demo(demo::Args),
    /// Put a model file into the cache and print its path
    Model(model::Args),
    /// Try backends here, and show which configure, compile, link and run
    Backends(backends::Args),
    /// Write the matrix of the workflow from the table of backends
    Ci(ci::Args),
    /// List the tools that are needed, which are here, and how to get the rest
    Doctor(doctor::Args),
    /// Write the generated files from otel-shim/registry and patcher/points
    Codegen(codegen::Args),
    /// Measure what telemetry and patching cost, and compare with the goals
    Bench(bench::Args),
    /// Feed hostile points, sources and archives to the parsers of them
    Fuzz(fuzz::Args),
    /// Run every test, from nothing to the end-to-end tests
    Test(test::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            progress::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = context::Context::new(cli.checkout, cli.quiet)?;
    match cli.verb {
        Verb::Vendor(args) => vendor::run(&context, &args),
        Verb::Patch(args) => patch::run(&context, &args),
        Verb::Drift(args) => drift::run(&context, &args),
        Verb::Export(args) => export::run(&context, &args),
        Verb::Package(args) => package::run(&context, &args),
        Verb::Point(args) => point::run(&context, &args),
        Verb::Build(args) => build::run(&context, &args),
        Verb::Demo(args) => demo::run(&context, &args, &program::prepare_demo(&context)?),
        Verb::Model(args) => model::run(&context, &args),
        Verb::Backends(args) => backends::run(&context, &args),
        Verb::Ci(args) => ci::run(&context, &args),
        Verb::Doctor(args) => doctor::run(&context, &args),
        Verb::Codegen(args) => codegen::run(&args, &context.root).map(|()| ExitCode::SUCCESS),
        Verb::Bench(args) => bench::run(&context, &args),
        Verb::Fuzz(args) => fuzz::run(&context, &args),
        Verb::Test(args) => test::run(&context, &args),
    }
}
