//! Git repositories, served through file://, as the user's git reaches them.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::{assert_nothing_vendored, commit_all, digest_as_folder, files, run_git, vendored, write};
use crate::{
    checkout::{Checkout, failure, success},
    vendor::fake_tree,
};

/// A repository with two commits: `first` is behind the tag b6097, `second` is the branch feature/x.
struct Upstream {
    checkout: Checkout,
    dir: PathBuf,
    url: String,
    first: String,
    second: String,
}

fn upstream() -> Upstream {
    let checkout = Checkout::new();
    let dir = checkout.dir("upstream/llama.cpp");
    fake_tree(&dir, 3);
    fs::remove_dir_all(dir.join(".git")).unwrap();
    // What git would change on the way, or leave out of an archive.
    write(
        &dir.join(".gitattributes"),
        "*.txt text eol=crlf\nsrc/part-0.cpp export-ignore\nsrc/part-1.cpp export-subst\n",
    );
    write(&dir.join("src/part-1.cpp"), "// $Format:%H$\n");
    write(&dir.join("lines.txt"), "one\ntwo\n");
    let first = commit_all(&dir);
    run_git(&dir, &["tag", "--annotate", "b6097", "--message", "x"]);
    run_git(&dir, &["tag", "other"]);
    run_git(&dir, &["switch", "--quiet", "--create", "feature/x"]);
    write(&dir.join("src/new.cpp"), "int y;\n");
    let second = commit_all(&dir);
    // Windows has no / at the start of a path, and a URL no other separator.
    let url = format!("file:///{}", dir.display().to_string().replace('\\', "/").trim_start_matches('/'));
    Upstream { checkout, dir, url, first, second }
}

#[test]
fn a_tag_a_branch_and_a_commit_give_their_tree_and_say_which_it_is() {
    let Upstream { checkout, dir, url, first, second } = upstream();
    for (rev, commit, number, describe) in [
        ("b6097", &first, Value::from(6097), Value::from("b6097")),
        ("feature/x", &second, Value::Null, Value::Null),
        ("main", &first, Value::from(6097), Value::from("b6097")),
        (first.as_str(), &first, Value::from(6097), Value::from("b6097")),
    ] {
        let name = format!("as-{}", rev.replace('/', "-"));
        let report = vendored(&checkout, &[&name, "--git", &url, "--rev", rev]);
        assert_eq!(report["build_commit"], commit.as_str(), "{rev}");
        assert_eq!((&report["build_number"], &report["describe"]), (&number, &describe), "{rev}");
        assert_eq!(report["source"]["kind"], "git");
        assert_eq!((&report["llama_version"], &report["ggml_version"]), (&"0.7.1".into(), &"0.30.2".into()));
        let names = files(&checkout, &name);
        assert!(names.iter().all(|name| !name.contains(".git")), "{names:?}");
        assert_eq!(names.contains(&"src/new.cpp".to_owned()), commit == &second);
        let read = |file: &str| fs::read_to_string(checkout.vendor(&name).join("src").join(file)).unwrap();
        assert_eq!((read("lines.txt").as_str(), read("src/part-1.cpp").as_str()), ("one\ntwo\n", "// $Format:%H$\n"));
    }
    // The same bytes as the work tree, so the same digest whichever way the tree came.
    let report = vendored(&checkout, &["again", "--git", &url, "--rev", "feature/x"]);
    assert_eq!(report["sha256"], digest_as_folder(&dir));
}

/// Line ends of a system, filters and hooks of a user change nothing.
#[test]
fn the_user_s_configuration_reaches_git_and_does_not_reach_the_tree() {
    let Upstream { checkout, url, second, .. } = upstream();
    let plain = vendored(&checkout, &["plain", "--git", &url, "--rev", "feature/x"]);
    let config = checkout.path().join("gitconfig");
    let mirror = format!(
        "[core]\n\tautocrlf = true\n[url \"{}\"]\n\tinsteadOf = https://mirrored.invalid/\n",
        url.trim_end_matches("llama.cpp")
    );
    write(&config, &mirror);
    let mut command = checkout.xtask([
        "vendor",
        "--git",
        "https://mirrored.invalid/llama.cpp",
        "--rev",
        "feature/x",
        "--format",
        "json",
    ]);
    let report: Value = serde_json::from_str(&success(command.env("GIT_CONFIG_GLOBAL", &config))).unwrap();
    assert_eq!(report["pin"], "llama.cpp-feature-x");
    assert_eq!((&report["sha256"], &report["build_commit"]), (&plain["sha256"], &second.as_str().into()));
    assert_eq!(report["source"]["url"], "https://mirrored.invalid/llama.cpp", "the mirror is this machine's affair");
}

