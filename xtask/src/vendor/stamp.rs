//! `VENDORED.json`: what a vendored tree says of itself.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{sources::Origin, upstream::Source};

/// Name of the file.
pub const STAMP: &str = "VENDORED.json";

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendored {
    /// Name of the pin.
    pub pin: String,
    /// Where the tree came from.
    pub source: Source,
    /// The tree's digest.
    pub sha256: String,
    /// Number of files.
    pub files: u64,
    /// llama.cpp's own version, where the tree has one.
    pub llama_version: Option<String>,
    /// ggml's own version, where the tree has one.
    pub ggml_version: Option<String>,
    /// Commit, build number and package, where they are known.
    #[serde(flatten)]
    pub origin: Origin,
    /// The licence file.
    pub license: Option<String>,
}

impl Vendored {
    /// The stamp of a folder `vendor/<pin>` that has a tree and names itself.
    pub fn read(dir: &Path) -> Option<Self> {
        let stamp: Self = serde_json::from_slice(&fs::read(dir.join(STAMP)).ok()?).ok()?;
        let named = dir.file_name().is_some_and(|name| name == stamp.pin.as_str());
        (named && dir.join("src").is_dir()).then_some(stamp)
    }

    /// The version in words: what upstream calls it, else what its commit is called, else the commit.
    pub fn version(&self) -> String {
        let parts = [
            self.llama_version.clone(),
            self.origin.describe.clone().or_else(|| self.origin.build_number.map(|number| format!("b{number}"))),
            self.origin.build_commit.as_ref().map(|commit| match commit.get(..12) {
                Some(short) if commit.len() >= 40 => format!("{short}{}", commit.get(40..).unwrap_or_default()),
                _ => commit.clone(),
            }),
        ];
        match parts.into_iter().flatten().collect::<Vec<_>>() {
            parts if parts.is_empty() => "of unknown version".to_owned(),
            parts => parts.join(", "),
        }
    }
}

/// `MAJOR.MINOR.PATCH` from `set(<PREFIX>_MAJOR n)` and so on.
pub fn version_in(cmake_lists: &Path, prefix: &str) -> Option<String> {
    let text = fs::read_to_string(cmake_lists).ok()?;
    let part = |name: &str| {
        let start = format!("set({prefix}_{name} ");
        let value = text.lines().find_map(|line| line.trim().strip_prefix(&start)?.split(')').next())?;
        value.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}
