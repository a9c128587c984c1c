//! `cargo xtask vendor` as a user runs it, in checkouts of its own: what it leaves, refuses and survives.
//! Nothing here needs the network, except the one test of the default pin, which goes through cargo.

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::checkout::{Checkout, failure, success};

/// A few files that look like llama.cpp.
pub fn fake_tree(dir: &Path, extra: usize) {
    let files = [
        ("CMakeLists.txt", "set(LLAMA_VERSION_MAJOR 0)\nset(LLAMA_VERSION_MINOR 7)\nset(LLAMA_VERSION_PATCH 1)\n"),
        ("ggml/CMakeLists.txt", "set(GGML_VERSION_MAJOR 0)\nset(GGML_VERSION_MINOR 30)\nset(GGML_VERSION_PATCH 2)\n"),
        ("include/llama.h", "#pragma once\n"),
        ("src/llama.cpp", "int main() {}\n"),
        ("LICENSE", "MIT\n"),
        (".gitignore", "build\n"),
        (".git/config", "secret\n"),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for index in 0..extra {
        fs::write(dir.join(format!("src/part-{index}.cpp")), format!("int part_{index};\n").repeat(50)).unwrap();
    }
}

pub fn digest_of(checkout: &Checkout, pin: &str) -> String {
    let stamp: serde_json::Value =
        serde_json::from_slice(&fs::read(checkout.vendor(pin).join("VENDORED.json")).unwrap()).unwrap();
    stamp["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn a_folder_is_vendored_read_only_with_its_versions() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    let output = success(checkout.xtask(["vendor", "--format", "json", "--from"]).arg(&fork));
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["pin"], "fork");
    assert_eq!(report["source"]["kind"], "path");
    assert_eq!(report["llama_version"], "0.7.1");
    assert_eq!(report["ggml_version"], "0.30.2");
    assert_eq!(report["license"], "LICENSE");
    assert_eq!(report["files"], 5);

    let src = checkout.vendor("fork").join("src");
    assert_eq!(patcher::tree::digest(&src).unwrap(), report["sha256"].as_str().unwrap());
    assert!(fs::metadata(src.join("src/llama.cpp")).unwrap().permissions().readonly());
    assert!(!src.join(".git").exists() && !src.join(".gitignore").exists());
}

#[test]
fn a_second_run_changes_nothing_and_a_changed_folder_is_taken_anew() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    let vendor = || success(checkout.xtask(["vendor", "--from"]).arg(&fork));
    vendor();
    let stamp = checkout.vendor("fork").join("VENDORED.json");
    let written = fs::metadata(&stamp).unwrap().modified().unwrap();
    let before = digest_of(&checkout, "fork");
    vendor();
    assert_eq!(fs::metadata(&stamp).unwrap().modified().unwrap(), written);
    fs::write(fork.join("src/llama.cpp"), "int main() { return 1; }\n").unwrap();
    vendor();
    assert_ne!(digest_of(&checkout, "fork"), before);
}

