//! Compiles the bridge between the C++ runtime and this crate; the runtime itself only with the feature `runtime`.

mod bridge;

use std::path::{Path, PathBuf};

fn main() {
    guide();
    let has_runtime = std::env::var_os("CARGO_FEATURE_RUNTIME").is_some();
    let (sources, definitions) = match has_runtime {
        true => (runtime(), &[("LLAMA_OTEL", Some("1")), ("LLAMA_OTEL_BACKEND_RUST", None)] as &[_]),
        false => (Vec::new(), &[] as &[_]),
    };
    bridge::compile("", &sources, definitions);
    bridge::announce(Path::new("tests/cpp"));
}

/// The runtime, all of `cpp/` but the bridge, and the programs of the tests upon it.
fn runtime() -> Vec<PathBuf> {
    let folder = std::fs::read_dir("cpp").expect("cargo runs this in the crate's folder");
    let mut sources: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|e| e == "cpp") && !path.ends_with("bridge.cpp"));
    sources.sort();
    sources.extend(["embedding", "lifecycle", "scenarios"].map(|name| format!("tests/cpp/{name}.cpp").into()));
    sources
}

/// The guide's examples in Rust, as documentation tests of this crate see them.
fn guide() {
    let to = Path::new(&std::env::var_os("OUT_DIR").expect("cargo sets it")).join("embedding.md");
    let text = std::fs::read_to_string("../docs/embedding.md").unwrap_or_default();
    std::fs::write(
        to,
        text.replace("use llama_otel_sys::otel;", "use otel_shim as otel;")
            .replace("llama_otel_sys::otel::{self,", "otel_shim::{self as otel,"),
    )
    .expect("cargo's folder can be written to");
    bridge::announce(Path::new("../docs/embedding.md"));
}
