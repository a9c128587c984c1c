//! Configures and builds a llama.cpp tree with CMake and reports what to link.
//!
//! Shared by `cargo xtask build` and by the build script of `llama-otel-sys`. It starts processes
//! and writes into the one folder that it is given; it never reaches the network.
//!
//! ```no_run
//! use llama_build::{Backend, Options, Telemetry, build};
//!
//! let mut options = Options::new("vendor/llama-cpp-sys-2-0.1.161/patched");
//! options.telemetry = Telemetry::Rust;
//! let manifest = build(&options, "target/llama".as_ref(), &mut |line| println!("{line}"))?;
//! for lib in &manifest.libs {
//!     println!("{} in {}", lib.name, lib.path);
//! }
//! # Ok::<(), llama_build::Error>(())
//! ```

mod backend;
mod cmake;
mod error;
mod key;
mod manifest;
mod options;
mod publish;
mod reply;
mod toolchain;
mod toolkit;
mod tree;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use backend::{Backend, Backends, Need};
pub use error::Error;
pub use key::key;
pub use manifest::{Compiler, Lib, LibKind, MANIFEST_FILE, Manifest, SystemLib, SystemLibKind};
pub use options::{BuildType, Options, Telemetry};
pub use toolchain::COMPILER_VARIABLES;
pub use toolkit::{Toolkit, package_manager, toolkits};

use error::at;

/// Builds the tree named in `options` into `dir` and returns what to link.
///
/// `dir` receives `lib/`, `include/`, `manifest.json` (written last: its presence means that the
/// other two are complete), the CMake build tree `cmake/` and the full output `build.log`.
/// Every line that CMake, the build tool or the compiler prints goes to `on_line` as well.
///
/// A second call with the same `dir` configures again and rebuilds only what changed; nothing is
/// rewritten when nothing changed. An interrupted build is completed by the next one, and two
/// builds of one `dir` wait for each other.
///
/// # Errors
/// An unsupported combination of options; a tree, a tool or what a backend needs is missing (said
/// before anything is compiled); a failed step (with the lines that say why); a file that could not
/// be read or written.
pub fn build(options: &Options, dir: &Path, on_line: &mut dyn FnMut(&str)) -> Result<Manifest, Error> {
    let prepared = Prepared::new(options, dir)?;
    let Prepared { dir, tree, tools, plan, .. } = &prepared;
    let mut run = cmake::Run::start(tools, tree, dir, on_line)?;
    plan.configure(&mut run)?;
    plan.compile(&mut run)?;

    let reply = reply::read(&plan.build_dir)?;
    let manifest = Manifest::new(key::of(options, tree, tools)?, options, tree, plan, tools, &reply);
    publish::publish(&manifest, tree, &reply, dir)?;
    Ok(manifest)
}

/// What a program would link, from a configuration alone.
#[derive(Clone, Debug)]
pub struct Link {
    /// The names of the libraries of the tree, in link order.
    pub libs: Vec<String>,
    /// Libraries of the system, after those.
    pub system_libs: Vec<SystemLib>,
    /// Words of the link line that are no libraries.
    pub link_args: Vec<String>,
    /// The CMake cache entries that were set.
    pub cmake_options: Vec<(String, String)>,
}

/// Configures as [`build`] does, into `dir`/`cmake`, and compiles nothing: for a system whose
/// libraries cannot be linked here.
///
/// # Errors
/// Those of [`build`], but for the compiler's.
pub fn configure(options: &Options, dir: &Path, on_line: &mut dyn FnMut(&str)) -> Result<Link, Error> {
    let prepared = Prepared::new(options, dir)?;
    let Prepared { dir, tree, tools, plan, .. } = &prepared;
    let mut run = cmake::Run::start(tools, tree, dir, on_line)?;
    plan.configure(&mut run)?;
    let reply = reply::read(&plan.build_dir)?;
    Ok(Link {
        libs: reply.libs.into_iter().map(|lib| lib.name).collect(),
        system_libs: reply.system_libs,
        link_args: reply.link_args,
        cmake_options: plan.defines.clone(),
    })
}

/// A folder to build into, locked, and everything that was looked for before CMake starts.
struct Prepared {
    dir: PathBuf,
    tree: tree::Tree,
    tools: toolchain::Tools,
    plan: cmake::Plan,
    _lock: File,
}

impl Prepared {
    fn new(options: &Options, dir: &Path) -> Result<Prepared, Error> {
        options.check()?;
        fs::create_dir_all(dir).map_err(at("create", dir))?;
        // CMake runs elsewhere.
        let dir = std::path::absolute(dir).map_err(at("make absolute", dir))?;
        let lock_path = dir.join(".lock");
        let lock = File::create(&lock_path).map_err(at("create", &lock_path))?;
        lock.lock().map_err(at("lock", &lock_path))?;

        let tree = tree::Tree::open(&options.tree)?;
        tree.check(options.telemetry)?;
        let tools = toolchain::find(options)?;
        let plan = cmake::Plan::new(options, &tree, &tools, &dir)?;
        let needs = dir.join("toolkit");
        toolkit::check(&tools.cmake, tools.ninja.as_deref(), &options.defines, &options.backends, &needs)?;
        Ok(Prepared { dir, tree, tools, plan, _lock: lock })
    }
}
