//! Trees that are not ours to patch: each is left as it is, with the reason.

use std::{fs, path::Path};

use crate::{
    checkout::{Checkout, success},
    fork::{checkout_with_points, files, run, write, write_fork},
};

/// All the ways to patch the tree are refused with these words, and change nothing.
fn is_refused(checkout: &Checkout, fork: &Path, words: &[&str]) {
    let before = files(fork);
    let out = checkout.path().join("out");
    for way in ["--in-place", "--dry-run", "--revert", "--out"] {
        let mut command = checkout.xtask(["patch", "--from"]);
        command.arg(fork).arg(way);
        if way == "--out" {
            command.arg(&out);
        }
        let (code, _, said) = run(&mut command);
        assert_eq!(code, 5, "{way}: {said}");
        for word in words {
            assert!(said.contains(word), "{way}: no `{word}` in\n{said}");
        }
    }
    assert!(!out.exists());
    assert_eq!(files(fork), before);
}

#[test]
fn lines_that_look_like_ours_and_have_no_stamp_are_someone_elses() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    write(&fork.join("ggml/src/ggml.c"), "void f(void) {\n    LLAMA_OTEL_SPAN(\"theirs\");\n}\n");
    is_refused(&checkout, &fork, &["ggml/src/ggml.c:2: is patched already: `LLAMA_OTEL_SPAN(\"theirs\");`", "help:"]);
}

#[test]
fn a_common_otel_of_the_trees_own_is_not_taken() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    // No name in it is one of ours: stripping would still remove it.
    write(&fork.join("common/otel/tracing.cpp"), "int x;\n");
    is_refused(&checkout, &fork, &["common/otel/tracing.cpp: the tree has a folder common/otel/ of its own"]);
}

#[test]
fn lines_and_files_that_the_stamp_does_not_list_are_not_stripped() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    success(checkout.xtask(["patch", "--in-place", "--from"]).arg(&fork));
    let with = |path: &str, text: &str, words: &[&str]| {
        let path = fork.join(path);
        let present = fs::read_to_string(&path).ok();
        write(&path, present.clone().unwrap_or_default() + text);
        is_refused(&checkout, &fork, words);
        match present {
            Some(present) => fs::write(&path, present).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };
    with("src/llama-impl.h", "LLAMA_OTEL_MINE(1);\n", &["`LLAMA_OTEL_MINE(1);` is not by this program"]);
    with("src/llama.cpp", "LLAMA_OTEL_MINE(2);\n", &["src/llama.cpp:2:", "does not list the file"]);
    with("common/otel/mine.h", "int x;\n", &["common/otel/mine.h: is not by this program"]);
    with("common/otel/otel.h", "int x;\n", &["common/otel/otel.h: was changed by hand"]);

    write(&fork.join("common/otel/mine.h"), "int x;\n");
    success(checkout.xtask(["patch", "--revert", "--force", "--from"]).arg(&fork));
    assert!(!fork.join("common/otel").exists() && !fork.join("PATCHED.json").exists());
}

#[test]
fn another_programs_patched_json_proves_nothing() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    write(&fork.join("src/other.cpp"), "LLAMA_OTEL_SPAN(\"theirs\");\n");
    for stamp in ["{}", "not json", r#"{"tool":"quilt 1","files":[]}"#] {
        write(&fork.join("PATCHED.json"), stamp);
        is_refused(&checkout, &fork, &["src/other.cpp:1: is patched already"]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_behind_a_link_is_not_replaced() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    fs::rename(fork.join("src/llama-impl.h"), checkout.path().join("elsewhere.h")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere.h", fork.join("src/llama-impl.h")).unwrap();
    let before = files(&fork);
    let (code, _, said) = run(checkout.xtask(["patch", "--in-place", "--from"]).arg(&fork));
    assert_eq!((code, said.contains("src/llama-impl.h is a link")), (1, true), "{said}");
    assert_eq!(files(&fork), before);
}
