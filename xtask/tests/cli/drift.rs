//! `drift`, on trees that are not downloaded: the cache is told where they are.

use std::fs;

use crate::checkout::{Checkout, failure, success};

const POINTS: &str = r#"
[[point]]
id = "decode.span"
purpose = "a test"
insert = 'LLAMA_OTEL_SPAN("llama_decode");'
at = [{ file = "src/a.cpp", function = "decode", position = "body-start" }]
absent = [{ file = "src/old.cpp", missing = false, reason = "decoding came later" }]

[[block]]
file = "src/CMakeLists.txt"
text = "add_subdirectory(otel)\n"
"#;

const LIST: &str = r#"
default = "a"
[pin.a]
source = { kind = "path", dir = "fork" }

[[sweep.era]]
name = "B"
marks = "decode"
crates.x = ["2.0.0", "1.9.0"]

[[sweep.era]]
name = "A"
marks = "no CMake"
refused = "without CMake"
crates.x = ["1.0.0"]
"#;

/// A checkout with two trees of era B and one of era A.
fn checkout() -> Checkout {
    let checkout = Checkout::new();
    fs::write(checkout.path().join("upstream.toml"), LIST).unwrap();
    fs::write(checkout.dir("patcher/points").join("p.toml"), POINTS).unwrap();
    fs::write(checkout.dir("otel-shim/include").join("otel.h"), "").unwrap();
    fs::write(checkout.dir("otel-shim/cpp").join("otel.cpp"), "").unwrap();
    fs::write(checkout.dir("otel-shim/cmake").join("CMakeLists.txt"), "").unwrap();
    checkout.dir("otel-shim/otelcpp");
    checkout.dir("docs");
    let code = "int decode(int n) {\n    return n;\n}\n";
    let mut places = Vec::new();
    for (name, files) in [
        ("x-2.0.0", &[("a.cpp", code), ("CMakeLists.txt", "")] as &[_]),
        ("x-1.9.0", &[("a.cpp", code), ("old.cpp", ""), ("CMakeLists.txt", "")]),
        ("x-1.0.0", &[("a.cpp", code)]),
    ] {
        let src = checkout.dir(&format!("trees/{name}/src"));
        for (file, text) in files {
            fs::write(src.join(file), text).unwrap();
        }
        places.push(format!("{:?}: {{ \"folder\": {:?} }}", name, src.parent().unwrap()));
    }
    fs::write(checkout.dir("cache/sweep").join("places.json"), format!("{{ {} }}", places.join(", "))).unwrap();
    checkout
}

fn change(checkout: &Checkout, tree: &str, code: &str) {
    fs::write(checkout.path().join("trees").join(tree).join("src/a.cpp"), code).unwrap();
}

/// `tree` to the word that is given for the point.
fn words(checkout: &Checkout, succeeds: bool) -> Vec<(String, String)> {
    let output = checkout.xtask(["-q", "drift", "--format", "json"]).output().unwrap();
    assert_eq!(output.status.success(), succeeds, "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["seconds"].is_f64(), "{json}");
    assert_eq!(json["refused"][0]["tree"], "x-1.0.0");
    let word = |tree: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        assert_eq!(tree["era"], "B");
        (text(&tree["tree"]), text(&tree["points"]["decode.span"]))
    };
    json["trees"].as_array().unwrap().iter().map(word).collect()
}

fn pairs(words: [(&str, &str); 2]) -> Vec<(String, String)> {
    words.map(|(tree, word)| (tree.to_owned(), word.to_owned())).into()
}

#[test]
fn what_became_of_each_point_is_held_against_the_lock() {
    let checkout = checkout();
    assert_eq!(words(&checkout, true), pairs([("x-2.0.0", "placed"), ("x-1.9.0", "absent")]));
    success(&mut checkout.xtask(["-q", "drift", "--bless"]));
    success(&mut checkout.xtask(["-q", "drift", "--check"]));
    let page = fs::read_to_string(checkout.path().join("docs/coverage.md")).unwrap();
    assert!(page.contains("| `decode.span` | 1/2 |") && page.contains("decoding came later"), "{page}");

    change(&checkout, "x-2.0.0", "\nint decode(int n) {\n    return n;\n}\n");
    assert_eq!(words(&checkout, true)[0].1, "moved");
    change(&checkout, "x-2.0.0", "int decode(int n) {\n    return n + 1;\n}\n");
    assert_eq!(words(&checkout, true)[0].1, "body-changed");
    let stale = failure(&mut checkout.xtask(["-q", "drift", "--check"]));
    assert!(stale.contains("patcher/coverage.lock") && stale.contains("drift --bless"), "{stale}");
}

#[test]
fn a_lost_point_fails_the_sweep_and_nothing_is_blessed() {
    let checkout = checkout();
    change(&checkout, "x-2.0.0", "int decode_it(int n) {\n    return n;\n}\n");
    assert_eq!(words(&checkout, false), pairs([("x-2.0.0", "lost"), ("x-1.9.0", "absent")]));
    let error = failure(&mut checkout.xtask(["-q", "drift", "--bless"]));
    assert!(error.contains("point `decode.span` has no site") && error.contains("x-2.0.0"), "{error}");
    assert!(!checkout.path().join("patcher/coverage.lock").exists());
    // The other tree is not touched by it.
    success(&mut checkout.xtask(["-q", "drift", "--only", "x-1.9.0"]));
    let error = failure(&mut checkout.xtask(["-q", "drift", "--only", "x-7"]));
    assert!(error.contains("lists no tree `x-7`"), "{error}");
}

#[test]
fn an_era_that_cannot_be_patched_must_be_refused() {
    let checkout = checkout();
    fs::write(checkout.path().join("trees/x-1.0.0/src/CMakeLists.txt"), "").unwrap();
    let error = failure(&mut checkout.xtask(["-q", "drift"]));
    assert!(error.contains("x-1.0.0 should be refused"), "{error}");
}
