//! Puts libraries and headers where callers find them, the manifest last. What did not change is
//! not touched, so that nothing that depends on it is built again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, at};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::reply::{Artifact, Reply};
use crate::tree::Tree;

pub(crate) const INCLUDE_DIR: &str = "include";
const LIB_DIR: &str = "lib";

/// Folders of public headers: in the tree, and below [`INCLUDE_DIR`].
const HEADER_DIRS: &[(&str, &str)] = &[("include", ""), ("ggml/include", ""), ("common/otel", "common/otel")];

/// The interface for programs is found beside `llama.h` too: (in the tree, below [`INCLUDE_DIR`]).
const PROGRAM_HEADER: (&str, &str) = ("common/otel/llama-otel.h", "llama-otel.h");

/// Where the file of a library that a linker is given ends up, relative to the manifest.
pub(crate) fn lib_path(artifact: &Artifact) -> String {
    format!("{LIB_DIR}/{}", artifact.file_name().to_string_lossy())
}

pub(crate) fn publish(manifest: &Manifest, tree: &Tree, reply: &Reply, dir: &Path) -> Result<(), Error> {
    let mut wanted = headers(tree)?;
    let mut links = Vec::new();
    for lib in reply.libs.iter().chain(&reply.modules) {
        let place = |name: &std::ffi::OsStr| Path::new(LIB_DIR).join(name);
        wanted.extend(lib.files.iter().map(|file| (file.clone(), place(file.file_name().unwrap_or_default()))));
        let target = lib.files.first().and_then(|file| file.file_name()).unwrap_or_default();
        links.extend(lib.aliases.iter().map(|alias| (target.to_owned(), dir.join(place(alias)))));
    }
    let old_links: Vec<_> =
        links.iter().filter(|(target, link)| !fs::read_link(link).is_ok_and(|old| old == *target)).collect();
    let mut stale = Vec::new();
    for (from, to) in &wanted {
        if !same_content(from, &dir.join(to))? {
            stale.push((from, dir.join(to)));
        }
    }
    let leftover = leftovers(dir, &wanted, &links);

    let path = dir.join(MANIFEST_FILE);
    let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
    text.push('\n');
    let current = fs::read(&path).is_ok_and(|old| old == text.as_bytes());
    if current && stale.is_empty() && leftover.is_empty() && old_links.is_empty() {
        return Ok(());
    }

    // From here on the folder is not consistent until the manifest is back.
    remove_if_there(&path)?;
    for file in &leftover {
        remove_if_there(file)?;
    }
    for (from, to) in stale {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(at("create", parent))?;
        }
        replace(&to, |partial| fs::copy(from, partial).map(drop))?;
    }
    for (target, link) in old_links {
        remove_if_there(link)?;
        symlink(target, link).map_err(at("write", link))?;
    }
    replace(&path, |partial| fs::write(partial, text.as_bytes()))
}

#[cfg(unix)]
fn symlink(target: &std::ffi::OsStr, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Windows' libraries have one name.
#[cfg(not(unix))]
fn symlink(target: &std::ffi::OsStr, link: &Path) -> io::Result<()> {
    fs::copy(link.with_file_name(target), link).map(drop)
}

/// The public headers: (in the tree, relative to the manifest).
fn headers(tree: &Tree) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let mut found = Vec::new();
    for (from, to) in HEADER_DIRS {
        let from = tree.root.join(from);
        if !from.is_dir() {
            continue;
        }
        for file in files_in(&from)? {
            let is_header = file.extension().is_some_and(|extension| extension == "h");
            if let Some(name) = file.file_name().filter(|_| is_header) {
                let to = Path::new(INCLUDE_DIR).join(to).join(name);
                found.push((file.clone(), to));
            }
        }
    }
    let header = tree.root.join(PROGRAM_HEADER.0);
    if header.is_file() {
        found.push((header, Path::new(INCLUDE_DIR).join(PROGRAM_HEADER.1)));
    }
    found.sort();
    Ok(found)
}

/// Files of an earlier build that are no longer part of it, a header that is gone for one.
fn leftovers(dir: &Path, wanted: &[(PathBuf, PathBuf)], links: &[(std::ffi::OsString, PathBuf)]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [LIB_DIR, INCLUDE_DIR] {
        for entry in walkdir::WalkDir::new(dir.join(folder)).into_iter().filter_map(Result::ok) {
            let known = || {
                wanted.iter().any(|(_, to)| dir.join(to) == entry.path())
                    || links.iter().any(|(_, link)| link == entry.path())
            };
            if !entry.file_type().is_dir() && !known() {
                found.push(entry.into_path());
            }
        }
    }
    found
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
        .map_err(at("read", dir))
}

