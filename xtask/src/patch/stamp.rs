//! `PATCHED.json`: what a patched tree says of itself, and what it tells a later run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use patcher::{
    Plan, PointSet, Report,
    report::FileReport,
    strip::{INCLUDE_LINE, strip_file},
    tree::{digest_without, sha256},
    verdict::Verdict,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sources::Origin;

/// Name of the file.
pub const STAMP: &str = "PATCHED.json";
/// What every version of this program calls itself.
const TOOL: &str = "llama-otel ";

/// What `PATCHED.json` holds.
#[derive(Debug, Clone, Serialize)]
pub struct Stamp<'a> {
    /// This program and its version.
    pub tool: &'a str,
    /// Name of the tree.
    pub pin: &'a str,
    /// Digest of the pristine tree; `None` for a tree that was patched in place, which goes on living.
    pub source_sha256: Option<&'a str>,
    /// The commit of llama.cpp, where it is known; for builds of a tree that is no repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_commit: Option<&'a str>,
    /// Its build number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_number: Option<u64>,
    /// Hash of the point set.
    pub points_sha256: &'a str,
    /// Hash of the files that patching adds.
    pub added_sha256: String,
    /// Digest of the patched tree without this file; `None` for a tree that was patched in place.
    pub sha256: Option<String>,
    /// Every changed or added file before and after.
    pub files: &'a [FileReport],
    /// A verdict for each point.
    pub points: &'a [Verdict],
    /// While files are being replaced in place: what was known before, see [`Known::to_value`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Value>,
}

impl<'a> Stamp<'a> {
    /// The stamp of a plan that was carried out on the tree `pin`.
    pub fn new(
        pin: &'a str,
        source_sha256: Option<&'a str>,
        points: &'a PointSet,
        plan: &'a Plan,
        report: &'a Report,
    ) -> Self {
        let added: Vec<_> = plan.added.iter().map(|file| format!("{} {}\n", sha256(&file.bytes), file.path)).collect();
        Stamp {
            tool: concat!("llama-otel ", env!("CARGO_PKG_VERSION")),
            pin,
            source_sha256,
            build_commit: None,
            build_number: None,
            points_sha256: points.hash(),
            added_sha256: sha256(added.concat().as_bytes()),
            sha256: None,
            files: &report.files,
            points: &report.points,
            unfinished: None,
        }
    }

    /// The stamp of a tree whose commit and build number are known.
    #[must_use]
    pub fn of_origin(self, origin: &'a Origin) -> Self {
        Self { build_commit: origin.build_commit.as_deref(), build_number: origin.build_number, ..self }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// None that can happen.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Why the derived tree at `target` is not the one that this stamp describes; `None` if it is.
    ///
    /// # Errors
    /// The tree cannot be read.
    pub fn difference(&self, target: &Path) -> Result<Option<&'static str>> {
        let Some(mut known) = read(target) else {
            return Ok(Some("there is no patched tree"));
        };
        let digest = known.as_object_mut().and_then(|object| object.insert("sha256".to_owned(), Value::Null));
        let wanted = serde_json::to_value(self)?;
        for (key, what) in [
            ("tool", "another version of this program made it"),
            ("pin", "it was made from another pin"),
            ("source_sha256", "it was made from another upstream tree"),
            ("build_commit", "it was made from another commit"),
            ("build_number", "it was made from another commit"),
            ("points_sha256", "the points have changed since"),
            ("added_sha256", "the files of otel-shim that are copied into it have changed since"),
        ] {
            if known.get(key) != wanted.get(key) {
                return Ok(Some(what));
            }
        }
        if known != wanted {
            return Ok(Some("the same points give other lines today"));
        }
        let found = digest_without(target, |path| path == STAMP)
            .with_context(|| format!("cannot read {}", target.display()))?;
        Ok((digest != Some(Value::String(found))).then_some("its files were changed by hand or by a build"))
    }
}

/// The stamp of a tree as it stands there, if it is one of this program's.
pub fn read(root: &Path) -> Option<Value> {
    let stamp: Value = serde_json::from_slice(&fs::read(root.join(STAMP)).ok()?).ok()?;
    stamp.get("tool")?.as_str()?.starts_with(TOOL).then_some(stamp)
}

/// What a stamp, of whatever version, says about the tree that it lies in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// Every changed or added file.
    pub files: BTreeMap<String, KnownFile>,
    /// Every inserted line, without indentation.
    pub lines: BTreeSet<String>,
    /// Whether the run that wrote it came to its end.
    pub is_finished: bool,
}

/// One file of a stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownFile {
    /// SHA-256 of upstream's file; `None` for an added one.
    pub before: Option<String>,
    /// SHA-256 of the patched one; two where a run was broken off.
    pub after: BTreeSet<String>,
}

impl KnownFile {
    /// Whether these bytes differ from what the stamp's run found by our lines and nothing else.
    pub fn is_ours(&self, bytes: &[u8]) -> bool {
        match &self.before {
            None => self.after.contains(&sha256(bytes)),
            Some(before) => strip_file(bytes).is_ok_and(|stripped| sha256(&stripped) == *before),
        }
    }
}

/// As much of a stamp as has been in it from the first version on.
#[derive(Deserialize)]
struct Minimal {
    #[serde(default)]
    files: Vec<MinimalFile>,
    #[serde(default)]
    points: Vec<MinimalPoint>,
    unfinished: Option<Value>,
}

#[derive(Deserialize)]
struct MinimalFile {
    path: String,
    before: Option<String>,
    after: String,
}

#[derive(Deserialize)]
struct MinimalPoint {
    #[serde(default)]
    sites: Vec<MinimalSite>,
}

#[derive(Deserialize)]
struct MinimalSite {
    inserted: String,
}

impl Known {
    /// Reads a stamp; that of an unfinished run counts together with the one that it was to replace.
    pub fn of(stamp: &Value) -> Option<Self> {
        let stamp = Minimal::deserialize(stamp).ok()?;
        let mut known = match &stamp.unfinished {
            Some(previous) => Self::of(previous)?,
            None => Self::default(),
        };
        known.is_finished = stamp.unfinished.is_none();
        for file in stamp.files {
            let entry = known.files.entry(file.path).or_default();
            entry.before = file.before;
            entry.after.insert(file.after);
        }
        known.lines.extend(stamp.points.into_iter().flat_map(|point| point.sites).map(|site| site.inserted));
        known.lines.insert(INCLUDE_LINE.to_owned());
        Some(known)
    }

    /// The same as a stamp of which only that is left which [`Known::of`] reads.
    pub fn to_value(&self) -> Value {
        let files = self.files.iter().flat_map(|(path, file)| {
            file.after.iter().map(move |after| json!({ "path": path, "before": file.before, "after": after }))
        });
        let sites = self.lines.iter().map(|line| json!({ "inserted": line }));
        json!({ "files": files.collect::<Vec<_>>(), "points": [{ "sites": sites.collect::<Vec<_>>() }] })
    }
}
