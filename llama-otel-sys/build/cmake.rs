//! Where the libraries come from: a finished build that the environment names, or a tree that is
//! built into `OUT_DIR`.

use std::path::{Path, PathBuf};

use llama_build::{Backend, Backends, COMPILER_VARIABLES, MANIFEST_FILE, Manifest, Options, Telemetry};

use crate::env::Env;

/// The pin that `cargo xtask vendor` takes by default.
const DEFAULT_PIN: &str = "llama-cpp-sys-2-0.1.161";

/// Where a package that `cargo xtask package` made has its tree.
const INSIDE: &str = "llama.cpp";

/// What of a tree the libraries are made of. Cargo runs a script again for ever if it is told of
/// a path that does not exist, so only those that do are announced.
const TREE_PARTS: &[&str] =
    &["CMakeLists.txt", "PATCHED.json", "cmake", "common/otel", "ggml", "include", "src", "vendor"];

/// What the features ask for.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub backends: Backends,
    pub telemetry: Telemetry,
    pub native: bool,
    pub shared: bool,
    pub dynamic_backends: bool,
}

/// A finished build.
pub struct Built {
    pub dir: PathBuf,
    pub manifest: Manifest,
}

pub fn request(env: &Env) -> Result<Request, String> {
    let telemetry = match (env.feature("telemetry-rust"), env.feature("telemetry-cpp")) {
        (true, true) => {
            return Err("the features `telemetry-rust` and `telemetry-cpp` exclude each other\n\
                 help: one program has one telemetry backend; for opentelemetry-cpp turn the default features off \
                 (`default-features = false, features = [\"cpu\", \"telemetry-cpp\"]`)"
                .into());
        }
        (true, false) => Telemetry::Rust,
        (false, true) => Telemetry::Cpp,
        (false, false) => Telemetry::None,
    };
    Ok(Request {
        // The processor's is part of every build, so no backend feature means the same.
        backends: Backend::all().filter(|backend| env.feature(backend.name())).collect(),
        telemetry,
        native: env.feature("native"),
        shared: env.feature("shared"),
        dynamic_backends: env.feature("dynamic-backends"),
    })
}

pub fn obtain(env: &Env, request: &Request) -> Result<Built, String> {
    match env.path("LLAMA_OTEL_PREBUILT") {
        Some(dir) => prebuilt(&dir, request),
        None => from_tree(env, request),
    }
}

fn prebuilt(dir: &Path, request: &Request) -> Result<Built, String> {
    // The linker runs in another folder than this script.
    let dir = std::path::absolute(dir).map_err(|error| format!("LLAMA_OTEL_PREBUILT={}: {error}", dir.display()))?;
    println!("cargo::rerun-if-changed={}", dir.join(MANIFEST_FILE).display());
    let manifest = Manifest::read(&dir).map_err(|error| format!("LLAMA_OTEL_PREBUILT: {error}"))?;
    check_telemetry(&manifest, request.telemetry)
        .map_err(|error| format!("LLAMA_OTEL_PREBUILT={}: {error}", dir.display()))?;
    // Features add up over a whole program, so that a build may well have more than this one asks for.
    if !manifest.backends.lacks(&request.backends).is_empty() {
        let both: Backends = manifest.backends.iter().chain(request.backends.iter()).collect();
        return Err(format!(
            "LLAMA_OTEL_PREBUILT={}: it was built for `{}`, and `{}` is asked for\n\
             help: run `cargo xtask build --backend {both}`",
            dir.display(),
            manifest.backends,
            request.backends,
        ));
    }
    Ok(Built { dir, manifest })
}

/// A library that calls the Rust backend does not link without it, and one that does not would
/// leave a program silently without telemetry.
pub fn check_telemetry(manifest: &Manifest, asked: Telemetry) -> Result<(), String> {
    match (manifest.telemetry, asked) {
        (built, asked) if built == asked => Ok(()),
        (_, Telemetry::Cpp) => Err("it was built without opentelemetry-cpp, and the feature `telemetry-cpp` is on\n\
             help: run `cargo xtask build --telemetry cpp`, or turn the feature off"
            .into()),
        (Telemetry::Rust, _) => {
            Err("it was built with the Rust telemetry backend, and the feature `telemetry-rust` is off\n\
             help: turn the feature on, or name a build without telemetry"
                .into())
        }
        (_, Telemetry::Rust) => {
            Err("it was built without the Rust telemetry backend, and the feature `telemetry-rust` is on\n\
             help: run `cargo xtask build`, or turn the feature off (`--no-default-features --features cpu`)"
                .into())
        }
        _ => Ok(()),
    }
}

