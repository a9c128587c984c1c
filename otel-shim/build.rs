//! Compiles the bridge between the C++ runtime and this crate; the runtime itself only with the feature `runtime`.

fn main() {
    let mut build = cxx_build::bridge("src/lib.rs");
    build.file("cpp/bridge.cpp").include("include").std("c++17").warnings(false);
    if std::env::var_os("CARGO_FEATURE_RUNTIME").is_some() {
        build.file("cpp/otel.cpp").file("tests/cpp/scenarios.cpp");
        build.define("LLAMA_OTEL", "1").define("LLAMA_OTEL_BACKEND_RUST", None);
    }
    build.compile("otel-shim-bridge");
    for input in ["src/lib.rs", "cpp", "include", "tests/cpp"] {
        println!("cargo::rerun-if-changed={input}");
    }
}