#[test]
fn a_wrong_digest_is_refused_and_leaves_nothing() {
    let checkout = Checkout::new();
    fake_tree(&checkout.dir("fork"), 0);
    checkout.upstream(r#"{ kind = "path", dir = "fork" }"#, Some(&"0".repeat(64)));
    let error = failure(&mut checkout.xtask(["vendor"]));
    assert!(error.contains("expected sha256") && error.contains("found"), "{error}");
    assert!(!checkout.vendor("a").exists());
    assert_eq!(checkout.names("vendor"), [".a.lock"]);
}

#[test]
fn a_bumped_digest_replaces_the_tree() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    checkout.upstream(r#"{ kind = "path", dir = "fork" }"#, None);
    success(&mut checkout.xtask(["vendor"]));
    let first = digest_of(&checkout, "a");
    fs::write(fork.join("src/llama.cpp"), "int main() { return 1; }\n").unwrap();
    let second = {
        success(checkout.xtask(["vendor", "b", "--from"]).arg(&fork));
        digest_of(&checkout, "b")
    };
    checkout.upstream(r#"{ kind = "path", dir = "fork" }"#, Some(&second));
    success(&mut checkout.xtask(["vendor"]));
    assert_ne!(digest_of(&checkout, "a"), first);
    assert_eq!(digest_of(&checkout, "a"), second);
}

#[test]
fn another_source_under_the_same_name_needs_force() {
    let checkout = Checkout::new();
    let (one, two) = (checkout.dir("one/llama.cpp"), checkout.dir("two/llama.cpp"));
    fake_tree(&one, 0);
    fake_tree(&two, 1);
    success(checkout.xtask(["vendor", "--from"]).arg(&one));
    let error = failure(checkout.xtask(["vendor", "--from"]).arg(&two));
    assert!(error.contains("--force"), "{error}");
    success(checkout.xtask(["vendor", "--force", "--from"]).arg(&two));
    assert!(checkout.vendor("llama.cpp").join("src/src/part-0.cpp").is_file());
}

#[test]
fn a_changed_tree_is_not_taken_for_pristine() {
    let checkout = Checkout::new();
    fake_tree(&checkout.dir("fork"), 0);
    checkout.upstream(r#"{ kind = "path", dir = "fork" }"#, None);
    success(&mut checkout.xtask(["vendor"]));
    let file = checkout.vendor("a").join("src/src/llama.cpp");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "int main() { return 2; }\n").unwrap();
    let error = failure(&mut checkout.xtask(["vendor"]));
    assert!(error.contains("was changed after it was vendored"), "{error}");
    success(&mut checkout.xtask(["vendor", "--force"]));
    assert_eq!(fs::read_to_string(&file).unwrap(), "int main() {}\n");
}

#[test]
fn what_is_not_llama_cpp_is_refused() {
    let checkout = Checkout::new();
    let error = failure(checkout.xtask(["vendor", "--from"]).arg(checkout.dir("empty")));
    assert!(error.contains("is not a llama.cpp tree: it has no CMakeLists.txt"), "{error}");
    let error = failure(checkout.xtask(["vendor", "x", "--from"]).arg("no/such/folder"));
    assert!(error.contains("there is no folder"), "{error}");
    let error = failure(&mut checkout.xtask(["vendor", "no-such-pin"]));
    assert!(error.contains("has no pin `no-such-pin`") && error.contains("--from DIR"), "{error}");
}

#[test]
fn a_crate_that_cargo_cannot_get_is_a_clear_error() {
    let checkout = Checkout::new();
    let source =
        r#"{ kind = "crate", name = "llama-cpp-sys-2", version = "0.0.0-not-published", subdir = "llama.cpp" }"#;
    checkout.upstream(source, Some(&"0".repeat(64)));
    let error = failure(checkout.xtask(["vendor"]).env("CARGO_NET_OFFLINE", "true"));
    assert!(error.contains("cargo could not fetch the crate llama-cpp-sys-2 0.0.0-not-published"), "{error}");
    assert!(error.contains("CARGO_NET_OFFLINE") && error.contains("--from DIR"), "{error}");
    assert!(!checkout.vendor("a").exists());
}

#[test]
fn a_run_killed_at_any_moment_leaves_no_half_tree() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 400);
    let started = Instant::now();
    success(checkout.xtask(["vendor", "whole", "--from"]).arg(&fork));
    let whole = started.elapsed();
    let digest = digest_of(&checkout, "whole");

    const RUNS: u32 = 30;
    let mut killed = 0;
    for run in 0..RUNS {
        let mut child = checkout
            .xtask(["vendor", "cut", "--force", "--from"])
            .arg(&fork)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(whole * run / RUNS + Duration::from_micros(300));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let cut = checkout.vendor("cut");
        if cut.exists() {
            assert_eq!(patcher::tree::digest(&cut.join("src")).unwrap(), digest, "run {run}");
            assert_eq!(digest_of(&checkout, "cut"), digest, "run {run}");
        }
    }
    assert!(killed > RUNS / 3, "only {killed} of {RUNS} runs were killed before they ended");
    success(checkout.xtask(["vendor", "cut", "--from"]).arg(&fork));
    assert_eq!(digest_of(&checkout, "cut"), digest);
    assert_eq!(checkout.names("vendor"), [".cut.lock", ".whole.lock", "cut", "whole"]);
}

#[test]
fn runs_at_once_wait_for_each_other() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 200);
    let children: Vec<_> = (0..4)
        .map(|_| {
            checkout
                .xtask(["vendor", "--from"])
                .arg(&fork)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let unpacked =
        outputs.iter().filter(|output| String::from_utf8_lossy(&output.stderr).contains("unpack fork")).count();
    assert_eq!(unpacked, 1, "the others should have found it there");
    assert_eq!(patcher::tree::digest(&checkout.vendor("fork").join("src")).unwrap(), digest_of(&checkout, "fork"));
    assert_eq!(checkout.names("vendor"), [".fork.lock", "fork"]);
}

#[cfg(unix)]
#[test]
fn links_bring_nothing_from_outside() {
    use std::os::unix::fs::symlink;
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    let outside = checkout.dir("outside");
    fs::write(outside.join("secret.h"), "secret").unwrap();
    symlink(outside.join("secret.h"), fork.join("include/secret.h")).unwrap();
    symlink(&outside, fork.join("outside")).unwrap();
    symlink("llama.h", fork.join("include/alias.h")).unwrap();
    symlink("nowhere", fork.join("dangling")).unwrap();
    success(checkout.xtask(["vendor", "--from"]).arg(&fork));
    let src = checkout.vendor("fork").join("src");
    assert!(!src.join("include/secret.h").exists() && !src.join("outside").exists() && !src.join("dangling").exists());
    assert_eq!(fs::read_to_string(src.join("include/alias.h")).unwrap(), "#pragma once\n");
    assert!(fs::symlink_metadata(src.join("include/alias.h")).unwrap().is_file());
}

/// The real thing. It reads `upstream.toml` of this project, so a wrong digest there is found here.
#[test]
fn the_default_pin_comes_through_cargo() {
    let checkout = Checkout::new();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../upstream.toml"), checkout.path().join("upstream.toml"))
        .unwrap();
    let output = success(&mut checkout.xtask(["vendor", "--format", "json"]));
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["pin"], "llama-cpp-sys-2-0.1.161");
    assert_eq!((&report["llama_version"], &report["license"]), (&"0.6.0".into(), &"LICENSE".into()));
    let src = Path::new(report["path"].as_str().unwrap());
    assert!(src.join("src/llama-context.cpp").is_file());
}
