//! Folders of this machine: a fork's checkout, or a tree without a repository.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    Obtained, Origin, check_is_llama_cpp,
    git::{Repository, output},
};
use crate::context::Context;

/// A tree that is only read. Where it is a git work tree of its own, git says which commit it is and which files belong
/// to it: those that are tracked and those that are new, but none that are ignored. A repository further up is
/// another project's, so its commit says nothing here.
///
/// # Errors
/// It is not a llama.cpp tree.
pub fn open(context: &Context, dir: &Path) -> Result<Obtained> {
    check_is_llama_cpp(dir)?;
    let (origin, files) =
        asked(context, dir).map_or((Origin::default(), None), |(origin, files)| (origin, Some(files)));
    Ok(Obtained { dir: dir.to_path_buf(), origin: origin.or(Origin::of_tree(dir)), files })
}

/// What is known of a folder's version.
pub fn origin_of(context: &Context, dir: &Path) -> Origin {
    let origin = asked(context, dir).map(|(origin, _)| origin).unwrap_or_default();
    origin.or(Origin::of_tree(dir))
}

/// What git says, with a warning where it cannot say it.
fn asked(context: &Context, dir: &Path) -> Option<(Origin, Vec<PathBuf>)> {
    if !dir.join(".git").exists() {
        return None;
    }
    ask(dir).unwrap_or_else(|error| {
        let dir = dir.display();
        context
            .ui
            .warn(format_args!("{dir}: its commit is not recorded, and ignored files count as its own: {error:#}"));
        None
    })
}

/// What git says of a work tree; `None` if it is none, or one without a commit.
fn ask(dir: &Path) -> Result<Option<(Origin, Vec<PathBuf>)>> {
    let repository = Repository { dir: dir.to_path_buf() };
    // Not the repository of a folder above, if `.git` here is broken.
    let is_work_tree = output(
        repository.git().args(["rev-parse", "--show-prefix", "HEAD"]).env("GIT_CEILING_DIRECTORIES", parent(dir)),
    )?;
    if !is_work_tree.status.success() {
        let said = String::from_utf8_lossy(&is_work_tree.stderr).into_owned();
        let is_none = ["not a git repository", "unknown revision", "ambiguous argument"];
        match is_none.iter().any(|text| said.contains(text)) {
            true => return Ok(None),
            false => anyhow::bail!("git says: {}", said.trim()),
        }
    }
    let answer = |args: &[&str]| repository.answer(args);
    let commit = answer(&["rev-parse", "HEAD"])?;
    let is_dirty = !answer(&["status", "--porcelain", "--ignore-submodules=dirty"])?.is_empty();
    let describe = answer(&["describe", "--tags", "--always", "--dirty"])?;
    let number = match answer(&["rev-parse", "--is-shallow-repository"])?.as_str() {
        // Upstream's build number is the number of commits.
        "false" => answer(&["rev-list", "--count", "HEAD"])?.parse().ok(),
        _ => {
            let tags = answer(&["tag", "--points-at", "HEAD"])?;
            tags.lines().find_map(|tag| Origin::of_name(tag).build_number)
        }
    };
    let origin = Origin {
        build_number: number,
        build_commit: Some(if is_dirty { format!("{commit}-dirty") } else { commit }),
        describe: Some(describe),
        ..Origin::default()
    };
    let listed = output(repository.git().args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let mut files: Vec<_> =
        listed.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(path_of).collect();
    files.sort();
    files.dedup();
    Ok(Some((origin, files)))
}

fn parent(dir: &Path) -> PathBuf {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    real.parent().map(Path::to_path_buf).unwrap_or(real)
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::new(String::from_utf8_lossy(bytes).as_ref()))
}
