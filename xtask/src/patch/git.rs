//! Whether a git work tree has changes that its owner has not committed. Git itself is asked.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::stamp::{Known, STAMP};

/// Tracked files below `root` with uncommitted changes that are not ours; none where there is no work tree.
/// Untracked files do not count: patching neither reads nor replaces them.
///
/// # Errors
/// There is a repository and git cannot be asked about it.
pub fn uncommitted(root: &Path, known: Option<&Known>) -> Result<Vec<String>> {
    let Some(prefix) = ask(root, &["rev-parse", "--show-prefix"])? else {
        return Ok(Vec::new());
    };
    let prefix = String::from_utf8_lossy(&prefix).trim_end_matches(['\r', '\n']).to_owned();
    let status = ["status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=dirty", "--", "."];
    let status = ask(root, &status)?.unwrap_or_default();
    let mut entries = status.split(|byte| *byte == 0).filter(|entry| entry.len() > 3);
    let mut changed = Vec::new();
    while let Some(entry) = entries.next() {
        let path = String::from_utf8_lossy(&entry[3..]);
        let path = path.strip_prefix(&prefix).unwrap_or(&path);
        if entry[..2].iter().any(|state| matches!(state, b'R' | b'C')) {
            // The name before comes as an entry of its own.
            entries.next();
        }
        if !is_ours(root, path, known) {
            changed.push(path.to_owned());
        }
    }
    Ok(changed)
}

fn is_ours(root: &Path, path: &str, known: Option<&Known>) -> bool {
    let Some(known) = known else {
        return false;
    };
    let file = known.files.get(path);
    path == STAMP || file.is_some_and(|file| fs::read(root.join(path)).is_ok_and(|bytes| file.is_ours(&bytes)))
}

/// What git prints; `None` if `root` is in no work tree.
fn ask(root: &Path, args: &[&str]) -> Result<Option<Vec<u8>>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).arg("--no-optional-locks").args(args).env("LC_ALL", "C").stdin(Stdio::null());
    let help = "help: --force patches without asking git whether the tree is clean";
    let output = match command.output() {
        Ok(output) => output,
        Err(_) if !root.ancestors().any(|dir| dir.join(".git").exists()) => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot run git, which {} belongs to\n{help}", root.display()));
        }
    };
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a git repository") {
        return Ok(None);
    }
    bail!("git says of {}: {}\n{help}", root.display(), said.trim())
}
