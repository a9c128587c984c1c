//! The patched tree of a pin, proved to be what patching makes today, and what was patched in the files that are packaged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use patcher::{Applied, Plan, Report};
use serde_json::{Value, json};

use super::selection::select;
use crate::{
    context::Context,
    export::{parts, series},
    patch::{
        self, added_files, load_points, source,
        stamp::{STAMP, Stamp},
    },
    upstream::Upstream,
    vendor::{self, Vendored},
};

/// A patched tree, ready to be packaged.
pub struct PatchedTree {
    /// What it was made from.
    pub vendored: Vendored,
    /// Its folder.
    pub dir: PathBuf,
    /// Those of its files that are packaged.
    pub chosen: BTreeSet<String>,
    /// What makes them from upstream's, in the order in which the patches apply.
    pub patches: Vec<Patch>,
    /// Hash of the point set.
    pub points_sha256: String,
}

/// A part of the difference from upstream.
pub struct Patch {
    /// File name.
    pub name: String,
    /// First line of its message.
    pub subject: String,
    /// Its points: id and purpose.
    pub points: Vec<(String, String)>,
    /// The mail with the difference.
    pub mail: Vec<u8>,
}

/// Looks at the patched tree of a pin (the default one if `None`).
///
/// # Errors
/// There is none, or it is not what patching the pin gives with today's points; it cannot be read.
pub fn open(context: &Context, pin: Option<&str>) -> Result<PatchedTree> {
    let pin = match pin {
        Some(pin) => pin.to_owned(),
        None => Upstream::read(context)?.default,
    };
    let dir = context.vendor_dir(&pin).join("patched");
    let help = format!("help: cargo xtask patch {pin}");
    if Vendored::read(&context.vendor_dir(&pin)).is_none() || !dir.is_dir() {
        bail!("there is no patched tree at {}\n{help}", context.shown(&dir));
    }
    // Present, so that this only checks that the pristine one was not changed.
    let vendored = vendor::ensure(context, Some(&pin))?;
    let points = load_points(context)?;
    let source = source::examine(&context.vendor_src(&pin), &pin, &points, false)?;
    let (plan, applied) = patch::plan(&source, &points, added_files(context)?)?;
    let report = Report::of_plan(&plan, &applied);
    let stamp = Stamp::new(&pin, Some(&vendored.sha256), &points, &plan, &report).of_origin(&vendored.origin);
    if let Some(reason) = stamp.difference(&dir)? {
        bail!("{} cannot be packaged: {reason}\n{help}", context.shown(&dir));
    }
    let provenance = series::Provenance {
        tool: stamp.tool,
        tree: &pin,
        source_sha256: &vendored.sha256,
        points_sha256: points.hash(),
        added_sha256: &stamp.added_sha256.clone(),
    };
    let chosen = select(&dir)?;
    let purposes: BTreeMap<&str, &str> =
        points.points().iter().map(|point| (point.id.as_str(), point.purpose.as_str())).collect();
    let stamp_path = dir.join(STAMP);
    let stamp_bytes = fs::read(&stamp_path).with_context(|| format!("cannot read {}", stamp_path.display()))?;
    let (mut plan_of_chosen, mut applied_of_chosen) = (plan.clone(), applied.clone());
    keep_chosen(&mut plan_of_chosen, &mut applied_of_chosen, &chosen);
    let written = series::write(
        &source.tree,
        &source.root,
        &plan_of_chosen,
        &applied_of_chosen,
        &parts(&points, &plan_of_chosen),
        &stamp_bytes,
        &provenance,
    )?;
    let patches = written.into_iter().map(|patch| {
        let point = |id: String| {
            let purpose = purposes.get(id.as_str()).copied().unwrap_or_default().to_owned();
            (id, purpose)
        };
        Patch {
            name: patch.name,
            subject: patch.subject,
            points: patch.points.into_iter().map(point).collect(),
            mail: patch.mail,
        }
    });
    let patches = patches.collect();
    let points_sha256 = points.hash().to_owned();
    Ok(PatchedTree { vendored, dir, chosen, patches, points_sha256 })
}

/// Leaves of a plan what it does to these files.
fn keep_chosen(plan: &mut Plan, applied: &mut Applied, chosen: &BTreeSet<String>) {
    plan.files.retain(|path, _| chosen.contains(path));
    plan.added.retain(|file| chosen.contains(&file.path));
    for verdict in &mut plan.verdicts {
        verdict.sites.retain(|site| chosen.contains(&site.file));
    }
    applied.files.retain(|path, _| path.to_str().is_some_and(|path| chosen.contains(&path.replace('\\', "/"))));
}

impl PatchedTree {
    /// The stamp that lies beside a vendored tree, for the package: what a build reads of it, and the source in words. Folders
    /// of this machine, which a source may name, stay here.
    pub fn stamp(&self) -> Value {
        let Vendored { pin, sha256, llama_version, ggml_version, origin, .. } = &self.vendored;
        json!({
            "pin": pin,
            "source": self.source(),
            "sha256": sha256,
            "llama_version": llama_version,
            "ggml_version": ggml_version,
            "build_number": origin.build_number,
            "build_commit": origin.build_commit,
        })
    }

    /// Where the pristine tree came from, in words.
    pub fn source(&self) -> String {
        use crate::upstream::Source;
        match &self.vendored.source {
            Source::Path { .. } => "a folder".to_owned(),
            Source::Archive { url: None, .. } => "an archive".to_owned(),
            Source::Git { url, rev, .. } if Path::new(url).is_absolute() || url.starts_with('.') => {
                format!("{rev} of a repository")
            }
            other => other.to_string(),
        }
    }
}
