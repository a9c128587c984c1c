//! The crates that the package needs, as cargo resolves them: with licence, checksum, and who needs whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{files::read, python::checked, sources::cargo_program};

/// Every crate that a build of the package may need, on whatever system.
#[derive(Debug)]
pub struct Graph {
    /// What the package itself needs, as indices of `crates`.
    pub direct: Vec<usize>,
    /// Sorted by name and version.
    pub crates: Vec<Dependency>,
}

/// A crate out of a registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    pub version: String,
    pub description: Option<String>,
    /// As its manifest says it, an SPDX expression or `MIT/Apache-2.0`.
    pub license: Option<String>,
    pub repository: Option<String>,
    /// SHA-256 of the published archive.
    pub checksum: Option<String>,
    /// Whether it is a part of the program; else it is only used while building.
    pub is_linked: bool,
    /// What it needs, as indices.
    pub needs: Vec<usize>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
    root: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Completes the `Cargo.lock` in `dir` and says what it holds. Versions that are in it already stay; nothing is looked up for
/// them.
///
/// # Errors
/// cargo cannot resolve the package or get a crate; a dependency is no published crate.
pub fn resolve(dir: &Path) -> Result<Graph> {
    let mut command = Command::new(cargo_program());
    command.current_dir(dir).stdin(Stdio::null()).args(["metadata", "--format-version=1", "--all-features"]);
    let text = checked(&mut command).context("the crates that the package needs cannot be resolved")?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata printed something unexpected")?;
    let lock: Lock = toml::from_str(&read(&dir.join("Cargo.lock"))?).context("Cargo.lock is not valid")?;
    graph(metadata, &lock)
}

fn graph(metadata: Metadata, lock: &Lock) -> Result<Graph> {
    let root = metadata.resolve.root.context("cargo names no root package")?;
    let edges: BTreeMap<&str, Vec<(&str, bool)>> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), edges(node))).collect();
    let reach = |is_wanted: fn(bool) -> bool| {
        let (mut seen, mut pending) = (BTreeSet::new(), vec![root.as_str()]);
        while let Some(id) = pending.pop() {
            for &(next, is_linked) in edges.get(id).map_or(&[][..], Vec::as_slice) {
                if is_wanted(is_linked) && seen.insert(next) {
                    pending.push(next);
                }
            }
        }
        seen
    };
    let (all, linked) = (reach(|_| true), reach(|is_linked| is_linked));
    let checksums: BTreeMap<(&str, &str), &String> = lock
        .package
        .iter()
        .filter_map(|locked| Some(((locked.name.as_str(), locked.version.as_str()), locked.checksum.as_ref()?)))
        .collect();

    let mut packages: Vec<Package> = metadata.packages;
    packages.retain(|package| all.contains(package.id.as_str()));
    packages.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    let index: BTreeMap<String, usize> =
        packages.iter().enumerate().map(|(index, package)| (package.id.clone(), index)).collect();
    let needs = |id: &str| {
        let edges = edges.get(id).map_or(&[][..], Vec::as_slice).iter();
        edges.filter_map(|(next, _)| index.get(*next).copied()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let direct = needs(&root);
    let mut crates = Vec::with_capacity(packages.len());
    for package in packages {
        if package.source.is_none() {
            bail!("{} {} is a folder of this machine, which a package cannot depend on", package.name, package.version);
        }
        crates.push(Dependency {
            needs: needs(&package.id),
            is_linked: linked.contains(package.id.as_str()),
            checksum: checksums.get(&(package.name.as_str(), package.version.as_str())).map(|text| (*text).clone()),
            name: package.name,
            version: package.version,
            description: package.description,
            license: package.license,
            repository: package.repository,
        });
    }
    Ok(Graph { direct, crates })
}

/// What a node needs, and whether for the program; tests do not count.
fn edges(node: &Node) -> Vec<(&str, bool)> {
    let edge = |edge: &'_ Edge| {
        let kinds: Vec<_> =
            edge.dep_kinds.iter().map(|kind| kind.kind.as_deref()).filter(|kind| *kind != Some("dev")).collect();
        (!kinds.is_empty()).then(|| kinds.contains(&None))
    };
    node.deps.iter().filter_map(|dep| Some((dep.pkg.as_str(), edge(dep)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{
        "packages": [
            {"id": "root", "name": "root", "version": "1.0.0"},
            {"id": "b", "name": "b", "version": "2.0.0", "license": "MIT", "source": "registry+x"},
            {"id": "a", "name": "a", "version": "1.0.0", "source": "registry+x"},
            {"id": "c", "name": "c", "version": "1.0.0", "source": "registry+x"},
            {"id": "t", "name": "t", "version": "1.0.0", "source": "registry+x"}
        ],
        "resolve": {"root": "root", "nodes": [
            {"id": "root", "deps": [
                {"pkg": "b", "dep_kinds": [{"kind": null}, {"kind": "build"}]},
                {"pkg": "c", "dep_kinds": [{"kind": "build"}]},
                {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}
            ]},
            {"id": "b", "deps": [{"pkg": "a", "dep_kinds": [{"kind": null}]}]},
            {"id": "c", "deps": [{"pkg": "a", "dep_kinds": [{"kind": null}]}]}
        ]}
    }"#;

    #[test]
    fn who_needs_whom_and_what_for() {
        let lock = toml::from_str("[[package]]\nname = \"b\"\nversion = \"2.0.0\"\nchecksum = \"abc\"").unwrap();
        let graph = graph(serde_json::from_str(METADATA).unwrap(), &lock).unwrap();
        let names: Vec<_> = graph.crates.iter().map(|krate| krate.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"], "not what only tests need");
        assert_eq!(graph.direct, [1, 2]);
        assert_eq!(graph.crates[1].needs, [0]);
        assert_eq!(graph.crates[1].checksum.as_deref(), Some("abc"));
        assert_eq!([0, 1, 2].map(|index: usize| graph.crates[index].is_linked), [true, true, false]);
    }

    #[test]
    fn a_folder_cannot_be_depended_on() {
        let metadata = METADATA
            .replace(r#""version": "2.0.0", "license": "MIT", "source": "registry+x""#, r#""version": "2.0.0""#);
        let error =
            graph(serde_json::from_str(&metadata).unwrap(), &Lock { package: Vec::new() }).unwrap_err().to_string();
        assert!(error.contains("b 2.0.0 is a folder"), "{error}");
    }
}
