//! The series: git takes it, and what comes out is the patched tree.

use std::{fs, path::Path};

use crate::{
    checkout::{Checkout, success},
    fork::{Files, checkout_with_points, commit_all, files, git, git_command, run, write, write_fork},
};

/// The series of `fork`, and the same tree under git.
pub fn series(checkout: &Checkout, fork: &Path) -> (Vec<String>, std::path::PathBuf) {
    let out = checkout.path().join("series");
    let paths = success(checkout.xtask(["export", "patch", "--from"]).arg(fork).arg("--out").arg(&out));
    let copy = checkout.path().join("copy").join(fork.file_name().unwrap());
    for (path, bytes) in files(fork) {
        write(&copy.join(path), bytes);
    }
    git(&copy, &["init", "--quiet"]);
    commit_all(&copy);
    (paths.lines().map(str::to_owned).collect(), copy)
}

/// `fork` as `cargo xtask patch --in-place` makes it.
pub fn patched(checkout: &Checkout, fork: &Path) -> Files {
    success(checkout.xtask(["patch", "--in-place", "--from"]).arg(fork));
    files(fork)
}

pub fn am(copy: &Path, options: &[&str], paths: &[String]) {
    let mut args = vec!["am", "--quiet"];
    args.extend(options);
    args.extend(paths.iter().map(String::as_str));
    git(copy, &args);
}

#[test]
fn git_am_makes_the_patched_tree_and_says_where_it_comes_from() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    write(
        &checkout.path().join("patcher/points/build.toml"),
        "[[point]]\nid = \"late\"\npurpose = \"a file that sorts before the header's\"\ninsert = 'LLAMA_OTEL_START();'\n\
         at = [{ file = \"src/llama-context.cpp\", function = \"llama_context::decode\", position = \"body-start\" }]\n",
    );
    let digest = patcher::tree::digest(&fork).unwrap();
    let (paths, copy) = series(&checkout, &fork);
    let names: Vec<_> = paths.iter().map(|path| Path::new(path).file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "0001-llama-otel-add-the-runtime-in-common-otel.patch",
            "0002-llama-otel-build-and-include-the-runtime-decode.patch",
            "0003-llama-otel-instrument-build.patch",
            "0004-llama-otel-say-what-was-patched-patched-json.patch",
        ]
    );
    am(&copy, &[], &paths);
    assert_eq!(files(&copy), patched(&checkout, &fork));
    let log = String::from_utf8(git(&copy, &["log", "-4", "--format=%an%n%(trailers)%n%b"]).stdout).unwrap();
    for line in [
        "llama-otel".to_owned(),
        format!("Patched-by: llama-otel {}", env!("CARGO_PKG_VERSION")),
        "Upstream: fork".to_owned(),
        format!("Upstream-sha256: {digest}"),
        "- decode.span: one batch".to_owned(),
    ] {
        assert!(log.lines().any(|found| found == line), "no `{line}` in\n{log}");
    }
    assert_eq!(log.matches("Points-sha256: ").count(), 8, "{log}");
    // It is one of ours: it can be checked and taken back.
    success(checkout.xtask(["patch", "--in-place", "--check", "--from"]).arg(&copy));
    success(checkout.xtask(["patch", "--revert", "--from"]).arg(&copy));
    assert!(git(&copy, &["diff", "--stat", "HEAD~4"]).stdout.is_empty());
}

#[test]
fn git_apply_takes_it_without_a_repository() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let (paths, copy) = series(&checkout, &fork);
    fs::remove_dir_all(copy.join(".git")).unwrap();
    let mut command = git_command(&copy, &["apply", "--whitespace=error-all"]);
    let output = command.args(&paths).env("GIT_CEILING_DIRECTORIES", checkout.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files(&copy), patched(&checkout, &fork));
}

#[test]
fn crlf_other_encodings_lone_returns_and_missing_newlines_survive_the_mail() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let code = fs::read_to_string(fork.join("src/llama-context.cpp")).unwrap();
    let code = code.replace("    if", "    // \u{e4}\rFrom here\n    if").replace('\n', "\r\n");
    let code: Vec<u8> = code.chars().map(|c| c as u8).collect();
    fs::write(fork.join("src/llama-context.cpp"), code).unwrap();
    fs::write(fork.join("src/CMakeLists.txt"), "add_library(llama llama-context.cpp)").unwrap();
    let (paths, copy) = series(&checkout, &fork);
    am(&copy, &["--keep-cr"], &paths);
    assert_eq!(files(&copy), patched(&checkout, &fork));
    let (_, _, said) = run(checkout.xtask(["export", "patch", "--from"]).arg(&copy).arg("--out").arg("x"));
    assert!(said.contains("the tree is patched already"), "{said}");
}

#[test]
fn three_way_finds_upstreams_text_in_a_fork_that_moved_on() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let (paths, copy) = series(&checkout, &fork);
    let path = copy.join("src/llama-context.cpp");
    let code = fs::read_to_string(&path).unwrap();
    // The context lines of the patch are others now.
    let moved = code.replace("    if (batch.n == 0)", "    const int n = batch.n;\n    if (n == 0)");
    fs::write(&path, format!("// theirs\n// theirs\n{moved}")).unwrap();
    commit_all(&copy);
    am(&copy, &["--3way"], &paths[..1]);
    let output = git_command(&copy, &["am", "--3way", "--quiet", &paths[1]]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("lacks the necessary blobs"), "{said}");
}

#[test]
fn the_same_tree_and_points_give_the_same_bytes_and_other_folders_are_left_alone() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let out = checkout.path().join("series");
    let export = || {
        let mut command = checkout.xtask(["export", "patch", "--format", "json", "--from"]);
        command.arg(&fork).arg("--out").arg(&out);
        command
    };
    let first = success(&mut export());
    let written = files(&out);
    assert_eq!(success(&mut export()), first);
    assert_eq!(files(&out), written);
    let json: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&json["ok"], &json["patches"][1]["points"][0]), (&true.into(), &"header".into()));
    fs::remove_file(out.join("series.json")).unwrap();
    let (code, _, said) = run(&mut export());
    assert_eq!((code, said.contains("did not make")), (1, true), "{said}");
}
