//! One try of one backend: configured, compiled, linked with the demo program, and run by the tests.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use llama_build::{Backend, Backends, Telemetry, Toolkit};

use super::{Outcome, Place};
use crate::{
    build::{self, Built, Request},
    context::Context,
    model::{self, Name},
    program::build_demo_as,
    sources::cargo_program,
    tools::{self, Tools},
};

/// The smallest build for a GPU: one virtual architecture, without the templates of flash attention.
const SMALL_CUDA: &str = "75-virtual";

/// Where Mesa's drivers keep compiled shaders: without it, the first decode takes most of a test's time, each time.
pub const SHADER_CACHE: &str = "MESA_SHADER_CACHE_DIR";

/// A folder for them that lasts.
pub fn shader_cache(context: &Context) -> PathBuf {
    context.cache.join("mesa")
}

/// What a toolkit lacks and what gets it, in one line; `None` if nothing.
pub fn missing_text(toolkit: &Toolkit) -> Option<String> {
    Some(format!("{} ({})", toolkit.missing.join(", "), toolkit.install.as_ref()?))
}

/// Builds those of `wanted` that this machine has the toolkits of into one llama.cpp and one demo program, and returns
/// the environment by which the tests find them, and why the rest is missing.
///
/// # Errors
/// A step of a build fails whose toolkit is complete.
pub fn build_for_tests(context: &Context, tools: &Tools, wanted: &Backends) -> Result<Vec<(&'static str, OsString)>> {
    let (complete, missing): (Vec<_>, Vec<_>) =
        examine_with_headers(context, wanted)?.into_iter().partition(Toolkit::is_complete);
    let backends: Backends = complete.iter().map(|toolkit| toolkit.backend).collect();
    let reasons: Vec<_> = missing.iter().filter_map(|t| Some(format!("{}: {}", t.backend, missing_text(t)?))).collect();
    let built = build::ensure(context, tools, &Request::of(backends.clone(), Some(Telemetry::Rust)))?;
    let demo = build_demo_as(context, tools, &built, Some(Telemetry::Rust), "backends")?;
    let mut env = vec![
        ("LLAMA_OTEL_DEMO_BACKENDS", demo.into()),
        ("LLAMA_OTEL_BACKENDS", names(&backends).into()),
        ("LLAMA_OTEL_BACKENDS_MISSING", reasons.join("\n").into()),
        (SHADER_CACHE, shader_cache(context).into()),
    ];
    if backends.contains(Backend::Rpc) {
        // the peer that knows nothing of what our client sends behind a graph
        let upstream = build::ensure(context, tools, &Request::of(Backend::Rpc.into(), None))?;
        let server = build_demo_as(context, tools, &upstream, None, "rpc-pristine")?;
        env.push(("LLAMA_OTEL_DEMO_RPC_PRISTINE", server.into()));
    }
    Ok(env)
}

/// What this machine has for `wanted`. Where Vulkan lacks nothing but headers that are new enough, those are got first: all the
/// rest was installed to build it.
fn examine_with_headers(context: &Context, wanted: &Backends) -> Result<Vec<Toolkit>> {
    let toolkits = tools::toolkit::examine(context, wanted)?;
    if !toolkits.iter().any(|toolkit| toolkit.lacks_only("vulkan.headers")) {
        return Ok(toolkits);
    }
    match tools::toolkit::provision(context, &Backend::Vulkan.into()) {
        Ok(()) => tools::toolkit::examine(context, wanted),
        Err(error) => {
            context.ui.warn(format_args!("{error:#}"));
            Ok(toolkits)
        }
    }
}

/// Those of `wanted` that this machine has the toolkits of.
///
/// # Errors
/// The tools are missing; with `provision`, a toolkit cannot be had.
pub fn complete(context: &Context, wanted: &Backends, provision: bool) -> Result<Backends> {
    if provision {
        tools::toolkit::provision(context, wanted)?;
    }
    let toolkits = tools::toolkit::examine(context, wanted)?;
    Ok(toolkits.iter().filter(|toolkit| toolkit.is_complete()).map(|toolkit| toolkit.backend).collect())
}

/// Tries one backend, alone or in a library that has others `together` with it.
///
/// # Errors
/// Something fails that says nothing about the backend: the tools, the tree, the model.
pub fn backend(
    context: &Context,
    backend: Backend,
    together: Option<&Backends>,
    cuda_arch: Option<&str>,
    place: Place,
) -> Result<Outcome> {
    let together = together.filter(|backends| backends.contains(backend));
    let backends = together.cloned().unwrap_or_else(|| backend.into());
    let mut note = match together {
        Some(_) => format!("in one library with {backends}"),
        None => String::new(),
    };
    let mut request = Request::of(backends, Some(Telemetry::Rust));
    if backend == Backend::Cuda {
        match cuda_arch {
            Some(arch) => request.cuda_arch = Some(arch.to_owned()),
            None => {
                make_small(&mut request);
                note = format!("built for {SMALL_CUDA} without flash attention");
            }
        }
    }
    let filter = format!("{backend}_");
    attempt(context, backend.name(), &request, "LLAMA_OTEL_DEMO_BACKENDS", &filter, note, place)
}

fn make_small(request: &mut Request) {
    request.cuda_arch = Some(SMALL_CUDA.to_owned());
    request.defines.push(("GGML_CUDA_FA".into(), "OFF".into()));
}

/// How nvcc compiles where the result is linked and never run: half the time of an optimised build.
const UNOPTIMISED_CUDA: &str = "-O0 -DNDEBUG -Xcicc -O1";

