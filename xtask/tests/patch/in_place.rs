//! A fork's own checkout: patched where it is, checked, patched anew, and given back byte for byte.

use std::{fs, path::Path, process::Command};

use crate::{
    checkout::{Checkout, success},
    fork::{self, checkout_with_points, commit_all, committed_fork, files, git, run, write_fork, write_points},
};

fn patch(checkout: &Checkout, fork: &Path, args: &[&str]) -> Command {
    let mut command = checkout.xtask(["patch"]);
    command.arg("--from").arg(fork).args(args);
    command
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_fork_is_patched_checked_and_given_back() {
    let checkout = checkout_with_points();
    let fork = committed_fork(&checkout, "fork");
    let before = files(&fork);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    let code = text(&fork.join("src/llama-context.cpp"));
    assert!(code.contains("    LLAMA_OTEL_SPAN(\"llama_decode\");\n    if"), "{code}");
    assert!(code.contains("        LLAMA_OTEL_SET_DECODE_STATUS(-1);\n        return -1;"), "{code}");
    assert!(fork.join("common/otel/otel.h").is_file() && fork.join("PATCHED.json").is_file());
    success(&mut patch(&checkout, &fork, &["--in-place", "--check"]));
    // Our own lines are no uncommitted change of the owner's.
    let patched = files(&fork);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    assert_eq!(files(&fork), patched);
    success(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!(files(&fork), before);
    assert!(!fork.join("common").exists());
    assert!(git(&fork, &["status", "--porcelain"]).stdout.is_empty());
    let (code, _, said) = run(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!((code, said.contains("carries none of our lines")), (0, true), "{said}");
}

#[test]
fn a_tree_without_git_is_patched_too_and_equals_the_derived_one() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 3);
    let before = files(&fork);
    let out = checkout.path().join("out");
    success(patch(&checkout, &fork, &["--out"]).arg(&out));
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    let but_stamp = |dir: &Path| fork::files_but(dir, |path| path == "PATCHED.json");
    assert_eq!(but_stamp(&fork), but_stamp(&out));
    success(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!(files(&fork), before);
}

#[test]
fn crlf_a_missing_last_newline_modes_and_bytes_come_back() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let crlf = text(&fork.join("src/llama-context.cpp")).replace('\n', "\r\n");
    fs::write(fork.join("src/llama-context.cpp"), [b"\xEF\xBB\xBF// \xFF\xFE\r\n", crlf.as_bytes()].concat()).unwrap();
    fs::write(fork.join("src/CMakeLists.txt"), "add_library(llama llama-context.cpp)").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fork.join("src/llama-context.cpp"), mode).unwrap();
    }
    let before = files(&fork);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    assert_ne!(files(&fork), before);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| fs::metadata(fork.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("src/llama-context.cpp"), mode("common/otel/otel.h")), (0o755, 0o644));
    }
    success(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!(files(&fork), before);
}

#[test]
fn check_tells_a_stale_tree_from_a_right_one_and_writes_nothing() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let check = |expected: i32, word: &str| {
        let before = files(&fork);
        let (code, _, said) = run(&mut patch(&checkout, &fork, &["--in-place", "--check"]));
        assert_eq!(code, expected, "{said}");
        assert!(said.contains(word), "{said}");
        assert_eq!(files(&fork), before);
    };
    check(4, "common/otel/CMakeLists.txt differs");
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    check(0, "is what it should be");
    write_points(&checkout, "another");
    check(4, "src/llama-context.cpp differs");
}

