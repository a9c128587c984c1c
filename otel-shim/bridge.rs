//! Compiles the bridge between the C++ runtime and this crate: for the build script of this crate, or of a package that has
//! this crate as a folder inside.

use std::path::{Path, PathBuf};

/// Compiles the bridge of the crate in `dir`, a path relative to the package that is built (empty: the package itself), and
/// with it further C++ files, all with these definitions.
pub fn compile(dir: &str, further: &[PathBuf], definitions: &[(&str, Option<&str>)]) {
    if !dir.is_empty() {
        // `bridge.cpp` includes what cxx writes as `otel-shim/src/lib.rs.h`: the folder takes the place of the package's name.
        cxx_build::CFG.include_prefix = "";
    }
    let at = |part: &str| Path::new(dir).join(part);
    let mut build = cxx_build::bridge(at("src/lib.rs"));
    build.file(at("cpp/bridge.cpp")).files(further).include(at("include")).std("c++17").warnings(false);
    for &(name, value) in definitions {
        build.define(name, value);
    }
    build.compile("otel-shim-bridge");
    for input in ["src/lib.rs", "cpp", "include"] {
        announce(&at(input));
    }
}

/// Cargo runs a script again for ever if it is told of a path that does not exist, and an exported crate has not all of them.
pub fn announce(input: &Path) {
    if input.exists() {
        println!("cargo::rerun-if-changed={}", input.display());
    }
}
