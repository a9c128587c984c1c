//! What to build: the choices that a caller has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Backends};
use crate::error::Error;

/// What to build and with which tools.
#[derive(Clone, Debug)]
pub struct Options {
    /// The llama.cpp tree, patched or pristine. It is only read.
    pub tree: PathBuf,
    /// Where llama.cpp computes.
    pub backends: Backends,
    /// Backends as modules that are looked for when a program runs; implies shared libraries.
    pub dynamic_backends: bool,
    /// Code for the processor (and with cuda the GPU) of this very machine instead of portable one.
    pub native: bool,
    /// `CMAKE_CUDA_ARCHITECTURES`, for example `75-virtual` or `90`; llama.cpp's own list if `None`.
    pub cuda_arch: Option<String>,
    /// What stands behind the telemetry macros of a patched tree.
    pub telemetry: Telemetry,
    /// Further CMake cache entries, name without `-D`; they win over everything chosen here.
    pub defines: Vec<(String, String)>,
    /// Parallel compiler processes; all processors if `None`.
    pub jobs: Option<usize>,
    /// Optimisation and debug information.
    pub build_type: BuildType,
    /// Shared instead of static libraries.
    pub shared: bool,
    /// The `cmake` program; the one on the `PATH` if `None`.
    pub cmake: Option<PathBuf>,
    /// The `ninja` program; the one on the `PATH` if `None`, and CMake's default generator if
    /// there is none.
    pub ninja: Option<PathBuf>,
}

impl Options {
    /// A portable static Release build of `tree` for the processor, without telemetry.
    pub fn new(tree: impl Into<PathBuf>) -> Self {
        Options {
            tree: tree.into(),
            backends: Backend::Cpu.into(),
            dynamic_backends: false,
            native: false,
            cuda_arch: None,
            telemetry: Telemetry::None,
            defines: Vec::new(),
            jobs: None,
            build_type: BuildType::Release,
            shared: false,
            cmake: None,
            ninja: None,
        }
    }

    /// Whether shared libraries come out.
    pub fn is_shared(&self) -> bool {
        self.shared || self.dynamic_backends
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if cfg!(windows) && self.is_shared() && self.telemetry == Telemetry::Rust {
            return Err(Error::SharedRust);
        }
        if self.native && self.dynamic_backends {
            return Err(Error::NativeModules);
        }
        Ok(())
    }
}

/// What stands behind the telemetry macros of a patched tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Telemetry {
    /// The crate `otel-shim`; the program must link it after `llama-otel`.
    Rust,
    /// opentelemetry-cpp (`LLAMA_OTEL_BACKEND=cpp`), installed or named by `OPENTELEMETRY_CPP_SOURCE_DIR` among the defines.
    Cpp,
    /// The macros are there, but nothing is registered behind them (`LLAMA_OTEL_BACKEND=none`).
    None,
    /// The macros are empty (`LLAMA_OTEL=OFF`).
    Off,
}

impl Telemetry {
    pub(crate) fn defines(self) -> [(&'static str, &'static str); 2] {
        match self {
            Telemetry::Rust => [("LLAMA_OTEL", "ON"), ("LLAMA_OTEL_BACKEND", "rust")],
            Telemetry::Cpp => [("LLAMA_OTEL", "ON"), ("LLAMA_OTEL_BACKEND", "cpp")],
            Telemetry::None => [("LLAMA_OTEL", "ON"), ("LLAMA_OTEL_BACKEND", "none")],
            Telemetry::Off => [("LLAMA_OTEL", "OFF"), ("LLAMA_OTEL_BACKEND", "none")],
        }
    }
}

/// CMake's build types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildType {
    /// Optimised, asserts of the C library off.
    Release,
    /// Not optimised, with debug information. Inference is very slow.
    Debug,
    /// Optimised, with debug information.
    RelWithDebInfo,
    /// Optimised for size.
    MinSizeRel,
}

impl BuildType {
    /// The value of `CMAKE_BUILD_TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            BuildType::Release => "Release",
            BuildType::Debug => "Debug",
            BuildType::RelWithDebInfo => "RelWithDebInfo",
            BuildType::MinSizeRel => "MinSizeRel",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_shared_libraries() {
        let mut options = Options::new("unused");
        assert!(!options.is_shared());
        options.dynamic_backends = true;
        assert!(options.is_shared());
        options.telemetry = Telemetry::Rust;
        assert_eq!(options.check().is_err(), cfg!(windows));
        options.telemetry = Telemetry::None;
        options.native = true;
        assert!(matches!(options.check(), Err(Error::NativeModules)));
    }
}
