//! `cargo xtask ci`: writes the matrix of .github/workflows/ci.yml, backends × systems, from the table of backends
//! that builds are made from.

use std::{fmt::Write as _, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use llama_build::Backend;

use crate::context::Context;

const WORKFLOW: &str = ".github/workflows/ci.yml";
const START: &str = "          # >>> cargo xtask ci";
const END: &str = "          # <<< cargo xtask ci";

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Fail if the matrix is not up to date, instead of writing it
    #[arg(long)]
    check: bool,
}

/// A hosted machine.
struct Runner {
    /// Part of a job's name.
    name: &'static str,
    /// GitHub's label.
    label: &'static str,
    /// A value of `std::env::consts::OS`.
    system: &'static str,
}

const RUNNERS: &[Runner] = &[
    Runner { name: "linux-x86_64", label: "ubuntu-24.04", system: "linux" },
    Runner { name: "linux-arm64", label: "ubuntu-24.04-arm", system: "linux" },
    Runner { name: "macos-arm64", label: "macos-15", system: "macos" },
    Runner { name: "windows-x86_64", label: "windows-2025", system: "windows" },
];

/// What can run on a hosted machine, which has no GPU but a Mac's: the rest is compiled and linked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Run,
    Link,
    /// Its toolkit is too large for a job, or needs a vendor's account.
    No,
}

fn reach(backend: Backend, runner: &Runner) -> Reach {
    if !backend.runs_on(runner.system) {
        return Reach::No;
    }
    match (backend, runner.system) {
        (Backend::Cpu | Backend::Rpc | Backend::Metal, _) => Reach::Run,
        // OpenBLAS on Windows and Vulkan on macOS and Windows have no package that a job could install in a minute.
        (Backend::Blas, "linux" | "macos") | (Backend::Vulkan, "linux") => Reach::Run,
        (Backend::Cuda | Backend::Opencl, "linux") => Reach::Link,
        _ => Reach::No,
    }
}

/// One entry of the matrix.
struct Job {
    name: String,
    runner: &'static Runner,
    backends: Vec<&'static str>,
    packages: String,
}

/// Each system's processor alone, all quick backends together, and those that take long or need much alone.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for runner in RUNNERS {
        let mut add = |name: &str, backends: Vec<Backend>| {
            if !backends.is_empty() {
                jobs.push(Job {
                    name: format!("{}-{name}", runner.name),
                    runner,
                    packages: packages(&backends, runner),
                    backends: backends.into_iter().map(Backend::name).collect(),
                });
            }
        };
        let reachable = |backend: &Backend| reach(*backend, runner) != Reach::No;
        let alone = |backend: &Backend| matches!(backend, Backend::Cuda | Backend::Metal | Backend::Opencl);
        add("cpu", vec![Backend::Cpu]);
        let quick = |backend: &Backend| *backend != Backend::Cpu && !alone(backend);
        add("more", Backend::all().filter(reachable).filter(quick).collect());
        for backend in Backend::all().filter(reachable).filter(alone) {
            // One architecture's compilers say as much as two.
            if backend != Backend::Metal && runner.name != "linux-x86_64" {
                continue;
            }
            add(backend.name(), vec![backend]);
        }
    }
    // Backends as modules: once, since every generation of processors is compiled.
    if let Some(runner) = RUNNERS.first() {
        jobs.push(Job {
            name: format!("{}-dynamic", runner.name),
            runner,
            backends: vec!["dynamic"],
            packages: packages(&[Backend::Blas], runner),
        });
    }
    jobs
}

fn packages(backends: &[Backend], runner: &Runner) -> String {
    let mut names: Vec<&str> = Vec::new();
    for backend in backends {
        for need in backend.needs() {
            let package = match runner.system {
                "linux" => need.package("apt-get"),
                "macos" => need.package("brew"),
                _ => "",
            };
            names.extend(package.split_whitespace());
        }
        // The driver in software that the tests run on.
        if *backend == Backend::Vulkan {
            names.push("mesa-vulkan-drivers");
        }
    }
    // On macOS the BLAS library is a framework.
    if runner.system == "macos" {
        names.clear();
    }
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(name.to_owned());
            true
        }
    });
    names.join(" ")
}

