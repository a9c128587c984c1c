//! `--syntax`: every patched file goes through the compiler's front end, without CMake and without code generation.
//! What does not fit the era's own types is found in minutes instead of hours.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use patcher::{AddedFile, Applied, PointSet, Tree};
use sha2::{Digest, Sha256};

use super::{list::Listed, trees::Place};
use crate::{context::Context, progress::Unit, python::last_lines};

/// What the compiler needs of a tree to see its patched files.
const PARTS: [&str; 5] = ["src", "include", "common", "ggml/include", "ggml/src"];

/// Applies all points to a tree in memory.
///
/// # Errors
/// The tree cannot be read, or takes not all of them.
pub fn patched(tree: &Listed<'_>, dir: &Path, points: &PointSet, added: &[AddedFile]) -> Result<Applied> {
    let open = Tree::open(dir, tree.to_string()).with_context(|| format!("cannot read the tree {}", dir.display()))?;
    Ok(patcher::patch(&open, points, added.to_vec())?.1)
}

/// Writes the patched tree, or those of its files for which `wanted` holds, into an empty folder.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(dir: &Path, applied: &Applied, to: &Path, wanted: impl Fn(&Path) -> bool) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let relative = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        if entry.file_type().is_file() && wanted(relative) && !applied.files.contains_key(relative) {
            put(&to.join(relative), &fs::read(entry.path())?)?;
        }
    }
    for (path, bytes) in &applied.files {
        put(&to.join(path), bytes)?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(failed)?;
    fs::write(path, bytes).with_context(failed)
}

/// Runs the front end over every patched file of the trees and prints what it says. Returns the number of files
/// that do not compile. A tree whose patched files passed this compiler before is not asked again.
///
/// # Errors
/// There is no C++ compiler; a tree cannot be read, patched or written.
pub fn syntax(
    context: &Context,
    trees: &[Listed<'_>],
    places: &[Place],
    points: &PointSet,
    added: &[AddedFile],
    threads: usize,
) -> Result<usize> {
    let compiler = compiler()?;
    let version = Command::new(&compiler).arg("--version").output().context("cannot start the C++ compiler")?.stdout;
    let mut failed = 0;
    for (tree, place) in trees.iter().zip(places) {
        let Place::Folder(dir) = place else { continue };
        let applied = patched(tree, dir, points, added)?;
        let passed = context.cache.join("syntax").join(fingerprint(tree, &applied, &version));
        if passed.exists() {
            context.ui.say(format_args!("front end over {tree}: passed before"));
            continue;
        }
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        write(dir, &applied, scratch.path(), is_needed)?;
        stub_generated(scratch.path())?;
        let sources: Vec<_> = applied.files.keys().filter(|path| is_checked(path)).cloned().collect();
        let phase = context.ui.phase(format!("front end over {tree}"), Unit::Steps);
        let errors = check_all(&compiler, scratch.path(), &sources, threads, |done| {
            phase.set(done as u64, sources.len() as u64);
        })?;
        phase.finish(format_args!("{} files, {} fail", sources.len(), errors.len()));
        for (path, text) in &errors {
            eprintln!("error: {} of {tree} does not compile\n{text}", path.display());
        }
        failed += errors.len();
        if errors.is_empty() {
            put(&passed, tree.to_string().as_bytes())?;
        }
    }
    Ok(failed)
}

/// Of all that decides what the compiler says; what a registry published under a name does not change.
fn fingerprint(tree: &Listed<'_>, applied: &Applied, compiler_version: &[u8]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(tree.to_string().as_bytes());
    part(compiler_version);
    [false, true].into_iter().flat_map(arguments).for_each(|argument| part(argument.as_bytes()));
    for (path, bytes) in &applied.files {
        part(path.to_string_lossy().as_bytes());
        part(bytes);
    }
    hex::encode(hash.finalize())
}

/// As CMake would give them, for C or C++.
fn arguments(is_c: bool) -> Vec<String> {
    let language = if is_c { ["-xc", "-std=gnu11"] } else { ["-xc++", "-std=c++17"] };
    let common = ["-fsyntax-only", "-w", "-DLLAMA_OTEL=1", "-D_GNU_SOURCE"];
    let mut arguments: Vec<_> = language.into_iter().chain(common).map(str::to_owned).collect();
    let defines = ["GGML_VERSION", "GGML_COMMIT", "LLAMA_VERSION", "LLAMA_COMMIT"];
    arguments.extend(defines.map(|name| format!("-D{name}=\"0\"")));
    let folders = [".", "src", "include", "ggml/include", "ggml/src", "ggml/src/ggml-cpu", "common"];
    arguments.extend(folders.map(|dir| format!("-I{dir}")));
    arguments
}

fn is_c(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "c")
}

