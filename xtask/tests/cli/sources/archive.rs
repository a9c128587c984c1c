//! Archives of this machine and of a server. What is refused in them is tested in the crate `unpack`; here, that
//! nothing of a refused one stays.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{assert_nothing_vendored, commit_all, digest_as_folder, run_git, server::serve, vendored};
use crate::{
    checkout::{Checkout, failure, success},
    vendor::fake_tree,
};

/// A tree in a folder of that name in a gzipped tar, and the archive's digest.
fn archived(checkout: &Checkout, top: &str) -> (PathBuf, String) {
    let tree = checkout.dir("tree");
    fake_tree(&tree, 2);
    let path = checkout.path().join("llama.tar.gz");
    tarred(&path, |archive| archive.append_dir_all(top, &tree).unwrap());
    let digest = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
    (path, digest)
}

fn tarred(path: &Path, fill: impl FnOnce(&mut tar::Builder<GzEncoder<fs::File>>)) {
    let mut archive = tar::Builder::new(GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast()));
    fill(&mut archive);
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_file_is_vendored_and_its_folder_s_name_says_the_build() {
    let checkout = Checkout::new();
    let (file, digest) = archived(&checkout, "llama.cpp-b6097");
    let file = file.to_str().unwrap();
    let report = vendored(&checkout, &["mine", "--archive", file, "--sha256", &digest]);
    assert_eq!((&report["build_number"], &report["files"]), (&6097.into(), &7.into()));
    assert_eq!(report["sha256"], digest_as_folder(&checkout.dir("tree")), "a tree is the same however it came");
    let error = failure(&mut checkout.xtask(["vendor", "other", "--archive", file, "--sha256", &"0".repeat(64)]));
    assert!(error.contains("is not the one that was named") && error.contains(&digest), "{error}");
    assert!(!checkout.vendor("other").exists());
    // As a pin, relative to the checkout, the tree's digest checked too.
    let source = format!(r#"{{ kind = "archive", file = "llama.tar.gz", sha256 = "{digest}" }}"#);
    checkout.upstream(&source, Some(&"0".repeat(64)));
    let error = failure(&mut checkout.xtask(["vendor"]));
    assert!(error.contains("is not the one that upstream.toml names"), "{error}");
    checkout.upstream(&source, Some(report["sha256"].as_str().unwrap()));
    assert_eq!(vendored(&checkout, &[])["build_number"], 6097);
}

#[test]
fn the_commit_of_git_archive_is_found_in_tar_and_zip() {
    let checkout = Checkout::new();
    let tree = checkout.dir("tree");
    fake_tree(&tree, 0);
    fs::remove_dir_all(tree.join(".git")).unwrap();
    let commit = commit_all(&tree);
    for form in ["tar", "tar.gz", "zip"] {
        let file = checkout.path().join(format!("x.{form}"));
        run_git(&tree, &["archive", "--prefix=x/", "-o", file.to_str().unwrap(), "HEAD"]);
        let report = vendored(&checkout, &[form, "--archive", file.to_str().unwrap()]);
        assert_eq!((&report["build_commit"], &report["files"]), (&commit.as_str().into(), &5.into()), "{form}");
    }
}

#[test]
fn a_download_is_checked_before_it_is_unpacked() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("SKIP: there is no curl");
        return;
    }
    let checkout = Checkout::new();
    let (file, digest) = archived(&checkout, "x");
    let server = serve("/b6097.tar.gz", fs::read(file).unwrap());
    let url = format!("http://{}/b6097.tar.gz", server.address);
    let vendor = |args: &[&str]| {
        let mut command = checkout.xtask(["vendor", "--format", "json"]);
        command.args(args).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command
    };
    let report: Value = serde_json::from_str(&success(&mut vendor(&["--archive", &url, "--sha256", &digest]))).unwrap();
    assert_eq!((&report["pin"], &report["build_number"]), (&"b6097".into(), &6097.into()));
    let error = failure(&mut vendor(&["x", "--archive", &url]));
    assert!(error.contains(&format!("--sha256 {digest}")) && error.contains("if you trust it"), "{error}");
    let error = failure(&mut vendor(&["x", "--archive", &url, "--sha256", &"0".repeat(64)]));
    assert!(error.contains("is not the one that was named"), "{error}");
    let error = failure(&mut vendor(&["x", "--archive", &format!("{url}.no"), "--sha256", &digest]));
    assert!(error.contains("curl could not download") && error.contains("404"), "{error}");
    let error = failure(&mut vendor(&["x", "--archive", "http://127.0.0.1:9/x.zip", "--sha256", &digest]));
    assert!(error.contains("curl could not download") && error.contains("proxy"), "{error}");
    let error = failure(&mut vendor(&["x", "--archive", "ftp://127.0.0.1/x.zip", "--sha256", &digest]));
    assert!(error.contains("only https and http"), "{error}");
    assert!(!checkout.vendor("x").exists());

    // The user's proxy: it is asked for a host that there is not.
    let proxy = format!("http://{}", server.address);
    let mut command =
        checkout.xtask(["vendor", "proxied", "--archive", "http://nowhere.invalid/b6097.tar.gz", "--sha256", &digest]);
    for name in ["NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    success(command.env("http_proxy", &proxy));
    let last = server.requests.lock().unwrap().last().cloned().unwrap();
    assert!(last.starts_with("GET http://nowhere.invalid/b6097.tar.gz "), "{last}");
}

