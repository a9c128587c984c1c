//! `cargo xtask test`: everything from an empty cache to the end-to-end tests, phase by phase, with the time
//! that each took, and with the tests that were skipped and why.

mod dropin;
mod installed;
mod log;
mod package;
pub mod programs;
mod suites;
mod whisper;

use std::{
    ffi::OsString,
    fs,
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
    backends,
    bench::instructions,
    build::{self, Built, Request},
    codegen,
    context::Context,
    drift,
    model::{self, Name},
    patch,
    program::build_demo,
    python::NoPackages,
    sources::cargo_program,
    tools::{self, Tools},
    vendor,
};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this phase and those that it needs; may be repeated [default: all but conformance, cuda, lint, metal, mutation, perplexity, suites, whisper]
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Phase>,
    /// Run this phase too, unless three quarters of an hour have passed by then or pip cannot get what it needs; may be repeated
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "only")]
    also: Vec<Phase>,
}

/// What is asked for with `--also` does not begin later than this.
const LATEST: Duration = Duration::from_secs(45 * 60);

/// What a build of llama.cpp gets, as variables of CMake, whose programs generate a few tokens: optimising takes more than it saves
/// them. gcc and clang understand it; on Windows there is nothing.
fn unoptimised() -> Vec<(String, String)> {
    let variables = if cfg!(windows) { &[][..] } else { &["CMAKE_C_FLAGS_RELEASE", "CMAKE_CXX_FLAGS_RELEASE"] };
    variables.iter().map(|&variable| (variable.to_owned(), "-O0".to_owned())).collect()
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
    /// Build llama.cpp and the demo program once more, with every backend that can run here
    Backends,
    /// Build programs by CMake alone, with each telemetry backend, and the demo program upon opentelemetry-cpp
    Programs,
    /// Install the build, static and shared, for the example projects
    Install,
    /// Build a program on llama-cpp-2 with the drop-in
    Dropin,
    /// Package the crate, publish it but for the upload, and build a program on its archive, offline
    Package,
    /// The test suites of llama-cpp-2 and llama-cpp-4, as published, on the drop-ins; takes ten minutes
    Suites,
    /// Build a program that has whisper.cpp, with a ggml of its own, beside ours; on Linux
    Whisper,
    /// End-to-end tests against real models and receivers
    E2e,
    /// Of the end-to-end tests, only the comparison of the two telemetry backends
    Conformance,
    /// Of the end-to-end tests, only what opentelemetry-cpp gets wrong, and the receivers at fault upon it
    Otelcpp,
    /// Build llama-perplexity of a whole tree, patched and as it came, and compare what it says; takes a quarter of an hour
    Perplexity,
    /// What they have seen exported against the registry
    Registry,
    /// Change real files in 100,000 ways, and see that no line goes in the wrong place; takes half an hour
    Mutation,
    /// Patch one tree of each kind that was published, and send it through the compiler's front end
    Syntax,
    /// Instructions of the hot path against those recorded, where valgrind is installed
    Instructions,
    /// Compile the backend for NVIDIA GPUs, for one virtual architecture, and link the demo program with it; on Linux
    Cuda,
    /// Compile the C and C++ of the backend for Apple GPUs, with zig; on Linux
    Metal,
}

