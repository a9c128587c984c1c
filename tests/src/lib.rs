//! What the end-to-end tests share: where `cargo xtask test` put the trees, models and programs, and a run of the demo program.

use std::path::{Path, PathBuf};
use std::process::Command;

use otlp_receiver::{Receiver, Telemetry};
use serde_json::Value;

/// A file or folder that `cargo xtask test` names in the environment.
///
/// # Panics
/// The variable is not set: these tests need what only that command prepares.
pub fn prepared(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run these tests through `cargo xtask test`"),
    }
}

/// One run of the demo program.
pub struct Run {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The JSON lines that it printed.
    pub events: Vec<Value>,
    pub stderr: String,
}

impl Run {
    /// The events of this kind, for example `token`.
    pub fn events(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == kind).collect()
    }

    /// The last line of a successful run.
    ///
    /// # Panics
    /// The run was not successful.
    pub fn done(&self) -> &Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.events("done").first().copied().unwrap_or_else(|| panic!("no event `done` in {:?}", self.events))
    }
}

/// The instrumented program, or the same one over the tree as it came.
#[derive(Clone, Copy)]
pub enum Program {
    Instrumented,
    Pristine,
}

/// Runs the demo program with these arguments and variables, and no other `OTEL_*` variable.
///
/// # Panics
/// It could not be started.
pub fn run(program: Program, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let exe = prepared(match program {
        Program::Instrumented => "LLAMA_OTEL_DEMO",
        Program::Pristine => "LLAMA_OTEL_DEMO_PRISTINE",
    });
    let mut command = Command::new(&exe);
    command.arg("--json").args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") || name == "LLAMA_OTEL_DETAIL" {
            command.env_remove(name);
        }
    }
    let out =
        command.envs(variables.iter().copied()).output().unwrap_or_else(|error| panic!("{}: {error}", exe.display()));
    Run {
        code: out.status.code(),
        events: String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Runs the instrumented program against a receiver of its own. The end of the process delivers what was recorded.
///
/// # Panics
/// The receiver or the program could not be started.
pub fn observe(args: &[&str], detail: &str) -> (Run, Telemetry) {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let endpoint = receiver.http_endpoint();
    let run =
        run(Program::Instrumented, args, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("LLAMA_OTEL_DETAIL", detail)]);
    (run, receiver.stop())
}

/// Arguments for this model with one thread: more only spin on a small machine.
pub fn arguments<'a>(model: &'a Path, rest: &[&'a str]) -> Vec<&'a str> {
    let model = model.to_str().expect("the path of a model is UTF-8");
    ["--model", model, "--threads", "1"].into_iter().chain(rest.iter().copied()).collect()
}
