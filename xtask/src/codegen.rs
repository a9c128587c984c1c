//! `cargo xtask codegen`: everything that is generated from a checked-in source.
//!
//! The telemetry registry (`otel-shim/registry/*.yaml`) becomes the instruments of the Rust
//! backend, the metric ids of the C++ header and the reference page; the instrumentation points
//! become their index. Nothing is written while a source has a problem, and `--check` writes
//! nothing at all.

mod cpp;
mod exports;
mod header;
mod lint;
mod markdown;
mod registry;
mod rust;
mod schema;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use registry::{Problem, Registry, Source};

/// The folder of the registry, from the repository's root.
const REGISTRY_DIR: &str = "otel-shim/registry";

/// The folder of the instrumentation points, from the repository's root.
const POINTS_DIR: &str = "patcher/points";

/// Arguments of `cargo xtask codegen`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare instead of writing; fail if a generated file is out of date.
    #[arg(long)]
    check: bool,
    /// Also hold the exports that receivers recorded in this folder (OTLP_RECEIVER_RECORD) against the registry.
    #[arg(long, value_name = "DIR")]
    exports: Option<PathBuf>,
}

/// A generated file: its path from the repository's root, and its whole text.
struct Output {
    path: &'static str,
    text: String,
}

/// Generates all files below `root`, or with `--check` compares them.
///
/// # Errors
/// All problems of the registry at once, each with its file and id, or all of the points; a generated file that is out
/// of date (with `--check`); a file that cannot be read or written.
pub fn run(args: &Args, root: &Path) -> Result<()> {
    let outputs = generate(root)?;
    if args.check {
        check(root, &outputs)?
    } else {
        write(root, &outputs)?
    }
    args.exports.as_deref().map_or(Ok(()), |folder| check_exports(root, folder))
}

/// Holds what was exported against the registry, in both directions, and prints what could not be seen, with the reason.
///
/// # Errors
/// Every difference at once.
pub fn check_exports(root: &Path, folder: &Path) -> Result<()> {
    print!("{}", exports::check(&read_registry(&root.join(REGISTRY_DIR))?, folder)?);
    Ok(())
}

/// Every generated file, in the order in which it is reported.
fn generate(root: &Path) -> Result<Vec<Output>> {
    let registry = read_registry(&root.join(REGISTRY_DIR))?;
    let points = patcher::PointSet::load_dir(&root.join(POINTS_DIR))?;
    Ok(vec![
        Output { path: "otel-shim/src/registry.rs", text: rust::generate(&registry)? },
        Output { path: "otel-shim/include/otel-registry.h", text: header::generate(&registry) },
        Output { path: "otel-shim/otelcpp/registry.h", text: cpp::generate(&registry) },
        Output { path: "docs/telemetry.md", text: markdown::generate(&registry) },
        Output { path: "patcher/points/INDEX.md", text: patcher::index_markdown(&points) },
    ])
}

/// Reads and checks the registry.
fn read_registry(dir: &Path) -> Result<Registry> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("cannot list {}", dir.display()))?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();

    let mut sources = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.push(Source { file, text });
    }

    let (registry, mut problems) = registry::load(&sources);
    // A registry that was not understood would be reported twice.
    if problems.is_empty() {
        problems = lint::check(&registry);
    }
    if !problems.is_empty() {
        bail!("{}", report(&problems));
    }
    Ok(registry)
}

fn report(problems: &[Problem]) -> String {
    let mut text = format!(
        "the telemetry registry has {} problem{}; nothing was generated",
        problems.len(),
        if problems.len() == 1 { "" } else { "s" }
    );
    for problem in problems {
        text.push_str(&format!("\n  {REGISTRY_DIR}/{problem}"));
    }
    text
}

fn write(root: &Path, outputs: &[Output]) -> Result<()> {
    for output in outputs {
        let path = root.join(output.path);
        // An unchanged file keeps its time, so that nothing is rebuilt.
        if fs::read_to_string(&path).is_ok_and(|old| old == output.text) {
            println!("unchanged {}", output.path);
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, &output.text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written   {}", output.path);
    }
    Ok(())
}

fn check(root: &Path, outputs: &[Output]) -> Result<()> {
    let mut stale = Vec::new();
    for output in outputs {
        let path = root.join(output.path);
        match fs::read_to_string(&path) {
            Ok(old) => {
                if let Some(line) = first_difference(&old, &output.text) {
                    stale.push(format!("{} (from line {line})", output.path));
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                stale.push(format!("{} (missing)", output.path));
            }
            Err(e) => {
                return Err(e).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    if !stale.is_empty() {
        bail!("out of date: {}\nhelp: run `cargo xtask codegen`", stale.join(", "));
    }
    Ok(())
}

/// The number of the first line that differs; `None` if the texts are equal.
fn first_difference(old: &str, new: &str) -> Option<usize> {
    if old == new {
        return None;
    }
    let same = old.split('\n').zip(new.split('\n')).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_counts_from_one() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("a\r\n", "a\n"), Some(1));
    }

    #[test]
    fn check_names_the_stale_file_and_the_command() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.txt"), "one\ntwo\n").unwrap();
        let current = [Output { path: "a.txt", text: "one\ntwo\n".into() }];
        assert!(check(root.path(), &current).is_ok());

        let stale = [Output { path: "a.txt", text: "one\n2\n".into() }, Output { path: "b.txt", text: String::new() }];
        let error = check(root.path(), &stale).unwrap_err().to_string();
        assert_eq!(error, "out of date: a.txt (from line 2), b.txt (missing)\nhelp: run `cargo xtask codegen`");
    }

    #[test]
    fn writing_then_checking_agrees() {
        let root = tempfile::tempdir().unwrap();
        let outputs = [Output { path: "deep/folder/a.txt", text: "one\n".into() }];
        write(root.path(), &outputs).unwrap();
        assert!(check(root.path(), &outputs).is_ok());
    }

    #[test]
    fn the_checkout_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        run(&Args { check: true, exports: None }, &root).unwrap();
    }
}