fn from_tree(env: &Env, request: &Request) -> Result<Built, String> {
    let tree = tree(env)?;
    for part in TREE_PARTS.iter().map(|part| tree.join(part)) {
        if part.exists() {
            println!("cargo::rerun-if-changed={}", part.display());
        }
    }
    refuse_cross_compilation(env)?;
    let mut options = Options::new(&tree);
    // Release for every cargo profile: unoptimised, llama.cpp is too slow to be of any use.
    options.backends = request.backends.clone();
    options.telemetry = request.telemetry;
    options.native = request.native;
    options.shared = request.shared;
    options.dynamic_backends = request.dynamic_backends;
    options.cuda_arch = env.var("LLAMA_OTEL_CUDA_ARCH");
    options.defines = defines(env)?;
    if request.telemetry == Telemetry::Cpp {
        // Where opentelemetry-cpp is, if it is not installed.
        for name in ["OPENTELEMETRY_CPP_SOURCE_DIR", "OTELCPP_PROTO_PATH"] {
            options.defines.extend(env.var(name).map(|value| (name.into(), value)));
        }
    }
    options.jobs = env.cargo("NUM_JOBS")?.parse().ok();
    options.cmake = env.path("CMAKE");
    options.ninja = env.path("LLAMA_OTEL_NINJA");
    for name in COMPILER_VARIABLES {
        // Read by llama-build itself.
        env.var(name);
    }
    let dir = Path::new(&env.cargo("OUT_DIR")?).join("llama");
    let mut print = |line: &str| println!("{line}");
    let manifest = llama_build::build(&options, &dir, &mut print).map_err(|e| e.to_string())?;
    Ok(Built { dir, manifest })
}

/// `LLAMA_OTEL_CMAKE_DEFINES`: `NAME=VALUE`, several separated by blanks, as `cargo xtask build -D`.
pub fn defines(env: &Env) -> Result<Vec<(String, String)>, String> {
    let text = env.var("LLAMA_OTEL_CMAKE_DEFINES").unwrap_or_default();
    let entry = |word: &str| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("LLAMA_OTEL_CMAKE_DEFINES: `{word}` is not NAME=VALUE")),
    };
    text.split_whitespace().map(entry).collect()
}

/// The tree that the environment names, else the one inside this package, else the one that `cargo xtask patch` made.
pub fn tree(env: &Env) -> Result<PathBuf, String> {
    if let Some(tree) = env.path("LLAMA_OTEL_TREE") {
        return match tree.is_dir() {
            true => Ok(tree),
            false => Err(format!(
                "LLAMA_OTEL_TREE={}: there is no such folder\n\
                 help: unset it to use the tree that `cargo xtask patch` makes",
                tree.display()
            )),
        };
    }
    let package = PathBuf::from(env.cargo("CARGO_MANIFEST_DIR")?);
    let inside = package.join(INSIDE);
    if inside.is_dir() {
        return Ok(inside);
    }
    let tree = package.join("../vendor").join(DEFAULT_PIN).join("patched");
    match tree.is_dir() {
        true => Ok(tree),
        false => Err(format!(
            "there is no llama.cpp to build: {} does not exist\n\
             help: run `cargo xtask patch`, or set LLAMA_OTEL_TREE to a patched tree \
             or LLAMA_OTEL_PREBUILT to a folder that `cargo xtask build` made",
            tree.display()
        )),
    }
}

fn refuse_cross_compilation(env: &Env) -> Result<(), String> {
    let (host, target) = (env.cargo("HOST")?, env.cargo("TARGET")?);
    if host == target || env.var("CMAKE_TOOLCHAIN_FILE").is_some() {
        return Ok(());
    }
    Err(format!(
        "cannot build llama.cpp for {target} on {host}: CMake does not know that target's compiler\n\
         help: set CMAKE_TOOLCHAIN_FILE, or build there and set LLAMA_OTEL_PREBUILT"
    ))
}
