//! `cargo xtask doctor`: which tools are here, in which version, what each backend lacks, and what installs it.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;
use llama_build::{Backend, Toolkit};
use serde::Serialize;

use crate::{
    Format,
    context::Context,
    install::install_command,
    python::{Python, checked},
    tools::{self, Kind, version_of},
};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Install the missing cmake, ninja and libclang into the cache first, as any verb that needs them does
    #[arg(long)]
    provision: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Serialize)]
struct Report {
    /// Whether everything is here for a build for the processor that cannot be installed on demand.
    ready: bool,
    cache: PathBuf,
    tools: Vec<Entry>,
    /// What this machine has for each of llama.cpp's backends; empty without cmake and a compiler.
    backends: Vec<Toolkit>,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    purpose: &'static str,
    version: Option<String>,
    path: Option<PathBuf>,
    /// Comes from the cache, not from the machine.
    provisioned: bool,
    /// Missing, but installed into the cache when it is first needed.
    on_demand: bool,
    /// The command that installs it, where it is missing.
    install: Option<String>,
}

/// Runs the verb. The exit code is 1 if something is missing that this project cannot install itself and that a build
/// for the processor needs.
///
/// # Errors
/// With `--provision`: those of [`tools::ensure`].
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    if args.provision {
        tools::ensure(context)?;
    }
    let mut report = examine(context);
    if tools::find_all(context).is_some() {
        match tools::toolkit::examine(context, &Backend::all().collect()) {
            Ok(backends) => report.backends = backends,
            Err(error) => context.ui.say(format_args!("what the backends need cannot be found out: {error:#}")),
        }
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => print(&report),
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(context: &Context) -> Report {
    let python = Python::find();
    let can_install = python.as_ref().is_some_and(Python::has_venv);
    let rustc = which::which(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).ok();
    let rustc = rustc.and_then(|path| Some((version_of(&path).ok()?, path)));
    let mut tools = vec![
        entry("rustc", "compiles this project", rustc, || "https://rustup.rs".to_owned()),
        entry("c++", "compiles llama.cpp", cpp_compiler(), || install_command(&["c++"])),
        entry(
            "python3",
            "installs tools, downloads models",
            python.map(|python| (python.version.clone(), python.path().to_path_buf())),
            || install_command(&["python3"]),
        ),
    ];
    let ready = tools.iter().all(|tool| tool.path.is_some());
    for kind in Kind::ALL {
        let tool = tools::find(kind).or_else(|| tools::find_provisioned(context, kind));
        let provisioned = tool.as_ref().is_some_and(|tool| tool.provisioned);
        let found = tool.map(|tool| (tool.version, tool.path));
        let missing = found.is_none();
        let mut entry = entry(kind.name(), kind.purpose(), found, || install_command(&[kind.name()]));
        entry.provisioned = provisioned;
        entry.on_demand = missing && can_install;
        tools.push(entry);
    }
    let ready = ready && tools.iter().all(|tool| tool.path.is_some() || tool.on_demand);
    Report { ready, cache: context.cache.clone(), tools, backends: Vec::new() }
}

fn entry(
    name: &'static str,
    purpose: &'static str,
    found: Option<(String, PathBuf)>,
    install: impl FnOnce() -> String,
) -> Entry {
    let install = found.is_none().then(install);
    let (version, path) = found.unzip();
    Entry { name, purpose, version, path, provisioned: false, on_demand: false, install }
}

fn cpp_compiler() -> Option<(String, PathBuf)> {
    let named = env::var_os("CXX").filter(|name| !name.is_empty());
    let names = named.into_iter().chain(["c++", "g++", "clang++"].map(Into::into));
    names
        .filter_map(|name| which::which(name).ok())
        .find_map(|path| Some((version_of(&path).ok()?, path)))
        .or_else(visual_studio)
}

/// Visual Studio's compiler is on no PATH; its own locator knows where it is.
fn visual_studio() -> Option<(String, PathBuf)> {
    let root = PathBuf::from(env::var_os("ProgramFiles(x86)")?);
    let locator = root.join(r"Microsoft Visual Studio\Installer\vswhere.exe");
    let ask = |property: &str| {
        let component = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64";
        let args = ["-latest", "-products", "*", "-requires", component, "-property", property];
        let text = checked(Command::new(&locator).args(args)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Some((ask("installationVersion")?, ask("installationPath")?.into()))
}

fn print(report: &Report) {
    for tool in &report.tools {
        let state = match (&tool.path, &tool.install) {
            (Some(path), _) => {
                let origin = if tool.provisioned { " (in the cache)" } else { "" };
                format!("{:<10} {}{origin}", tool.version.as_deref().unwrap_or_default(), path.display())
            }
            (None, Some(install)) if tool.on_demand => {
                format!("missing    is installed into the cache when needed; or yourself: {install}")
            }
            (None, install) => format!("missing    {}", install.as_deref().unwrap_or_default()),
        };
        println!("{:<9} {:<32} {state}", tool.name, tool.purpose);
    }
    for toolkit in &report.backends {
        let state = match &toolkit.install {
            None if toolkit.found.is_empty() => "ready".to_owned(),
            None => {
                let found = toolkit.found.iter().map(|(_, place)| place.as_str()).collect::<Vec<_>>();
                format!("ready      {}", found.join(" "))
            }
            Some(install) => format!("missing    {}: {install}", toolkit.missing.join(", ")),
        };
        println!("{:<9} {:<32} {state}", toolkit.backend.name(), toolkit.backend.about());
    }
    println!("{:<9} {:<32} {:<10} {}", "cache", "tools, models, builds", "", report.cache.display());
}
