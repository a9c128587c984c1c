//! Which files of a patched tree go into the package: what a build of the library reads with any of the backends that the crate
//! has features for, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use llama_build::Backend;
use regex::bytes::Regex;

use crate::files::list;

/// What the libraries are made of; the build script of llama-otel-sys watches the same.
const PARTS: [&str; 9] =
    ["CMakeLists.txt", "LICENSE", "PATCHED.json", "cmake", "common/otel", "ggml", "include", "src", "vendor"];

/// What of them is read only where llama.cpp's programs are built, which the crate never does.
const FOR_PROGRAMS: [&str; 1] = ["vendor/cpp-httplib"];
/// Where llama.cpp keeps what it took from elsewhere. CMake reads the whole folder; of those libraries in it that are headers
/// only, the library includes none, so that their CMakeLists.txt is all that is needed.
const THIRD_PARTY: &str = "vendor";

/// Folders that `#include` is searched in, beside the one of the file.
const INCLUDE_FOLDERS: [&str; 6] = ["", "include", "ggml/include", "src", "ggml/src", "vendor"];

/// Backends that the crate has no feature for, and whose files those of others include.
const INCLUDED_BACKENDS: [&str; 1] = ["musa"];

/// The files of the tree `root` that a build reads, as paths with `/`, sorted.
///
/// # Errors
/// The tree cannot be read or lacks a part; a chosen file includes one that was left out.
pub fn select(root: &Path) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for file in list(root) {
        let file = file?;
        all.insert(relative(root, &file)?);
    }
    let chosen: BTreeSet<String> = all.iter().filter(|path| is_needed(path, &all)).cloned().collect();
    for part in PARTS {
        // The telemetry without which there is no use in the package, or what every tree has.
        let is_there = chosen.iter().any(|path| *path == part || path.starts_with(&format!("{part}/")));
        if !is_there && part != THIRD_PARTY {
            bail!("{} has no {part}", root.display());
        }
    }
    let missing = left_out_but_included(root, &chosen, &all)?;
    if !missing.is_empty() {
        let lines = missing.iter().map(|(included, by)| format!("\n  {included}, by {by}"));
        bail!(
            "the package would leave out what its own files include:{}\nhelp: mend xtask/src/package/selection.rs",
            lines.collect::<String>()
        );
    }
    Ok(chosen)
}

fn relative(root: &Path, file: &Path) -> Result<String> {
    let path = file.strip_prefix(root).unwrap_or(file);
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.replace('\\', "/"))
}

fn is_needed(path: &str, all: &BTreeSet<String>) -> bool {
    let within = |part: &str| path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !PARTS.into_iter().any(within) || FOR_PROGRAMS.into_iter().any(within) {
        return false;
    }
    // Dot files are git's and editors'; a manifest would make a folder another package, which cargo leaves out.
    let is_odd = |part: &str| part.starts_with('.') || part == "Cargo.toml";
    if path.split('/').any(is_odd) {
        return false;
    }
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["ggml", "src", folder, _, ..] => folder.strip_prefix("ggml-").is_none_or(is_offered),
        [folder, _, .., _] if *folder == THIRD_PARTY => path.ends_with("/CMakeLists.txt") || is_compiled(path, all),
        _ => true,
    }
}

/// Whether the crate has a feature for a backend, or needs its files all the same, by the name of its folder.
fn is_offered(folder: &str) -> bool {
    Backend::all().any(|backend| backend.name() == folder) || INCLUDED_BACKENDS.contains(&folder)
}

/// Whether CMake has something to compile in the library that a third party's file belongs to.
fn is_compiled(path: &str, all: &BTreeSet<String>) -> bool {
    let library: String = path.split_inclusive('/').take(2).collect();
    let is_source =
        |path: &&String| matches!(Path::new(path).extension().and_then(|e| e.to_str()), Some("c" | "cpp" | "cc"));
    all.range(library.clone()..).take_while(|path| path.starts_with(&library)).any(|path| is_source(&path))
        && all.contains(&format!("{library}CMakeLists.txt"))
}

