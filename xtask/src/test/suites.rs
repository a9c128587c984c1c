//! The published test suites of the crates that stand on the exported packages, as they are but for `[patch.crates-io]`: with the
//! model that those tests ask for that need one, and with telemetry on, so that what arrives shows on which library they ran.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use otlp_receiver::{Receiver, Telemetry};
use semver::Version;
use toml::{Table, Value};

use super::{log::TestLog, programs::WITH_TOOLS};
use crate::{
    context::Context,
    export::{
        dropin::{self, Sys},
        verify,
    },
    files::{list, read, update},
    model::{self, Name},
    program::build_all,
    sources::{cargo_program, crates},
    tools::Tools,
    vendor,
};

/// One crate and what a run of its tests must come to.
struct Suite {
    /// The package below it.
    sys: Sys,
    /// Version of the crate.
    version: &'static str,
    /// Version of the package; the default one if `None`.
    sys_version: Option<&'static str>,
    /// Arguments for cargo beyond the crate's default features.
    features: &'static [&'static str],
    /// What its tests call the model that they load, and which one they get.
    model: (&'static str, Name),
    /// A test that asks for a vocabulary which that model does not have: the file that it is in, and its name. It gets the tiny one.
    other_vocabulary: Option<(&'static str, &'static str)>,
    /// A test that fails or not by accident, and why.
    left_out: Option<(&'static str, &'static str)>,
    /// Unit and integration tests of that version.
    tests: usize,
    /// Examples in its documentation that run or compile.
    doc_tests: usize,
    /// Files of upstream's repository that its tests read where they are in the crate's own, and that neither package has.
    upstream_files: &'static [&'static str],
    /// Spans without which the tests did not do what they are for.
    spans: &'static [&'static str],
}

const SUITES: [Suite; 2] = [
    Suite {
        sys: Sys::Two,
        version: "0.1.160",
        sys_version: None,
        features: &["--features", "sampler"],
        model: ("LLAMA_TEST_VOCAB_GGUF", Name::Tiny),
        other_vocabulary: None,
        left_out: None,
        tests: 27,
        doc_tests: 83,
        upstream_files: &[],
        // It never decodes; without the variable its tests of grammars return before they load.
        spans: &["llama_model_load"],
    },
    Suite {
        sys: Sys::Four,
        version: "0.11.0",
        sys_version: Some("0.11.0"),
        features: &[],
        // One that says words, and that has tensors to be quantised.
        model: ("LLAMA_TEST_MODEL", Name::Gemma3_270m),
        other_vocabulary: Some(("test_chat", "plaintext_tokenization_does_not_forge_special_tokens")),
        left_out: Some((
            "compute_types_assigns_a_type_to_each_tensor",
            "its QuantPreview gives llama.cpp a pointer to parameters that are gone when they are read again",
        )),
        tests: 360,
        doc_tests: 137,
        upstream_files: &["models/templates/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja"],
        spans: &["llama_model_load", "llama_init_from_model", "llama_generation"],
    },
];

/// Runs all of them.
///
/// # Errors
/// A package cannot be exported, a crate not be had or compiled; a test fails, there are not as many as there should be, or they
/// ran on a library that is not instrumented.
pub fn run(context: &Context, tools: &Tools, log: &mut TestLog) -> Result<()> {
    SUITES.iter().try_for_each(|suite| {
        let name = suite.sys.binding();
        suite.run(context, tools, log).with_context(|| format!("{name} {}", suite.version))
    })
}

