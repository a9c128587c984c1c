//! llama.cpp with OpenTelemetry inside: the C interface and everything to link.
//!
//! The declarations are upstream's own (`llama_*`, `ggml_*`, `gguf_*`), so programs written for
//! llama.cpp's C interface work unchanged. With the feature `telemetry-rust` (default) the
//! library reports spans and metrics once the standard `OTEL_*` variables ask for them, and does
//! nothing without; the backend itself is re-exported as `otel`. With `telemetry-cpp` instead, opentelemetry-cpp is the backend,
//! and `otel` has what needs no OpenTelemetry for Rust.
//!
//! The build script takes a finished build (`LLAMA_OTEL_PREBUILT`, made by `cargo xtask build`),
//! else builds the patched tree that `LLAMA_OTEL_TREE` names, that lies in the package, or that `cargo xtask patch` made.
//!
//! ```
//! // SAFETY: initialising and freeing the backend needs nothing but this order.
//! unsafe {
//!     llama_otel_sys::llama_backend_init();
//!     println!("{}", llama_otel_sys::version());
//!     llama_otel_sys::llama_backend_free();
//! }
//! ```

use std::fmt;

#[allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    rustdoc::all,
    // In derived comparisons of upstream's callback tables.
    unpredictable_function_pointer_comparisons,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// The telemetry backend. Linked through this re-export even if a program never names it: the
/// library calls it.
#[cfg(feature = "telemetry-rust")]
pub use otel_shim as otel;

#[cfg(feature = "telemetry-rust")]
otel_shim::require_instrumented!();

#[cfg(all(feature = "telemetry-cpp", not(feature = "telemetry-rust")))]
pub mod otel;

/// What llama.cpp this crate was built from, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// llama.cpp's version; empty for trees older than versions.
    pub llama: &'static str,
    /// ggml's version; empty for trees older than versions.
    pub ggml: &'static str,
    /// The stamped build number; `"0"` where it is not known.
    pub build_number: &'static str,
    /// The stamped commit, or the pin of a tree that comes from a package.
    pub commit: &'static str,
    /// The pin that the tree was vendored under; empty for any other tree.
    pub pin: &'static str,
    /// The backends built in, separated by commas.
    pub backends: &'static str,
    /// What stands behind the telemetry macros: `rust`, `cpp`, `none` or `off`.
    pub telemetry: &'static str,
}

/// The folder of the backends that ggml loads when the program runs: with the feature
/// `dynamic-backends` give it to `ggml_backend_load_all_from_path` before anything else. `None`
/// where they are linked.
pub const BACKENDS_DIR: Option<&str> = {
    let dir = env!("LLAMA_OTEL_SYS_BACKENDS_DIR");
    if dir.is_empty() { None } else { Some(dir) }
};

/// What llama.cpp this crate was built from, and how.
pub const fn version() -> Version {
    Version {
        llama: env!("LLAMA_OTEL_SYS_LLAMA"),
        ggml: env!("LLAMA_OTEL_SYS_GGML"),
        build_number: env!("LLAMA_OTEL_SYS_BUILD_NUMBER"),
        commit: env!("LLAMA_OTEL_SYS_COMMIT"),
        pin: env!("LLAMA_OTEL_SYS_PIN"),
        backends: env!("LLAMA_OTEL_SYS_BACKENDS"),
        telemetry: env!("LLAMA_OTEL_SYS_TELEMETRY"),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "llama.cpp {} (ggml {}, b{} {}), backends: {}, telemetry: {}",
            self.llama, self.ggml, self.build_number, self.commit, self.backends, self.telemetry
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_linked_library_is_the_one_described() {
        // SAFETY: both return static strings.
        let (llama, ggml) = unsafe { (CStr::from_ptr(llama_version()), CStr::from_ptr(ggml_version())) };
        assert_eq!(llama.to_str(), Ok(version().llama));
        assert_eq!(ggml.to_str(), Ok(version().ggml));
        assert_eq!(version().telemetry == "rust", cfg!(feature = "telemetry-rust"));
        #[cfg(feature = "telemetry-rust")]
        assert!(llama_otel_build().to_str().unwrap().contains(&format!("llama.cpp {}", version().llama)));
    }
}
