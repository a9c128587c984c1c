//! `cargo xtask build`: builds llama.cpp with `llama-build` into the cache, keyed by content, and puts the
//! result (`lib/`, `include/`, `manifest.json`) where programs expect it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use llama_build::{Backend, Backends, BuildType, COMPILER_VARIABLES, MANIFEST_FILE, Manifest, Options, Telemetry};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

mod install;

pub use self::install::{Profile, install, rust_backend};
use crate::{
    Format,
    cache::Slot,
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
    /// Where llama.cpp computes, several separated by commas: cpu, cuda, metal, vulkan, blas, rpc, hip, sycl, opencl
    #[arg(long, default_value = "cpu", value_name = "NAMES", value_parser = parse_backends)]
    backend: Backends,
    /// Make each backend, and each generation of processors, a module that is looked for at run time (implies --shared)
    #[arg(long)]
    dynamic_backends: bool,
    /// Get what is missing into the cache first: CUDA's toolkit as PyPI wheels, Vulkan's headers from a newer Debian, and with
    /// --telemetry cpp the opentelemetry-cpp that upstream.toml pins
    #[arg(long)]
    provision: bool,
    /// GPU architectures of the cuda backend, such as 90 or 75-virtual [default: llama.cpp's list, or native]
    #[arg(long, value_name = "LIST")]
    cuda_arch: Option<String>,
    /// Code for this very machine
    #[arg(long, conflicts_with_all = ["portable", "dynamic_backends"])]
    native: bool,
    /// Code for every machine of this architecture (default): AVX2 on x86-64, with --dynamic-backends the best there is
    #[arg(long)]
    portable: bool,
    /// Shared libraries
    #[arg(long = "shared", conflicts_with = "static_libs")]
    shared: bool,
    /// Static libraries (default)
    #[arg(long = "static", conflicts_with = "dynamic_backends")]
    static_libs: bool,
    /// Optimised (default)
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Not optimised, with debug information
    #[arg(long)]
    debug: bool,
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
    /// Also put lib/, include/ and manifest.json into this folder, and for C and C++ programs a CMake package and a pkg-config
    /// module, `llama-otel`
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
    /// opentelemetry-cpp, installed or named with -D OPENTELEMETRY_CPP_SOURCE_DIR=DIR
    Cpp,
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
    pub backends: Backends,
    /// Backends as modules.
    pub dynamic_backends: bool,
    /// Shared libraries.
    pub shared: bool,
    /// Code for this very machine.
    pub native: bool,
    /// Architectures of the cuda backend; llama.cpp's own list if `None`.
    pub cuda_arch: Option<String>,
    /// Optimisation and debug information.
    pub build_type: BuildType,
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
        Self::of(Backend::Cpu.into(), telemetry)
    }

    /// As [`cpu`](Self::cpu), for these backends.
    pub fn of(backends: Backends, telemetry: Option<Telemetry>) -> Self {
        Self {
            pin: None,
            backends,
            dynamic_backends: false,
            shared: false,
            native: false,
            cuda_arch: None,
            build_type: BuildType::Release,
            telemetry,
            defines: Vec::new(),
            jobs: None,
        }
    }

    /// The name of the folder that programs find the result in.
    fn variant(&self) -> String {
        let mut name = self.backends.to_string().replace(',', "-");
        let parts = [
            (self.dynamic_backends, "-dynamic"),
            (self.shared && !self.dynamic_backends, "-shared"),
            (self.native, "-native"),
            (self.build_type == BuildType::Debug, "-debug"),
            (self.telemetry.is_none(), "-pristine"),
            (self.telemetry == Some(Telemetry::Cpp), "-otelcpp"),
        ];
        name.extend(parts.into_iter().filter(|(yes, _)| *yes).map(|(_, part)| part));
        name
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
        TelemetryName::Cpp => Telemetry::Cpp,
        TelemetryName::None => Telemetry::None,
        TelemetryName::Off => Telemetry::Off,
    };
    let mut request = Request {
        pin: args.pin.clone(),
        backends: args.backend.clone(),
        dynamic_backends: args.dynamic_backends,
        shared: args.shared,
        native: args.native,
        cuda_arch: args.cuda_arch.clone(),
        build_type: if args.debug { BuildType::Debug } else { BuildType::Release },
        telemetry: (!args.pristine).then_some(telemetry),
        defines: args.define.clone(),
        jobs: args.jobs.map(usize::from),
    };
    if args.provision {
        tools::toolkit::provision(context, &request.backends)?;
        if request.telemetry == Some(Telemetry::Cpp) {
            // what the command line says comes later, and so wins
            request.defines.splice(0..0, tools::otelcpp::provision(context)?);
        }
    }
    let built = ensure(context, &tools::ensure(context)?, &request)?;
    let variant = request.variant();
    let pin = match request.pin {
        Some(pin) => pin,
        None => Upstream::read(context)?.default,
    };
    let target = context.target_dir().join("llama-otel").join(pin).join(variant);
    place(context, &built, &target)?;
    if let Some(dir) = &args.install {
        install(context, &built.dir, &built.manifest, Profile::Release, dir)?;
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
/// The machine lacks what a backend needs; the tree cannot be had or patched; CMake or the compiler fails.
pub fn ensure(context: &Context, tools: &Tools, request: &Request) -> Result<Built> {
    let pin = request.pin.as_deref();
    let tree = match request.telemetry {
        Some(_) => patch::ensure(context, pin)?,
        None => context.vendor_src(&vendor::ensure(context, pin)?.pin),
    };
    let mut options = Options::new(tree);
    options.backends.clone_from(&request.backends);
    options.dynamic_backends = request.dynamic_backends;
    options.shared = request.shared;
    options.native = request.native;
    options.cuda_arch.clone_from(&request.cuda_arch);
    options.build_type = request.build_type;
    options.telemetry = request.telemetry.unwrap_or(Telemetry::Off);
    options.defines = tools::toolkit::provisioned(context, &request.backends);
    options.defines.extend(request.defines.iter().cloned());
    options.jobs = request.jobs;
    options.cmake = Some(tools.cmake.path.clone());
    options.ninja = Some(tools.ninja.path.clone());

    let key = llama_build::key(&options)?;
    let dir = context.cache.join("build").join(&key);
    let slot = Slot::lock(&dir, &context.ui)?;
    let what = if request.telemetry.is_some() { "patched" } else { "pristine" };
    if let Ok(manifest) = Manifest::read(&dir)
        && manifest.key == key
    {
        context.ui.say(format_args!("{what} llama.cpp for {}: already in the cache", request.backends));
        return Ok(Built { dir, manifest });
    }
    let phase = context.ui.phase(format!("compile {what} llama.cpp"), Unit::Steps);
    let mut on_line = |line: &str| {
        if let Some((done, total)) = ninja_step(line) {
            phase.set(done, total);
        }
    };
    let objects = objects(context, request, &options);
    let manifest = llama_build::build(&options, &objects, &mut on_line)?;
    slot.replace(|new| copy_build(&objects, new))?;
    phase.finish(format_args!("for {}", request.backends));
    Ok(Built { dir, manifest })
}

/// Where this checkout compiles such a build: the objects stay, so that of a tree that differs in a point only the files
/// with that point are compiled anew. What comes out goes to the cache, under a key over its content.
fn objects(context: &Context, request: &Request, options: &Options) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", Options { jobs: None, ..options.clone() }));
    for name in COMPILER_VARIABLES {
        hash.update(format!("{name}={:?}", env::var_os(name)));
    }
    let digest = hex::encode(&hash.finalize()[..6]);
    context.target_dir().join("llama-otel/objects").join(format!("{}-{digest}", request.variant()))
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
        } else if entry.file_type().is_symlink() {
            copy_link(entry.path(), &target)
        } else {
            fs::copy(entry.path(), &target).map(|_| ())
        };
        copied.with_context(|| format!("cannot write {}", target.display()))?;
    }
    let manifest = to.join(MANIFEST_FILE);
    fs::copy(from.join(MANIFEST_FILE), &manifest).with_context(|| format!("cannot write {}", manifest.display()))?;
    Ok(())
}

/// The names of a shared library are links to one file, which stays one file.
#[cfg(unix)]
fn copy_link(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(to);
    std::os::unix::fs::symlink(fs::read_link(from)?, to)
}

#[cfg(not(unix))]
fn copy_link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Backends separated by commas.
///
/// # Errors
/// A name is unknown; the error lists the known ones.
pub fn parse_backends(names: &str) -> Result<Backends, llama_build::Error> {
    names.parse()
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
    fn a_folder_says_what_is_different_in_it() {
        let mut request = Request::of("rpc,blas".parse().unwrap(), Some(Telemetry::Rust));
        assert_eq!(request.variant(), "blas-rpc");
        request.shared = true;
        request.dynamic_backends = true;
        request.build_type = BuildType::Debug;
        request.telemetry = None;
        assert_eq!(request.variant(), "blas-rpc-dynamic-debug-pristine");
        assert_eq!(Request::cpu(Some(Telemetry::Rust)).variant(), "cpu");
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
