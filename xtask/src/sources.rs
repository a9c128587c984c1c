//! How a tree of each source kind is brought onto this machine: one file a kind. Each gives a folder to copy from, and
//! what is known of where its content comes from; none of them writes into the checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{context::Context, upstream::Source};

mod archive;
pub mod crates;
mod git;
mod origin;
mod pypi;
mod work_tree;

pub use self::{crates::cargo_program, origin::Origin, work_tree::origin_of};

/// A tree, ready to be copied.
pub struct Obtained {
    /// Its folder.
    pub dir: PathBuf,
    /// What is known of its version.
    pub origin: Origin,
    /// The files that belong to it, relative to `dir`, where git was asked; all of the folder's else.
    pub files: Option<Vec<PathBuf>>,
}

/// What a source gave, before the tree in it is looked for.
pub struct Fetched {
    /// Where it is.
    pub dir: PathBuf,
    origin: Origin,
}

/// Brings the tree of `source` onto this machine; its folder may lie in `scratch`, which is empty.
///
/// # Errors
/// The source cannot be reached, or what it gave does not hold one llama.cpp tree.
pub fn obtain(context: &Context, source: &Source, scratch: &Path) -> Result<Obtained> {
    let fetched = match source {
        Source::Path { dir } => return work_tree::open(context, &context.root.join(dir)),
        other => fetched(context, other, scratch)?,
    };
    let dir = match source.subdir() {
        Some(subdir) => {
            let dir = fetched.dir.join(subdir);
            check_is_llama_cpp(&dir)?;
            dir
        }
        None => the_tree_in(&fetched.dir).with_context(|| format!("{source} cannot be vendored"))?,
    };
    let origin = fetched.origin.or(Origin::of_package(&fetched.dir, &dir)).or(Origin::of_tree(&dir));
    Ok(Obtained { dir, origin, files: None })
}

/// Brings what `source` gives, of whatever it is, onto this machine; its folder may lie in `scratch`, which is empty.
///
/// # Errors
/// The source cannot be reached, or is not the one that was named.
pub fn fetch(context: &Context, source: &Source, scratch: &Path) -> Result<PathBuf> {
    let dir = fetched(context, source, scratch)?.dir;
    Ok(source.subdir().map_or(dir.clone(), |subdir| dir.join(subdir)))
}

fn fetched(context: &Context, source: &Source, scratch: &Path) -> Result<Fetched> {
    match source {
        Source::Path { dir } => Ok(Fetched { dir: context.root.join(dir), origin: Origin::default() }),
        Source::Crate { name, version, .. } => crates::fetch(context, name, version, scratch),
        Source::Pypi { name, version, .. } => pypi::fetch(context, name, version, scratch),
        Source::Git { url, rev, .. } => git::fetch(context, url, rev, scratch),
        Source::Archive { url: Some(url), sha256, .. } => {
            archive::download(context, url, sha256.as_deref(), &source.to_string(), scratch)
        }
        Source::Archive { file, sha256, .. } => {
            let file = context.root.join(file.as_deref().unwrap_or(Path::new("")));
            archive::open(context, &file, sha256.as_deref(), scratch)
        }
    }
}

/// How deep in what a source gave its tree may lie.
const DEPTH: usize = 4;

/// The one folder, `root` itself or one in it, that is a llama.cpp tree.
fn the_tree_in(root: &Path) -> Result<PathBuf> {
    let mut trees = Vec::new();
    let mut folders = walkdir::WalkDir::new(root).max_depth(DEPTH).sort_by_file_name().into_iter();
    while let Some(entry) = folders.next() {
        let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
        if entry.file_type().is_dir() && missing(entry.path()).is_none() {
            folders.skip_current_dir();
            trees.push(entry.into_path());
        }
    }
    let shown = |tree: &PathBuf| tree.strip_prefix(root).unwrap_or(tree).display().to_string();
    match trees.as_slice() {
        [tree] => Ok(tree.clone()),
        [] if missing(root) == Some("llama.h") => bail!("it is not a llama.cpp tree: it has no llama.h"),
        [] => bail!("there is no llama.cpp tree in it: no folder has both a CMakeLists.txt and a llama.h"),
        several => bail!(
            "there is more than one llama.cpp tree in it: {}\nhelp: say which, with `subdir` in upstream.toml or --subdir",
            several.iter().map(shown).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn check_is_llama_cpp(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        bail!("there is no folder {}", dir.display());
    }
    match missing(dir) {
        Some(what) => bail!("{} is not a llama.cpp tree: it has no {what}", dir.display()),
        None => Ok(()),
    }
}

/// What a folder lacks to be a llama.cpp tree.
fn missing(dir: &Path) -> Option<&'static str> {
    let marks = [("CMakeLists.txt", &["CMakeLists.txt"] as &[_]), ("llama.h", &["include/llama.h", "llama.h"])];
    marks.into_iter().find(|(_, names)| !names.iter().any(|name| dir.join(name).is_file())).map(|(what, _)| what)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(dir: &Path) {
        fs::create_dir_all(dir.join("include")).unwrap();
        fs::write(dir.join("CMakeLists.txt"), "").unwrap();
        fs::write(dir.join("include/llama.h"), "").unwrap();
    }

    #[test]
    fn the_tree_is_found_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = the_tree_in(dir.path()).unwrap_err().to_string();
        assert!(error.contains("there is no llama.cpp tree in it"), "{error}");
        // A Python package around it has a CMakeLists.txt too.
        fs::write(dir.path().join("CMakeLists.txt"), "").unwrap();
        let inner = dir.path().join("package-1.0/vendor/llama.cpp");
        tree(&inner);
        assert_eq!(the_tree_in(dir.path()).unwrap(), inner);
        // What lies in a tree belongs to it.
        tree(&inner.join("examples/copy"));
        assert_eq!(the_tree_in(dir.path()).unwrap(), inner);
        tree(&dir.path().join("package-1.0/other"));
        let error = the_tree_in(dir.path()).unwrap_err().to_string();
        assert!(error.contains("other") && error.contains("llama.cpp") && error.contains("--subdir"), "{error}");
        tree(dir.path());
        assert_eq!(the_tree_in(dir.path()).unwrap(), dir.path());
    }
}
