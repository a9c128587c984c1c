//! From a commit in a repository to the library: what `llama_otel_ctl` says of a tree that was vendored from git. It is
//! what the runtime exports as `llama.commit` and `llama.build.number`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{commit_all, run_git, vendored, write};
use crate::checkout::{Checkout, success};

const TREE: [(&str, &str); 8] = [
    (
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.14...3.28)\nproject(llama.cpp C CXX)\nset(LLAMA_VERSION 0.9.1)\n\
         add_subdirectory(ggml)\nadd_subdirectory(src)\n",
    ),
    (
        "ggml/CMakeLists.txt",
        "project(ggml C CXX)\nadd_library(ggml ggml.cpp)\ntarget_include_directories(ggml PUBLIC include)\n\
         add_compile_definitions(GGML_VERSION=\"0.30.2\")\n",
    ),
    ("ggml/ggml.cpp", "int ggml() { return 1; }\n"),
    ("ggml/include/ggml.h", "int ggml();\n"),
    ("LICENSE", "MIT\n"),
    ("include/llama.h", "#pragma once\n"),
    (
        "src/CMakeLists.txt",
        "add_library(llama llama.cpp)\ntarget_include_directories(llama PUBLIC ../include)\ntarget_link_libraries(llama PUBLIC ggml)\n",
    ),
    ("src/llama.cpp", "#include \"llama.h\"\n\nint llama() { return 1; }\n"),
];

const POINTS: &str = r##"
[[point]]
id = "header"
purpose = "macros are seen"
insert = '#include "common/otel/otel.h"'
at = [{ file = "src/llama.cpp", position = "includes-end" }]

[[block]]
file = "src/CMakeLists.txt"
text = 'add_subdirectory("${CMAKE_CURRENT_SOURCE_DIR}/../common/otel" "${CMAKE_CURRENT_BINARY_DIR}/otel")'
"##;

const PROGRAM: &str = "#include \"common/otel/otel.h\"\n#include \"common/otel/otel-backend.h\"\n#include <cstdio>\n\
    int main() {\n    printf(\"%s %lld %s\\n\", llama_otel_ctl.llama_commit, (long long) llama_otel_ctl.llama_build_number, \
    llama_otel_ctl.llama_version);\n}\n";

#[test]
fn the_library_knows_the_commit_that_was_vendored() {
    let tools = ["CMAKE", "LLAMA_OTEL_NINJA", "LIBCLANG_PATH"];
    if let Some(missing) = tools.iter().find(|name| env::var_os(name).is_none()) {
        println!("SKIP: {missing} is not set; `cargo xtask test` sets it");
        return;
    }
    let checkout = Checkout::new();
    let upstream = checkout.dir("upstream");
    for (name, text) in TREE {
        write(&upstream.join(name), text);
    }
    let commit = commit_all(&upstream);
    run_git(&upstream, &["tag", "b6097"]);
    write(&checkout.path().join("patcher/points/header.toml"), POINTS);
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("../otel-shim");
    for dir in ["include", "cpp", "cmake", "otelcpp"] {
        for entry in fs::read_dir(shim.join(dir)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, checkout.dir(&format!("otel-shim/{dir}")).join(path.file_name().unwrap())).unwrap();
        }
    }

    let url = format!("file://{}", upstream.display());
    let report = vendored(&checkout, &["pinned", "--git", &url, "--rev", "main"]);
    assert_eq!((&report["build_commit"], &report["build_number"]), (&commit.as_str().into(), &6097.into()));
    success(&mut checkout.xtask(["patch", "pinned"]));
    let patched = checkout.vendor("pinned").join("patched");
    let stamp: serde_json::Value = serde_json::from_slice(&fs::read(patched.join("PATCHED.json")).unwrap()).unwrap();
    assert_eq!((&stamp["build_commit"], &stamp["build_number"]), (&commit.as_str().into(), &6097.into()));

    let expected = format!("{commit} 6097 0.9.1\n");
    let target = checkout.dir("target");
    let mut build = checkout.xtask(["build", "--pin", "pinned", "--telemetry", "none"]);
    let built = PathBuf::from(success(build.env("CARGO_TARGET_DIR", &target)).trim());
    assert_eq!(said_by(&built.join("include"), &built.join("lib/libllama-otel.a"), &checkout), expected);

    // The same tree elsewhere, built by a user's own cmake, beside no VENDORED.json and in no repository.
    let other = checkout.path().join("elsewhere");
    success(checkout.xtask(["patch", "pinned", "--out"]).arg(&other));
    let cmake = || Command::new(env::var_os("CMAKE").unwrap());
    let objects = checkout.path().join("objects");
    success(cmake().arg("-S").arg(&other).arg("-B").arg(&objects));
    success(cmake().arg("--build").arg(&objects).args(["--target", "llama-otel"]));
    assert_eq!(said_by(&other, &objects.join("src/otel/libllama-otel.a"), &checkout), expected);
}

fn said_by(include: &Path, library: &Path, checkout: &Checkout) -> String {
    let (source, program) = (checkout.path().join("said.cpp"), checkout.path().join("said"));
    write(&source, PROGRAM);
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-DLLAMA_OTEL=1", "-pthread", "-I"]).arg(include);
    success(command.arg(&source).arg(library).arg("-o").arg(&program));
    success(&mut Command::new(program))
}
