//! The programs of `tests/cmake`, built by CMake alone upon an exported tree: for the tests once for each telemetry backend, in
//! one build folder, so that llama.cpp is compiled once; for `cargo xtask bench otelcpp` the one that measures; and llama-perplexity
//! of a tree that has it, patched and as it came.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{Format, build, context::Context, patch, tools::Tools, vendor};

/// Parts of llama.cpp that the programs do not need.
const LEFT_OUT: [&str; 7] = [
    "LLAMA_BUILD_APP",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_TESTS",
    "LLAMA_CURL",
    "LLAMA_OPENSSL",
    "GGML_NATIVE",
];

/// Those that llama.cpp's own tools are made of.
const TOOLS: [&str; 2] = ["LLAMA_BUILD_COMMON", "LLAMA_BUILD_TOOLS"];

/// What a packager tells llama.cpp of a tree that does not know it itself; the tests look for it in the resource.
const VERSION: [&str; 2] = ["-DLLAMA_BUILD_NUMBER=6097", "-DLLAMA_BUILD_COMMIT=0123abc"];

/// A pin of upstream.toml whose tree has its tools.
pub const WITH_TOOLS: &str = "llama-cpp-python-0.3.36";

/// What the tests run.
const TESTS: &str = "programs";

/// Name a source folder of opentelemetry-cpp, and one of its protobuf definitions, to CMake.
const SOURCE_VARIABLES: [&str; 2] = ["OPENTELEMETRY_CPP_SOURCE_DIR", "OTELCPP_PROTO_PATH"];

/// The source folder of opentelemetry-cpp that the environment names, as CMake cache entries; none if it names none.
pub fn source_folder() -> Vec<(String, String)> {
    let given = SOURCE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    given.filter(|(_, value)| !value.is_empty()).collect()
}

/// Why there is no build, if it failed for want of opentelemetry-cpp, and what brings that.
pub fn no_otelcpp(error: &anyhow::Error) -> Option<String> {
    let is_missing = format!("{error:#}").contains("opentelemetry-cpp was not found");
    is_missing.then(|| "opentelemetry-cpp is not installed (on Debian `.ci/opentelemetry-cpp` installs it)".to_owned())
}

/// Where the programs are, and why some are missing.
pub struct Programs {
    /// Holds `bin-cpp`, `bin-rust`, `bin-none`.
    pub dir: PathBuf,
    /// The same of a build with shared libraries, `bin-cpp` only.
    pub shared: PathBuf,
    /// What CMake installs of the tree itself with opentelemetry-cpp, static; not there without.
    pub installed: PathBuf,
    /// Why there is no `bin-cpp`, if there is none.
    pub no_otelcpp: Option<String>,
}

/// Exports the default tree and builds the programs upon it.
///
/// # Errors
/// The tree cannot be written; cargo, CMake or the compiler fails. That opentelemetry-cpp is not installed is none.
pub fn build(context: &Context, tools: &Tools) -> Result<Programs> {
    let job = Job::new(context, tools, &context.target_dir().join("llama-otel/programs"))?;

    job.build("rust", TESTS, &[rust_library(context)?])?;
    job.build("none", TESTS, &[])?;
    let no_otelcpp = job.build_otelcpp(TESTS, &[])?;
    let shared = job.beside("shared");
    if no_otelcpp.is_none() && cfg!(target_os = "linux") {
        shared.build_otelcpp("application", &["-DBUILD_SHARED_LIBS=ON"])?;
    }
    let installed = job.dir.with_file_name("installed");
    if no_otelcpp.is_none() {
        job.of_the_tree("whole").install_otelcpp(&installed)?;
    }
    if no_otelcpp.is_some() {
        // What an earlier run made, when the library was there, is out of date.
        let _ = fs::remove_dir_all(job.dir.join("bin-cpp"));
    }
    Ok(Programs { dir: job.dir, shared: shared.dir, installed, no_otelcpp })
}

/// Exports the default tree and builds the program that measures the macros with opentelemetry-cpp behind them, or says why
/// there is none.
///
/// # Errors
/// As [`build`].
pub fn build_hot(context: &Context, tools: &Tools) -> Result<Result<PathBuf, String>> {
    let job = Job::new(context, tools, &context.target_dir().join("llama-otel/bench/otelcpp"))?;
    Ok(match job.build_otelcpp("hot", &[])? {
        Some(why) => Err(why),
        None => Ok(job.dir.join("bin-cpp/hot").with_extension(std::env::consts::EXE_EXTENSION)),
    })
}

/// Builds llama-perplexity of a whole tree, patched and as it came, and says where the two are.
///
/// # Errors
/// The tree cannot be had or patched; cargo, CMake or the compiler fails.
pub fn perplexity(context: &Context, tools: &Tools) -> Result<(PathBuf, PathBuf)> {
    vendor::ensure(context, Some(WITH_TOOLS))?;
    let base = context.target_dir().join("llama-otel/perplexity");
    fs::create_dir_all(&base).with_context(|| format!("cannot make the folder {}", base.display()))?;
    let build = |name: &str, backend: &str, tree: PathBuf, more: &[String]| -> Result<PathBuf> {
        let source = context.root.join("tests/cmake/perplexity");
        let job = Job { context, tools, source, tree, dir: base.join(name) };
        // the model is tiny: what optimising would save is less than what it takes
        let unoptimised =
            ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0"].map(str::to_owned);
        let tools = TOOLS.map(|part| format!("-D{part}=ON"));
        job.build(backend, "llama-perplexity", &[more, &tools, &unoptimised].concat())?;
        Ok(job.dir.join("bin/llama-perplexity").with_extension(std::env::consts::EXE_EXTENSION))
    };
    let pristine = build("pristine", "none", context.vendor_src(WITH_TOOLS), &[])?;
    let patched = build("patched", "rust", patch::ensure(context, Some(WITH_TOOLS))?, &[rust_library(context)?])?;
    Ok((patched, pristine))
}

