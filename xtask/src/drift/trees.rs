//! Where a listed tree is on this machine: downloaded once through the user's own cargo or pip, and remembered.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::list::{Listed, Registry, Sweep};
use crate::{
    cache::{Slot, lock_file},
    context::Context,
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

/// The folder of the tree of that name, downloaded if it is not here; `None` if `upstream.toml` lists none for the sweep.
///
/// # Errors
/// It cannot be downloaded, or what was published there is no tree that can be patched.
pub fn published(context: &Context, name: &str) -> Result<Option<PathBuf>> {
    let list = Sweep::read(context)?;
    let Some(tree) = list.trees().into_iter().find(|tree| tree.to_string() == name) else { return Ok(None) };
    match Places::read(context).find(context, &[tree])?.pop() {
        Some(Place::Folder(dir)) => Ok(Some(dir)),
        Some(Place::Refused(why)) => bail!("{name} cannot be patched: {why}"),
        None => Ok(None),
    }
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

    /// The folders of trees that are here, by name.
    pub fn folders(self) -> impl Iterator<Item = (String, PathBuf)> {
        self.known.into_iter().filter_map(|(name, place)| match place {
            Place::Folder(dir) => Some((name, dir)),
            Place::Refused(_) => None,
        })
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
        let (name, version) = (tree.package.to_owned(), tree.version.to_owned());
        match tree.registry {
            Registry::Crates => {
                let source = Source::Crate { name, version, subdir: Some("llama.cpp".to_owned()) };
                let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
                match obtain(context, &source, scratch.path()) {
                    Ok(obtained) => Ok(Place::Folder(obtained.dir)),
                    Err(error) if tree.era.refused.as_ref().is_some_and(|why| error.to_string().contains(why)) => {
                        // The folder is another one on every machine.
                        let sentence = error.to_string().rsplit('/').next().unwrap_or_default().to_owned();
                        Ok(Place::Refused(sentence))
                    }
                    Err(error) => Err(error),
                }
            }
            Registry::Packages => {
                let source = Source::Pypi { name, version, subdir: None };
                self.kept(context, &self.dir.join(tree.to_string()), &source).map(Place::Folder)
            }
        }
    }

    /// A tree that no other program keeps: moved into the cache.
    fn kept(&self, context: &Context, target: &Path, source: &Source) -> Result<PathBuf> {
        let slot = Slot::lock(target, &context.ui)?;
        if !target.is_dir() {
            // On the file system of the cache, so that the tree can be renamed.
            let scratch = tempfile::tempdir_in(&self.dir).context("cannot make a temporary folder")?;
            let obtained = obtain(context, source, scratch.path())?;
            slot.replace(|new| {
                let tree = new.display();
                // Windows renames a folder to a name that is free only.
                fs::remove_dir(new)
                    .and_then(|()| fs::rename(&obtained.dir, new))
                    .with_context(|| format!("cannot write {tree}"))
            })?;
        }
        Ok(target.to_path_buf())
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
