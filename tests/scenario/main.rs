//! `llama-otel-scenario NAME MODEL [FOLDER]`: uses llama.cpp in one certain way and prints what it did as a line of JSON. It
//! knows nothing of telemetry; the tests hold what it says against what was exported.

mod exits;
mod figures;
mod generations;
mod llama;
mod loading;
mod memory;
mod random;
mod sampling;
mod states;
mod threads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// What a scenario is given: the model and a folder that it may write to.
pub struct Arguments {
    pub model: PathBuf,
    pub folder: PathBuf,
}

type Scenario = fn(&Arguments) -> Value;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("turns", generations::turns),
    ("eight", generations::eight),
    ("eight-unified", generations::eight_unified),
    ("shared", generations::shared),
    ("speculative", generations::speculative),
    ("shift", generations::shift),
    ("prefix", generations::prefix),
    ("one-by-one", generations::one_by_one),
    ("parts", generations::parts),
    ("aborted", generations::aborted),
    ("retried", generations::retried),
    ("kept", generations::kept),
    ("embeddings", generations::embeddings),
    ("process", generations::process),
    ("encode", generations::encode),
    ("encode-decode", generations::encode_decode),
    ("random", random::random),
    ("cells", memory::cells),
    ("full", memory::full),
    ("no-memory", memory::no_memory),
    ("recurrent", memory::recurrent),
    ("state", states::state),
    ("state-errors", states::errors),
    ("checkpoint", states::checkpoint),
    ("samplers", sampling::samplers),
    ("backend-sampler", sampling::backend_sampler),
    ("splits", loading::splits),
    ("file-pointer", loading::file_pointer),
    ("user-tensors", loading::user_tensors),
    ("cancelled", loading::cancelled),
    ("refused", loading::refused),
    ("threads", threads::threads),
    ("facts", figures::facts),
    ("clock", figures::clock),
    ("clock-encode", figures::clock_encode),
    ("refused-contexts", figures::refused_contexts),
    ("exit", exits::idle),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(model), folder) = (args.next(), args.next(), args.next()) else {
        eprintln!("usage: llama-otel-scenario NAME MODEL [FOLDER]");
        return ExitCode::from(2);
    };
    let Some((_, scenario)) = SCENARIOS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        eprintln!("no scenario {name}; there are: {}", names.join(" "));
        return ExitCode::from(2);
    };
    let folder = folder.map_or_else(std::env::temp_dir, |folder| Path::new(&folder).to_path_buf());
    println!("{}", scenario(&Arguments { model: PathBuf::from(model), folder }));
    ExitCode::SUCCESS
}
