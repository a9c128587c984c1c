//! Runs an example of this crate in a process of its own: the environment decides what is exported.

// each test program has the whole and uses a part
#![allow(dead_code)]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How a process went.
pub struct Child {
    pub code: Option<i32>,
    /// The last line of standard output.
    pub report: Value,
    pub stdout: String,
    pub stderr: String,
    pub time: Duration,
}

/// Where cargo puts an example that it builds with these tests.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

/// Runs it with these variables and none of telemetry's that the tests themselves run with.
pub fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(example(name));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("OTEL_") || key.starts_with("LLAMA_OTEL_")) {
        command.env_remove(key);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    let start = Instant::now();
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("cargo builds the examples");
    let stdout = String::from_utf8_lossy(&output.stdout);
    Child {
        code: output.status.code(),
        report: stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null),
        stdout: stdout.into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        time: start.elapsed(),
    }
}