/// Compiles the cuda backend as small as it can be, hardly optimised, and links the demo program with it; a missing toolkit is
/// got first.
///
/// # Errors
/// The toolkit cannot be had; something does not compile or link.
pub fn link_cuda(context: &Context, tools: &Tools) -> Result<()> {
    if !tools::toolkit::examine(context, &Backend::Cuda.into())?.iter().all(Toolkit::is_complete) {
        tools::toolkit::provision(context, &Backend::Cuda.into())?;
    }
    let mut request = Request::of(Backend::Cuda.into(), Some(Telemetry::Rust));
    make_small(&mut request);
    request.defines.push(("CMAKE_CUDA_FLAGS_RELEASE".into(), UNOPTIMISED_CUDA.into()));
    let built = build::ensure(context, tools, &request)?;
    build_demo_as(context, tools, &built, Some(Telemetry::Rust), "backend-cuda").map(drop)
}

/// Tries backends as modules, with every generation of processors.
///
/// # Errors
/// Those of [`backend`].
pub fn dynamic(context: &Context, place: Place) -> Result<Outcome> {
    let mut request = Request::of("blas,rpc".parse()?, Some(Telemetry::Rust));
    request.dynamic_backends = true;
    let note = "blas, rpc and every generation of processors as modules".to_owned();
    attempt(context, "dynamic", &request, "LLAMA_OTEL_DEMO_DYNAMIC", "backends_are_found", note, place)
}

fn attempt(
    context: &Context,
    name: &str,
    request: &Request,
    variable: &str,
    filter: &str,
    note: String,
    place: Place,
) -> Result<Outcome> {
    let tools = tools::ensure(context)?;
    let mut outcome = Outcome::untried(context, name, place, note)?;
    let built = match build::ensure(context, &tools, request) {
        Ok(built) => built,
        Err(error) => {
            match error.downcast_ref::<llama_build::Error>() {
                Some(llama_build::Error::ToolkitMissing { missing, .. }) => {
                    outcome.configures = Some(false);
                    outcome.note = format!("missing on this machine: {missing}");
                }
                Some(llama_build::Error::Step { step, .. }) => {
                    crate::progress::print_error(&error);
                    outcome.configures = Some(step.starts_with("compiling"));
                    outcome.compiles = Some(false);
                }
                _ => return Err(error),
            }
            return Ok(outcome);
        }
    };
    (outcome.configures, outcome.compiles) = (Some(true), Some(true));
    match link_and_run(context, &tools, request, &built, name, variable, filter)? {
        Ran::NotLinked(error) => {
            crate::progress::print_error(&error);
            outcome.links = Some(false);
        }
        Ran::Passed => (outcome.links, outcome.runs) = (Some(true), Some(true)),
        Ran::Failed => (outcome.links, outcome.runs) = (Some(true), Some(false)),
        Ran::Skipped(reason) => {
            outcome.links = Some(true);
            outcome.note =
                [outcome.note, reason].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        }
    }
    Ok(outcome)
}

enum Ran {
    NotLinked(anyhow::Error),
    Passed,
    Failed,
    Skipped(String),
}

fn link_and_run(
    context: &Context,
    tools: &Tools,
    request: &Request,
    built: &Built,
    name: &str,
    variable: &str,
    filter: &str,
) -> Result<Ran> {
    let demo = match build_demo_as(context, tools, built, Some(Telemetry::Rust), &format!("backend-{name}")) {
        Ok(demo) => demo,
        Err(error) => return Ok(Ran::NotLinked(error)),
    };
    let model = model::ensure(context, Name::Tiny)?;
    if name == "cpu" {
        // Its tests are all the others.
        let mut command = Command::new(demo);
        let status = command.arg("--model").arg(model).args(["--n-predict", "4"]).stdout(Stdio::null()).status();
        return Ok(if status.context("cannot start the demo program")?.success() { Ran::Passed } else { Ran::Failed });
    }
    if request.backends.contains(Backend::Cuda) && lacks_driver(&demo)? {
        return Ok(Ran::Skipped("there is no NVIDIA driver on this machine".to_owned()));
    }
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(["test", "--workspace", "--test", "backends", "--target-dir"]);
    command.arg(context.target_dir()).args(["--", "--show-output", filter]);
    command.envs(tools.env()).env("LLAMA_OTEL_PREBUILT", &built.dir).env(variable, demo);
    command.env("LLAMA_OTEL_BACKENDS", names(&request.backends)).env("LLAMA_OTEL_TINY", model);
    command.env(SHADER_CACHE, shader_cache(context));
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let skip = text.lines().find_map(|line| line.strip_prefix("SKIP: "));
    let ran = text.lines().any(|line| line.starts_with("test ") && line.ends_with("... ok"));
    Ok(match (output.status.success(), skip) {
        (true, Some(reason)) => Ran::Skipped(reason.to_owned()),
        (true, None) if ran => Ran::Passed,
        (true, None) => Ran::Skipped("there is no test that runs it".to_owned()),
        (false, _) => {
            print!("{text}");
            Ran::Failed
        }
    })
}

/// Whether a program on CUDA does not even start, for want of the driver's library.
fn lacks_driver(demo: &Path) -> Result<bool> {
    let out =
        Command::new(demo).arg("--help").stdin(Stdio::null()).output().context("cannot start the demo program")?;
    Ok(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("libcuda.so.1"))
}

fn names(backends: &Backends) -> String {
    backends.iter().map(Backend::name).collect::<Vec<_>>().join(",")
}
