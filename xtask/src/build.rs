//! `cargo xtask build`: builds llama.cpp with `llama-build` into the cache, keyed by content, and puts the
//! result (`lib/`, `include/`, `manifest.json`) where programs expect it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use llama_build::{Backend, MANIFEST_FILE, Manifest, Options, Telemetry};
use serde::Serialize;

use crate::{
    Format,
    cache::{Slot, lock_file},
    context::Context,
    patch,
    progress::{Unit, ninja_step},
    tools::{self, Tools},
    upstream::Upstream,
    vendor,
};

/// What a finished build consists of.
const PARTS: [&str; 2] = ["lib", "include"];

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Where llama.cpp computes: cpu (others follow)
    #[arg(long, default_value = "cpu", value_name = "NAME", value_parser = parse_backend)]
    backend: Backend,
    /// The vendored tree [default: upstream.toml's]
    #[arg(long)]
    pin: Option<String>,
    /// What stands behind the telemetry macros
    #[arg(long, value_enum, default_value = "rust", conflicts_with = "pristine")]
    telemetry: TelemetryName,
    /// Build upstream's own tree, without our lines
    #[arg(long)]
    pristine: bool,
    /// Parallel compilers [default: one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// A CMake cache entry, such as GGML_NATIVE=ON; may be repeated
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = parse_define)]
    define: Vec<(String, String)>,
    /// Also put lib/, include/ and manifest.json into this folder
    #[arg(long, value_name = "DIR")]
    install: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TelemetryName {
    /// The Rust backend; the program must link otel-shim
    Rust,
    /// The macros record to nobody
    None,
    /// The macros are empty
    Off,
}

/// What to build.
pub struct Request {
    /// The vendored tree; the default one if `None`.
    pub pin: Option<String>,
    /// Where llama.cpp computes.
    pub backend: Backend,
    /// What stands behind the macros of the patched tree; `None` builds upstream's own tree.
    pub telemetry: Option<Telemetry>,
    /// Further CMake cache entries.
    pub defines: Vec<(String, String)>,
    /// Parallel compilers; all processors if `None`.
    pub jobs: Option<usize>,
}

impl Request {
    /// A CPU build of the default pin: patched with that telemetry, or pristine.
    pub fn cpu(telemetry: Option<Telemetry>) -> Self {
        Self { pin: None, backend: Backend::Cpu, telemetry, defines: Vec::new(), jobs: None }
    }
}

/// A finished build in the cache.
pub struct Built {
    /// The folder of `manifest.json`, for `LLAMA_OTEL_PREBUILT`.
    pub dir: PathBuf,
    /// What it consists of.
    pub manifest: Manifest,
}

#[derive(Serialize)]
struct Report<'a> {
    path: &'a Path,
    manifest: &'a Manifest,
}

