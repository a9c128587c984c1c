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
mod tree;

use std::fs::{self, File};
use std::path::Path;

pub use backend::Backend;
pub use error::Error;
pub use key::key;
pub use manifest::{Compiler, Lib, LibKind, MANIFEST_FILE, Manifest, SystemLib, SystemLibKind};
pub use options::{BuildType, Options, Telemetry};
pub use toolchain::COMPILER_VARIABLES;

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
/// An unsupported combination of options, a tree or tool that is missing, a failed step (with the
/// lines that say why), or a file that could not be read or written.
pub fn build(options: &Options, dir: &Path, on_line: &mut dyn FnMut(&str)) -> Result<Manifest, Error> {
    options.check()?;
    fs::create_dir_all(dir).map_err(at("create", dir))?;
    // CMake runs elsewhere.
    let dir = &std::path::absolute(dir).map_err(at("make absolute", dir))?;
    let lock_path = dir.join(".lock");
    let lock = File::create(&lock_path).map_err(at("create", &lock_path))?;
    lock.lock().map_err(at("lock", &lock_path))?;

    let tree = tree::Tree::open(&options.tree)?;
    tree.check(options.telemetry)?;
    let tools = toolchain::find(options)?;
    let plan = cmake::Plan::new(options, &tree, &tools, dir);
    let mut run = cmake::Run::start(&tools, &tree, dir, on_line)?;
    plan.configure(&mut run)?;
    plan.compile(&mut run)?;

    let reply = reply::read(&plan.build_dir)?;
    let manifest = Manifest::new(key::of(options, &tree, &tools)?, options, &tree, &plan, &tools, &reply);
    publish::publish(&manifest, &tree, &reply, dir)?;
    Ok(manifest)
}
