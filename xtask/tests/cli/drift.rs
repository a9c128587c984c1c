//! `drift`, on trees of which the cache is told where they are, and on those that cargo and pip bring from registries
//! in folders.

use std::{fs, path::Path, process::Command};

use flate2::{Compression, write::GzEncoder};

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

/// The list with a version of `y` in era B too.
fn list_with_y() -> String {
    LIST.replace("[\"2.0.0\", \"1.9.0\"]", "[\"2.0.0\", \"1.9.0\"]\nsdists.y = [\"0.9\"]")
}

const CODE: &str = "int decode(int n) {\n    return n;\n}\n";

/// A checkout whose `upstream.toml` has two trees of era B and one of era A.
fn checkout_with_list() -> Checkout {
    let checkout = Checkout::new();
    fs::write(checkout.path().join("upstream.toml"), LIST).unwrap();
    fs::write(checkout.dir("patcher/points").join("p.toml"), POINTS).unwrap();
    fs::write(checkout.dir("otel-shim/include").join("otel.h"), "").unwrap();
    fs::write(checkout.dir("otel-shim/cpp").join("otel.cpp"), "").unwrap();
    fs::write(checkout.dir("otel-shim/cmake").join("CMakeLists.txt"), "").unwrap();
    checkout.dir("otel-shim/otelcpp");
    checkout.dir("docs");
    checkout
}

