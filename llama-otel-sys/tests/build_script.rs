//! The build script's decisions and errors, without running it.

// The script is a program of its own: what it does not share with these tests looks unused here.
#![allow(dead_code)]

#[path = "../build/cmake.rs"]
mod cmake;
#[path = "../build/env.rs"]
mod env;

use cmake::Request;
use env::Env;
use llama_build::{Backend, Telemetry};

fn env_of(variables: &[(&str, &str)]) -> Env {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Env::new(move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
}

fn portable() -> Request {
    Request {
        backends: Backend::Cpu.into(),
        telemetry: Telemetry::None,
        native: false,
        shared: false,
        dynamic_backends: false,
    }
}

#[test]
fn features_decide_what_is_asked_for() {
    assert_eq!(cmake::request(&env_of(&[])).unwrap(), portable());
    let default = env_of(&[("CARGO_FEATURE_CPU", "1"), ("CARGO_FEATURE_TELEMETRY_RUST", "1")]);
    let telemetry = Telemetry::Rust;
    assert_eq!(cmake::request(&default).unwrap(), Request { telemetry, ..portable() });
}

#[test]
fn every_backend_is_a_feature_and_they_add_up() {
    let manifest = include_str!("../Cargo.toml");
    for backend in Backend::all() {
        assert!(manifest.contains(&format!("\n{backend} = []\n")), "no feature {backend}");
    }
    let asked = env_of(&[
        ("CARGO_FEATURE_CPU", "1"),
        ("CARGO_FEATURE_VULKAN", "1"),
        ("CARGO_FEATURE_RPC", "1"),
        ("CARGO_FEATURE_DYNAMIC_BACKENDS", "1"),
    ]);
    let request = cmake::request(&asked).unwrap();
    assert_eq!(request, Request { backends: "vulkan,rpc".parse().unwrap(), dynamic_backends: true, ..portable() });
}

#[test]
fn further_cmake_entries_are_checked() {
    let env = env_of(&[("LLAMA_OTEL_CMAKE_DEFINES", "GGML_CUDA_FA=OFF  A=B=C")]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(cmake::defines(&env).unwrap(), [pair("GGML_CUDA_FA", "OFF"), pair("A", "B=C")]);
    let error = cmake::defines(&env_of(&[("LLAMA_OTEL_CMAKE_DEFINES", "GGML_CUDA_FA")])).unwrap_err();
    assert!(error.contains("`GGML_CUDA_FA` is not NAME=VALUE"), "{error}");
}

#[test]
fn a_missing_tree_names_the_command() {
    let error = cmake::tree(&env_of(&[("CARGO_MANIFEST_DIR", "no-such-folder")])).unwrap_err();
    assert!(error.contains("cargo xtask patch"), "{error}");
    assert!(error.contains("LLAMA_OTEL_TREE"), "{error}");

    let error = cmake::tree(&env_of(&[("LLAMA_OTEL_TREE", "no-such-folder")])).unwrap_err();
    assert!(error.contains("LLAMA_OTEL_TREE=no-such-folder"), "{error}");
}

#[test]
fn a_missing_prebuilt_names_the_command() {
    let env = env_of(&[("LLAMA_OTEL_PREBUILT", "no-such-folder")]);
    let request = cmake::request(&env).unwrap();
    let error = cmake::obtain(&env, &request).err().unwrap();
    assert!(error.contains("LLAMA_OTEL_PREBUILT"), "{error}");
    assert!(error.contains("cargo xtask build"), "{error}");
}

#[test]
fn outside_cargo_the_error_says_so() {
    let error = env_of(&[]).cargo("OUT_DIR").unwrap_err();
    assert!(error.contains("cargo build"), "{error}");
}
