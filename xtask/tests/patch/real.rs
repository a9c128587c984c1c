//! The checkout's own points on the llama.cpp tree that `LLAMA_OTEL_SRC` names, which a test without it says and passes; and
//! programs with different points at once, on a small tree too.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    checkout::{Checkout, success},
    export::{am, patched, series},
    fork::{Files, checkout_with_points, files, git, git_command, write, write_fork, write_points},
};

fn real_tree() -> Option<PathBuf> {
    let root = env::var_os("LLAMA_OTEL_SRC").map(PathBuf::from);
    if root.is_none() {
        eprintln!("SKIP: LLAMA_OTEL_SRC names no llama.cpp tree");
    }
    root
}

fn copy(from: &Path, to: &Path) {
    // A source distribution names the repository that it was taken from.
    for entry in walkdir::WalkDir::new(from).into_iter().filter_entry(|entry| entry.file_name() != ".git") {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A throw-away checkout with everything that patching takes from this one.
fn checkout_with_real_points() -> Checkout {
    let checkout = Checkout::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for dir in ["patcher/points", "otel-shim/include", "otel-shim/cpp", "otel-shim/cmake", "otel-shim/otelcpp"] {
        copy(&root.join(dir), &checkout.dir(dir));
    }
    checkout
}

#[test]
fn all_points_go_into_a_real_tree_by_git_and_in_place_and_out_again() {
    let Some(src) = real_tree() else { return };
    let checkout = checkout_with_real_points();
    let fork = checkout.path().join("fork");
    copy(&src, &fork);
    let before = files(&fork);
    let digest = patcher::tree::digest(&fork).unwrap();
    let (paths, copy) = series(&checkout, &fork);

    let ours = patched(&checkout, &fork);
    success(checkout.xtask(["patch", "--in-place", "--check", "--from"]).arg(&fork));
    success(checkout.xtask(["patch", "--revert", "--from"]).arg(&fork));
    assert_same(&files(&fork), &before);

    am(&copy, &[], &paths);
    assert_same(&files(&copy), &ours);
    let log = String::from_utf8(git(&copy, &["log", "--format=%B"]).stdout).unwrap();
    let count = |line: &str| log.lines().filter(|found| *found == line).count();
    assert_eq!(count(&format!("Upstream-sha256: {digest}")), paths.len());
    assert_eq!(count("Upstream: fork"), paths.len());
    assert_eq!(count(&format!("Patched-by: llama-otel {}", env!("CARGO_PKG_VERSION"))), paths.len());
    // Every point that has a place is said once, with what it is for.
    let report = success(checkout.xtask(["patch", "--dry-run", "--format", "json", "--from"]).arg(&fork));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let points = patcher::PointSet::load_dir(&checkout.path().join("patcher/points")).unwrap();
    let mut placed = 0;
    for point in report["points"].as_array().unwrap() {
        let known = points.points().iter().find(|known| point["id"] == known.id).unwrap();
        let is_placed = point["verdict"] == "placed";
        assert_eq!(count(&format!("- {}: {}", known.id, known.purpose)), usize::from(is_placed), "{}\n{log}", known.id);
        placed += usize::from(is_placed);
    }
    assert!(placed > 100, "{placed}");
    success(checkout.xtask(["patch", "--in-place", "--check", "--from"]).arg(&copy));
    success(checkout.xtask(["patch", "--revert", "--from"]).arg(&copy));
    assert_same(&files(&copy), &before);
    let first = format!("HEAD~{}", paths.len());
    assert!(git(&copy, &["diff", "--stat", &first]).stdout.is_empty());

    // And without a repository.
    git(&copy, &["reset", "--quiet", "--hard", &first]);
    fs::remove_dir_all(copy.join(".git")).unwrap();
    let mut command = git_command(&copy, &["apply"]);
    let output = command.args(&paths).env("GIT_CEILING_DIRECTORIES", checkout.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&files(&copy), &ours);
    success(checkout.xtask(["patch", "--revert", "--from"]).arg(&copy));
    assert_same(&files(&copy), &before);
}

/// By name: two trees side by side are too long to read.
fn assert_same(found: &Files, wanted: &Files) {
    let differs = |path: &&String| found.get(*path) != wanted.get(*path);
    let names: Vec<_> = found.keys().chain(wanted.keys()).filter(differs).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn runs_with_other_points_and_a_revert_at_once_leave_a_tree_as_before_or_complete() {
    let (all, other) = (checkout_with_points(), checkout_with_points());
    write_points(&other, "another");
    let fork = all.dir("fork");
    write_fork(&fork, 3);
    (0..5).for_each(|_| at_once(&all, &other, &fork));
}

#[test]
fn runs_with_other_points_and_a_revert_at_once_leave_a_real_tree_as_before_or_complete() {
    let Some(src) = real_tree() else { return };
    let (all, other) = (checkout_with_real_points(), checkout_with_real_points());
    // Of other points: fewer, and one more.
    fs::remove_file(other.path().join("patcher/points/sampling.toml")).unwrap();
    write(
        &other.path().join("patcher/points/more.toml"),
        "[[point]]\nid = \"more\"\npurpose = \"one more\"\ninsert = 'LLAMA_OTEL_START();'\n\
         at = [{ file = \"src/llama.cpp\", function = \"llama_backend_free\", position = \"body-start\" }]\n",
    );
    let fork = all.path().join("fork");
    copy(&src, &fork);
    at_once(&all, &other, &fork);
}

/// Two programs at a time change the pristine tree `fork`, each in a checkout of its own.
fn at_once(all: &Checkout, other: &Checkout, fork: &Path) {
    let before = files(fork);
    let run = |checkout: &Checkout, way: &str| -> Command {
        let mut command = checkout.xtask(["-q", "patch", way, "--from"]);
        // One user has one cache, whichever checkout the program runs in.
        command.arg(fork).env("LLAMA_OTEL_CACHE", all.path().join("cache")).stdout(Stdio::null());
        command
    };
    let complete = [all, other].map(|checkout| {
        success(&mut run(checkout, "--in-place"));
        files(fork)
    });
    assert!(complete[0] != complete[1] && complete.iter().all(|tree| *tree != before));
    success(&mut run(all, "--revert"));
    assert_same(&files(fork), &before);

    for commands in [
        [(all, "--in-place"), (other, "--in-place")],
        [(other, "--in-place"), (all, "--in-place")],
        [(all, "--in-place"), (all, "--revert")],
        [(other, "--revert"), (other, "--in-place")],
        [(all, "--revert"), (other, "--in-place")],
    ] {
        let children = commands.map(|(checkout, way)| run(checkout, way).spawn().unwrap());
        children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
        let found = files(fork);
        let possible = commands.map(|(checkout, way)| match way {
            "--revert" => &before,
            _ => &complete[usize::from(std::ptr::eq(checkout, other))],
        });
        assert!(possible.contains(&&found), "neither of the two that ran");
    }
    success(&mut run(all, "--revert"));
    assert_same(&files(fork), &before);
}
