//! Folders: a fork's checkout says its commit, and what git ignores stays behind; any other folder is taken as it is.

use std::fs;

use serde_json::Value;

use super::{commit_all, files, run_git, vendored, write};
use crate::{checkout::Checkout, vendor::fake_tree};

#[test]
fn a_checkout_says_its_commit_and_leaves_what_git_ignores() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    fs::remove_dir_all(fork.join(".git")).unwrap();
    write(&fork.join(".gitignore"), "/build\n*.gguf\n");
    let first = commit_all(&fork);
    run_git(&fork, &["tag", "b6097"]);
    write(&fork.join("build/CMakeCache.txt"), "x");
    write(&fork.join("models/large.gguf"), "x");
    let vendor = || vendored(&checkout, &["fork", "--from", fork.to_str().unwrap()]);
    let report = vendor();
    assert_eq!((&report["build_commit"], &report["describe"]), (&first.as_str().into(), &"b6097".into()));
    assert_eq!(report["build_number"], 1, "upstream's build number is the number of commits");
    assert_eq!(report["files"], 5);

    // A file that is new but not ignored belongs to the tree, and the commit is no longer all there is.
    write(&fork.join("src/new.cpp"), "int y;\n");
    fs::remove_file(fork.join("LICENSE")).unwrap();
    let report = vendor();
    assert_eq!(report["build_commit"], format!("{first}-dirty"));
    assert!(files(&checkout, "fork").contains(&"src/new.cpp".to_owned()));
    assert_eq!((&report["files"], &report["license"]), (&5.into(), &Value::Null));

    // The same content under another commit is vendored anew: the commit is exported.
    let second = commit_all(&fork);
    assert_eq!(vendor()["build_commit"], second.as_str());
}

#[test]
fn a_folder_in_another_project_s_repository_does_not_get_its_commit() {
    let checkout = Checkout::new();
    let outer = checkout.dir("project");
    let tree = outer.join("vendor/llama.cpp");
    fake_tree(&tree, 0);
    fs::remove_dir_all(tree.join(".git")).unwrap();
    write(&outer.join(".gitignore"), "/vendor\n");
    write(&tree.join("build/CMakeCache.txt"), "x");
    write(&tree.join("build/copy.h"), "x");
    commit_all(&outer);
    let report = vendored(&checkout, &["--from", tree.to_str().unwrap()]);
    assert_eq!((&report["build_commit"], &report["files"]), (&Value::Null, &5.into()));
    assert_eq!(files(&checkout, "llama.cpp").len(), 5, "a folder that CMake has configured is no source");
}

#[test]
fn build_information_in_the_tree_is_found() {
    let checkout = Checkout::new();
    let fork = checkout.dir("fork");
    fake_tree(&fork, 0);
    write(
        &fork.join("common/build-info.cpp"),
        "int LLAMA_BUILD_NUMBER = 6097;\nchar const *LLAMA_COMMIT = \"9515c613\";\n",
    );
    let report = vendored(&checkout, &["--from", fork.to_str().unwrap()]);
    assert_eq!((&report["build_number"], &report["build_commit"]), (&6097.into(), &"9515c613".into()));
}