/// Runs the verb.
///
/// # Errors
/// Those of [`ensure`]; the result cannot be put into its place.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let telemetry = match args.telemetry {
        TelemetryName::Rust => Telemetry::Rust,
        TelemetryName::None => Telemetry::None,
        TelemetryName::Off => Telemetry::Off,
    };
    let request = Request {
        pin: args.pin.clone(),
        backend: args.backend,
        telemetry: (!args.pristine).then_some(telemetry),
        defines: args.define.clone(),
        jobs: args.jobs.map(usize::from),
    };
    check_supported(request.backend)?;
    let built = ensure(context, &tools::ensure(context)?, &request)?;
    let pin = match request.pin {
        Some(pin) => pin,
        None => Upstream::read(context)?.default,
    };
    let variant = if args.pristine { format!("{}-pristine", args.backend) } else { args.backend.to_string() };
    let target = context.target_dir().join("llama-otel").join(pin).join(variant);
    place(context, &built, &target)?;
    if let Some(dir) = &args.install {
        copy_build(&built.dir, dir)?;
        context.ui.say(format_args!("installed into {}", dir.display()));
    }
    match args.format {
        Format::Text => println!("{}", target.display()),
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&Report { path: &target, manifest: &built.manifest })?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Vendors, patches and builds what `request` asks for, as far as the cache does not have it.
///
/// # Errors
/// The backend is not supported; the tree cannot be had or patched; CMake or the compiler fails.
pub fn ensure(context: &Context, tools: &Tools, request: &Request) -> Result<Built> {
    check_supported(request.backend)?;
    let pin = request.pin.as_deref();
    let tree = match request.telemetry {
        Some(_) => patch::ensure(context, pin)?,
        None => context.vendor_src(&vendor::ensure(context, pin)?.pin),
    };
    let mut options = Options::new(tree);
    options.backend = request.backend;
    options.telemetry = request.telemetry.unwrap_or(Telemetry::Off);
    options.defines.clone_from(&request.defines);
    options.jobs = request.jobs;
    options.cmake = Some(tools.cmake.path.clone());
    options.ninja = Some(tools.ninja.path.clone());

    let key = llama_build::key(&options)?;
    let builds = context.cache.join("build");
    fs::create_dir_all(&builds).with_context(|| format!("cannot make the folder {}", builds.display()))?;
    let dir = builds.join(&key);
    let lock_path = builds.join(format!(".{key}.lock"));
    let _lock = lock_file(&lock_path, || context.ui.say("waiting for another run that builds the same llama.cpp"))
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    let what = if request.telemetry.is_some() { "patched" } else { "pristine" };
    if let Ok(manifest) = Manifest::read(&dir)
        && manifest.key == key
    {
        context.ui.say(format_args!("{what} llama.cpp for {}: already in the cache", request.backend));
        return Ok(Built { dir, manifest });
    }
    let phase = context.ui.phase(format!("compile {what} llama.cpp"), Unit::Steps);
    let mut on_line = |line: &str| {
        if let Some((done, total)) = ninja_step(line) {
            phase.set(done, total);
        }
    };
    let manifest = llama_build::build(&options, &dir, &mut on_line)?;
    // The key names the content: there will be no second build that could use the objects.
    let objects = dir.join("cmake");
    fs::remove_dir_all(&objects).with_context(|| format!("cannot remove {}", objects.display()))?;
    phase.finish(format_args!("for {}", request.backend));
    Ok(Built { dir, manifest })
}

fn place(context: &Context, built: &Built, target: &Path) -> Result<()> {
    let slot = Slot::lock(target, &context.ui)?;
    // Left alone where it is the same, so that programs linked with it are not linked again.
    if Manifest::read(target).is_ok_and(|there| there == built.manifest) {
        return Ok(());
    }
    slot.replace(|new| copy_build(&built.dir, new))
}

/// Copies a build; the manifest, which says that it is complete, comes last.
fn copy_build(from: &Path, to: &Path) -> Result<()> {
    let files = PARTS.iter().flat_map(|part| walkdir::WalkDir::new(from.join(part)));
    for entry in files {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let target = to.join(entry.path().strip_prefix(from)?);
        let copied = if entry.file_type().is_dir() {
            fs::create_dir_all(&target)
        } else {
            fs::copy(entry.path(), &target).map(|_| ())
        };
        copied.with_context(|| format!("cannot write {}", target.display()))?;
    }
    let manifest = to.join(MANIFEST_FILE);
    fs::copy(from.join(MANIFEST_FILE), &manifest).with_context(|| format!("cannot write {}", manifest.display()))?;
    Ok(())
}

fn check_supported(backend: Backend) -> Result<()> {
    match backend.is_supported() {
        true => Ok(()),
        false => Err(llama_build::Error::UnsupportedBackend { backend }.into()),
    }
}

fn parse_backend(name: &str) -> Result<Backend, llama_build::Error> {
    name.parse()
}

fn parse_define(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            // `KEY:TYPE=VALUE` is CMake's own way to write it.
            let key = key.split_once(':').map_or(key, |(key, _)| key);
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(anyhow!("`{text}` is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defines_are_keys_and_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse_define("A=B=C").unwrap(), pair("A", "B=C"));
        assert_eq!(parse_define("A:BOOL=ON").unwrap(), pair("A", "ON"));
        assert_eq!(parse_define("A=").unwrap(), pair("A", ""));
        assert!(parse_define("A").is_err());
        assert!(parse_define("=B").is_err());
    }

    #[test]
    fn a_copied_build_has_its_parts_and_nothing_else() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        for file in ["lib/libllama.a", "include/common/otel/otel.h", "manifest.json", "build.log"] {
            let path = from.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        copy_build(from.path(), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("include/common/otel/otel.h")).unwrap(), b"include/common/otel/otel.h");
        assert!(to.path().join("lib/libllama.a").is_file() && to.path().join("manifest.json").is_file());
        assert!(!to.path().join("build.log").exists());
    }
}
