//! What `cargo xtask package` refuses to pack.

use std::fs;

use crate::{
    checkout::{failure, success},
    fork::{checkout_with_points, write_fork, write_points},
};

#[test]
fn a_missing_tree_is_named_with_the_command_that_makes_it() {
    let checkout = checkout_with_points();
    let error = failure(&mut checkout.xtask(["package"]));
    assert!(error.contains("there is no patched tree at vendor/a/patched"), "{error}");
    assert!(error.contains("cargo xtask patch a"), "{error}");
    let error = failure(&mut checkout.xtask(["package", "--pin", "other"]));
    assert!(error.contains("vendor/other/patched"), "{error}");
    assert!(checkout.names("target").is_empty());
}

#[test]
fn a_tree_that_patching_would_not_make_is_refused() {
    let checkout = checkout_with_points();
    write_fork(&checkout.dir("fork"), 0);
    success(&mut checkout.xtask(["patch"]));
    let file = checkout.vendor("a").join("patched/src/llama.cpp");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}int by_hand;\n")).unwrap();
    let error = failure(&mut checkout.xtask(["package"]));
    assert!(error.contains("its files were changed by hand or by a build"), "{error}");
    assert!(error.contains("cargo xtask patch a"), "{error}");

    fs::write(&file, text).unwrap();
    write_points(&checkout, "another_name");
    let error = failure(&mut checkout.xtask(["package"]));
    assert!(error.contains("the points have changed since"), "{error}");

    success(&mut checkout.xtask(["patch"]));
    // What passed for a tree until here is no llama.cpp that could be built.
    let error = failure(&mut checkout.xtask(["package"]));
    assert!(error.contains("has no cmake"), "{error}");
}
