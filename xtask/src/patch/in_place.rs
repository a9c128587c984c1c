//! Patching a tree where it is: a fork's own checkout, whose `.git`, build folders and open editors stay what they are.
//!
//! Every new content is on the disk before the first file is replaced; each file is replaced in one step;
//! `PATCHED.json` goes first, last and, with `--revert`, away last. So a run that is killed leaves a tree that the next
//! run, in either direction, takes for what it is; and in between, no macro stands in a file that cannot see its header,
//! so that the tree compiles after every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use patcher::{
    Applied,
    strip::{ADDED_DIR, INCLUDE_LINE},
};
use tempfile::NamedTempFile;
use walkdir::WalkDir;

use super::{
    git,
    source::{Refused, STAGED, Source},
    stamp::{Known, STAMP, Stamp},
};
use crate::{cache::lock_file, context::Context};

/// The right to change a tree, against other runs of the same user.
///
/// # Errors
/// The cache cannot be written.
pub fn lock(context: &Context, root: &Path) -> Result<fs::File> {
    let dir = context.cache.join("locks");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join(format!("{}.lock", patcher::tree::sha256(root.as_os_str().as_encoded_bytes())));
    lock_file(&path, || context.ui.say(format_args!("waiting for another run that changes {}", root.display())))
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// Refuses a git work tree with uncommitted changes that are not ours.
///
/// # Errors
/// [`Refused`], or git cannot be asked.
pub fn check_clean(source: &Source) -> Result<()> {
    let changed = git::uncommitted(&source.root, source.known.as_ref())?;
    if changed.is_empty() {
        return Ok(());
    }
    let mut reasons: Vec<_> = changed.iter().take(8).map(|path| format!("{path}: has uncommitted changes")).collect();
    if changed.len() > reasons.len() {
        reasons.push(format!("and {} more", changed.len() - reasons.len()));
    }
    let help = "commit or stash them, so that the patch is a change of its own; or patch all the same with --force";
    Err(Refused { tree: source.name.clone(), reasons, help: help.to_owned() }.into())
}

/// What has to happen to a tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New contents by path.
    pub write: BTreeMap<String, Vec<u8>>,
    /// Files to remove.
    pub remove: BTreeSet<String>,
}

impl Changes {
    /// What makes the tree that `applied` describes of it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn to_patched(source: &Source, applied: &Applied) -> Result<Self> {
        let mut wanted: BTreeMap<String, &[u8]> =
            source.stripped.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
        for (path, bytes) in &applied.files {
            wanted.insert(path.to_string_lossy().into_owned(), bytes);
        }
        let remove = source.added.iter().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        let mut changes = Changes { write: BTreeMap::new(), remove };
        for (path, bytes) in wanted {
            let full = source.root.join(&path);
            match fs::read(&full) {
                Ok(present) if present == bytes => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot read {}", full.display()));
                }
                _ => {
                    changes.write.insert(path, bytes.to_vec());
                }
            }
        }
        Ok(changes)
    }

    /// What makes upstream's tree of it.
    pub fn to_pristine(source: &Source) -> Self {
        let mut remove: BTreeSet<_> = source.added.iter().cloned().collect();
        remove.insert(STAMP.to_owned());
        Changes { write: source.stripped.clone(), remove }
    }

    /// What tells the tree from the patched one that these changes make of it, in a few words; `None` if nothing does.
    pub fn difference(&self, source: &Source) -> Option<String> {
        let is_finished = source.known.as_ref().is_some_and(|known| known.is_finished);
        match self.write.keys().chain(&self.remove).next() {
            Some(path) if is_finished || source.is_pristine() => Some(format!("{path} differs")),
            None if is_finished => None,
            None if source.is_pristine() => Some(format!("it has no {STAMP}")),
            _ => Some("a run that patched it was broken off".to_owned()),
        }
    }
}

/// One change on the disk, which has happened or not: a run can be killed between two steps, not within one.
enum Step {
    /// A new content takes its place.
    Put(Staged),
    /// A file goes.
    Remove(PathBuf),
    /// The folders of the added files go, if nothing is in them.
    RemoveEmptyFolders(PathBuf),
}

impl Step {
    fn take(self) -> Result<()> {
        match self {
            Step::Put(staged) => staged.put(),
            Step::Remove(path) => remove(&path),
            Step::RemoveEmptyFolders(root) => {
                remove_empty_folders(&root);
                Ok(())
            }
        }
    }
}

/// Makes a patched tree of it.
///
/// # Errors
/// Something cannot be written. Nothing was changed then, unless the error is that of a replacement itself; and then
/// the next run finishes what was begun, or undoes it.
pub fn patch(source: &Source, changes: Changes, stamp: &Stamp<'_>) -> Result<()> {
    remove_staged(source)?;
    steps_to_patched(source, changes, stamp)?.into_iter().try_for_each(Step::take)
}

/// Makes upstream's tree of it.
///
/// # Errors
/// As for [`patch`].
pub fn revert(source: &Source, changes: Changes) -> Result<()> {
    remove_staged(source)?;
    steps_to_pristine(source, changes)?.into_iter().try_for_each(Step::take)
}

