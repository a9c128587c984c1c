//! Every kind of source that `cargo xtask vendor` takes, as a pin and on the command line, from real repositories,
//! archives and packages, made here. Nothing needs the network, but for one download through pip.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::checkout::{Checkout, success};

mod archive;
mod folder;
mod git;
mod pypi;
mod server;
#[cfg(unix)]
mod stamped;

/// The commit of everything in the repository `dir`, made there if need be. Times are fixed, so that hashes are too.
fn commit_all(dir: &Path) -> String {
    if !dir.join(".git/HEAD").exists() {
        run_git(dir, &["init", "--quiet"]);
    }
    run_git(dir, &["add", "--all", "--force"]);
    run_git(dir, &["commit", "--quiet", "--allow-empty", "--message", "x"]);
    run_git(dir, &["rev-parse", "HEAD"])
}

/// What git prints, run as somebody on its own configuration.
fn run_git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]);
    command.args(["-c", "core.autocrlf=false", "-c", "init.defaultBranch=main"]).args(args);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z").env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
    success(&mut command).trim().to_owned()
}

/// `vendor --format json` with these arguments.
fn vendored(checkout: &Checkout, args: &[&str]) -> Value {
    let mut command = checkout.xtask(["vendor", "--format", "json"]);
    serde_json::from_str(&success(command.args(args))).unwrap()
}

/// What a vendored tree consists of.
fn files(checkout: &Checkout, pin: &str) -> Vec<String> {
    patcher::Tree::open(checkout.vendor(pin).join("src"), "t").unwrap().paths().unwrap()
}

/// The digest of a tree that is vendored as a folder, for comparison.
fn digest_as_folder(tree: &Path) -> String {
    let checkout = Checkout::new();
    let report = vendored(&checkout, &["reference", "--from", tree.to_str().unwrap()]);
    report["sha256"].as_str().unwrap().to_owned()
}

/// The folder of the pins holds nothing but lock files.
fn assert_nothing_vendored(checkout: &Checkout) {
    let names = checkout.names("vendor");
    assert!(names.iter().all(|name| name.ends_with(".lock")), "{names:?}");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
