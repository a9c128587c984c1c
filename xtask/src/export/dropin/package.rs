//! The files of the exported package beside llama.cpp: the published package's own, with one line more in its build script, one
//! dependency more in its manifest and a block at the end of its library; and the crate otel-shim, which that dependency is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use semver::Version;
use toml::{Table, Value};

use super::{Sys, TREE};
use crate::{
    context::Context,
    files::{copy, read, write},
    resolved::{self, Kind, table},
};

/// This program and its version.
pub const TOOL: &str = concat!("llama-otel ", env!("CARGO_PKG_VERSION"));

/// The crate that is the telemetry backend.
const SHIM: &str = "otel-shim";
/// What of it a build needs.
const SHIM_PARTS: [&str; 5] = ["bridge.rs", "build.rs", "cpp", "include", "src"];

/// Of the published package: what cargo itself put there, and what is written anew.
const LEFT_OUT: [&str; 7] =
    [".cargo-checksum.json", ".cargo-ok", ".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig", TREE, "target"];

/// Behind it the build script decides nothing about telemetry any more.
const BUILD_ANCHORS: [&str; 2] =
    ["let mut config = Config::new(&llama_src);", "let mut config = Config::new(&llama_dst);"];
const BUILD_LINE: &str =
    "config.define(\"LLAMA_OTEL_BACKEND\", \"rust\").define(\"LLAMA_OTEL_UNRESOLVED\", \"ON\"); // llama-otel";
/// The build script of llama-cpp-sys-4 takes llama.cpp to be the same as long as this file has the same time, and does not have
/// cargo look at it.
const SENTINEL: &str = "llama.cpp/CMakeLists.txt";
const SENTINEL_LINE: &str = "println!(\"cargo:rerun-if-changed=llama.cpp/CMakeLists.txt\"); // llama-otel";

const LIB_BLOCK: &str = "
// >>> llama-otel
/// The telemetry backend: parents, providers, switches. Linked also if a program never names it.
pub use otel_shim as llama_otel;

otel_shim::require_instrumented!();
// <<< llama-otel
";

/// Which package is in `dir`, and its version.
///
/// # Errors
/// It is another package, or its manifest needs a workspace that is not there.
pub fn identity(dir: &Path) -> Result<(Sys, Version)> {
    let (path, manifest) = read_manifest(dir)?;
    let field = |key: &str| manifest.get("package").and_then(|package| package.get(key)).and_then(Value::as_str);
    let name = field("name").unwrap_or("nothing");
    let Some(sys) = Sys::of_name(name) else {
        bail!(
            "{}: the package is called {name}, and cargo would not use it in place of {}",
            path.display(),
            Sys::names()
        );
    };
    let inherits = manifest.values().any(inherits);
    match field("version") {
        Some(version) if !inherits => {
            let version = version.parse().with_context(|| format!("{}: `{version}` is no version", path.display()))?;
            Ok((sys, version))
        }
        _ => bail!(
            "{}: it takes values from a workspace, which the exported package would not have\n\
             help: run `cargo package --no-verify` there and name the unpacked package instead",
            path.display()
        ),
    }
}

/// Whether `workspace = true` stands in it somewhere.
fn inherits(value: &Value) -> bool {
    match value {
        Value::Table(table) => {
            table.get("workspace").is_some_and(|value| value.as_bool() == Some(true)) || table.values().any(inherits)
        }
        _ => false,
    }
}

/// Writes everything but `llama.cpp` of the package in `dir` into `new`.
///
/// # Errors
/// The package is not of the expected form; something cannot be read or written.
pub fn complete(context: &Context, dir: &Path, sys: Sys, new: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
        if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            copy(&dir.join(&name), &new.join(&name))?;
        }
    }
    shim(context, &new.join(SHIM))?;

    let (_, mut manifest) = read_manifest(dir)?;
    let dependency = Table::from_iter([("path".to_owned(), Value::from(SHIM))]);
    table(&mut manifest, "dependencies").insert(SHIM.to_owned(), dependency.into());
    // It is for one program's `[patch]`, not for a registry.
    table(&mut manifest, "package").insert("publish".to_owned(), false.into());
    write(&new.join("Cargo.toml"), &toml::to_string(&manifest)?)?;

    let script = new.join("build.rs");
    write(&script, &with_ours(&read(&script)?, lines_of(sys)).with_context(|| script.display().to_string())?)?;
    let lib = new.join("src/lib.rs");
    write(&lib, &(read(&lib)? + LIB_BLOCK))
}