#[test]
fn a_commit_that_no_server_would_give_is_looked_for_in_its_branches() {
    let Upstream { checkout, dir, url, first, .. } = upstream();
    let short = first.get(..10).unwrap();
    let report = vendored(&checkout, &["short", "--git", &url, "--rev", short]);
    assert_eq!(report["build_commit"], first.as_str());
    // The whole history is here now, and the number of its commits is upstream's build number.
    assert_eq!((&report["build_number"], &report["describe"]), (&1.into(), &"b6097".into()));
    run_git(&dir, &["config", "uploadpack.allowAnySHA1InWant", "false"]);
    let missing = "0123456789abcdef0123456789abcdef01234567";
    let error = failure(&mut checkout.xtask(["vendor", "missing", "--git", &url, "--rev", missing]));
    assert!(error.contains(missing) && error.contains("no commit that one of them leads to"), "{error}");
    assert!(!checkout.vendor("missing").exists());
}

#[test]
fn a_pin_of_a_repository_is_checked_like_every_other() {
    let Upstream { checkout, url, second, .. } = upstream();
    let source = format!(r#"{{ kind = "git", url = "{url}", rev = "feature/x" }}"#);
    checkout.upstream(&source, None);
    let error = failure(&mut checkout.xtask(["vendor"]));
    let digest = error.split("add: sha256 = \"").nth(1).and_then(|rest| rest.get(..64)).expect(&error).to_owned();
    assert_nothing_vendored(&checkout);
    checkout.upstream(&source, Some(&"0".repeat(64)));
    let error = failure(&mut checkout.xtask(["vendor"]));
    assert!(error.contains("expected sha256") && error.contains(&digest), "{error}");
    assert_nothing_vendored(&checkout);
    checkout.upstream(&source, Some(&digest));
    let report = vendored(&checkout, &[]);
    assert_eq!((&report["pin"], &report["build_commit"]), (&"a".into(), &second.as_str().into()));
    // Another commit with the same content is another commit all the same.
    let source = format!(r#"{{ kind = "git", url = "{url}", rev = "{second}" }}"#);
    checkout.upstream(&source, Some(&digest));
    assert_eq!(vendored(&checkout, &[])["source"]["rev"], second.as_str());
}

/// What is printed for `upstream.toml` can be put there.
#[test]
fn an_ad_hoc_source_prints_the_pin_that_keeps_it() {
    let Upstream { checkout, url, .. } = upstream();
    let output = checkout.xtask(["vendor", "--git", &url, "--rev", "b6097"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let section = said.split_once("put this into upstream.toml:\n").expect(&said).1;
    let written = format!("default = \"llama.cpp-b6097\"\n{section}");
    let other = Checkout::new();
    fs::write(other.path().join("upstream.toml"), written).unwrap();
    assert_eq!(vendored(&other, &[])["build_number"], 6097);
}

#[test]
fn what_cannot_be_fetched_says_why() {
    let Upstream { checkout, url, .. } = upstream();
    let vendor = |args: &[&str]| failure(checkout.xtask(["vendor", "x"]).args(args));
    let error = vendor(&["--git", &url, "--rev", "no-such-branch"]);
    assert!(error.contains("there is no no-such-branch of file://") && error.contains("git ls-remote"), "{error}");
    let error = vendor(&["--git", "file:///no/such/repository", "--rev", "main"]);
    assert!(error.contains("git could not fetch main of file:///no/such/repository"), "{error}");
    assert!(error.contains("insteadOf"), "{error}");
    // Port 9 of this machine: nothing listens there.
    let error = vendor(&["--git", "http://127.0.0.1:9/x.git", "--rev", "main"]);
    assert!(error.contains("git could not fetch"), "{error}");
    let error = vendor(&["--git", &url, "--rev=--upload-pack=touch evil"]);
    assert!(error.contains("`rev` cannot be"), "{error}");
    let empty = checkout.dir("empty");
    write(&empty.join("README"), "x");
    commit_all(&empty);
    let error = vendor(&["--git", empty.to_str().unwrap(), "--rev", "main"]);
    assert!(error.contains("there is no llama.cpp tree in it"), "{error}");
    assert_nothing_vendored(&checkout);
    // The command line itself.
    for args in [&["--git", &url] as &[&str], &["--rev", "main"], &["--git", &url, "--rev", "main", "--pypi", "a==1"]] {
        assert_eq!(checkout.xtask(["vendor", "x"]).args(args).output().unwrap().status.code(), Some(2), "{args:?}");
    }
}
