//! Threads that open and close spans under ThreadSanitizer, AddressSanitizer with leaks, UndefinedBehaviorSanitizer
//! and Valgrind: the runtime in C++ with each, the whole with the Rust backend under Valgrind.
//!
//! For a second each; `LLAMA_OTEL_STRESS_SECONDS=60` for as long as the nightly workflow does.

mod child;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use otlp_receiver::Receiver;

const THREADS: &str = "64";

fn seconds() -> String {
    std::env::var("LLAMA_OTEL_STRESS_SECONDS").unwrap_or_else(|_| "1".to_owned())
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The runtime's sources, without the one that needs Rust.
fn sources() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources: Vec<_> = std::fs::read_dir(folder.join("cpp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "cpp") && !path.ends_with("bridge.cpp"))
        .collect();
    sources.push(folder.join("tests/cpp/stress.cpp"));
    sources
}

/// Compiles the stress program; the compiler's words if it cannot.
fn build(compiler: &str, to: &Path, flags: &[&str]) -> Result<(), String> {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut command = Command::new(compiler);
    command
        .args(["-std=c++17", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread", "-DLLAMA_OTEL=1", "-I"])
        .arg(include);
    let output = command.args(flags).args(sources()).arg("-o").arg(to).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn clean(name: &str, output: &Output) {
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{name}: {}\n{text}", output.status);
    println!("{name}: {}", String::from_utf8_lossy(&output.stdout).trim());
}

/// A compiler may lack a sanitizer's library; what it says of a program without any is an error of ours.
fn under(name: &str, flag: &str, variable: (&str, &str)) {
    let folder = tempfile::tempdir().unwrap();
    for compiler in ["g++", "clang++"] {
        if !is_there(compiler) {
            println!("SKIP: {compiler} is not installed; nothing ran under its {name}");
            continue;
        }
        let exe = folder.path().join(compiler);
        if let Err(why) = build(compiler, &exe, &[flag, "-fno-sanitize-recover=all"]) {
            build(compiler, &exe, &[]).expect("the stress program compiles without a sanitizer");
            println!("SKIP: {compiler} has no {name}: {}", why.lines().last().unwrap_or_default());
            continue;
        }
        let output = Command::new(&exe).args([THREADS, &seconds()]).env(variable.0, variable.1).output().unwrap();
        clean(&format!("{name} of {compiler}"), &output);
    }
}

#[test]
#[cfg(unix)]
fn no_data_race_in_the_runtime() {
    under("ThreadSanitizer", "-fsanitize=thread", ("TSAN_OPTIONS", "halt_on_error=1"));
}

#[test]
#[cfg(unix)]
fn no_bad_address_and_no_leak_in_the_runtime() {
    under("AddressSanitizer", "-fsanitize=address", ("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1"));
}

#[test]
#[cfg(unix)]
fn no_undefined_behaviour_in_the_runtime() {
    under("UndefinedBehaviorSanitizer", "-fsanitize=undefined", ("UBSAN_OPTIONS", "print_stacktrace=1"));
}

fn valgrind(exe: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite"]).arg(exe);
    command
}

#[test]
#[cfg(unix)]
fn valgrind_finds_nothing_in_the_runtime() {
    if !is_there("valgrind") {
        println!("SKIP: valgrind is not installed: apt-get install valgrind");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("stress");
    build("c++", &exe, &[]).unwrap();
    clean("Valgrind", &valgrind(&exe).args([THREADS, &seconds()]).output().unwrap());
}

/// The rings, the drain thread, the exporters and their end.
#[test]
#[cfg(unix)]
fn valgrind_finds_nothing_in_the_whole() {
    if !is_there("valgrind") {
        println!("SKIP: valgrind is not installed: apt-get install valgrind");
        return;
    }
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let output = valgrind(&child::example("lifecycle"))
        .args(["threads", THREADS, &seconds()])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .env("LLAMA_OTEL_DETAIL", "decode")
        .output()
        .unwrap();
    clean("Valgrind with the Rust backend", &output);
    let spans = receiver.stop().spans.len();
    assert!(spans > 0, "nothing was exported");
}
