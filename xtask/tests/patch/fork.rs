//! A small llama.cpp, and a checkout whose points are made for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::checkout::Checkout;

/// Points for [`write_fork`], one of them with an argument that tells versions of the set apart.
pub const POINTS: &str = r##"
[[point]]
id = "header"
purpose = "macros are seen"
insert = '#include "common/otel/otel.h"'
at = [{ file = "src/llama-impl.h", position = "includes-end" }]

[[point]]
id = "decode.span"
purpose = "one batch"
insert = 'LLAMA_OTEL_SPAN("@VERSION@");'
at = [
  { file = "src/llama-context.cpp", function = "llama_context::decode", params = { batch = "llama_batch" }, position = "body-start" },
  { file = "src/llama.cpp", function = "llama_decode_impl", position = "body-start" },
]

[[point]]
id = "decode.return"
purpose = "why it failed"
insert = 'LLAMA_OTEL_SET_DECODE_STATUS({code});'
at = [{ file = "src/llama-context.cpp", function = "llama_context::decode", position = "before", match = '^return (?<code>-?[1-9]);' }]

[[block]]
file = "src/CMakeLists.txt"
text = 'add_subdirectory("../common/otel" "otel")'
"##;

const FILES: [(&str, &str); 8] = [
    ("CMakeLists.txt", "cmake_minimum_required(VERSION 3.14)\nproject(llama)\nadd_subdirectory(src)\n"),
    ("LICENSE", "MIT\n"),
    ("README.md", "LLAMA_OTEL_SPAN at the start of a line of a text is no line of ours.\n"),
    ("include/llama.h", "#pragma once\n"),
    ("src/CMakeLists.txt", "add_library(llama llama-context.cpp)\n"),
    ("src/llama-impl.h", "#pragma once\n\n#include <string>\n\nstruct llama_batch { int n; };\n"),
    (
        "src/llama-context.cpp",
        "#include \"llama-impl.h\"\n\nstruct llama_context { int decode(const llama_batch & batch); };\n\n\
         int llama_context::decode(const llama_batch & batch) {\n    if (batch.n == 0) {\n        return -1;\n    }\n    return 0;\n}\n",
    ),
    ("src/llama.cpp", "#include \"llama-impl.h\"\n"),
];

/// Writes a small llama.cpp with `extra` more files.
pub fn write_fork(dir: &Path, extra: usize) {
    for (name, text) in FILES {
        write(&dir.join(name), text);
    }
    for index in 0..extra {
        write(&dir.join(format!("src/part-{index}.cpp")), format!("int part_{index};\n").repeat(20));
    }
}

/// A checkout with [`POINTS`] and the files that patching adds.
pub fn checkout_with_points() -> Checkout {
    let checkout = Checkout::new();
    write_points(&checkout, "llama_decode");
    write(
        &checkout.path().join("otel-shim/include/otel.h"),
        "#pragma once\n#define LLAMA_OTEL_SPAN(name)\n#define LLAMA_OTEL_SET_DECODE_STATUS(code)\n",
    );
    write(&checkout.path().join("otel-shim/cpp/otel.cpp"), "#include \"otel.h\"\n");
    write(&checkout.path().join("otel-shim/cmake/CMakeLists.txt"), "add_library(llama-otel otel.cpp)\n");
    write(&checkout.path().join("otel-shim/otelcpp/backend.cpp"), "#include \"otel.h\"\n");
    checkout
}

/// Another version of the points: the span has another name.
pub fn write_points(checkout: &Checkout, span: &str) {
    write(&checkout.path().join("patcher/points/decode.toml"), POINTS.replace("@VERSION@", span));
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Contents by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file below `dir` but git's own, with its content.
pub fn files(dir: &Path) -> Files {
    files_but(dir, |_| false)
}

/// The same without those that `left_out` names.
pub fn files_but(dir: &Path, left_out: impl Fn(&str) -> bool) -> Files {
    let tree = patcher::Tree::open(dir, "t").unwrap();
    let paths = tree.paths().unwrap().into_iter().filter(|path| !path.starts_with(".git/") && !left_out(path));
    paths.map(|path| (path.clone(), fs::read(dir.join(&path)).unwrap())).collect()
}

/// Runs git in `dir` as somebody, on its own configuration.
pub fn git(dir: &Path, args: &[&str]) -> Output {
    let output = git_command(dir, args).output().unwrap();
    assert!(output.status.success(), "git {args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]);
    command.args(["-c", "core.autocrlf=false", "-c", "init.defaultBranch=main"]).args(args);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

/// A fork under git with everything committed.
pub fn committed_fork(checkout: &Checkout, name: &str) -> PathBuf {
    let fork = checkout.dir(name);
    write_fork(&fork, 0);
    git(&fork, &["init", "--quiet"]);
    commit_all(&fork);
    fork
}

pub fn commit_all(dir: &Path) {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--message", "x"]);
}

/// Exit code, standard output and standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code().unwrap_or(-1), stdout, stderr)
}
