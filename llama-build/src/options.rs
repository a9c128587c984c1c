//! What to build: the choices that a caller has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::Error;

/// What to build and with which tools.
#[derive(Clone, Debug)]
pub struct Options {
    /// The llama.cpp tree, patched or pristine. It is only read.
    pub tree: PathBuf,
    /// Where llama.cpp computes.
    pub backend: Backend,
    /// What stands behind the telemetry macros of a patched tree.
    pub telemetry: Telemetry,
    /// Further CMake cache entries, name without `-D`; they win over everything chosen here.
    pub defines: Vec<(String, String)>,
    /// Parallel compiler processes; all processors if `None`.
    pub jobs: Option<usize>,
    /// Optimisation and debug information.
    pub build_type: BuildType,
    /// Shared instead of static libraries (not supported yet).
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
            backend: Backend::Cpu,
            telemetry: Telemetry::None,
            defines: Vec::new(),
            jobs: None,
            build_type: BuildType::Release,
            shared: false,
            cmake: None,
            ninja: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.backend.is_supported() {
            return Err(Error::UnsupportedBackend { backend: self.backend });
        }
        if self.shared {
            return Err(Error::SharedUnsupported);
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
    /// The macros are there, but nothing is registered behind them (`LLAMA_OTEL_BACKEND=none`).
    None,
    /// The macros are empty (`LLAMA_OTEL=OFF`).
    Off,
}

impl Telemetry {
    pub(crate) fn defines(self) -> [(&'static str, &'static str); 2] {
        match self {
            Telemetry::Rust => [("LLAMA_OTEL", "ON"), ("LLAMA_OTEL_BACKEND", "rust")],
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
    fn unsupported_choices_are_refused_before_anything_runs() {
        let mut options = Options::new("no-such-tree");
        options.backend = Backend::Vulkan;
        assert!(matches!(
            crate::build(&options, "unused".as_ref(), &mut |_| {}),
            Err(Error::UnsupportedBackend { backend: Backend::Vulkan })
        ));
        assert!(!std::path::Path::new("unused").exists());
        options.backend = Backend::Cpu;
        options.shared = true;
        assert!(matches!(options.check(), Err(Error::SharedUnsupported)));
    }
}