/// What chosen files include and the tree has, but the choice has not: (included, by whom).
fn left_out_but_included(
    root: &Path,
    chosen: &BTreeSet<String>,
    all: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>> {
    let include = Regex::new(r#"(?m)^[ \t]*#[ \t]*include[ \t]*["<]([^">\n]+)[">]"#)?;
    let mut missing = BTreeMap::new();
    for path in chosen {
        let file = root.join(path);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        for found in include.captures_iter(&bytes) {
            let Some(name) = found.get(1).and_then(|name| std::str::from_utf8(name.as_bytes()).ok()) else { continue };
            let places = std::iter::once(folder).chain(INCLUDE_FOLDERS.iter().map(Path::new));
            let first = places.filter_map(|place| normal(&place.join(name))).find(|path| all.contains(path));
            if let Some(included) = first.filter(|included| !chosen.contains(included)) {
                missing.insert(included, path.clone());
            }
        }
    }
    Ok(missing)
}

/// A path with `/` and without `..`; `None` for one that leads out of the tree.
fn normal(path: &Path) -> Option<String> {
    let mut parts = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir if parts.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.to_str()?.replace('\\', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path, files: &[(&str, &str)]) {
        let parts =
            ["CMakeLists.txt", "LICENSE", "PATCHED.json", "cmake/a.cmake", "common/otel/otel.h", "include/llama.h"];
        for (path, text) in parts.map(|path| (path, "")).iter().chain(files) {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn what_no_build_of_the_crate_reads_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let kept = [
            ("src/llama.cpp", "#include \"../include/llama.h\"\n#include <vector>\n#include \"common/otel/otel.h\""),
            ("ggml/src/ggml.c", "#include \"ggml-cuda/common.cuh\""),
            ("ggml/src/ggml-cuda/common.cuh", ""),
            ("ggml/src/ggml-cuda/vendors/cuda.h", ""),
            ("vendor/CMakeLists.txt", ""),
            ("vendor/stb/CMakeLists.txt", ""),
            ("vendor/hash/CMakeLists.txt", ""),
            ("vendor/hash/sha1/sha1.c", "#include \"sha1.h\""),
            ("vendor/hash/sha1/sha1.h", ""),
        ];
        let left = [
            ("README.md", ""),
            ("common/common.cpp", ""),
            ("tools/server/server.cpp", ""),
            ("models/vocab.gguf", ""),
            ("ggml/src/ggml-cann/cann.cpp", ""),
            ("ggml/.gitignore", ""),
            ("src/Cargo.toml", ""),
            ("vendor/stb/stb_image.h", ""),
            ("vendor/cpp-httplib/CMakeLists.txt", ""),
            ("vendor/cpp-httplib/httplib.cpp", ""),
        ];
        tree(dir.path(), &[kept.as_slice(), &left].concat());
        let chosen = select(dir.path()).unwrap();
        for (path, _) in kept {
            assert!(chosen.contains(path), "{path}");
        }
        for (path, _) in left {
            assert!(!chosen.contains(path), "{path}");
        }
    }

    #[test]
    fn a_file_that_includes_what_is_left_out_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        tree(
            dir.path(),
            &[
                ("src/llama.cpp", "  # include <nlohmann/json.hpp>\n"),
                ("ggml/a.h", ""),
                ("vendor/nlohmann/json.hpp", ""),
            ],
        );
        let error = select(dir.path()).unwrap_err().to_string();
        assert!(error.contains("vendor/nlohmann/json.hpp, by src/llama.cpp"), "{error}");
        fs::remove_dir_all(dir.path().join("ggml")).unwrap();
        assert!(select(dir.path()).unwrap_err().to_string().contains("has no ggml"));
    }
}