/// What the build script of that package gets.
fn lines_of(sys: Sys) -> &'static [&'static str] {
    match sys {
        Sys::Two => &[BUILD_LINE],
        Sys::Four => &[BUILD_LINE, SENTINEL_LINE],
    }
}

/// The build script with our lines.
fn with_ours(script: &str, ours: &[&str]) -> Result<String> {
    let is_anchor = |line: &&str| BUILD_ANCHORS.contains(&line.trim());
    if script.lines().filter(is_anchor).count() != 1 {
        bail!("not exactly one line is `{}`, behind which ours goes", BUILD_ANCHORS.join("` or `"));
    }
    let mut text = String::with_capacity(script.len() + BUILD_LINE.len());
    for line in script.split_inclusive('\n') {
        text.push_str(line);
        if is_anchor(&line) {
            let indent = &line[..line.len() - line.trim_start().len()];
            ours.iter().for_each(|line| text.extend([indent, line, "\n"]));
        }
    }
    Ok(text)
}

/// The crate otel-shim without its tests, by itself.
fn shim(context: &Context, to: &Path) -> Result<()> {
    let [shim] = resolved::crates(&context.root, [SHIM])?;
    fs::create_dir(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    for part in SHIM_PARTS {
        copy(&shim.dir().join(part), &to.join(part))?;
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&context.root.join(licence), &to.join(licence))?;
    }
    let mut manifest = Table::new();
    let package = table(&mut manifest, "package");
    for (key, value) in [
        ("name", Some(&shim.name)),
        ("version", Some(&shim.version)),
        ("edition", Some(&shim.edition)),
        ("rust-version", shim.rust_version.as_ref()),
        ("description", shim.description.as_ref()),
        ("license", shim.license.as_ref()),
    ] {
        package.extend(value.map(|value| (key.to_owned(), value.as_str().into())));
    }
    package.insert("publish".to_owned(), false.into());
    let features = shim.features.iter().map(|(name, parts)| (name.clone(), parts.clone().into()));
    manifest.insert("features".to_owned(), features.collect::<Table>().into());
    shim.add_dependencies(&mut manifest, Kind::Normal, Kind::Normal, false)?;
    shim.add_dependencies(&mut manifest, Kind::Build, Kind::Build, false)?;
    write(&to.join("Cargo.toml"), &toml::to_string(&manifest)?)
}

/// Has the build script of llama-cpp-sys-4 see that llama.cpp changed.
///
/// # Errors
/// The file's time cannot be set.
pub fn touch_sentinel(package: &Path) -> Result<()> {
    let sentinel = package.join(SENTINEL);
    let file = fs::File::options().write(true).open(&sentinel);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot write {}", sentinel.display()))
}

fn read_manifest(dir: &Path) -> Result<(PathBuf, Table)> {
    let path = dir.join("Cargo.toml");
    let manifest = read(&path)?.parse().with_context(|| format!("{} is not valid", path.display()))?;
    Ok((path, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_script_gets_its_lines_once() {
        let script = "fn main() {\n    let mut config = Config::new(&llama_src);\n    config.build();\n}\n";
        let with = with_ours(script, lines_of(Sys::Four)).unwrap();
        assert_eq!(with.lines().nth(2), Some(format!("    {BUILD_LINE}").as_str()));
        assert_eq!(with.replace(&format!("    {BUILD_LINE}\n    {SENTINEL_LINE}\n"), ""), script);
        for other in ["fn main() {}".to_owned(), format!("{script}{script}")] {
            assert!(with_ours(&other, &[BUILD_LINE]).unwrap_err().to_string().contains("not exactly one line"));
        }
    }

    #[test]
    fn another_package_or_one_that_needs_its_workspace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let identity = |text: &str| {
            fs::write(dir.path().join("Cargo.toml"), text).unwrap();
            identity(dir.path()).map_err(|error| error.to_string())
        };
        for sys in [Sys::Two, Sys::Four] {
            let text = format!("[package]\nname = \"{}\"\nversion = \"0.1.2\"", sys.name());
            assert_eq!(identity(&text).unwrap(), (sys, Version::new(0, 1, 2)));
        }
        assert!(identity("[package]\nname = \"mine\"\nversion = \"0.1.2\"").unwrap_err().contains("called mine"));
        let inherited = "[package]\nname = \"llama-cpp-sys-2\"\nversion = \"1.0.0\"\n[build-dependencies]\ncc = { workspace = true }";
        assert!(identity(inherited).unwrap_err().contains("takes values from a workspace"));
    }
}
