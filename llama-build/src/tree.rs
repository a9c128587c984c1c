//! The llama.cpp tree: whether it is one, whether it is patched, and the digest of its content.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{Error, at};
use crate::options::Telemetry;

const PATCH_MARK: &str = "# >>> llama-otel";

/// A llama.cpp tree, opened for reading.
pub(crate) struct Tree {
    pub root: PathBuf,
    pub patched: bool,
    vendored: Option<Vendored>,
    patch_stamp: Option<Vec<u8>>,
}

/// The part of `VENDORED.json` that a build needs.
#[derive(Deserialize)]
struct Vendored {
    pin: String,
    sha256: String,
    build_number: Option<u64>,
    build_commit: Option<String>,
}

/// The part of `PATCHED.json` that a build needs.
#[derive(Deserialize)]
struct Patched {
    build_number: Option<u64>,
    build_commit: Option<String>,
}

impl Tree {
    pub fn open(root: &Path) -> Result<Tree, Error> {
        for missing in ["CMakeLists.txt", "src/CMakeLists.txt", "include/llama.h"] {
            if !root.join(missing).is_file() {
                return Err(Error::NotATree { tree: root.to_path_buf(), missing });
            }
        }
        // Absolute and free of links, since CMake runs elsewhere and git compares the text.
        let root = simplified(root.canonicalize().map_err(at("open", root))?);
        let cmake = root.join("src/CMakeLists.txt");
        let lists = fs::read(&cmake).map_err(at("read", &cmake))?;
        let patched = String::from_utf8_lossy(&lists).contains(PATCH_MARK);
        let vendored = match root.parent() {
            Some(parent) => read_vendored(&parent.join("VENDORED.json"))?,
            None => None,
        };
        let patch_stamp = read_if_there(&root.join("PATCHED.json"))?;
        Ok(Tree { root, patched, vendored, patch_stamp })
    }

    /// Whether this tree can do what is asked.
    pub fn check(&self, telemetry: Telemetry) -> Result<(), Error> {
        if matches!(telemetry, Telemetry::Rust | Telemetry::Cpp) && !self.patched {
            return Err(Error::NotPatched { tree: self.root.clone() });
        }
        Ok(())
    }

    /// The first of these CMake options that the tree declares: names have changed over the years.
    pub fn declared<'n>(&self, options: &[&'n str]) -> Option<&'n str> {
        let lists: Vec<String> = ["ggml/CMakeLists.txt", "CMakeLists.txt"]
            .iter()
            .filter_map(|file| Some(String::from_utf8_lossy(&fs::read(self.root.join(file)).ok()?).into_owned()))
            .collect();
        let declares = |name: &str| {
            lists.iter().flat_map(|text| text.lines()).any(|line| {
                let words = line.trim_start().strip_prefix("option(");
                words.is_some_and(|words| words.split_whitespace().next() == Some(name))
            })
        };
        options.iter().copied().find(|name| declares(name))
    }

    pub fn is_git_clone(&self) -> bool {
        self.root.join(".git").exists()
    }

    pub fn pin(&self) -> Option<&str> {
        self.vendored.as_ref().map(|v| v.pin.as_str())
    }

    /// The build number and commit to stamp, where upstream's own way (asking git) cannot work.
    /// A tree out of a package has no commit: the pin names it as exactly.
    pub fn stamp(&self) -> Option<(u64, String)> {
        let known = match &self.vendored {
            Some(vendored) => (vendored.build_number, vendored.build_commit.as_ref().or(Some(&vendored.pin)).cloned()),
            // Patched beside a fork's checkout, which vendoring has never seen.
            None => {
                let patched: Patched = serde_json::from_slice(self.patch_stamp.as_deref()?).ok()?;
                (patched.build_number, patched.build_commit)
            }
        };
        Some((known.0.unwrap_or(0), known.1?))
    }

    /// A digest that changes whenever the tree does: from the stamp that vendoring or patching
    /// left, since those own the tree, else from every file.
    pub fn digest(&self) -> Result<String, Error> {
        let base = self.vendored.as_ref().map(|v| v.sha256.as_str());
        match (&self.patch_stamp, base) {
            (Some(stamp), base) => {
                let mut hash = Sha256::new();
                hash.update(base.unwrap_or(""));
                hash.update(stamp);
                Ok(hex::encode(hash.finalize()))
            }
            (None, Some(base)) if !self.patched && self.root.ends_with("src") => Ok(base.into()),
            _ => content_digest(&self.root),
        }
    }
}

