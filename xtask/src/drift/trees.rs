//! Where a listed tree is on this machine: downloaded once through the user's own cargo or pip, and remembered.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::list::{Listed, Registry};
use crate::{
    cache::{Slot, lock_file},
    context::Context,
    python::{Python, checked},
    sources::obtain,
    upstream::Source,
};

/// What a download came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The tree's folder.
    Folder(PathBuf),
    /// What was published there is no tree that can be patched, in one sentence.
    Refused(String),
}

/// The places of all trees, kept in the cache from one run to the next.
pub struct Places {
    dir: PathBuf,
    known: BTreeMap<String, Place>,
}

impl Places {
    /// Reads what earlier runs found.
    pub fn read(context: &Context) -> Self {
        let dir = context.cache.join("sweep");
        let known = fs::read(dir.join("places.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { dir, known: known.unwrap_or_default() }
    }

    /// Brings all of `trees` here that are not, and says where they are, in their order.
    ///
    /// # Errors
    /// One cannot be downloaded, or the cache cannot be written.
    pub fn find(&mut self, context: &Context, trees: &[Listed<'_>]) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for tree in trees {
            let name = tree.to_string();
            let place = match self.known.get(&name) {
                // Cargo clears its registry of what was not used for months.
                Some(Place::Folder(dir)) if !dir.is_dir() => None,
                known => known.cloned(),
            };
            let place = match place {
                Some(place) => place,
                None => {
                    let place = self.download(context, tree)?;
                    self.known.insert(name, place.clone());
                    self.write()?;
                    place
                }
            };
            places.push(place);
        }
        Ok(places)
    }

    fn download(&self, context: &Context, tree: &Listed<'_>) -> Result<Place> {
        match tree.registry {
            Registry::Crates => {
                let source = Source::Crate {
                    name: tree.package.to_owned(),
                    version: tree.version.to_owned(),
                    subdir: "llama.cpp".to_owned(),
                };
                let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
                match obtain(context, &source, scratch.path()) {
                    Ok(dir) => Ok(Place::Folder(dir)),
                    Err(error) if tree.era.refused.as_ref().is_some_and(|why| error.to_string().contains(why)) => {
                        // The folder is another one on every machine.
                        let sentence = error.to_string().rsplit('/').next().unwrap_or_default().to_owned();
                        Ok(Place::Refused(sentence))
                    }
                    Err(error) => Err(error),
                }
            }
            Registry::Packages => self.sdist(context, tree).map(Place::Folder),
        }
    }

    /// A source distribution: pip gets the archive, and Python unpacks the one folder of it that is wanted.
    fn sdist(&self, context: &Context, tree: &Listed<'_>) -> Result<PathBuf> {
        let target = self.dir.join(tree.to_string());
        let slot = Slot::lock(&target, &context.ui)?;
        if target.is_dir() {
            return Ok(target);
        }
        let python = Python::required("downloading from the Python package index")?.with_pip(context)?;
        context.ui.say(format_args!("download {tree} ..."));
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        let requirement = format!("{}=={}", tree.package, tree.version);
        // Only the distribution itself must be source: what it is built with may come as a wheel.
        let dir = scratch.path().to_string_lossy().into_owned();
        let args = ["download", "--quiet", "--no-deps", "--no-binary", tree.package, "--dest", &dir, &requirement];
        python.pip(args, None).with_context(|| format!("pip could not download the source of {requirement}"))?;
        let archive = fs::read_dir(scratch.path())?.next().context("pip downloaded nothing")??.path();
        slot.replace(|new| unpack(&python, &archive, new))?;
        Ok(target)
    }

    fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make the folder {}", self.dir.display()))?;
        let path = self.dir.join("places.json");
        let written = lock_file(&self.dir.join(".places.lock"), || ()).and_then(|_lock| {
            let new = self.dir.join(".places.json.new");
            fs::write(&new, serde_json::to_vec_pretty(&self.known)?)?;
            fs::rename(&new, &path)
        });
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Regular files only: no link and no path of the archive can lead out of `to`.
fn unpack(python: &Python, archive: &Path, to: &Path) -> Result<()> {
    const PROGRAM: &str = "\
import os, shutil, sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    for member in archive:
        parts = member.name.split('/')
        if not member.isfile() or parts[1:3] != ['vendor', 'llama.cpp'] or '..' in parts:
            continue
        path = os.path.join(sys.argv[2], *parts[3:])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as out:
            shutil.copyfileobj(archive.extractfile(member), out)
";
    checked(python.command().args(["-c", PROGRAM]).arg(archive).arg(to))?;
    if !to.join("CMakeLists.txt").is_file() {
        bail!("{} has no llama.cpp tree at vendor/llama.cpp", archive.display());
    }
    Ok(())
}