impl Suite {
    fn run(&self, context: &Context, tools: &Tools, log: &mut TestLog) -> Result<()> {
        let base = context.target_dir().join("llama-otel/suites").join(self.sys.binding());
        let package = base.join("package");
        let sys_version = self.sys_version.map(|version| version.parse().context("not a version")).transpose()?;
        let sys_version = dropin::export_published(context, self.sys, sys_version, &package)?;
        let source = base.join("source");
        self.write_source(context, &package, &sys_version, &source)?;
        self.write_upstream_files(context, &base)?;

        let (model_variable, model) = (self.model.0, model::ensure(context, self.model.1)?);
        let receiver = Receiver::start().context("no receiver for the tests' telemetry")?;
        let cargo = |args: &[&str]| {
            let mut command = Command::new(cargo_program());
            command.current_dir(&source).arg("test").args(self.features).args(args).arg("--target-dir");
            command.arg(base.join("target")).envs(tools.env()).stdin(Stdio::null());
            command.env("PATH", path_with(&tools.ninja.path)).env("CMAKE_GENERATOR", "Ninja");
            // The debug information of llama.cpp and of a test is not needed.
            command.env("LLAMA_LIB_PROFILE", "Release").env("CARGO_PROFILE_DEV_DEBUG", "0");
            command.env("OMP_WAIT_POLICY", "passive");
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint());
            command
        };

        let mut command = cargo(&["--lib", "--tests", "--no-run", "--message-format", "json-render-diagnostics"]);
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        let programs = build_all(context, command, "the tests")?;
        if fs::read_to_string(source.join("Cargo.lock")).is_ok_and(|lock| lock.contains("[[patch.unused]]")) {
            bail!("cargo did not use {} {sys_version}", self.sys.name());
        }
        programs.iter().try_for_each(|program| is_instrumented(program))?;

        let stderr = base.join("stderr.log");
        let mut run = |args: &[&str], tests: &[&str], model: &Path| {
            let mut command = cargo(args);
            command.env(model_variable, model).args(["--no-fail-fast", "--", "--show-output"]).args(tests);
            run_tests(command, self.sys.binding(), &stderr, log)
        };
        let not_here = [self.other_vocabulary.map(|(_, test)| test), self.left_out.map(|(test, _)| test)];
        let not_here: Vec<_> = not_here.into_iter().flatten().flat_map(|test| ["--skip", test]).collect();
        let mut counts = [run(&["--lib", "--tests"], &not_here, &model)?, 0];
        if let Some((file, test)) = self.other_vocabulary {
            counts[0] += run(&["--test", file], &["--exact", test], &model::ensure(context, Name::Tiny)?)?;
        }
        counts[1] = run(&["--doc"], &[], &model)?;
        if let Some((test, why)) = self.left_out {
            log.skip(format!("{} {test}: {why}", self.sys.binding()));
        }
        let wanted = [self.tests, self.doc_tests];
        if counts != wanted {
            bail!("{counts:?} tests and examples of the documentation passed, and there should be {wanted:?}");
        }
        let telemetry = receiver.stop();
        let seen = self.check(&telemetry)?;
        context.ui.say(format_args!(
            "{} {} on {} {sys_version}: {} tests and {} examples passed; {seen}",
            self.sys.binding(),
            self.version,
            self.sys.name(),
            counts[0],
            counts[1]
        ));
        Ok(())
    }

    /// The crate's sources as published, in a workspace of their own that has the exported package.
    fn write_source(&self, context: &Context, package: &Path, sys_version: &Version, to: &Path) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        let from = crates::fetch(context, self.sys.binding(), self.version, scratch.path())?.dir;
        for file in list(&from) {
            let file = file?;
            let relative = file.strip_prefix(&from)?;
            let is_left_out =
                ["Cargo.toml", "Cargo.toml.orig", "Cargo.lock", ".cargo-ok"].map(Path::new).contains(&relative);
            if !is_left_out {
                let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
                update(&to.join(relative), content)?;
            }
        }
        let manifest = read(&from.join("Cargo.toml"))?;
        let patch = dropin::patch_section(self.sys, package);
        let is_new = update(&to.join("Cargo.toml"), format!("{manifest}\n[workspace]\n\n{patch}"))?;
        let lock = to.join("Cargo.lock");
        if is_new || !lock.is_file() {
            // That of the crate, for the same dependencies each time, without the package, of which it may name another version.
            let text = without(&read(&from.join("Cargo.lock"))?, self.sys.name())
                .with_context(|| format!("the lock file of {} {}", self.sys.binding(), self.version))?;
            update(&lock, text)?;
        }
        context.ui.say(format_args!("{} {} with {} {sys_version}", self.sys.binding(), self.version, self.sys.name()));
        Ok(())
    }

    /// As the repository of the crate has them: beside the crate's folder there is the package's, with upstream's in it.
    fn write_upstream_files(&self, context: &Context, base: &Path) -> Result<()> {
        if self.upstream_files.is_empty() {
            return Ok(());
        }
        let tree = context.vendor_src(&vendor::ensure(context, Some(WITH_TOOLS))?.pin);
        let to = base.join(self.sys.name()).join("llama.cpp");
        self.upstream_files.iter().try_for_each(|file| update(&to.join(file), read(&tree.join(file))?).map(drop))
    }

    fn check(&self, telemetry: &Telemetry) -> Result<String> {
        let counts = self.spans.iter().map(|name| match telemetry.spans_named(name).len() {
            0 => bail!("the tests passed, and no {name} arrived: they had no model, or the telemetry was lost"),
            count => Ok(format!("{count} {name}")),
        });
        Ok(counts.collect::<Result<Vec<_>>>()?.join(", "))
    }
}

