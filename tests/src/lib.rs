//! What the end-to-end tests share: where `cargo xtask test` put the trees, models and programs, runs of the demo program and
//! of scenarios, and how figures are read.

pub mod hostile;
pub mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;

use otlp_receiver::model::Span;
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
    run_within(None, program, args, variables)
}

/// The same, with so many KiB of address space (`ulimit -v`).
///
/// # Panics
/// It could not be started.
pub fn run_within(kib: Option<u64>, program: Program, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let exe = prepared(match program {
        Program::Instrumented => "LLAMA_OTEL_DEMO",
        Program::Pristine => "LLAMA_OTEL_DEMO_PRISTINE",
    });
    let command = match kib {
        None => command_without_telemetry(&exe),
        Some(kib) => {
            let mut shell = command_without_telemetry("sh".as_ref());
            shell.args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\"")]).arg(&exe);
            shell
        }
    };
    finish(command, args, variables)
}

/// As [`run`], for a program that was built otherwise.
///
/// # Panics
/// It could not be started.
pub fn run_program(exe: &Path, args: &[&str], variables: &[(&str, &str)]) -> Run {
    finish(command_without_telemetry(exe), args, variables)
}

fn finish(mut command: Command, args: &[&str], variables: &[(&str, &str)]) -> Run {
    command.arg("--json").args(args).envs(variables.iter().copied());
    let out = command.output().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    Run {
        code: out.status.code(),
        events: String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A program that is told nothing of telemetry by our own environment.
pub fn command_without_telemetry(exe: &Path) -> Command {
    let mut command = Command::new(exe);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") || name == "LLAMA_OTEL_DETAIL" {
            command.env_remove(name);
        }
    }
    command
}

/// One run of `tests/scenario`, against a receiver of its own: what it says that it did, and what was exported.
///
/// # Panics
/// The receiver could not be started, or the program failed.
pub fn scenario(exe: &str, args: &[&Path], detail: &str) -> (Value, Telemetry) {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let out = command_without_telemetry(exe.as_ref())
        .args(args)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint())
        .env("LLAMA_OTEL_DETAIL", detail)
        .output()
        .unwrap_or_else(|error| panic!("{exe}: {error}"));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{args:?}: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    let facts = serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"));
    (facts, receiver.stop())
}

/// A number that the span has.
///
/// # Panics
/// It has none of that name.
pub fn number(span: &Span, key: &str) -> f64 {
    span.attribute(key)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{} has no number {key}: {:?}", span.name, span.attributes))
}

/// Whether these seconds are no more than those, both of them sums of floating-point numbers: half a nanosecond, less than any
/// clock tells, is their rounding.
pub fn at_most(seconds: f64, limit: f64) -> bool {
    seconds <= limit + 5e-10
}

/// The sum of a counter's points with this attribute; 0 without any.
pub fn count(telemetry: &Telemetry, metric: &str, key: &str, value: &str) -> f64 {
    let metric = telemetry.metric(metric).unwrap_or_else(|| panic!("no metric {metric}"));
    metric.point(&[(key, value.into())]).and_then(|point| point.value).map_or(0.0, |value| value.as_f64())
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

/// Has the instrumented program act out a script (see `demo/src/act.rs`) on this model at detail `decode`, against a receiver of
/// its own, with these further variables.
///
/// # Panics
/// The receiver or the program could not be started, or the script is wrong.
pub fn act(model: &Path, script: &str, variables: &[(&str, &str)]) -> (Run, Telemetry) {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let endpoint = receiver.http_endpoint();
    let all: Vec<_> = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", "decode")]
        .into_iter()
        .filter(|(name, _)| variables.iter().all(|(other, _)| other != name))
        .chain(variables.iter().copied())
        .collect();
    let run = run(Program::Instrumented, &arguments(model, &["--verbose", "--act", script]), &all);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    (run, receiver.stop())
}

impl Run {
    /// What came of the commands of this name in a script, in order.
    pub fn acts(&self, command: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == "act" && event["command"] == command).collect()
    }
}
