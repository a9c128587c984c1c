//! The section `[sweep]` of `upstream.toml`: every published tree, era by era.

use std::{collections::BTreeMap, fmt, fs};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{context::Context, upstream::FILE};

/// What this verb reads of the file; pins are read elsewhere.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    sweep: Sweep,
}

/// The section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Names of the trees that `--syntax` and `--build` compile.
    #[serde(default)]
    pub compiled: Vec<String>,
    /// Eras, newest first.
    #[serde(default, rename = "era")]
    pub eras: Vec<Era>,
}

/// Trees whose code has one shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Era {
    /// A letter, perhaps with a number.
    pub name: String,
    /// What its code can be told by.
    pub marks: String,
    /// The era cannot be patched; the one sentence that says so must contain this.
    pub refused: Option<String>,
    /// Versions by crate, newest first.
    #[serde(default)]
    pub crates: BTreeMap<String, Vec<String>>,
    /// Versions by Python source distribution, newest first.
    #[serde(default)]
    pub sdists: BTreeMap<String, Vec<String>>,
}

/// Where a listed tree is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// The crates of the user's cargo; the tree is the folder `llama.cpp`.
    Crates,
    /// The packages of the user's pip; the tree is the folder `vendor/llama.cpp`.
    Packages,
}

/// One tree of the list.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The era that it belongs to.
    pub era: &'a Era,
    /// Where it comes from.
    pub registry: Registry,
    /// Name of the crate or distribution.
    pub package: &'a str,
    /// Its version.
    pub version: &'a str,
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.package, self.version)
    }
}

impl Sweep {
    /// Reads the section of the checkout's `upstream.toml`.
    ///
    /// # Errors
    /// The file cannot be read, or the section is not of the documented form.
    pub fn read(context: &Context) -> Result<Self> {
        let path = context.root.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        Ok(file.sweep)
    }

    /// Every tree: eras as listed, in an era by package, in a package as listed.
    pub fn trees(&self) -> Vec<Listed<'_>> {
        self.eras.iter().flat_map(Era::trees).collect()
    }
}

impl Era {
    /// Its trees, by package, in a package as listed.
    pub fn trees(&self) -> Vec<Listed<'_>> {
        let mut trees = Vec::new();
        for (registry, packages) in [(Registry::Crates, &self.crates), (Registry::Packages, &self.sdists)] {
            for (package, versions) in packages {
                trees.extend(versions.iter().map(|version| Listed { era: self, registry, package, version }));
            }
        }
        trees
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;

    use super::*;

    /// A file of the checkout that these tests belong to.
    pub fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    /// The section of its `upstream.toml`.
    pub fn listed() -> Sweep {
        toml::from_str::<File>(&read(FILE)).unwrap().sweep
    }

    #[test]
    fn trees_come_in_the_order_of_the_list() {
        let sweep: Sweep = toml::from_str(
            "[[era]]\nname = \"B\"\nmarks = \"m\"\ncrates.x = [\"2\", \"1\"]\nsdists.y = [\"3\"]\n\
             [[era]]\nname = \"A\"\nmarks = \"m\"\nrefused = \"too old\"\ncrates.x = [\"0\"]\n",
        )
        .unwrap();
        let names: Vec<_> = sweep.trees().iter().map(|tree| format!("{tree} {}", tree.era.name)).collect();
        assert_eq!(names, ["x-2 B", "x-1 B", "y-3 B", "x-0 A"]);
    }

    /// What the sweep found is compared with the lock; this compares the lock with what was promised.
    #[test]
    fn today_s_eras_have_every_point() {
        // Packages without the sources of the RPC backend, and calls that came with a later tree of the era.
        const MAY_BE_ABSENT: [&str; 3] = ["rpc.", "header.rpc", "sampling.backend"];

        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sweep = listed();
        let lock = patcher::lock::Lock::parse(&read("patcher/coverage.lock")).unwrap();
        let points = patcher::PointSet::load_dir(&root.join("patcher/points")).unwrap();
        let mut n_trees = 0;
        for tree in sweep.trees().iter().filter(|tree| ["E1", "E2", "F", "G", "H"].contains(&tree.era.name.as_str())) {
            let placed = &lock.0[&tree.to_string()];
            for point in points.points() {
                let may_be_absent = MAY_BE_ABSENT.iter().any(|start| point.id.starts_with(start));
                assert!(may_be_absent || placed.contains_key(&point.id), "{} is not placed in {tree}", point.id);
            }
            n_trees += 1;
        }
        assert!(n_trees >= 109, "{n_trees}");
    }
}
