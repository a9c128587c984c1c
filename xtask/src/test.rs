//! `cargo xtask test`: everything from an empty cache to the end-to-end tests, phase by phase, with the time
//! that each took, and with the tests that were skipped and why.

mod log;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use llama_build::Telemetry;

use self::log::TestLog;
use crate::{
    build::{self, Built, Request},
    context::Context,
    model::{self, Name},
    patch,
    program::build_demo,
    sources::cargo_program,
    tools::{self, Tools},
    vendor,
};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this phase and those that it needs; may be repeated [default: all but lint]
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Phase>,
}

/// One step, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Phase {
    /// Find or install cmake, ninja, libclang
    Tools,
    /// Get the default llama.cpp
    Vendor,
    /// Insert our lines
    Patch,
    /// Build it, patched and pristine
    Build,
    /// Get the models
    Model,
    /// Format and clippy
    Lint,
    /// Tests that need no llama.cpp
    Unit,
    /// Build the demo program, with and without telemetry
    Demo,
    /// End-to-end tests against real models and receivers
    E2e,
}

impl Phase {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Tools | Self::Vendor | Self::Model | Self::Unit => &[],
            Self::Patch => &[Self::Vendor],
            Self::Build => &[Self::Tools, Self::Patch],
            Self::Lint | Self::Demo => &[Self::Build],
            Self::E2e => &[Self::Demo, Self::Model],
        }
    }

    /// The phases to run for `only`, in order; all but lint if it is empty.
    fn chosen(only: &[Self]) -> Vec<Self> {
        let mut pending = only.to_vec();
        if pending.is_empty() {
            pending.extend(Self::value_variants().iter().filter(|&&phase| phase != Self::Lint));
        }
        let mut chosen = Vec::new();
        while let Some(phase) = pending.pop() {
            if !chosen.contains(&phase) {
                chosen.push(phase);
                pending.extend(phase.needs());
            }
        }
        chosen.sort();
        chosen
    }
}