/// Canonical paths on Windows start with `\\?\`, which CMake does not understand.
fn simplified(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix(r"\\?\")) {
        Some(rest) if !rest.starts_with("UNC") => PathBuf::from(rest),
        _ => path,
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

fn read_vendored(path: &Path) -> Result<Option<Vendored>, Error> {
    let Some(bytes) = read_if_there(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Stamp { path: path.to_path_buf(), reason: error.to_string() })
}

/// SHA-256 over (relative path, 0, length, content) of every regular file in path order: the
/// same digest as the patcher's, without its parser as a build dependency.
fn content_digest(root: &Path) -> Result<String, Error> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).into_iter().filter_entry(|e| e.file_name() != ".git") {
        let entry = entry.map_err(|error| at("read", root)(error.into()))?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            files.push((relative.to_string_lossy().replace('\\', "/"), entry.into_path()));
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    let mut content = Vec::new();
    for (relative, path) in files {
        content.clear();
        fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut content)).map_err(at("read", &path))?;
        hash.update(relative.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder that passes for a llama.cpp tree.
    pub fn fake_tree(root: &Path) {
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("include")).unwrap();
        fs::write(root.join("CMakeLists.txt"), "project(llama.cpp)\n").unwrap();
        fs::write(root.join("src/CMakeLists.txt"), "add_library(llama)\n").unwrap();
        fs::write(root.join("include/llama.h"), "").unwrap();
    }

    #[test]
    fn a_folder_without_llama_cpp_says_what_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let text = Tree::open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("has no CMakeLists.txt"), "{text}");
        assert!(text.contains("cargo xtask vendor"), "{text}");
    }

    #[test]
    fn an_option_goes_by_the_name_that_the_tree_declares() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        fs::create_dir(dir.path().join("ggml")).unwrap();
        let lists = "# GGML_HIP\noption(GGML_HIPBLAS \"use HIP\" OFF)\n  option(GGML_RPC  \"\" OFF)\n";
        fs::write(dir.path().join("ggml/CMakeLists.txt"), lists).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(tree.declared(&["GGML_HIP", "GGML_HIPBLAS"]), Some("GGML_HIPBLAS"));
        assert_eq!(tree.declared(&["GGML_RPC"]), Some("GGML_RPC"));
        assert_eq!(tree.declared(&["GGML_OPENCL"]), None);
    }

    #[test]
    fn telemetry_needs_a_patched_tree() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        let tree = Tree::open(dir.path()).unwrap();
        assert!(tree.check(Telemetry::None).is_ok());
        let text = tree.check(Telemetry::Rust).unwrap_err().to_string();
        assert!(text.contains("cargo xtask patch"), "{text}");

        let block = "add_library(llama)\n# >>> llama-otel\n# <<< llama-otel\n";
        fs::write(dir.path().join("src/CMakeLists.txt"), block).unwrap();
        assert!(Tree::open(dir.path()).unwrap().check(Telemetry::Rust).is_ok());
    }

    #[test]
    fn the_digest_follows_content_and_stamps() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        fake_tree(&root);
        let digest = || Tree::open(&root).unwrap().digest().unwrap();
        let before = digest();
        assert_eq!(before, digest());
        fs::write(root.join("include/llama.h"), "int x;").unwrap();
        assert_ne!(before, digest());

        let stamp = r#"{"pin":"p-1","source":"s","sha256":"abc","files":3}"#;
        fs::write(dir.path().join("VENDORED.json"), stamp).unwrap();
        assert_eq!(digest(), "abc");
        assert_eq!(Tree::open(&root).unwrap().stamp(), Some((0, "p-1".into())));
        fs::write(root.join("PATCHED.json"), "{}").unwrap();
        let patched = digest();
        assert_ne!(patched, "abc");
        fs::write(root.join("PATCHED.json"), "{ }").unwrap();
        assert_ne!(patched, digest());
    }

    #[test]
    fn the_commit_is_stamped_from_where_it_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("patched");
        fake_tree(&root);
        let stamp = || Tree::open(&root).unwrap().stamp();
        assert_eq!(stamp(), None);
        fs::write(root.join("PATCHED.json"), r#"{"tool":"t","build_commit":"abc1234","build_number":12}"#).unwrap();
        assert_eq!(stamp(), Some((12, "abc1234".into())));
        let vendored = r#"{"pin":"p","source":{},"sha256":"0","build_number":13,"build_commit":"def5678"}"#;
        fs::write(dir.path().join("VENDORED.json"), vendored).unwrap();
        assert_eq!(stamp(), Some((13, "def5678".into())));
        fs::write(
            dir.path().join("VENDORED.json"),
            r#"{"pin":"p","sha256":"0","build_number":null,"build_commit":null}"#,
        )
        .unwrap();
        assert_eq!(stamp(), Some((0, "p".into())));
    }

    #[test]
    fn a_damaged_stamp_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        fake_tree(&root);
        fs::write(dir.path().join("VENDORED.json"), "{").unwrap();
        assert!(matches!(Tree::open(&root), Err(Error::Stamp { .. })));
    }
}