/// The jobs of the workflow that try this backend.
pub fn jobs_of(backend: &str) -> Vec<String> {
    let jobs = jobs();
    jobs.iter().filter(|job| job.backends.contains(&backend)).map(|job| job.name.clone()).collect()
}

fn matrix() -> String {
    let mut text = format!("{START}\n");
    for job in jobs() {
        let _ = write!(
            text,
            "          - {{ name: {}, os: {}, backends: \"{}\"",
            job.name,
            job.runner.label,
            job.backends.join(",")
        );
        if job.backends.len() > 1 {
            text.push_str(", together: --together");
        }
        if !job.packages.is_empty() {
            let _ = write!(text, ", packages: \"{}\"", job.packages);
        }
        text.push_str(" }\n");
    }
    text.push_str(END);
    text
}

/// The workflow with the matrix of today.
fn renewed(workflow: &str) -> Option<String> {
    let (before, rest) = workflow.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{}{after}", matrix()))
}

/// Runs the verb.
///
/// # Errors
/// The workflow cannot be read or written, has no marked place, or, with `--check`, is not up to date.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let path = context.root.join(WORKFLOW);
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = renewed(&old).with_context(|| {
        format!("{WORKFLOW} has no place for the matrix: a line `{}` and a line `{}`", START.trim(), END.trim())
    })?;
    if new == old {
        return Ok(ExitCode::SUCCESS);
    }
    if args.check {
        bail!("the matrix of {WORKFLOW} is not up to date\nhelp: cargo xtask ci");
    }
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))?;
    context.ui.say(format_args!("{WORKFLOW}: written"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_a_job_and_every_backend_a_place_or_a_reason() {
        let jobs = jobs();
        for runner in RUNNERS {
            assert!(jobs.iter().any(|job| job.name == format!("{}-cpu", runner.name)));
        }
        for backend in [Backend::Blas, Backend::Rpc, Backend::Vulkan, Backend::Cuda, Backend::Metal, Backend::Opencl] {
            assert!(!jobs_of(backend.name()).is_empty(), "{backend}");
        }
        assert_eq!(jobs_of("metal"), ["macos-arm64-metal"]);
        assert_eq!(jobs_of("dynamic"), ["linux-x86_64-dynamic"]);
        assert!(jobs_of("hip").is_empty());
        let more = jobs.iter().find(|job| job.name == "linux-x86_64-more").unwrap();
        assert_eq!(more.backends, ["vulkan", "blas", "rpc"]);
        assert!(more.packages.contains("libopenblas-dev") && more.packages.contains("mesa-vulkan-drivers"));
        assert_eq!(more.packages.matches("libvulkan-dev").count(), 1);
    }

    #[test]
    fn the_script_installs_what_the_table_names() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/backends");
        let text = fs::read_to_string(path).unwrap();
        let list = text.split_once("packages=(").and_then(|(_, rest)| rest.split_once(')')).unwrap().0;
        let wanted = packages(&[Backend::Vulkan, Backend::Blas, Backend::Rpc], &RUNNERS[0]);
        assert_eq!(list, format!("ccache {wanted}"));
    }

    #[test]
    fn only_the_marked_place_changes() {
        let workflow = format!("a\n{START}\nold\n{END}\nb\n");
        let new = renewed(&workflow).unwrap();
        assert!(new.starts_with("a\n") && new.ends_with("\nb\n") && !new.contains("old"), "{new}");
        assert_eq!(renewed(&new).unwrap(), new);
        assert!(renewed("no place").is_none());
    }

    #[test]
    fn the_committed_workflow_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(WORKFLOW);
        let text = fs::read_to_string(path).unwrap();
        assert!(renewed(&text).unwrap() == text, "run `cargo xtask ci`");
    }
}