/// A lock file without that package; what depends on it stays.
fn without(lock: &str, name: &str) -> Result<String> {
    let mut lock: Table = lock.parse()?;
    if let Some(Value::Array(packages)) = lock.get_mut("package") {
        packages.retain(|package| package.get("name").and_then(Value::as_str) != Some(name));
    }
    Ok(toml::to_string(&lock)?)
}

/// The mark is in the program, or in the library of the telemetry runtime beside it.
fn is_instrumented(program: &Path) -> Result<()> {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let shared = program.with_file_name(format!("{DLL_PREFIX}llama-otel{DLL_SUFFIX}"));
    match verify::mark(program) {
        Err(_) if shared.is_file() => verify::mark(&shared).map(drop),
        it => it.map(drop),
    }
}

/// The folder of that program before all others.
fn path_with(program: &Path) -> OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folders = program.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&old));
    // a folder whose name has a separator in it cannot stand there, with ours or without
    std::env::join_paths(folders).unwrap_or(old)
}

/// Runs `cargo test`, shows what it says, and returns how many tests passed. llama.cpp says much more, into the file `stderr`.
fn run_tests(mut command: Command, name: &str, stderr: &Path, log: &mut TestLog) -> Result<usize> {
    let file = fs::File::create(stderr).with_context(|| format!("cannot write {}", stderr.display()))?;
    let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let mut own = TestLog::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what cargo prints")?;
        if let Some(line) = own.line(&String::from_utf8_lossy(&line)) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    let passed = own.passed();
    let failed = own.failed();
    log.add_from(name, own);
    match (status.success(), failed) {
        (true, _) => Ok(passed),
        (false, 0) => bail!("cargo test failed before or outside a test (see {})", stderr.display()),
        (false, failed) => bail!("{failed} tests failed (see above and {})", stderr.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_leaves_the_lock_file_and_its_dependents_stay() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\"b\"]\n\n\
                    [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        let text = without(lock, "b").unwrap();
        let lock: Table = text.parse().unwrap();
        assert_eq!(lock["package"].as_array().unwrap().len(), 1);
        assert_eq!(lock["version"].as_integer(), Some(4));
        assert_eq!(lock["package"][0]["dependencies"][0].as_str(), Some("b"));
    }

    #[test]
    fn the_mark_may_be_in_the_library_beside_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("test-1");
        fs::write(&program, "x").unwrap();
        assert!(is_instrumented(&program).is_err());
        let library = format!("{}llama-otel{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        fs::write(dir.path().join(library), "llama-otel: instrumented, ABI 4, x\0").unwrap();
        is_instrumented(&program).unwrap();
    }
}