/// The crate otel-shim as a static library, in the words that CMake is told of it.
fn rust_library(context: &Context) -> Result<String> {
    let library = build::rust_backend(context, build::Profile::Dev)?.path;
    Ok(format!("-DLLAMA_OTEL_RUST_LIBRARY={}", library.display()))
}

struct Job<'a> {
    context: &'a Context,
    tools: &'a Tools,
    source: PathBuf,
    tree: PathBuf,
    dir: PathBuf,
}

impl<'a> Job<'a> {
    /// With the default tree exported into `base`.
    fn new(context: &'a Context, tools: &'a Tools, base: &Path) -> Result<Self> {
        fs::create_dir_all(base).with_context(|| format!("cannot make the folder {}", base.display()))?;
        let (tree, dir) = (base.join("tree"), base.join("build"));
        if patch::write_tree(context, None, None, tree.clone(), Format::Text)? != ExitCode::SUCCESS {
            bail!("the tree could not be exported (see above)");
        }
        Ok(Self { context, tools, source: context.root.join("tests/cmake"), tree, dir })
    }

    /// The same tree, built into a folder beside this one's.
    fn beside(&self, name: &str) -> Self {
        let (source, tree) = (self.source.clone(), self.tree.clone());
        Self { source, tree, dir: self.dir.with_file_name(name), ..*self }
    }

    /// The tree itself, without a program upon it, built into a folder beside this one's.
    fn of_the_tree(&self, name: &str) -> Self {
        Self { source: self.tree.clone(), ..self.beside(name) }
    }

    /// Builds everything with the opentelemetry-cpp that is there, and installs it into an empty folder.
    fn install_otelcpp(&self, to: &Path) -> Result<()> {
        if let Some(why) = self.build_otelcpp("all", &[])? {
            bail!("{why}");
        }
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        let mut command = Command::new(&self.tools.cmake.path);
        command.arg("--install").arg(&self.dir).arg("--prefix").arg(to);
        self.run(command, "installing the tree")
    }

    fn build(&self, backend: &str, target: &str, more: &[String]) -> Result<()> {
        self.configure(backend, more)?;
        self.compile(target)
    }

    /// With the opentelemetry-cpp that is installed, or that the environment names a source folder of. Returns why there are no
    /// programs, if there are none.
    fn build_otelcpp(&self, target: &str, options: &[&str]) -> Result<Option<String>> {
        // first without: an earlier run may have been given a folder that this one is not
        let mut more: Vec<_> = SOURCE_VARIABLES.iter().map(|name| format!("-D{name}=")).collect();
        more.extend(options.iter().map(|option| (*option).to_owned()));
        more.extend(source_folder().iter().map(|(name, value)| format!("-D{name}={value}")));
        match self.configure("cpp", &more) {
            Ok(()) => self.compile(target).map(|()| None),
            Err(error) => no_otelcpp(&error).map(Some).ok_or(error),
        }
    }

    fn configure(&self, backend: &str, more: &[String]) -> Result<()> {
        let define = |name: &str, path: &Path| format!("-D{name}={}", path.display());
        let mut command = Command::new(&self.tools.cmake.path);
        command.arg("-S").arg(&self.source).arg("-B").arg(&self.dir);
        command.args(["-G", "Ninja", "--no-warn-unused-cli", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"]);
        command.arg(define("CMAKE_MAKE_PROGRAM", &self.tools.ninja.path));
        command.arg(define("LLAMA_OTEL_TREE", &self.tree));
        command.arg(define("LLAMA_OTEL_SHIM", &self.context.root.join("otel-shim")));
        command.arg(format!("-DLLAMA_OTEL_BACKEND={backend}"));
        command.args(LEFT_OUT.iter().chain(&TOOLS).map(|part| format!("-D{part}=OFF"))).args(VERSION).args(more);
        self.run(command, &format!("configuring {} for {backend}", self.source.display()))
    }

    fn compile(&self, target: &str) -> Result<()> {
        let mut command = Command::new(&self.tools.cmake.path);
        command.arg("--build").arg(&self.dir).args(["--target", target, "--parallel"]);
        command.arg(std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string());
        self.run(command, &format!("compiling {target}"))
    }

    /// Shows the output only of what failed.
    fn run(&self, mut command: Command, what: &str) -> Result<()> {
        // llama.cpp asks git for a commit, and must not get this checkout's.
        command.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree)).stdin(Stdio::null());
        let out = command.output().with_context(|| format!("cannot start {}", self.tools.cmake.path.display()))?;
        if out.status.success() {
            return Ok(());
        }
        bail!("{what} failed\n{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    }
}
