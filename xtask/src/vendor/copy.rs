//! Copies a tree: regular files only, read-only, without Git's own and without what a build left.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Git's own files are not source, and `cargo vendor` drops them where `cargo fetch` keeps them.
const LEFT_OUT: [&str; 3] = [".git", ".gitignore", ".gitattributes"];

/// Copies the regular files of `from`, those that `listed` names if it does, without Git's own, and makes them
/// read-only. A folder that CMake has configured is a build and is left out. A link to a file inside the tree becomes
/// that file; other links are left out, so nothing outside the tree comes along. `on_file` learns how many of how
/// many are done.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy_tree(from: &Path, listed: Option<&[PathBuf]>, to: &Path, on_file: impl Fn(u64, u64)) -> Result<u64> {
    let root = from.canonicalize().with_context(|| format!("there is no folder {}", from.display()))?;
    let files = match listed {
        Some(listed) => listed.iter().filter(|path| is_source(path)).map(|path| root.join(path)).collect(),
        None => walked(&root)?,
    };
    let is_taken = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|file| file.is_file() || file.is_symlink() && is_link_within(path, &root))
    };
    let files: Vec<_> = files.into_iter().filter(is_taken).collect();
    let total = files.len() as u64;
    for (done, path) in (1..).zip(&files) {
        let target = to.join(path.strip_prefix(&root)?);
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent)
            .and_then(|()| fs::copy(path, &target))
            .and_then(|_| make_read_only(&target))
            .with_context(|| format!("cannot copy {} to {}", path.display(), target.display()))?;
        on_file(done, total);
    }
    Ok(total)
}

fn walked(root: &Path) -> Result<Vec<PathBuf>> {
    let is_build = |entry: &walkdir::DirEntry| entry.path().join("CMakeCache.txt").is_file();
    let is_left_out =
        |entry: &walkdir::DirEntry| LEFT_OUT.iter().any(|name| entry.file_name() == *name) || is_build(entry);
    let is_entered = |entry: &walkdir::DirEntry| entry.depth() == 0 || !is_left_out(entry);
    let entries = walkdir::WalkDir::new(root).into_iter().filter_entry(is_entered);
    entries
        .filter(|entry| entry.as_ref().map_or(true, |entry| !entry.file_type().is_dir()))
        .map(|entry| Ok(entry.with_context(|| format!("cannot read {}", root.display()))?.into_path()))
        .collect()
}

fn is_source(path: &Path) -> bool {
    !path.components().any(|part| LEFT_OUT.iter().any(|name| part.as_os_str() == *name))
}

fn is_link_within(path: &Path, root: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.is_file() && real.starts_with(root))
}

fn make_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions)
}
