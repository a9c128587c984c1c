//! What can go wrong in a build, each with what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::backend::Backend;

/// A build that did not happen, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none of llama.cpp's backends that this project knows.
    #[error("no backend is named `{name}`\nhelp: the names are {known}", known = Backend::names())]
    UnknownBackend {
        /// What was asked for.
        name: String,
    },
    /// The machine lacks what the backend needs.
    #[error("this machine cannot build the backend `{backend}`: missing {missing}\nhelp: {install}")]
    ToolkitMissing {
        /// What was asked for.
        backend: Backend,
        /// Everything that is missing, for people.
        missing: String,
        /// The command that gets it.
        install: String,
    },
    /// The tree is older than the backend.
    #[error(
        "{tree} has no backend `{backend}`: its CMake files declare no {switch}\n\
         help: build another tree (`--pin`), or without this backend"
    )]
    BackendNotInTree {
        /// What was asked for.
        backend: Backend,
        /// The tree.
        tree: PathBuf,
        /// The switches that were looked for.
        switch: String,
    },
    /// Modules are there so that the best one is chosen when a program runs.
    #[error(
        "code for this very processor and dynamic backends exclude each other: ggml refuses the two together\n\
         help: leave one out; with dynamic backends the best code is chosen when the program starts"
    )]
    NativeModules,
    /// A DLL cannot leave a symbol to the program that loads it.
    #[error(
        "on Windows, shared libraries cannot carry the Rust telemetry backend: it is part of the program that loads them\n\
         help: build static libraries, or choose another backend for the telemetry"
    )]
    SharedRust,
    /// The folder holds no llama.cpp.
    #[error(
        "{tree} is not a llama.cpp tree: it has no {missing}\n\
         help: `cargo xtask vendor` fetches one and `cargo xtask patch` instruments it"
    )]
    NotATree {
        /// The folder that was given.
        tree: PathBuf,
        /// The first file that was looked for and is not there.
        missing: &'static str,
    },
    /// Telemetry was asked for, but the tree is upstream's.
    #[error(
        "{tree} is not patched, so it cannot carry telemetry\n\
         help: run `cargo xtask patch`, or build without telemetry"
    )]
    NotPatched {
        /// The folder that was given.
        tree: PathBuf,
    },
    /// A stamp beside the tree (`VENDORED.json`, `PATCHED.json`) cannot be understood.
    #[error("{path} is damaged: {reason}\nhelp: `cargo xtask vendor` and `cargo xtask patch` write it anew")]
    Stamp {
        /// The stamp.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tool is not on this machine.
    #[error("{tool} was not found (tried {tried})\nhelp: {help}")]
    ToolMissing {
        /// The tool's name.
        tool: &'static str,
        /// The programs that were tried.
        tried: String,
        /// How to get it.
        help: &'static str,
    },
    /// A tool is there, but does not work or is too old.
    #[error("{program} cannot be used: {reason}\nhelp: {help}")]
    ToolUnusable {
        /// The program that was run.
        program: PathBuf,
        /// What it answered.
        reason: String,
        /// How to get a better one.
        help: &'static str,
    },
    /// CMake or the compiler failed.
    #[error("{step} failed ({status}); the whole output is in {log}\n  command: {command}\n{lines}")]
    Step {
        /// `configuring llama.cpp` or `compiling llama.cpp`.
        step: &'static str,
        /// The exit status in words.
        status: String,
        /// The command line.
        command: String,
        /// The lines that say why, or the last ones.
        lines: String,
        /// The file that has every line.
        log: PathBuf,
    },
    /// CMake's description of the build is not as expected.
    #[error(
        "CMake's description of the build (file API) is not as expected: {what}\nhelp: delete {build_dir} and build again"
    )]
    Reply {
        /// What is missing or malformed.
        what: String,
        /// The CMake build tree.
        build_dir: PathBuf,
    },
    /// There is no usable manifest in the folder.
    #[error("{path} is not a usable manifest: {reason}\nhelp: `cargo xtask build` writes one")]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// A verb: `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Gives an I/O error its place: `fs::read(p).map_err(at("read", p))`.
pub(crate) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io { action, path: path.to_path_buf(), source }
}