fn same_content(from: &Path, to: &Path) -> Result<bool, Error> {
    let (source, target) = match (fs::metadata(from), fs::metadata(to)) {
        (Ok(source), Ok(target)) => (source, target),
        (Err(error), _) => return Err(at("read", from)(error)),
        (_, Err(_)) => return Ok(false),
    };
    if source.len() != target.len() {
        return Ok(false);
    }
    let source = fs::read(from).map_err(at("read", from))?;
    Ok(fs::read(to).map_err(at("read", to))? == source)
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Writes beside `path` and renames, so that nobody ever sees half a file. A vendored tree is
/// read-only, and a copy of a read-only file could not be replaced next time on Windows.
fn replace(path: &Path, write: impl Fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    remove_if_there(&partial)?;
    write(&partial).map_err(at("write", &partial))?;
    let mut permissions = fs::metadata(&partial).map_err(at("read", &partial))?.permissions();
    make_writable(&mut permissions);
    fs::set_permissions(&partial, permissions).map_err(at("write", &partial))?;
    fs::rename(&partial, path).map_err(at("write", path))
}

#[cfg(unix)]
fn make_writable(permissions: &mut fs::Permissions) {
    use std::os::unix::fs::PermissionsExt;
    permissions.set_mode(permissions.mode() | 0o200);
}

#[cfg(not(unix))]
fn make_writable(permissions: &mut fs::Permissions) {
    permissions.set_readonly(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::LibKind;
    use crate::manifest::tests::example;
    use crate::reply::Versions;
    use crate::tree::tests::fake_tree;

    fn modified(path: &Path) -> std::time::SystemTime {
        fs::metadata(path).unwrap().modified().unwrap()
    }

    #[test]
    fn only_changes_are_written_and_the_manifest_comes_last() {
        let root = tempfile::tempdir().unwrap();
        let (tree_dir, dir) = (root.path().join("tree"), root.path().join("out"));
        fake_tree(&tree_dir);
        fs::create_dir_all(tree_dir.join("common/otel")).unwrap();
        for header in ["otel.h", "llama-otel.h"] {
            fs::write(tree_dir.join("common/otel").join(header), "//").unwrap();
        }
        fs::write(tree_dir.join("common/otel/otel.cpp"), "//").unwrap();
        fs::create_dir(&dir).unwrap();
        let archive = root.path().join("libllama.a");
        fs::write(&archive, "one").unwrap();
        let reply = Reply {
            libs: vec![Artifact {
                name: "llama".into(),
                files: vec![archive.clone()],
                aliases: Vec::new(),
                kind: LibKind::Static,
            }],
            modules: Vec::new(),
            system_libs: Vec::new(),
            link_args: Vec::new(),
            cxx_stdlib: None,
            compiler: example().compiler,
            versions: Versions {
                llama_version: String::new(),
                ggml_version: String::new(),
                build_number: String::new(),
                build_commit: String::new(),
            },
        };
        let tree = Tree::open(&tree_dir).unwrap();
        let publish = || publish(&example(), &tree, &reply, &dir).unwrap();
        publish();
        assert!(dir.join("include/common/otel/otel.h").is_file());
        assert!(dir.join("include/llama-otel.h").is_file());
        assert!(!dir.join("include/common/otel/otel.cpp").exists());
        assert_eq!(Manifest::read(&dir).unwrap(), example());

        let (manifest, lib) = (dir.join(MANIFEST_FILE), dir.join("lib/libllama.a"));
        let before = (modified(&manifest), modified(&lib));
        publish();
        assert_eq!(before, (modified(&manifest), modified(&lib)));

        fs::write(&archive, "two").unwrap();
        fs::write(dir.join("include/gone.h"), "").unwrap();
        publish();
        assert_eq!(fs::read_to_string(&lib).unwrap(), "two");
        assert_ne!(before.0, modified(&manifest));
        assert!(!dir.join("include/gone.h").exists());

        // Interrupted between a library and the manifest: the next build completes it.
        fs::remove_file(&manifest).unwrap();
        fs::write(dir.join("lib/libllama.a.partial"), "tw").unwrap();
        publish();
        assert!(manifest.is_file());
        assert!(!dir.join("lib/libllama.a.partial").exists());
    }
}
