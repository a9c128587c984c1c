//! Telemetry observes: results, sources and, where it is compiled out, object code are upstream's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use llama_otel_tests::{Program, arguments, prepared, run};
use otlp_receiver::Receiver;

fn logits(program: Program, model: &Path, variables: &[(&str, &str)]) -> (String, String) {
    let run = run(
        program,
        &arguments(model, &["--prompt", "The quick brown fox", "--n-predict", "12", "--logits"]),
        variables,
    );
    let done = run.done();
    (done["logits_sha256"].as_str().unwrap().to_owned(), done["text"].as_str().unwrap().to_owned())
}

#[test]
fn logits_are_bit_identical_to_the_pristine_tree_s_at_every_detail() {
    for model in ["LLAMA_OTEL_TINY", "LLAMA_OTEL_GEMMA"] {
        let model = prepared(model);
        let expected = logits(Program::Pristine, &model, &[]);
        assert_eq!(logits(Program::Instrumented, &model, &[]), expected, "telemetry off");
        for detail in ["metrics", "request", "decode", "op"] {
            let receiver = Receiver::start().unwrap();
            let endpoint = receiver.http_endpoint();
            let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("LLAMA_OTEL_DETAIL", detail)];
            assert_eq!(logits(Program::Instrumented, &model, &variables), expected, "detail {detail}");
            assert!(receiver.stop().metric("llama.token.count").is_some(), "detail {detail} measured something");
        }
    }
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| (entry.path().strip_prefix(root).unwrap().to_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// Names of the files that patching changed, and what they were before.
fn changed() -> Vec<PathBuf> {
    let (before, after) = (files(&prepared("LLAMA_OTEL_SRC")), files(&prepared("LLAMA_OTEL_PATCHED")));
    before.into_iter().filter(|(path, bytes)| after.get(path) != Some(bytes)).map(|(path, _)| path).collect()
}

/// The check is this test's own: a line is ours if its first token says so.
#[test]
fn without_our_lines_the_tree_is_upstream_s() {
    let (before, mut after) = (files(&prepared("LLAMA_OTEL_SRC")), files(&prepared("LLAMA_OTEL_PATCHED")));
    after.retain(|path, _| path != Path::new("PATCHED.json") && !path.starts_with("common/otel"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let mut n_lines = 0;
    for (path, bytes) in after {
        let mut kept = Vec::new();
        let mut in_block = false;
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let text = line.trim_ascii();
            in_block |= text == b"# >>> llama-otel";
            let ours = in_block || text.starts_with(b"LLAMA_OTEL_") || text == b"#include \"common/otel/otel.h\"";
            in_block &= text != b"# <<< llama-otel";
            if ours {
                n_lines += 1;
            } else {
                kept.extend_from_slice(line);
            }
        }
        assert!(before[&path] == kept, "{} differs in more than our lines", path.display());
    }
    assert!(n_lines > 50, "only {n_lines} lines were inserted");
}

#[test]
fn with_llama_otel_off_the_object_code_is_upstream_s() {
    let (src, patched) = (prepared("LLAMA_OTEL_SRC"), prepared("LLAMA_OTEL_PATCHED"));
    let scratch = tempfile::tempdir().unwrap();
    // what CMake would generate; the same for both
    std::fs::write(
        scratch.path().join("llama-version.h"),
        "#pragma once\n#define LLAMA_VERSION \"0\"\n#define LLAMA_VERSION_MAJOR 0\n#define LLAMA_VERSION_MINOR 0\n#define LLAMA_VERSION_PATCH 0\n",
    )
    .unwrap();
    std::fs::write(scratch.path().join("ggml-version.h"), "#pragma once\n#define GGML_VERSION \"0\"\n").unwrap();
    let is_c = |path: &Path| path.extension().is_some_and(|e| e == "c");
    let is_source = |path: &PathBuf| is_c(path) || path.extension().is_some_and(|e| e == "cpp");
    let sources: Vec<_> = changed().into_iter().filter(is_source).collect();
    assert!(sources.len() >= 8 && sources.iter().any(|path| is_c(path)), "{sources:?}");
    let object = |tree: &Path, source: &Path, name: &str| -> Vec<u8> {
        let object = scratch.path().join(name);
        let out = Command::new(if is_c(source) { "gcc" } else { "g++" })
            .current_dir(tree)
            .args([
                if is_c(source) { "-std=c11" } else { "-std=c++17" },
                "-O2",
                "-c",
                "-w",
                "-D__LINE__=0",
                "-D__FILE__=\"file\"",
                "-Wno-builtin-macro-redefined",
                "-ffile-prefix-map=.=.",
            ])
            .args(["-DGGML_VERSION=\"0\"", "-DGGML_COMMIT=\"0\"", "-DGGML_SCHED_MAX_COPIES=4", "-D_GNU_SOURCE"])
            .args(["-I.", "-Isrc", "-Iinclude", "-Iggml/include", "-Iggml/src", "-Iggml/src/ggml-cpu", "-I"])
            .arg(scratch.path())
            .arg("-o")
            .arg(&object)
            .arg(source)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&out.stderr));
        std::fs::read(object).unwrap()
    };
    std::thread::scope(|scope| {
        for sources in sources.chunks(sources.len().div_ceil(2)) {
            let (src, patched, object) = (&src, &patched, &object);
            scope.spawn(move || {
                for source in sources {
                    let name = source.file_name().unwrap().to_str().unwrap();
                    let (before, after) =
                        (object(src, source, &format!("{name}.a.o")), object(patched, source, &format!("{name}.b.o")));
                    assert!(before == after, "the object code of {} changed", source.display());
                }
            });
        }
    });
}