#[test]
fn an_older_version_of_our_points_is_replaced_from_the_text_without_it() {
    let checkout = checkout_with_points();
    let fork = committed_fork(&checkout, "fork");
    let before = files(&fork);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    // Committed, with a change of the owner's in a patched file.
    let path = fork.join("src/llama-context.cpp");
    fs::write(&path, text(&path).replace("return 0;", "return batch.n > 9 ? 1 : 0;")).unwrap();
    commit_all(&fork);
    write_points(&checkout, "llama_decode_2");
    fs::remove_file(checkout.path().join("otel-shim/include/otel.h")).unwrap();
    fork::write(&checkout.path().join("otel-shim/include/otel-2.h"), "#pragma once\n");

    // Beside it, as a difference, and in its place: all from upstream's text.
    let (code, difference, said) = run(&mut patch(&checkout, &fork, &["--dry-run"]));
    assert_eq!(code, 0, "{said}");
    assert!(difference.contains("+    LLAMA_OTEL_SPAN(\"llama_decode_2\");"), "{difference}");
    assert!(!difference.contains("LLAMA_OTEL_SPAN(\"llama_decode\");"), "{difference}");
    let out = checkout.path().join("out");
    success(patch(&checkout, &fork, &["--out"]).arg(&out));
    success(patch(&checkout, &fork, &["--check", "--out"]).arg(&out));
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    for tree in [&fork, &out] {
        let code = text(&tree.join("src/llama-context.cpp"));
        assert_eq!(code.matches("LLAMA_OTEL_SPAN").count(), 1, "{code}");
        assert!(code.contains("LLAMA_OTEL_SPAN(\"llama_decode_2\");") && code.contains("? 1 : 0;"), "{code}");
        assert!(tree.join("common/otel/otel-2.h").is_file() && !tree.join("common/otel/otel.h").exists());
    }
    let (code, _, said) = run(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!((code, said.contains("your changes stay")), (0, false), "{said}");
    let mut wanted = before;
    let edited = wanted.get_mut("src/llama-context.cpp").unwrap();
    *edited = String::from_utf8_lossy(edited).replace("return 0;", "return batch.n > 9 ? 1 : 0;").into_bytes();
    assert_eq!(files(&fork), wanted);
}

#[test]
fn revert_keeps_what_was_edited_since() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    let path = fork.join("src/llama-impl.h");
    fs::write(&path, text(&path) + "// mine\n").unwrap();
    let (code, _, said) = run(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!((code, said.contains("src/llama-impl.h: has been edited")), (0, true), "{said}");
    assert!(text(&path).ends_with("// mine\n") && !text(&path).contains("otel"));
}

#[test]
fn a_dirty_work_tree_needs_force() {
    let checkout = checkout_with_points();
    let fork = committed_fork(&checkout, "fork");
    fs::write(fork.join("untracked.txt"), "").unwrap();
    fs::write(fork.join("README.md"), "changed\n").unwrap();
    let before = files(&fork);
    let (code, json, said) = run(&mut patch(&checkout, &fork, &["--in-place", "--format", "json"]));
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("README.md: has uncommitted changes") && !said.contains("untracked.txt"), "{said}");
    assert!(said.contains("--force"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["ok"], &json["errors"][0]), (&false.into(), &"README.md: has uncommitted changes".into()));
    assert_eq!(files(&fork), before);
    success(&mut patch(&checkout, &fork, &["--in-place", "--force"]));
    success(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!(files(&fork), before);
}

#[test]
fn a_fork_in_a_folder_of_a_larger_repository_is_looked_at_alone() {
    let checkout = checkout_with_points();
    let outer = checkout.dir("outer");
    let fork = outer.join("third party/llama.cpp");
    write_fork(&fork, 0);
    fs::write(outer.join("main.cpp"), "int main() {}\n").unwrap();
    git(&outer, &["init", "--quiet"]);
    commit_all(&outer);
    fs::write(outer.join("main.cpp"), "int main() { return 1; }\n").unwrap();
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    success(&mut patch(&checkout, &fork, &["--revert"]));
    git(&outer, &["mv", "third party/llama.cpp/README.md", "third party/llama.cpp/READ.md"]);
    let (code, _, said) = run(&mut patch(&checkout, &fork, &["--in-place"]));
    assert_eq!((code, said.contains("READ.md: has uncommitted changes")), (5, true), "{said}");
}

#[test]
fn a_build_folder_in_the_tree_is_no_source() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    success(&mut patch(&checkout, &fork, &["--in-place"]));
    fork::write(&fork.join("build/CMakeCache.txt"), "LLAMA_OTEL_BACKEND:STRING=rust\n");
    fork::write(&fork.join("build/copy/llama-context.cpp"), "LLAMA_OTEL_SPAN(\"x\");\n");
    success(&mut patch(&checkout, &fork, &["--in-place", "--check"]));
    success(&mut patch(&checkout, &fork, &["--revert"]));
    assert_eq!(text(&fork.join("build/copy/llama-context.cpp")), "LLAMA_OTEL_SPAN(\"x\");\n");
}

#[test]
fn a_lost_point_changes_nothing() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let path = fork.join("src/llama-context.cpp");
    fs::write(&path, text(&path).replace("decode", "decode_it")).unwrap();
    let before = files(&fork);
    let (code, _, said) = run(&mut patch(&checkout, &fork, &["--in-place"]));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("point `decode.span` has no site") && said.contains("point `decode.return`"), "{said}");
    assert_eq!(files(&fork), before);
    let (code, json, _) = run(&mut patch(&checkout, &fork, &["--dry-run", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["points"][1]["verdict"]), (3, &"lost".into()));
}