#[test]
fn an_archive_holds_one_tree_or_says_which() {
    let checkout = Checkout::new();
    let tree = checkout.dir("tree");
    fake_tree(&tree, 0);
    let file = checkout.path().join("x.tgz");
    let vendor = |args: &[&str]| {
        let mut command = checkout.xtask(["vendor", "x", "--archive"]);
        command.arg(&file).args(args);
        command
    };
    tarred(&file, |archive| archive.append_dir_all("docs", tree.join("src")).unwrap());
    let error = failure(&mut vendor(&[]));
    assert!(error.contains("there is no llama.cpp tree in it"), "{error}");
    tarred(&file, |archive| {
        archive.append_dir_all("p/one", &tree).unwrap();
        archive.append_dir_all("p/two", &tree).unwrap();
    });
    let error = failure(&mut vendor(&[]));
    assert!(error.contains("p/one, p/two") && error.contains("--subdir"), "{error}");
    let error = failure(&mut vendor(&["--subdir", "p/three"]));
    assert!(error.contains("there is no folder"), "{error}");
    let error = failure(&mut vendor(&["--subdir", "../tree"]));
    assert!(error.contains("leads out"), "{error}");
    assert_nothing_vendored(&checkout);
    success(&mut vendor(&["--subdir", "p/two"]));
}

#[test]
fn nothing_of_a_refused_archive_stays() {
    let checkout = Checkout::new();
    let tree = checkout.dir("tree");
    fake_tree(&tree, 0);
    let file = checkout.path().join("x.tar.gz");
    let temp = checkout.dir("temp");
    for (name, link, reason) in [
        ("../../evil", None, "`../../evil` leads out of the folder"),
        ("/tmp/llama-otel-evil", None, "`/tmp/llama-otel-evil` has an absolute name"),
        ("x/l", Some("../../../evil"), "`x/l` is a link that leads out of the folder"),
        ("x/CMakeLists.txt", None, "`x/CMakeLists.txt` is there twice"),
    ] {
        tarred(&file, |archive| {
            archive.append_dir_all("x", &tree).unwrap();
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            if let Some(link) = link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(link).unwrap();
            }
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, &b""[..]).unwrap();
        });
        let mut command = checkout.xtask(["vendor", "x", "--archive"]);
        let error = failure(command.arg(&file).envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temp))));
        assert!(error.contains(reason), "{error}");
        assert_nothing_vendored(&checkout);
        assert_eq!(checkout.names("temp"), [""; 0]);
        assert!(!Path::new("/tmp/llama-otel-evil").exists() && !checkout.path().join("evil").exists());
    }
    fs::write(&file, "<html>not found</html>").unwrap();
    let error = failure(checkout.xtask(["vendor", "x", "--archive"]).arg(&file));
    assert!(error.contains("no archive of a known form"), "{error}");
}
