//! Trees at hand: the vendored ones, those that the sweep has downloaded, and folders that the user names. A published tree
//! that the user names, or that the lock remembers, is brought here.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use patcher::PointSet;

use crate::{
    context::Context,
    drift::trees::{Places, published},
    patch::source::{self, Source},
    upstream::Upstream,
    vendor,
};

/// The folder of every tree at hand by name, newest version first.
pub fn at_hand(context: &Context) -> Vec<(String, PathBuf)> {
    let mut trees: BTreeMap<_, _> = Places::read(context).folders().collect();
    for entry in fs::read_dir(context.root.join("vendor")).into_iter().flatten().flatten() {
        trees.insert(entry.file_name().to_string_lossy().into_owned(), entry.path().join("src"));
    }
    let mut trees: Vec<_> = trees.into_iter().filter(|(_, dir)| dir.is_dir()).collect();
    trees.sort_by_key(|(name, _)| Reverse(version_key(name)));
    trees
}

/// Opens a tree that the user names: a folder, the name of a tree at hand, a pin, which is vendored if it is not, or a
/// published tree that `upstream.toml` lists, which is downloaded.
///
/// # Errors
/// There is no such tree; it cannot be downloaded or read; it carries someone else's lines.
pub fn open(context: &Context, name: Option<&str>, points: &PointSet) -> Result<Source> {
    if let Some(name) = name {
        if let Some((name, dir)) = at_hand(context).into_iter().find(|(known, _)| known == name) {
            return source::examine(&dir, &name, points, false);
        }
        let is_pin = Upstream::read(context)?.pins.contains_key(name);
        if !is_pin {
            let dir = match Path::new(name).canonicalize() {
                Ok(dir) if dir.is_dir() => Some(dir),
                _ => published(context, name)?,
            };
            return match dir {
                Some(dir) => source::examine(&dir, name, points, false),
                None => bail!(
                    "`{name}` is neither a folder nor a tree at hand, and upstream.toml lists none of that name\n\
                     help: at hand are: {}",
                    at_hand(context).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
                ),
            };
        }
    }
    let vendored = vendor::ensure(context, name)?;
    source::examine(&context.vendor_src(&vendored.pin), &vendored.pin, points, false)
}

/// Every tree at hand and the folders `more`, opened.
pub fn open_all(context: &Context, more: &[PathBuf], points: &PointSet) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for dir in more {
        let root = dir.canonicalize().with_context(|| format!("there is no folder {}", dir.display()))?;
        sources.push(source::examine(&root, &dir.display().to_string(), points, false)?);
    }
    for (name, dir) in at_hand(context) {
        sources.push(source::pristine(&dir, &name)?);
    }
    if sources.is_empty() {
        bail!("no tree is at hand\nhelp: `cargo xtask vendor` gets one; or name a folder with --tree");
    }
    Ok(sources)
}

/// Numbers in a name compare as numbers.
fn version_key(name: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        key.push((0, text.to_owned()));
        key.push((number.parse().unwrap_or(0), String::new()));
        rest = tail;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::version_key;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version_key("a-2-0.1.161") > version_key("a-2-0.1.90"));
        assert!(version_key("a-0.10.0") > version_key("a-0.9.9"));
    }
}