impl Phase {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it judges and nothing else needs it, so that the others run also when it fails.
    fn is_a_check(self) -> bool {
        matches!(
            self,
            Self::Lint
                | Self::Unit
                | Self::Cuda
                | Self::Metal
                | Self::Suites
                | Self::Whisper
                | Self::E2e
                | Self::Conformance
                | Self::Otelcpp
                | Self::Perplexity
                | Self::Mutation
                | Self::Registry
                | Self::Syntax
                | Self::Instructions
        )
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Tools | Self::Vendor | Self::Model | Self::Unit | Self::Syntax | Self::Instructions => &[],
            Self::Patch | Self::Mutation => &[Self::Vendor],
            Self::Build => &[Self::Tools, Self::Patch],
            Self::Lint | Self::Demo | Self::Install | Self::Whisper => &[Self::Build],
            Self::Backends | Self::Cuda | Self::Metal | Self::Programs | Self::Package => &[Self::Tools, Self::Patch],
            Self::Dropin | Self::Suites => &[Self::Tools],
            Self::E2e => &[Self::Demo, Self::Model, Self::Programs, Self::Install, Self::Dropin, Self::Package],
            Self::Conformance | Self::Otelcpp => &[Self::Demo, Self::Model, Self::Programs],
            Self::Perplexity => &[Self::Tools, Self::Demo, Self::Model],
            Self::Registry => &[Self::E2e],
        }
    }

    /// Whether it runs only where it is asked for: long, not a test, or part of another phase.
    fn is_extra(self) -> bool {
        matches!(
            self,
            Self::Cuda
                | Self::Metal
                | Self::Lint
                | Self::Suites
                | Self::Whisper
                | Self::Mutation
                | Self::Conformance
                | Self::Otelcpp
                | Self::Perplexity
        )
    }

    /// The phases to run, in order: `only` or, if that is empty, all but the extra ones and `also`; and what they need.
    fn chosen(only: &[Self], also: &[Self]) -> Vec<Self> {
        let mut pending = only.to_vec();
        if pending.is_empty() {
            pending.extend(Self::value_variants().iter().filter(|phase| !phase.is_extra() || also.contains(phase)));
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
    let begun = Instant::now();
    for phase in Phase::chosen(&args.only, &args.also) {
        context.ui.say(format_args!("== {}", phase.name()));
        let started = Instant::now();
        let may_be_skipped = phase.is_extra() && args.also.contains(&phase);
        if may_be_skipped && begun.elapsed() > LATEST {
            log.skip(format!("{}: three quarters of an hour had passed (`cargo xtask test --only {0}`)", phase.name()));
            continue;
        }
        let outcome = run_phase(context, phase, &mut made, &mut log);
        times.push((phase, started.elapsed()));
        match outcome {
            Ok(()) => {}
            Err(error) if may_be_skipped && error.downcast_ref::<NoPackages>().is_some() => {
                log.skip(format!("{}: {error:#}", phase.name()));
            }
            // Other tests still say something; a phase that prepares is needed by those after it.
            Err(error) if phase.is_a_check() => {
                crate::progress::print_error(&error);
                failed.push(format!("{}: {error:#}", phase.name()));
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
    // last, and with the reason: of a long log often only the end is kept
    for failed in failed {
        println!("FAILED: {failed}");
    }
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
        Phase::Backends => {
            let tools = made.tools.as_ref().context("no tools")?;
            let wanted = "vulkan,blas,rpc".parse()?;
            made.env.extend(backends::build_for_tests(context, tools, &wanted)?);
        }
        Phase::Cuda | Phase::Metal if !cfg!(target_os = "linux") => {
            log.skip(format!("{}: tried from Linux only; the workflow has jobs for it", phase.name()));
        }
        Phase::Cuda => backends::link_cuda(context, made.tools.as_ref().context("no tools")?)?,
        Phase::Metal => backends::compile_metal(context)?,
        Phase::Programs => {
            let tools = made.tools.as_ref().context("no tools")?;
            let programs = programs::build(context, tools)?;
            if programs.no_otelcpp.is_none() {
                let request = Request { defines: programs::source_folder(), ..Request::cpu(Some(Telemetry::Cpp)) };
                let built = build::ensure(context, tools, &request)?;
                let demo = build_demo(context, tools, &built, Some(Telemetry::Cpp))?;
                made.env.push(("LLAMA_OTEL_DEMO_OTELCPP", demo.into()));
                made.env.push(("LLAMA_OTEL_PROGRAMS_SHARED", programs.shared.into()));
                made.env.push(("LLAMA_OTEL_INSTALLED_OTELCPP", programs.installed.into()));
            }
            made.env.push(("LLAMA_OTEL_PROGRAMS", programs.dir.into()));
            made.env.extend(programs.no_otelcpp.map(|why| ("LLAMA_OTEL_NO_OTELCPP", why.into())));
        }
        Phase::Install => {
            let tools = made.tools.as_ref().context("no tools")?;
            let patched = made.patched.as_ref().context("llama.cpp was not built")?;
            made.env.extend(installed::prepare(context, tools, patched)?);
        }
        Phase::Dropin => {
            let tools = made.tools.as_ref().context("no tools")?;
            made.env.push(("LLAMA_OTEL_DROPIN", dropin::build(context, tools)?.into()));
        }
        Phase::Package => {
            let tools = made.tools.as_ref().context("no tools")?;
            made.env.extend(package::build(context, tools)?);
        }
        Phase::Suites => suites::run(context, made.tools.as_ref().context("no tools")?, log)?,
        Phase::Whisper if !cfg!(target_os = "linux") => {
            log.skip("whisper: what the linker and nm say is known of Linux only".to_owned());
        }
        Phase::Whisper => {
            let tools = made.tools.as_ref().context("no tools")?;
            whisper::run(context, tools, made.patched.as_ref().context("llama.cpp was not built")?)?;
        }
        Phase::E2e => {
            let folder = record_folder(context);
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", context.shown(&folder)))?;
            }
            made.env.push((RECORD, folder.into()));
            test_files(context, made, log, &end_to_end(context)?)?;
        }
        Phase::Conformance => test_files(context, made, log, &["conformance"])?,
        Phase::Otelcpp => test_files(context, made, log, &["otelcpp", "otelcpp_isolation"])?,
        Phase::Perplexity => {
            let tools = made.tools.as_ref().context("no tools")?;
            let (patched, pristine) = programs::perplexity(context, tools)?;
            made.env.push(("LLAMA_OTEL_PERPLEXITY", patched.into()));
            made.env.push(("LLAMA_OTEL_PERPLEXITY_PRISTINE", pristine.into()));
            test_files(context, made, log, &["perplexity"])?;
        }
        Phase::Registry => codegen::check_exports(&context.root, &record_folder(context))?,
        Phase::Mutation => mutation(context, made)?,
        Phase::Syntax => match drift::syntax(context)? {
            0 => {}
            failed => bail!("{failed} patched files do not compile (see above)"),
        },
        Phase::Instructions => {
            if let Some(why) = instructions::checked_or_skipped(context)? {
                log.skip(format!("instructions: {why}"));
            }
        }
    }
    Ok(())
}

/// Where the receivers of the tests leave what they accepted, and the variable that tells them.
const RECORD: &str = "OTLP_RECEIVER_RECORD";

fn record_folder(context: &Context) -> PathBuf {
    context.target_dir().join("llama-otel/exports")
}

/// What the unit phase leaves out.
fn end_to_end(context: &Context) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for package in ["tests", "llama-otel-sys"] {
        let folder = context.root.join(package).join("tests");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", context.shown(&folder)))?;
        let mut names: Vec<_> = entries
            .filter_map(|entry| Some(Path::new(&entry.ok()?.file_name()).file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        all.extend(names);
    }
    Ok(all)
}

/// Runs files of tests by target and not by package: the features are then those of the whole workspace, and what was
/// compiled for the demo program serves here too.
fn test_files(context: &Context, made: &Made, log: &mut TestLog, names: &[impl AsRef<str>]) -> Result<()> {
    let mut targets: Vec<String> = ["--workspace", "--bin", "llama-otel-demo"].map(str::to_owned).into();
    targets.extend(names.iter().flat_map(|name| ["--test".to_owned(), name.as_ref().to_owned()]));
    test(context, made, log, &targets)
}

fn demo(context: &Context, made: &mut Made) -> Result<()> {
    let (Some(tools), Some(patched), Some(pristine)) = (&made.tools, &made.patched, &made.pristine) else {
        bail!("llama.cpp was not built");
    };
    let with = build_demo(context, tools, patched, Some(Telemetry::Rust))?;
    let without = build_demo(context, tools, pristine, None)?;
    made.env.push(("LLAMA_OTEL_DEMO", with.into()));
    made.env.push(("LLAMA_OTEL_DEMO_PRISTINE", without.into()));
    // for the programs that the tests themselves bring
    made.env.push(("LLAMA_OTEL_PREBUILT", patched.dir.clone().into()));
    made.env.push(("LLAMA_OTEL_PREBUILT_PRISTINE", pristine.dir.clone().into()));
    Ok(())
}

/// The placement test at full length, on one tree of each era where the sweep has brought them here.
fn mutation(context: &Context, made: &Made) -> Result<()> {
    const TEST: [&str; 9] = [
        "test",
        "--release",
        "--package",
        "patcher",
        "--test",
        "mutation",
        "--",
        "--nocapture",
        "no_line_goes_in_the_wrong_place",
    ];
    let mut command = cargo(context, made, &TEST);
    if std::env::var_os("MUTATION_CASES").is_none() {
        // one in six has no place in its file and is not counted
        command.env("MUTATION_CASES", "125000");
    }
    let places = context.cache.join("sweep/places.json");
    if places.is_file() {
        command.env("PLACES", places);
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("a line went in the wrong place (see above)");
    }
    Ok(())
}

fn lint(context: &Context, made: &Made) -> Result<()> {
    let patched = made.patched.as_ref().context("llama.cpp was not built")?;
    let steps: [&[&str]; 4] = [
        &["fmt", "--all", "--check"],
        &["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"],
        // what only `cargo xtask bench` compiles
        &["clippy", "-p", "llama-otel-bench", "--features", "sink,hot,faulty", "--quiet", "--", "--deny", "warnings"],
        &[
            "clippy",
            "-p",
            "llama-otel-bench",
            "--features",
            "decode,telemetry-rust",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ],
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
        use Phase::{
            Backends, Build, Conformance, Cuda, Demo, Dropin, E2e, Install, Instructions, Lint, Metal, Model, Package,
            Patch, Programs, Registry, Syntax, Tools, Unit, Vendor,
        };
        assert_eq!(Phase::chosen(&[Unit], &[]), [Unit]);
        let before = [Tools, Vendor, Patch, Build, Model, Demo, Programs, Install, Dropin, Package, E2e];
        assert_eq!(Phase::chosen(&[E2e], &[]), before);
        let before = [Tools, Vendor, Patch, Build, Model, Demo, Programs, Conformance];
        assert_eq!(Phase::chosen(&[Conformance], &[]), before);
        assert_eq!(Phase::chosen(&[Unit, Lint], &[]), [Tools, Vendor, Patch, Build, Lint, Unit]);
        let all = [
            Tools,
            Vendor,
            Patch,
            Build,
            Model,
            Unit,
            Demo,
            Backends,
            Programs,
            Install,
            Dropin,
            Package,
            E2e,
            Registry,
            Syntax,
            Instructions,
        ];
        assert_eq!(Phase::chosen(&[], &[]), all);
        assert_eq!(Phase::chosen(&[], &[Metal, Cuda]), [&all[..], &[Cuda, Metal]].concat());
    }
}