/// What earlier phases made for later ones.
#[derive(Default)]
struct Made {
    tools: Option<Tools>,
    patched: Option<Built>,
    pristine: Option<Built>,
    /// What the tests are told.
    env: Vec<(&'static str, OsString)>,
}

/// Runs the verb. The exit code is 1 if a test or a lint failed.
///
/// # Errors
/// A phase that later ones need failed.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let mut made = Made::default();
    let mut log = TestLog::default();
    let mut times = Vec::new();
    let mut failed = Vec::new();
    for phase in Phase::chosen(&args.only) {
        context.ui.say(format_args!("== {}", phase.name()));
        let started = Instant::now();
        let outcome = run_phase(context, phase, &mut made, &mut log);
        times.push((phase, started.elapsed()));
        match outcome {
            Ok(()) => {}
            // Other tests still say something; a phase that prepares is needed by those after it.
            Err(error) if matches!(phase, Phase::Lint | Phase::Unit | Phase::E2e) => {
                crate::progress::print_error(&error);
                failed.push(phase.name());
            }
            Err(error) => {
                print_times(&times);
                return Err(error.context(format!("phase {} failed", phase.name())));
            }
        }
    }
    print_times(&times);
    println!("{log}");
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn print_times(times: &[(Phase, Duration)]) {
    let seconds = |time: &Duration| time.as_secs_f64();
    for (phase, time) in times {
        println!("{:<8} {:>8.1} s", phase.name(), seconds(time));
    }
    println!("{:<8} {:>8.1} s", "total", times.iter().map(|(_, time)| seconds(time)).sum::<f64>());
}

fn run_phase(context: &Context, phase: Phase, made: &mut Made, log: &mut TestLog) -> Result<()> {
    match phase {
        Phase::Tools => made.tools = Some(tools::ensure(context)?),
        Phase::Vendor => {
            let vendored = vendor::ensure(context, None)?;
            made.env.push(("LLAMA_OTEL_SRC", context.vendor_src(&vendored.pin).into()));
        }
        Phase::Patch => made.env.push(("LLAMA_OTEL_PATCHED", patch::ensure(context, None)?.into())),
        Phase::Build => {
            let tools = made.tools.as_ref().context("no tools")?;
            made.patched = Some(build::ensure(context, tools, &Request::cpu(Some(Telemetry::Rust)))?);
            made.pristine = Some(build::ensure(context, tools, &Request::cpu(None))?);
            made.env.extend(tools.env());
        }
        Phase::Model => {
            made.env.push(("LLAMA_OTEL_TINY", model::ensure(context, Name::Tiny)?.into()));
            made.env.push(("LLAMA_OTEL_GEMMA", model::ensure(context, Name::Gemma3_270m)?.into()));
        }
        Phase::Lint => lint(context, made)?,
        Phase::Unit => test(context, made, log, &[])?,
        Phase::Demo => demo(context, made)?,
        Phase::E2e => test(context, made, log, &end_to_end(context)?)?,
    }
    Ok(())
}

/// What the unit phase leaves out, by target and not by package: the features are then those of the whole workspace,
/// and what was compiled for the demo program serves here too.
fn end_to_end(context: &Context) -> Result<Vec<String>> {
    let mut args: Vec<String> = ["--workspace", "--bin", "llama-otel-demo"].map(str::to_owned).into();
    for package in ["tests", "llama-otel-sys"] {
        let folder = context.root.join(package).join("tests");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", context.shown(&folder)))?;
        let mut names: Vec<_> = entries
            .filter_map(|entry| Some(Path::new(&entry.ok()?.file_name()).file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        args.extend(names.into_iter().flat_map(|name| ["--test".to_owned(), name]));
    }
    Ok(args)
}

fn demo(context: &Context, made: &mut Made) -> Result<()> {
    let (Some(tools), Some(patched), Some(pristine)) = (&made.tools, &made.patched, &made.pristine) else {
        bail!("llama.cpp was not built");
    };
    let with = build_demo(context, tools, patched, true)?;
    let without = build_demo(context, tools, pristine, false)?;
    made.env.push(("LLAMA_OTEL_DEMO", with.into()));
    made.env.push(("LLAMA_OTEL_DEMO_PRISTINE", without.into()));
    Ok(())
}

fn lint(context: &Context, made: &Made) -> Result<()> {
    let patched = made.patched.as_ref().context("llama.cpp was not built")?;
    let steps: [&[&str]; 2] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"],
    ];
    for args in steps {
        let mut command = cargo(context, made, args);
        command.env("LLAMA_OTEL_PREBUILT", &patched.dir);
        let status = command.status().context("cannot start cargo")?;
        if !status.success() {
            return Err(anyhow!("cargo {} failed (see above)", args.join(" ")));
        }
    }
    Ok(())
}

fn test(context: &Context, made: &Made, log: &mut TestLog, targets: &[String]) -> Result<()> {
    let mut args = vec!["test", "--quiet", "--no-fail-fast"];
    args.retain(|&arg| arg != "--quiet" || context.ui.is_quiet());
    args.extend(targets.iter().map(String::as_str));
    let mut command = cargo(context, made, &args);
    command.arg("--target-dir").arg(test_target_dir(context));
    // Without it the reason of a skipped test, which counts as passed, would not be printed.
    command.args(["--", "--show-output"]).env("OMP_WAIT_POLICY", "passive");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let failed_before = log.failed();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what cargo prints")?;
        if let Some(line) = log.line(&String::from_utf8_lossy(&line)) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    match (status.success(), log.failed() - failed_before) {
        (true, _) => Ok(()),
        (false, 0) => Err(anyhow!("cargo test failed before or outside a test (see above)")),
        (false, count) => Err(anyhow!("{count} tests failed (see above)")),
    }
}

/// Windows cannot replace this program while it runs, which building the tests of this crate may ask for.
fn test_target_dir(context: &Context) -> PathBuf {
    if cfg!(windows) { context.target_dir().join("test") } else { context.target_dir() }
}

fn cargo(context: &Context, made: &Made, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(args);
    command.envs(made.env.iter().map(|(name, value)| (name, value)));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_brings_what_it_needs_in_order() {
        use Phase::{Build, Demo, E2e, Lint, Model, Patch, Tools, Unit, Vendor};
        assert_eq!(Phase::chosen(&[Unit]), [Unit]);
        assert_eq!(Phase::chosen(&[E2e]), [Tools, Vendor, Patch, Build, Model, Demo, E2e]);
        assert_eq!(Phase::chosen(&[Unit, Lint]), [Tools, Vendor, Patch, Build, Lint, Unit]);
        assert_eq!(Phase::chosen(&[]), [Tools, Vendor, Patch, Build, Model, Unit, Demo, E2e]);
    }
}