/// The same with trees, and a cache that knows where they are.
fn checkout() -> Checkout {
    let checkout = checkout_with_list();
    let mut places = Vec::new();
    for (name, files) in [
        ("x-2.0.0", &[("a.cpp", CODE), ("CMakeLists.txt", "")] as &[_]),
        ("x-1.9.0", &[("a.cpp", CODE), ("old.cpp", ""), ("CMakeLists.txt", "")]),
        ("x-1.0.0", &[("a.cpp", CODE)]),
        // Not in the list.
        ("x-2.1.0", &[("a.cpp", CODE), ("CMakeLists.txt", "")]),
        ("x-2.10.0", &[("a.cpp", CODE), ("CMakeLists.txt", "")]),
        ("y-0.10", &[("a.cpp", CODE), ("CMakeLists.txt", "")]),
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

/// Lets cargo take the crate `x` out of the folder `registry`, whose index has these versions; `true` is yanked.
fn crates(checkout: &Checkout, versions: &[(&str, bool)]) {
    let config = "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nlocal-registry = \"registry\"\n";
    fs::write(checkout.dir(".cargo").join("config.toml"), config).unwrap();
    let mut index = String::new();
    for (version, yanked) in versions {
        let file = checkout.path().join(format!("registry/x-{version}.crate"));
        let sha256 = patcher::tree::sha256(&fs::read(file).unwrap_or_default());
        index += &format!(
            "{{\"name\":\"x\",\"vers\":\"{version}\",\"deps\":[],\"cksum\":\"{sha256}\",\"features\":{{}},\"yanked\":{yanked}}}\n"
        );
    }
    fs::write(checkout.dir("registry/index/1").join("x"), index).unwrap();
}

/// Lets pip take the package `y` out of the folder `packages`.
fn with_packages(mut command: Command, checkout: &Checkout) -> Command {
    let index = checkout.dir("packages").canonicalize().unwrap();
    let index = index.to_str().unwrap().trim_start_matches(r"\\?\").replace('\\', "/");
    command.env("PIP_INDEX_URL", format!("file:///{}", index.trim_start_matches('/')));
    command.env("PIP_CONFIG_FILE", if cfg!(windows) { "nul" } else { "/dev/null" });
    ["PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"].iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

fn package_page(checkout: &Checkout, versions: &[&str]) {
    let links = versions.iter().map(|version| format!("<a href=\"y-{version}.tar.gz\">y-{version}.tar.gz</a>\n"));
    fs::write(checkout.dir("packages/y").join("index.html"), links.collect::<String>()).unwrap();
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

#[test]
fn newest_names_what_was_released_since_and_sweeps_it() {
    let checkout = checkout();
    // y is in two eras; what follows the newest one counts.
    let list = list_with_y().replace("crates.x = [\"1.0.0\"]", "crates.x = [\"1.0.0\"]\nsdists.y = [\"0.2\"]");
    fs::write(checkout.path().join("upstream.toml"), list).unwrap();
    let places = checkout.path().join("cache/sweep/places.json");
    let text = fs::read_to_string(&places).unwrap();
    let (old, refused) = (checkout.path().join("trees/x-2.0.0"), checkout.path().join("trees/x-1.0.0"));
    let more = format!("{{ \"y-0.9\": {{ \"folder\": {old:?} }}, \"y-0.2\": {{ \"folder\": {refused:?} }},");
    fs::write(&places, text.replacen('{', &more, 1)).unwrap();
    // `said` on standard error, and what is in the era of its own.
    let newest = |said: &str, wanted: &[&str]| {
        let mut command = with_packages(checkout.xtask(["drift", "--newest", "--format", "json"]), &checkout);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains(said), "{stderr}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let trees = json["trees"].as_array().unwrap();
        let new: Vec<_> = trees.iter().filter(|tree| tree["era"] == "new").map(|tree| tree["tree"].clone()).collect();
        assert_eq!(new, wanted);
        assert!(trees.iter().all(|tree| tree["tree"] == "x-1.9.0" || tree["points"]["decode.span"] == "placed"));
        // What the list has is there once.
        assert_eq!(trees.len(), 3 + wanted.len());
    };
    package_page(&checkout, &["0.2", "0.9"]);
    let known = [("1.0.0", false), ("1.9.0", false), ("2.0.0", false)];
    crates(&checkout, &known);
    newest("upstream.toml lists every release", &[]);
    // The newest one that is listed was taken back, and so was one that came after it.
    let mut versions = [&known[..], &[("3.0.0", true)]].concat();
    versions[2].1 = true;
    crates(&checkout, &versions);
    package_page(&checkout, &["0.2", "0.5"]);
    newest("upstream.toml lists every release", &[]);
    versions.extend([("2.1.0", false), ("2.10.0", false)]);
    crates(&checkout, &versions);
    package_page(&checkout, &["0.2", "0.9", "0.10"]);
    newest("not in upstream.toml yet: x-2.10.0, x-2.1.0, y-0.10\n", &["x-2.10.0", "x-2.1.0", "y-0.10"]);
}

#[test]
fn newest_fails_where_a_registry_cannot_be_asked() {
    let checkout = checkout();
    crates(&checkout, &[]);
    let error = failure(&mut checkout.xtask(["-q", "drift", "--newest"]));
    assert!(error.contains("cargo could not look for x"), "{error}");
}

/// A package with a tree in `folder`, packed as cargo and pip expect it.
fn pack(checkout: &Checkout, to: &Path, name: &str, metadata: &[(&str, &str)], folder: &str, files: &[(&str, &str)]) {
    let root = checkout.dir(&format!("unpacked/{name}"));
    let tree = files.iter().map(|(path, text)| (format!("{folder}/{path}"), *text));
    for (path, text) in tree.chain(metadata.iter().map(|(path, text)| ((*path).to_owned(), *text))) {
        fs::create_dir_all(root.join(&path).parent().unwrap()).unwrap();
        fs::write(root.join(&path), text).unwrap();
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let file = fs::File::create(to).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    archive.append_dir_all(name, &root).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

/// A version of the crate `x` with a tree in it.
fn pack_crate(checkout: &Checkout, version: &str, files: &[(&str, &str)]) {
    let file = checkout.path().join(format!("registry/x-{version}.crate"));
    let manifest = format!("[package]\nname = \"x\"\nversion = \"{version}\"\nedition = \"2021\"\n");
    let metadata = [("Cargo.toml", manifest.as_str()), ("src/lib.rs", "")];
    pack(checkout, &file, &format!("x-{version}"), &metadata, "llama.cpp", files);
}

#[test]
fn each_tree_is_downloaded_once() {
    let checkout = checkout_with_list();
    let list = list_with_y().replace("without CMake", "it has no CMakeLists.txt");
    fs::write(checkout.path().join("upstream.toml"), list).unwrap();
    let header = ("include/llama.h", "#pragma once\n");
    let whole = [("CMakeLists.txt", ""), ("src/CMakeLists.txt", ""), header, ("src/a.cpp", CODE)];
    for (version, files) in [("2.0.0", &whole[..]), ("1.9.0", &whole[..]), ("1.0.0", &[header, ("src/a.cpp", CODE)])] {
        pack_crate(&checkout, version, files);
    }
    crates(&checkout, &[("1.0.0", false), ("1.9.0", false), ("2.0.0", false)]);
    let metadata = [("PKG-INFO", "Metadata-Version: 2.1\nName: y\nVersion: 0.9\n"), ("pyproject.toml", "")];
    let file = checkout.path().join("packages/y/y-0.9.tar.gz");
    pack(&checkout, &file, "y-0.9", &metadata, "vendor/llama.cpp", &whole);
    package_page(&checkout, &["0.9"]);

    let sweep = || {
        let mut command = with_packages(checkout.xtask(["drift"]), &checkout);
        command.env("CARGO_HOME", checkout.path().join("cargo"));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (succeeded, first, said) = sweep();
    assert!(succeeded, "{said}");
    assert!(first.contains("x-1.0.0 A   refused: ") && first.contains("y-0.9   B   +"), "{first}");
    for tree in ["x 2.0.0", "x 1.9.0", "x 1.0.0", "y==0.9"] {
        assert_eq!(said.matches(&format!("download {tree} ...")).count(), 1, "{tree}\n{said}");
    }
    // Nothing is left to download from.
    for dir in ["registry", "packages", "unpacked"] {
        fs::remove_dir_all(checkout.path().join(dir)).unwrap();
    }
    let (succeeded, second, said) = sweep();
    assert!(succeeded && !said.contains("download"), "{said}");
    assert_eq!(second, first);
    // What another program cleared away is asked for again.
    fs::remove_dir_all(checkout.path().join("cache/sweep/y-0.9")).unwrap();
    let (succeeded, _, said) = sweep();
    assert!(!succeeded && said.contains("pip could not download the source of y==0.9"), "{said}");
}

#[test]
fn every_sign_of_the_table_stands_in_its_legend() {
    let checkout = checkout();
    // The row of the newest tree, and that the legend names its sign so.
    let row = |succeeds: bool, sign: &str, words: &str| {
        let output = checkout.xtask(["-q", "drift"]).output().unwrap();
        assert_eq!(output.status.success(), succeeds, "{}", String::from_utf8_lossy(&output.stderr));
        let table = String::from_utf8(output.stdout).unwrap();
        let row = table.lines().find(|line| line.starts_with("x-2.0.0 ")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["x-2.0.0", "B", sign], "{table}");
        let legend = table.lines().last().unwrap();
        assert!(legend.split("   ").any(|entry| entry == format!("{sign} {words}")), "{legend}");
        table
    };
    let table = row(true, "+", "placed");
    // The point's name stands upright above its column.
    let head: String = table.lines().take("decode.span".len()).map(str::trim).collect();
    assert_eq!(head, "decode.span", "{table}");
    assert!(table.contains("\nx-1.0.0 A   refused: "), "{table}");
    success(&mut checkout.xtask(["-q", "drift", "--bless"]));
    change(&checkout, "x-2.0.0", &format!("\n{CODE}"));
    row(true, ">", "placed, moved");
    change(&checkout, "x-2.0.0", &CODE.replace("return n", "return n + 1"));
    row(true, "~", "placed, the function's body changed");
    change(&checkout, "x-2.0.0", &CODE.replace("decode", "encode"));
    row(false, "L", "LOST");
    change(&checkout, "x-2.0.0", &format!("{CODE}{}", CODE.replace("int n", "long n")));
    row(false, "A", "AMBIGUOUS");
    change(&checkout, "x-2.0.0", CODE);
    fs::write(checkout.path().join("trees/x-2.0.0/src/old.cpp"), "").unwrap();
    row(true, "-", "absent by declaration");
}

#[test]
fn a_lost_point_is_looked_for_by_a_published_tree_that_the_lock_remembers() {
    let checkout = checkout_with_list();
    let list = LIST.split("[[sweep.era]]\nname = \"A\"").next().unwrap();
    fs::write(checkout.path().join("upstream.toml"), list).unwrap();
    let lost = ("src/old.cpp", "");
    let rest = [("CMakeLists.txt", ""), ("src/CMakeLists.txt", ""), ("include/llama.h", "#pragma once\n")];
    let code = "int decode(int n) {\n    const int n_used = count(n);\n    return n_used + n;\n}\n";
    pack_crate(&checkout, "2.0.0", &[&[("src/a.cpp", CODE), lost][..], &rest].concat());
    pack_crate(&checkout, "1.9.0", &[&[("src/a.cpp", code)][..], &rest].concat());
    crates(&checkout, &[("1.9.0", false), ("2.0.0", false)]);
    let xtask = |args: &[&str]| {
        let mut command = checkout.xtask(args);
        command.env("CARGO_HOME", checkout.path().join("cargo"));
        command
    };
    success(&mut xtask(&["-q", "drift", "--bless"]));
    // Another machine has the lock and the tree that has lost the point, and nothing else.
    for dir in ["cargo", "cache"] {
        fs::remove_dir_all(checkout.path().join(dir)).unwrap();
    }
    let fork = checkout.dir("fork");
    for (path, text) in [("src/b.cpp", code.replace("decode", "process").as_str())].iter().chain(&rest) {
        fs::create_dir_all(fork.join(path).parent().unwrap()).unwrap();
        fs::write(fork.join(path), text).unwrap();
    }
    let tree = fork.to_str().unwrap();
    let output = xtask(&["point", "mend", "decode.span", "--tree", tree]).output().unwrap();
    let (proposed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(proposed.contains("file = \"src/b.cpp\", function = \"process\""), "{proposed}");
    // 2.0.0 is newer, and has no such point.
    for words in [
        "no tree at hand has decode.span; x-1.9.0 has it, by coverage.lock",
        "download x 1.9.0 ...",
        "compared with x-1.9.0, as coverage.lock remembers it",
    ] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    assert!(!said.contains("x 2.0.0"), "{said}");
    // It is at hand now, and so is every other one that is named.
    let said = success(&mut xtask(&["point", "why", "decode.span", "--tree", "x-1.9.0"]));
    assert!(said.contains("decode.span in x-1.9.0: placed"), "{said}");
    let said = success(&mut xtask(&["point", "why", "decode.span", "--tree", "x-2.0.0"]));
    assert!(said.contains("absent by its own declaration"), "{said}");

    // A point that the lock knows nothing of, and a tree that is nowhere.
    fs::remove_dir_all(checkout.path().join("cache")).unwrap();
    fs::remove_file(checkout.path().join("patcher/coverage.lock")).unwrap();
    let error = failure(&mut xtask(&["point", "mend", "decode.span", "--tree", tree]));
    assert!(error.contains("coverage.lock remembers it of none") && error.contains("--like"), "{error}");
    let error = failure(&mut xtask(&["point", "why", "decode.span", "--tree", "x-7"]));
    assert!(error.contains("upstream.toml lists none of that name"), "{error}");
}
