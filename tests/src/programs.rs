//! The programs of `tests/cmake`, built by CMake alone with each telemetry backend.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use otlp_receiver::{Receiver, Telemetry};
use serde_json::Value;

/// What stands behind the macros of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// opentelemetry-cpp.
    Cpp,
    /// The crate `otel-shim`, linked as a static library.
    Rust,
    /// Nothing is registered.
    None,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Cpp => "cpp",
            Backend::Rust => "rust",
            Backend::None => "none",
        }
    }
}

/// What became of a program.
pub struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The line of JSON that it printed last; null if there is none.
    pub report: Value,
    pub stdout: String,
    pub stderr: String,
    pub time: Duration,
}

/// The folder of the programs for this backend. `None` if there are none, after saying why on standard output: the test
/// counts as skipped.
pub fn folder(backend: Backend) -> Option<PathBuf> {
    let Some(build) = std::env::var_os("LLAMA_OTEL_PROGRAMS") else {
        println!("SKIP: LLAMA_OTEL_PROGRAMS is not set (run through `cargo xtask test`)");
        return None;
    };
    let folder = PathBuf::from(build).join(format!("bin-{}", backend.name()));
    if !folder.is_dir() {
        let why =
            std::env::var("LLAMA_OTEL_NO_OTELCPP").unwrap_or_else(|_| format!("there is no {}", folder.display()));
        println!("SKIP: {why}");
        return None;
    }
    Some(folder)
}

/// Runs a program with these variables, and no other `OTEL_*` or `LLAMA_OTEL_*` variable. `None` as for [`folder`].
///
/// # Panics
/// It could not be started.
pub fn run(backend: Backend, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Option<Ended> {
    let exe = folder(backend)?.join(program).with_extension(std::env::consts::EXE_EXTENSION);
    Some(run_exe(&exe, args, variables))
}

/// As [`run`], for a program that lies elsewhere.
///
/// # Panics
/// It could not be started.
pub fn run_exe(exe: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(exe);
    command.args(args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || text.starts_with("LLAMA_OTEL_") || text.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    let start = Instant::now();
    let out =
        command.envs(variables.iter().copied()).output().unwrap_or_else(|error| panic!("{}: {error}", exe.display()));
    let time = start.elapsed();
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    Ended {
        code: out.status.code(),
        report: stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        time,
    }
}

/// As [`run`], where opentelemetry-cpp was built with what is asked of it: gRPC, the console. `None` also if it was not, after
/// saying so.
///
/// # Panics
/// The program could not be started.
pub fn run_if_built(backend: Backend, program: &str, args: &[&str], variables: &[(&str, &str)]) -> Option<Ended> {
    let ended = run(backend, program, args, variables)?;
    if ended.stderr.contains("was built without its component") {
        println!("SKIP: {}", ended.stderr.trim());
        return None;
    }
    Some(ended)
}

/// Runs a program against a receiver of its own, over gRPC if the variables ask for it. The end of the process delivers what was
/// recorded. `None` as for [`run_if_built`].
///
/// # Panics
/// The receiver or the program could not be started.
pub fn observe(
    backend: Backend,
    program: &str,
    args: &[&str],
    variables: &[(&str, &str)],
) -> Option<(Ended, Telemetry)> {
    let receiver = Receiver::start().expect("a receiver on the loopback").unrecorded();
    let is_grpc = variables.contains(&("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"));
    let endpoint = if is_grpc { receiver.grpc_endpoint() } else { receiver.http_endpoint() };
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    all.extend(variables);
    let ended = run_if_built(backend, program, args, &all)?;
    Some((ended, receiver.stop()))
}