fn steps_to_patched(source: &Source, changes: Changes, stamp: &Stamp<'_>) -> Result<Vec<Step>> {
    let previous = source.known.as_ref().map_or_else(|| Known::default().to_value(), Known::to_value);
    let begun = Stamp { unfinished: Some(previous), ..stamp.clone() };
    let mut order: Vec<_> = changes.write.into_iter().collect();
    order.sort_by_key(|(path, bytes)| rank(path, bytes));
    let mut contents = vec![(STAMP.to_owned(), begun.bytes()?)];
    contents.append(&mut order);
    contents.push((STAMP.to_owned(), stamp.bytes()?));
    let mut steps = stage_all(&source.root, &contents)?;
    let last = steps.pop();
    steps.extend(changes.remove.iter().map(|path| Step::Remove(source.root.join(path))));
    steps.extend(last);
    Ok(steps)
}

fn steps_to_pristine(source: &Source, changes: Changes) -> Result<Vec<Step>> {
    let mut order: Vec<_> = changes.write.into_iter().collect();
    // The other way round: as long as a macro is left, so is what it needs.
    order.sort_by_key(|(path, _)| {
        let present = fs::read(source.root.join(path)).unwrap_or_default();
        std::cmp::Reverse(rank(path, &present))
    });
    let mut steps = stage_all(&source.root, &order)?;
    let added = changes.remove.iter().filter(|path| *path != STAMP);
    steps.extend(added.map(|path| Step::Remove(source.root.join(path))));
    steps.push(Step::RemoveEmptyFolders(source.root.clone()));
    steps.push(Step::Remove(source.root.join(STAMP)));
    Ok(steps)
}

/// Files that others need come first: the header and the runtime, what builds them, what includes the header.
fn rank(path: &str, patched: &[u8]) -> u8 {
    if path.starts_with(ADDED_DIR) {
        0
    } else if path.ends_with("CMakeLists.txt") || path.ends_with(".cmake") {
        1
    } else if memchr::memmem::find(patched, INCLUDE_LINE.as_bytes()).is_some() {
        2
    } else {
        3
    }
}

/// A new content that waits for its turn.
struct Staged {
    file: NamedTempFile,
    target: PathBuf,
}

impl Staged {
    fn put(self) -> Result<()> {
        let Staged { file, target } = self;
        file.persist(&target).map(|_| ()).with_context(|| {
            format!("cannot replace {}\nhelp: run the same command again, or undo it with --revert", target.display())
        })
    }
}

/// Writes every new content beside its place, or none.
fn stage_all(root: &Path, contents: &[(String, Vec<u8>)]) -> Result<Vec<Step>> {
    let staged: Result<_> = contents.iter().map(|(path, bytes)| stage(root, path, bytes).map(Step::Put)).collect();
    if staged.is_err() {
        remove_empty_folders(root);
    }
    staged
}

/// The folders that are made for the added files go if nothing is in them.
fn remove_empty_folders(root: &Path) {
    let below = WalkDir::new(root.join(ADDED_DIR)).contents_first(true).into_iter().filter_map(Result::ok);
    for folder in below.filter(|entry| entry.file_type().is_dir()) {
        let _ = fs::remove_dir(folder.path());
    }
    let _ = fs::remove_dir(root.join("common"));
}

fn stage(root: &Path, path: &str, bytes: &[u8]) -> Result<Staged> {
    let target = root.join(path);
    let failed = || format!("cannot write {}", target.display());
    let parent = target.parent().unwrap_or(root);
    fs::create_dir_all(parent).with_context(failed)?;
    let is_inside = parent.canonicalize().with_context(failed)?.starts_with(root);
    let present = fs::symlink_metadata(&target).ok();
    if !is_inside || present.as_ref().is_some_and(|present| !present.is_file()) {
        bail!("{} is a link, or lies behind one\nhelp: patch the tree that has the file itself", target.display());
    }
    let mut file =
        tempfile::Builder::new().prefix(STAGED.0).suffix(STAGED.1).tempfile_in(parent).with_context(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_data()).with_context(failed)?;
    let permissions = present.map_or_else(|| new_file_permissions(&file), |present| Ok(present.permissions()));
    permissions.and_then(|permissions| file.as_file().set_permissions(permissions)).with_context(failed)?;
    Ok(Staged { file, target })
}

/// A temporary file is its owner's alone; a source file is everybody's to read.
fn new_file_permissions(file: &NamedTempFile) -> io::Result<fs::Permissions> {
    let permissions = file.as_file().metadata()?.permissions();
    #[cfg(unix)]
    let permissions = {
        use std::os::unix::fs::PermissionsExt as _;
        let mut permissions = permissions;
        permissions.set_mode(0o644);
        permissions
    };
    Ok(permissions)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what killed runs left.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_staged(source: &Source) -> Result<()> {
    source.staged.iter().try_for_each(|path| remove(&source.root.join(path)))
}

#[cfg(test)]
mod tests;
