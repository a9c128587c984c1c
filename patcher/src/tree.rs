//! A llama.cpp tree as the planner sees it: paths to bytes, read on demand, never written.
//!
//! This is the only place of the library that touches the disk.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

enum Backing {
    Disk(PathBuf),
    Memory(BTreeMap<String, Arc<[u8]>>),
}

/// A read-only tree. Files are read at most once; it can be shared between threads.
pub struct Tree {
    name: String,
    backing: Backing,
    cache: Mutex<HashMap<String, Option<Arc<[u8]>>>>,
}

impl Tree {
    /// A tree on disk. `name` is what messages call it, for example `llama-cpp-sys-2-0.1.161`.
    ///
    /// # Errors
    /// `root` is not a readable folder.
    pub fn open(root: impl Into<PathBuf>, name: impl Into<String>) -> io::Result<Self> {
        let root = root.into();
        if !std::fs::metadata(&root)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a folder", root.display())));
        }
        Ok(Self::new(name.into(), Backing::Disk(root)))
    }

    /// A tree that exists in memory only. Paths use `/`.
    pub fn from_files<B: Into<Vec<u8>>>(name: impl Into<String>, files: impl IntoIterator<Item = (String, B)>) -> Self {
        Self::from_shared(name, files.into_iter().map(|(path, bytes)| (path, Arc::from(bytes.into()))))
    }

    /// A tree in memory whose files other trees may hold as well: path from the root (`/` between parts) and content.
    pub fn from_shared(name: impl Into<String>, files: impl IntoIterator<Item = (String, Arc<[u8]>)>) -> Self {
        Self::new(name.into(), Backing::Memory(files.into_iter().collect()))
    }

    fn new(name: String, backing: Backing) -> Self {
        Tree { name, backing, cache: Mutex::new(HashMap::new()) }
    }

    /// What messages call this tree.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of one file, or `None` if there is no such regular file. `path` is relative, with `/`.
    ///
    /// # Errors
    /// The file exists but cannot be read.
    pub fn read(&self, path: &str) -> io::Result<Option<Arc<[u8]>>> {
        if let Some(known) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(known.clone());
        }
        let bytes = match &self.backing {
            Backing::Memory(files) => files.get(path).cloned(),
            Backing::Disk(root) => read_file(&root.join(path))?,
        };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// Whether a file of that path exists, without reading it.
    ///
    /// # Errors
    /// The path exists but cannot be examined.
    pub fn contains(&self, path: &str) -> io::Result<bool> {
        match &self.backing {
            Backing::Memory(files) => Ok(files.contains_key(path)),
            Backing::Disk(root) => root.join(path).try_exists(),
        }
    }

    /// Every regular file's path, relative, with `/`, sorted.
    ///
    /// # Errors
    /// A folder cannot be listed.
    pub fn paths(&self) -> io::Result<Vec<String>> {
        match &self.backing {
            Backing::Memory(files) => Ok(files.keys().cloned().collect()),
            Backing::Disk(root) => list(root),
        }
    }
}

fn read_file(path: &Path) -> io::Result<Option<Arc<[u8]>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Arc::from(bytes))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

fn list(root: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.map_err(io::Error::from)?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(root).map_err(io::Error::other)?;
            let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            paths.push(parts.join("/"));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The digest of a tree: SHA-256, in hexadecimal, over the list of its regular files sorted by path; of each file
/// the relative path with `/`, a zero byte, the length as 64-bit little-endian, the content.
///
/// # Errors
/// The folder or one of its files cannot be read.
pub fn digest(root: &Path) -> io::Result<String> {
    digest_without(root, |_| false)
}

/// The digest of a tree as if the files that `skip` names (by relative path with `/`) were not there.
///
/// # Errors
/// The folder or one of its files cannot be read.
pub fn digest_without(root: &Path, skip: impl Fn(&str) -> bool) -> io::Result<String> {
    let mut hasher = Sha256::new();
    for path in list(root)?.into_iter().filter(|path| !skip(path)) {
        let full = root.join(&path);
        let bytes = std::fs::read(&full).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", full.display())))?;
        hasher.update(path.as_bytes());
        hasher.update([0]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_that_the_description_spells_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/c"), b"xy").unwrap();
        std::fs::write(folder.path().join("a"), b"").unwrap();
        let spelled = b"a\0\0\0\0\0\0\0\0\0b/c\0\x02\0\0\0\0\0\0\0xy";
        assert_eq!(digest(folder.path()).unwrap(), sha256(spelled));
    }

    #[test]
    fn a_missing_file_is_none_and_a_missing_root_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path(), "t").unwrap();
        assert!(tree.read("no/such").unwrap().is_none());
        assert!(Tree::open(folder.path().join("no"), "t").is_err());
    }
}
