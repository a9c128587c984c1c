//! llama.cpp's backends: one table that says how each is called, which CMake switch turns it on,
//! and whether this project builds it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

macro_rules! backends {
    ($( $(#[$doc:meta])* $variant:ident $name:literal $switch:literal $supported:literal; )*) => {
        /// Where llama.cpp computes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Backend {
            $( $(#[$doc])* $variant, )*
        }

        const TABLE: &[Row] = &[
            $( Row { backend: Backend::$variant, name: $name, switch: $switch, supported: $supported }, )*
        ];
    };
}

struct Row {
    backend: Backend,
    name: &'static str,
    switch: &'static str,
    supported: bool,
}

backends! {
    /// The processor, portable over machines of one architecture.
    Cpu    "cpu"    "GGML_CPU"    true;
    /// NVIDIA GPUs.
    Cuda   "cuda"   "GGML_CUDA"   false;
    /// Apple GPUs.
    Metal  "metal"  "GGML_METAL"  false;
    /// Any GPU with a Vulkan driver.
    Vulkan "vulkan" "GGML_VULKAN" false;
    /// A BLAS library on the processor.
    Blas   "blas"   "GGML_BLAS"   false;
    /// Devices of another machine.
    Rpc    "rpc"    "GGML_RPC"    false;
    /// AMD GPUs.
    Hip    "hip"    "GGML_HIP"    false;
    /// Intel GPUs.
    Sycl   "sycl"   "GGML_SYCL"   false;
    /// GPUs with an OpenCL driver.
    Opencl "opencl" "GGML_OPENCL" false;
}

impl Backend {
    /// Every backend that has a name here, supported or not.
    pub fn all() -> impl Iterator<Item = Backend> {
        TABLE.iter().map(|row| row.backend)
    }

    /// The name on the command line and of the cargo feature.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// Whether [`build`](crate::build) can build it today.
    pub fn is_supported(self) -> bool {
        self.row().is_some_and(|row| row.supported)
    }

    /// The values of every backend's CMake switch when this one is asked for. The processor is
    /// always on, since llama.cpp needs it beside any other; the rest is off explicitly, because
    /// upstream turns some on by itself (Metal and BLAS on macOS).
    pub(crate) fn switches(self) -> impl Iterator<Item = (&'static str, bool)> {
        TABLE.iter().map(move |row| {
            let on = row.backend == self || row.backend == Backend::Cpu;
            (row.switch, on)
        })
    }

    pub(crate) fn names() -> String {
        join(TABLE.iter())
    }

    pub(crate) fn supported_names() -> String {
        join(TABLE.iter().filter(|row| row.supported))
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.backend == self)
    }
}

fn join(rows: impl Iterator<Item = &'static Row>) -> String {
    rows.map(|row| row.name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        TABLE
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.backend)
            .ok_or_else(|| Error::UnknownBackend { name: name.into() })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_match_serde() {
        for backend in Backend::all() {
            assert_eq!(backend.name().parse::<Backend>().unwrap(), backend);
            let json = serde_json::to_string(&backend).unwrap();
            assert_eq!(json, format!("\"{}\"", backend.name()));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "gpu".parse::<Backend>().unwrap_err().to_string();
        assert!(error.contains("`gpu`"), "{error}");
        assert!(error.contains("cpu, cuda, metal"), "{error}");
    }

    #[test]
    fn an_unsupported_one_lists_the_supported_ones() {
        let error = Error::UnsupportedBackend { backend: Backend::Cuda };
        let text = error.to_string();
        assert!(text.contains("`cuda` is not supported yet"), "{text}");
        assert!(text.ends_with("supported today: cpu"), "{text}");
    }

    #[test]
    fn cpu_turns_every_other_backend_off() {
        let on: Vec<_> = Backend::Cpu.switches().filter(|s| s.1).map(|s| s.0).collect();
        assert_eq!(on, ["GGML_CPU"]);
        let on: Vec<_> = Backend::Cuda.switches().filter(|s| s.1).map(|s| s.0).collect();
        assert_eq!(on, ["GGML_CPU", "GGML_CUDA"]);
    }
}
