//! Compiles what is measured in C++: the macros, and opentelemetry-cpp with the feature `otelcpp`.

const PEER_LIBRARIES: [&str; 4] =
    ["opentelemetry_trace", "opentelemetry_metrics", "opentelemetry_resources", "opentelemetry_common"];

fn main() {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed=../otel-shim/include");
    let enabled = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if enabled("HOT") {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").include("../otel-shim/include").define("LLAMA_OTEL", "1");
        build.file("cpp/hot.cpp").compile("llama-otel-bench-hot");
    }
    if enabled("OTELCPP") {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").warnings(false).file("cpp/peer.cpp").compile("llama-otel-bench-peer");
        for library in PEER_LIBRARIES {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
}
