//! The header alone: it compiles as the code bases that include it do, and misuse gives an error that a person can read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn compilers() -> Vec<&'static str> {
    let found: Vec<_> = ["g++", "clang++"]
        .into_iter()
        .filter(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
        .collect();
    assert!(!found.is_empty(), "neither g++ nor clang++ is installed: apt-get install g++");
    for missing in ["g++", "clang++"].into_iter().filter(|name| !found.contains(name)) {
        println!("SKIP: {missing} is not installed; the header was not compiled with it");
    }
    found
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn compile(compiler: &str, standard: &str, source: &Path, flags: &[&str]) -> Output {
    let object = tempfile::Builder::new().suffix(".o").tempfile().unwrap();
    Command::new(compiler)
        .args([&format!("-std={standard}"), "-O2", "-Wall", "-Wextra", "-Werror", "-c", "-o"])
        .arg(object.path())
        .arg("-I")
        .arg(file("include"))
        .args(flags)
        .arg(source)
        .output()
        .unwrap()
}

#[test]
fn every_macro_compiles_on_and_off_without_a_warning() {
    for compiler in compilers() {
        for standard in ["c++17", "c++20"] {
            for flags in [&["-DLLAMA_OTEL=1"][..], &["-DLLAMA_OTEL=0"], &[]] {
                let out = compile(compiler, standard, &file("tests/cpp/every_macro.cpp"), flags);
                assert!(
                    out.status.success(),
                    "{compiler} {standard} {flags:?}\n{}",
                    String::from_utf8_lossy(&out.stderr)
                );
            }
            for source in [
                "otel.cpp",
                "context.cpp",
                "generation.cpp",
                "sequence.cpp",
                "log.cpp",
                "memory.cpp",
                "ops.cpp",
                "rpc.cpp",
            ] {
                let out = compile(compiler, standard, &file("cpp").join(source), &["-DLLAMA_OTEL=1"]);
                let errors = String::from_utf8_lossy(&out.stderr);
                assert!(out.status.success(), "{compiler} {standard} {source}\n{errors}");
            }
        }
    }
}

/// ggml's own files are C, with the warnings that ggml has.
#[test]
fn a_c_file_has_what_it_needs() {
    for compiler in compilers() {
        for flags in [&["-DLLAMA_OTEL=1"][..], &["-DLLAMA_OTEL=0"], &[]] {
            let flags = [flags, &["-xc", "-Wpedantic", "-Wmissing-prototypes", "-Wno-missing-prototypes"]].concat();
            let out = compile(compiler, "c11", &file("tests/cpp/every_macro.c"), &flags);
            assert!(out.status.success(), "{compiler} {flags:?}\n{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}

/// A macro that the test above forgets is one that nobody has compiled.
#[test]
fn the_compiled_file_uses_every_macro_of_the_header() {
    let header = std::fs::read_to_string(file("include/otel.h")).unwrap();
    let c_header = std::fs::read_to_string(file("include/otel-c.h")).unwrap();
    let used = std::fs::read_to_string(file("tests/cpp/every_macro.cpp")).unwrap();
    let (on, twins) = header.split_once("#else // the empty twins").unwrap();
    let on = format!("{on}{c_header}");
    let names: Vec<&str> =
        twins.lines().filter_map(|line| line.strip_prefix("#define ")?.strip_suffix("(...)")).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(on.contains(&format!("#define {name}(")), "{name} has an empty twin but no definition");
        assert!(used.contains(&format!("{name}(")), "{name} is not used in tests/cpp/every_macro.cpp");
    }
    // and the other way round: what points use has a twin
    for line in on.lines().filter_map(|line| line.strip_prefix("#define LLAMA_OTEL_")) {
        let Some((name, _)) = line.split_once('(') else { continue };
        let internal = ["CONCAT_", "CONCAT", "IF_ON", "WITH_SPAN", "OPEN", "UNLIKELY", "AT_EXIT", "IS_WORK"];
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !internal.contains(&name) {
            assert!(twins.contains(&format!("#define LLAMA_OTEL_{name}(...)")), "LLAMA_OTEL_{name} has no empty twin");
        }
    }
}

#[test]
fn misuse_is_explained() {
    let cases = [
        (
            "struct thing {}; void f() { LLAMA_OTEL_SPAN(\"x\"); LLAMA_OTEL_ADD_ATTRIBUTE(\"key\", thing{}); }",
            "an attribute value must be a bool, an integer, an enum, a floating-point number or a string",
        ),
        (
            "void f(const char * key) { LLAMA_OTEL_SPAN(\"x\"); LLAMA_OTEL_ADD_ATTRIBUTE(key, 1); }",
            "an attribute key must be a string literal",
        ),
        ("void f() { LLAMA_OTEL_RECORD_BATCH_SIZE(\"twelve\"); }", "a measurement must be a number"),
        ("void f(const char * name) { LLAMA_OTEL_SPAN(name); }", "name"),
        ("void f() { LLAMA_OTEL_METRIC(NO_SUCH_METRIC, 1); }", "LLAMA_OTEL_METRIC_NO_SUCH_METRIC"),
    ];
    for compiler in compilers() {
        for (code, expected) in cases {
            let source = tempfile::Builder::new().suffix(".cpp").tempfile().unwrap();
            std::fs::write(source.path(), format!("#include \"otel.h\"\n{code}\n")).unwrap();
            let out = compile(compiler, "c++17", source.path(), &["-DLLAMA_OTEL=1"]);
            let text = String::from_utf8_lossy(&out.stderr);
            assert!(!out.status.success(), "{compiler} accepted: {code}");
            assert!(text.contains(expected), "{compiler} does not say '{expected}' of: {code}\n{text}");
        }
    }
}

/// `llama-bench` must not tell that we were there: with the empty twins not even the object code may.
#[test]
fn the_empty_twins_leave_no_trace() {
    let with = std::fs::read_to_string(file("tests/cpp/every_macro.cpp")).unwrap();
    let without: String = with
        .lines()
        .filter(|line| !line.trim_start().starts_with("LLAMA_OTEL_") && !line.contains("otel.h"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_ne!(with, without);
    let assembly = |source: &str| {
        let file = tempfile::Builder::new().suffix(".cpp").tempfile().unwrap();
        std::fs::write(file.path(), source).unwrap();
        let out = Command::new("g++")
            .args([
                "-std=c++17",
                "-O2",
                "-S",
                "-o",
                "-",
                "-D__FILE__=\"x\"",
                "-Wno-builtin-macro-redefined",
                "-fno-ident",
                "-I",
            ])
            .arg(self::file("include"))
            .arg(file.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .filter(|l| !l.contains(".file"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    };
    assert_eq!(assembly(&with), assembly(&without));
}

#[test]
fn the_guide_s_example_in_c_compiles() {
    let guide = std::fs::read_to_string(file("../docs/embedding.md")).unwrap();
    let example = guide.split_once("```c\n").unwrap().1.split_once("```").unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let llama = "struct llama_context; struct llama_batch { int n_tokens; }; int llama_decode(struct llama_context *, struct llama_batch);\n";
    std::fs::write(folder.path().join("llama.h"), format!("#include <stddef.h>\n{llama}")).unwrap();
    std::fs::write(folder.path().join("example.c"), example).unwrap();
    let out = Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .arg(folder.path())
        .arg("-I")
        .arg(file("include"))
        .arg(folder.path().join("example.c"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// What a crate insists upon at link time is what the runtime of this version defines.
#[test]
fn the_mark_bears_the_version_of_the_abi() {
    let header = std::fs::read_to_string(file("include/otel-backend.h")).unwrap();
    let version = header.split("LLAMA_OTEL_ABI_VERSION").nth(1).unwrap();
    let version: String =
        version.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let mark = std::fs::read_to_string(file("src/mark.rs")).unwrap();
    let named = mark.matches("llama_otel_instrumented_abi_").count();
    assert_eq!(mark.matches(&format!("llama_otel_instrumented_abi_{version}")).count(), named);
    assert!(named > 0);
}
