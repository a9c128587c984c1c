//! `Cargo.toml` of the package: one manifest for the three crates that it is made of.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use semver::Version;
use toml::{Table, Value};

use crate::resolved::{Crate, Kind, table};

/// The feature that turns the Rust backend on, and with it what only that needs.
const TELEMETRY: &str = "telemetry-rust";

/// The crates that the package is made of.
pub struct Crates {
    /// The one that takes the others in.
    pub sys: Crate,
    /// A module of its library.
    pub shim: Crate,
    /// A module of its build script.
    pub build: Crate,
}

/// What the manifest says beyond the crates' own.
pub struct About<'a> {
    pub version: &'a Version,
    /// An SPDX expression for all that is inside.
    pub license: &'a str,
    /// What cargo packs, in `.gitignore`'s form.
    pub include: &'a [&'a str],
}

/// The version of the package: the crate's own, and as build metadata llama.cpp's, or the pin of a tree that has none.
///
/// # Errors
/// The crate's version is none.
pub fn version(sys: &Crate, llama: Option<&str>, pin: &str) -> Result<Version> {
    let upstream = llama.map_or_else(|| pin.to_owned(), |version| format!("llama.cpp-{version}"));
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let upstream: String = upstream.chars().map(allowed).collect();
    let text = format!("{}+{upstream}", sys.version);
    text.parse().with_context(|| format!("`{text}` is no version"))
}

/// The manifest.
///
/// # Errors
/// The crates require a dependency in ways that exclude each other, or have features that the package could not have.
pub fn manifest(crates: &Crates, about: &About<'_>) -> Result<String> {
    let Crates { sys, shim, build } = crates;
    let mut manifest = Table::new();
    let package = table(&mut manifest, "package");
    let text = |value: &str| Value::from(value);
    package.insert("name".to_owned(), text(&sys.name));
    package.insert("version".to_owned(), about.version.to_string().into());
    package.insert("edition".to_owned(), text(&sys.edition));
    package.extend(newest_rust([sys, shim, build]).map(|version| ("rust-version".to_owned(), text(version))));
    package.extend(sys.description.as_deref().map(|description| ("description".to_owned(), text(description))));
    package.extend(sys.repository.as_deref().map(|repository| ("repository".to_owned(), text(repository))));
    package.insert("license".to_owned(), text(about.license));
    package.insert("readme".to_owned(), text("README.md"));
    package
        .insert("keywords".to_owned(), ["llama", "llm", "opentelemetry", "tracing", "ggml"].map(text).to_vec().into());
    package.insert("categories".to_owned(), ["external-ffi-bindings"].map(text).to_vec().into());
    package.insert("links".to_owned(), text("llama"));
    package.insert("build".to_owned(), text("build/main.rs"));
    package.insert("include".to_owned(), about.include.iter().copied().map(text).collect::<Vec<_>>().into());
    for kind in ["autobins", "autoexamples", "autotests", "autobenches"] {
        package.insert(kind.to_owned(), false.into());
    }

    sys.add_dependencies(&mut manifest, Kind::Normal, Kind::Normal, false)?;
    sys.add_dependencies(&mut manifest, Kind::Build, Kind::Build, false)?;
    build.add_dependencies(&mut manifest, Kind::Normal, Kind::Build, false)?;
    shim.add_dependencies(&mut manifest, Kind::Normal, Kind::Normal, true)?;
    shim.add_dependencies(&mut manifest, Kind::Build, Kind::Build, true)?;
    if build.dependency_names(Kind::Build).next().is_some() {
        bail!("{} has a build script, and its module would have none", build.name);
    }
    manifest.insert("features".to_owned(), features(sys, shim)?.into());

    // Those of the folded crates that only their own tests turn on.
    let own: BTreeSet<&String> = sys.features.keys().collect();
    let gone: Vec<_> =
        shim.features.keys().filter(|name| !own.contains(name)).map(|name| format!("\"{name}\"")).collect();
    let cfg = Value::from(format!("cfg(feature, values({}))", gone.join(", ")));
    let lint = Table::from_iter([("level".to_owned(), text("warn")), ("check-cfg".to_owned(), vec![cfg].into())]);
    table(table(&mut manifest, "lints"), "rust").insert("unexpected_cfgs".to_owned(), lint.into());
    // It stands alone, also where it is built inside another workspace's folder.
    table(&mut manifest, "workspace");
    Ok(toml::to_string(&manifest)?)
}

fn newest_rust(crates: [&Crate; 3]) -> Option<&str> {
    let number = |version: &&str| version.split('.').map(|part| part.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>();
    crates.into_iter().filter_map(|krate| krate.rust_version.as_deref()).max_by_key(number)
}

/// The features of the crate, where what a folded one needs stands in the place of that crate.
fn features(sys: &Crate, shim: &Crate) -> Result<Table> {
    let mut features = Table::new();
    for (name, parts) in &sys.features {
        let mut all: BTreeSet<String> = BTreeSet::new();
        for part in parts {
            match part.strip_prefix("dep:") {
                Some(dependency) if dependency == shim.name => {
                    let needs = shim.dependency_names(Kind::Normal).chain(shim.dependency_names(Kind::Build));
                    all.extend(needs.map(|name| format!("dep:{name}")));
                }
                _ if part.split('/').next().is_some_and(|start| start.trim_end_matches('?') == shim.name) => {
                    bail!("the feature {name} of {} has {part}, and the package has no such crate", sys.name)
                }
                _ => drop(all.insert(part.clone())),
            }
        }
        features.insert(name.clone(), all.into_iter().collect::<Vec<_>>().into());
    }
    if !features.contains_key(TELEMETRY) {
        bail!("{} has no feature {TELEMETRY}, by which its sources ask for the telemetry backend", sys.name);
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::resolved;

    #[test]
    fn three_crates_become_one_that_could_be_published() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let [sys, shim, build] = resolved::crates(&root, ["llama-otel-sys", "otel-shim", "llama-build"]).unwrap();
        let version = version(&sys, Some("0.6.0"), "pin").unwrap();
        assert_eq!(version.build.as_str(), "llama.cpp-0.6.0");
        let crates = Crates { sys, shim, build };
        let text = manifest(&crates, &About { version: &version, license: "MIT", include: &["/src/**"] }).unwrap();
        let manifest: Table = text.parse().unwrap();
        let package = &manifest["package"];
        assert_eq!(package["links"].as_str(), Some("llama"));
        assert_eq!(package["rust-version"].as_str(), Some("1.89"));
        assert!(package.get("publish").is_none() && manifest.contains_key("workspace"));
        // No dependency is a folder, and what the folded crates need is there.
        assert!(!text.contains("path ="), "{text}");
        assert!(manifest["build-dependencies"].get("walkdir").is_some());
        assert!(manifest["build-dependencies"].get("llama-build").is_none());
        let telemetry = manifest["features"]["telemetry-rust"].as_array().unwrap();
        assert!(telemetry.contains(&"dep:cxx".into()) && telemetry.contains(&"dep:cxx-build".into()));
        assert!(!text.contains("otel-shim"), "{text}");
    }

    #[test]
    fn a_tree_without_a_version_is_named_by_its_pin() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let [sys] = resolved::crates(&root, ["llama-otel-sys"]).unwrap();
        assert_eq!(version(&sys, None, "my_fork-b12").unwrap().build.as_str(), "my-fork-b12");
    }
}
