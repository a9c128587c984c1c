//! Source distributions through a real pip: from a folder of this machine, and one from the configured index.

use std::{fs, path::Path, process::Command};

use flate2::{Compression, write::GzEncoder};

use super::{digest_as_folder, vendored, write};
use crate::{
    checkout::{Checkout, failure, success},
    vendor::fake_tree,
};

/// A source distribution that says so if any code of it runs: its own backend in the tree, one that is installed by
/// others, and a setup.py.
fn sdist(checkout: &Checkout, name: &str, pyproject: &str) {
    let marker = checkout.path().join("ran");
    let root = checkout.dir(&format!("{name}-1.0"));
    fake_tree(&root.join("vendor/llama.cpp"), 1);
    let code = format!("open({:?}, 'w').close()\n", marker.to_str().unwrap());
    for file in ["setup.py", "backend.py", "scikit_build_core/__init__.py", "scikit_build_core/build.py"] {
        write(&root.join(file), &code);
    }
    write(
        &root.join("PKG-INFO"),
        &format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: x\n\nText: y\n"),
    );
    if !pyproject.is_empty() {
        write(&root.join("pyproject.toml"), pyproject);
    }
    let file = fs::File::create(checkout.dir("index").join(format!("{name}-1.0.tar.gz"))).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    archive.append_dir_all(format!("{name}-1.0"), &root).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

fn offline(command: &mut Command, index: &Path) {
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", index).env("PIP_CONFIG_FILE", "/dev/null");
}

#[test]
fn nothing_of_a_source_distribution_is_built_or_run() {
    let checkout = Checkout::new();
    let outer = "[build-system]\nrequires = [\"no-such-package\"]\nbuild-backend = \"scikit_build_core.build\"\n";
    let inner = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    let nested = "[build-system]\nrequires = []\nbuild-backend = \"scikit_build_core:build\"\nbackend-path = [\".\"]\n";
    for (name, pyproject) in [("outer", outer), ("inner", inner), ("nested", nested), ("legacy", "")] {
        sdist(&checkout, name, pyproject);
        let mut command = checkout.xtask(["vendor", "--format", "json", "--pypi", &format!("{name}==1.0")]);
        offline(&mut command, &checkout.dir("index"));
        let report: serde_json::Value = serde_json::from_str(&success(&mut command)).unwrap();
        assert_eq!(
            (&report["pin"], &report["package"]),
            (&format!("{name}-1.0").into(), &format!("{name} 1.0").into())
        );
        assert_eq!(report["sha256"], digest_as_folder(&checkout.dir(&format!("{name}-1.0")).join("vendor/llama.cpp")));
        assert!(!checkout.path().join("ran").exists(), "code of {name} ran");
    }
    let mut command = checkout.xtask(["vendor", "--pypi", "outer==2.0"]);
    offline(&mut command, &checkout.dir("index"));
    let error = failure(&mut command);
    assert!(
        error.contains("pip could not download the source of outer==2.0") && error.contains("--archive FILE"),
        "{error}"
    );
    let error = failure(&mut checkout.xtask(["vendor", "--pypi", "outer"]));
    assert!(error.contains("names no version") && error.contains("llama-cpp-python==0.3.36"), "{error}");
}

/// The real thing, and the smallest of them; `[sweep]` has the others.
#[test]
fn a_published_one_comes_through_pip() {
    let checkout = Checkout::new();
    let report = vendored(&checkout, &["--pypi", "llama-cpp-python==0.3.2"]);
    assert_eq!(
        (&report["pin"], &report["package"]),
        (&"llama-cpp-python-0.3.2".into(), &"llama_cpp_python 0.3.2".into())
    );
    assert_eq!(report["license"], "LICENSE");
    let src = checkout.vendor("llama-cpp-python-0.3.2").join("src");
    assert!(src.join("examples/server/server.cpp").is_file(), "it is a full tree");
}
