//! Builds the programs of the crate `bench`, optimised, and starts them: with a clean environment, and with every line
//! that they answer read.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use llama_build::Telemetry;
use serde_json::Value;

use crate::{
    build::Built,
    context::Context,
    program::{build_program, keep},
    sources::cargo_program,
    tools::Tools,
};

const PACKAGE: &str = "llama-otel-bench";

/// Header by which opentelemetry-cpp is recognised, and the command that brings it on Debian 12.
const PEER_HEADER: &str = "/usr/include/opentelemetry/version.h";
const PEER_INSTALL: &str = "apt-get install -t bookworm-backports opentelemetry-cpp-dev";

fn cargo_build(context: &Context, program: &str, features: &[&str]) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(["build", "--release", "--message-format", "json-render-diagnostics"]);
    command.arg("--target-dir").arg(context.target_dir()).args(["--package", PACKAGE, "--bin", program]);
    command.args(["--no-default-features", "--features", &features.join(",")]);
    // cuts a crate into other code-generation units, and with them changes what is inlined
    command.env("CARGO_INCREMENTAL", "0");
    command
}

/// The receiver that counts.
///
/// # Errors
/// cargo fails.
pub fn sink(context: &Context) -> Result<PathBuf> {
    build_program(context, cargo_build(context, "bench-sink", &["sink", "hot"]), "bench-sink")
}

/// The receiver with a fault.
///
/// # Errors
/// cargo fails.
pub fn faulty(context: &Context) -> Result<PathBuf> {
    build_program(context, cargo_build(context, "bench-faulty", &["faulty"]), "bench-faulty")
}

/// The macros by themselves; beside opentelemetry-cpp if `peer` and if it is installed, else with a line that says how.
///
/// # Errors
/// cargo fails.
pub fn hot(context: &Context, peer: bool) -> Result<PathBuf> {
    let mut features = vec!["sink", "hot"];
    if peer && Path::new(PEER_HEADER).is_file() {
        features.push("otelcpp");
    } else if peer {
        eprintln!("skipped: opentelemetry-cpp is not installed ({PEER_HEADER}); {PEER_INSTALL}");
    }
    let program = build_program(context, cargo_build(context, "bench-hot", &features), "bench-hot")?;
    let kept = context.target_dir().join("llama-otel/bench").join(if peer { "hot-and-peers" } else { "hot" });
    keep(context, &program, &kept)
}

/// Decoding with that llama.cpp, by what it was built for; `None`: upstream's own.
///
/// # Errors
/// cargo fails.
pub fn decode(context: &Context, tools: &Tools, built: &Built, telemetry: Option<Telemetry>) -> Result<PathBuf> {
    let variant = match telemetry {
        Some(Telemetry::Cpp) => "decode-otelcpp",
        Some(_) => "decode-patched",
        None => "decode-pristine",
    };
    decode_as(context, tools, built, telemetry, variant)
}

/// The same, kept under the name `variant`.
///
/// # Errors
/// cargo fails.
pub fn decode_as(
    context: &Context,
    tools: &Tools,
    built: &Built,
    telemetry: Option<Telemetry>,
    variant: &str,
) -> Result<PathBuf> {
    let features: &[&str] = match telemetry {
        Some(Telemetry::Cpp) => &["decode", "telemetry-cpp"],
        // With `sink` what both programs take from it is compiled once.
        Some(_) => &["sink", "decode", "telemetry-rust"],
        None => &["decode"],
    };
    let mut command = cargo_build(context, "bench-decode", features);
    command.envs(tools.env()).env("LLAMA_OTEL_PREBUILT", &built.dir);
    let program = build_program(context, command, "bench-decode")?;
    keep(context, &program, &context.target_dir().join("llama-otel/bench").join(variant))
}

/// A program with no variable of telemetry's but those given.
fn command(program: &Path, args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") || name.to_string_lossy().starts_with("LLAMA_OTEL_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(variables.iter().copied());
    command
}

/// Runs a program to its end and reads the JSON that it prints last.
///
/// # Errors
/// It cannot be started, fails (what it said is on standard error), or prints no JSON.
pub fn measure(program: &Path, args: &[&str], variables: &[(&str, &str)]) -> Result<Value> {
    let output = command(program, args, variables).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {} failed (see above): {}", program.display(), args.join(" "), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{} printed no figures: {last}", program.display()))
}

/// A program that answers a line for a line, ended when dropped.
pub struct Dialogue {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Dialogue {
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, args: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = command(program, args, variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("the program has no output")?);
        Ok(Self { child, input, output })
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line.
    ///
    /// # Errors
    /// The program has ended; what it said is on standard error.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("cannot read what the program prints")? == 0 {
            bail!("the program ended early (see above)");
        }
        Ok(line.trim_end().to_owned())
    }

    /// The answer to a line.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub fn ask(&mut self, line: &str) -> Result<String> {
        let input = self.input.as_mut().context("the program has no input")?;
        writeln!(input, "{line}").context("the program ended early (see above)")?;
        self.line()
    }

    /// The answer to a line, which is JSON.
    ///
    /// # Errors
    /// As [`Self::line`]; the answer is not JSON.
    pub fn ask_json(&mut self, line: &str) -> Result<Value> {
        let answer = self.ask(line)?;
        serde_json::from_str(&answer).with_context(|| format!("not a figure: {answer}"))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // The end of its input ends it; it delivers what it has before that.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The URL of a receiver that is not there: of a port that was free a moment ago.
///
/// # Errors
/// The system has no free port.
pub fn nobody() -> Result<String> {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr())?;
    Ok(format!("http://{address}"))
}

/// The receiver, running.
pub struct Sink {
    process: Dialogue,
    /// Base URL.
    pub endpoint: String,
}

impl Sink {
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let mut process = Dialogue::start(program, &[], &[])?;
        let endpoint = process.line()?;
        Ok(Self { process, endpoint })
    }

    /// Spans received so far.
    ///
    /// # Errors
    /// The receiver has ended.
    pub fn spans(&mut self) -> Result<u64> {
        let answer = self.process.ask("count")?;
        answer.parse().with_context(|| format!("not a number: {answer}"))
    }
}