/// C and C++, but for the backend upon opentelemetry-cpp, whose headers it takes: no part of the tree includes it.
pub fn is_checked(path: &Path) -> bool {
    (is_c(path) || path.extension().is_some_and(|e| e == "cpp")) && !path.starts_with("common/otel/otelcpp")
}

/// Sources of backends are in folders of their own below `ggml/src`; points lie in those of the CPU and of RPC only.
pub fn is_needed(path: &Path) -> bool {
    let parts = PARTS.iter().find(|part| path.starts_with(part));
    let deep = path.strip_prefix("ggml/src").is_ok_and(|rest| rest.components().count() > 1);
    parts.is_some() && (!deep || ["ggml/src/ggml-cpu", "ggml/src/ggml-rpc"].iter().any(|dir| path.starts_with(dir)))
}

/// Headers that CMake makes from templates: any value does for a front end.
///
/// # Errors
/// One cannot be written.
pub fn stub_generated(root: &Path) -> Result<()> {
    for header in ["src/llama-version.h", "ggml/src/ggml-version.h"] {
        if let Ok(text) = fs::read_to_string(root.join(format!("{header}.in"))) {
            let filled: String = text.split('@').step_by(2).collect::<Vec<_>>().join("0");
            put(&root.join(header), filled.as_bytes())?;
        }
    }
    Ok(())
}

/// Runs the front end over files of the folder `root`; gives back those that do not compile, each with what it says.
///
/// # Errors
/// The compiler cannot be started.
pub fn check_all(
    compiler: &OsString,
    root: &Path,
    sources: &[PathBuf],
    threads: usize,
    on_file: impl Fn(usize) + Sync,
) -> Result<Vec<(PathBuf, String)>> {
    let next = AtomicUsize::new(0);
    let errors = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = Command::new(compiler);
            command.current_dir(root).stdin(Stdio::null()).args(arguments(is_c(source)));
            let output = command.arg(source).output().context("cannot start the C++ compiler")?;
            if !output.status.success() {
                let text = last_lines(&String::from_utf8_lossy(&output.stderr), 30);
                errors.lock().unwrap_or_else(PoisonError::into_inner).push((source.clone(), text));
            }
            on_file(next.load(Ordering::Relaxed).min(sources.len()));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(sources.len())).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            match other.join() {
                Ok(others) => result = result.and(others),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    let mut errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    errors.sort();
    Ok(errors)
}

/// A compiler that takes GCC's options.
pub fn compiler() -> Result<OsString> {
    if let Some(named) = env::var_os("CXX").filter(|name| !name.is_empty()) {
        return Ok(named);
    }
    let found = ["c++", "g++", "clang++"].into_iter().find_map(|name| which::which(name).ok());
    match found {
        Some(path) => Ok(path.into()),
        None => bail!("there is no C++ compiler\nhelp: install one, or name it with CXX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_front_end_reads_is_written() {
        for (path, needed) in [
            ("src/llama.cpp", true),
            ("src/models/llama.cpp", true),
            ("ggml/src/ggml-backend.cpp", true),
            ("ggml/src/ggml-rpc/transport.h", true),
            ("ggml/src/ggml-cpu/ggml-cpu.c", true),
            ("ggml/src/ggml-cuda/mmq.cu", false),
            ("models/vocab.gguf", false),
        ] {
            assert_eq!(is_needed(Path::new(path)), needed, "{path}");
        }
    }

    #[test]
    fn a_template_becomes_a_header() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("src/llama-version.h.in"), b"#define A \"@X@\"\n#define B \"@Y@\"\n").unwrap();
        stub_generated(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("src/llama-version.h")).unwrap();
        assert_eq!(text, "#define A \"0\"\n#define B \"0\"\n");
    }
}
