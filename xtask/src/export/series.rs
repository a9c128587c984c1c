//! A plan as mails with patches, in git's form: byte for byte, without a diff program, since a plan only inserts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use patcher::{Applied, Plan, Tree};
use sha1::{Digest as _, Sha1};

use crate::patch::stamp::STAMP;

/// Lines of context around a change.
const CONTEXT: usize = 3;
/// What git writes where a file does not exist.
const NO_BLOB: &str = "0000000000000000000000000000000000000000";

/// What becomes one patch: the points of one file.
pub struct Part {
    /// The subsystem.
    pub name: String,
    /// Id and purpose of each point.
    pub points: Vec<(String, String)>,
    /// Files with an appended block.
    pub blocks: BTreeSet<String>,
    /// Whether other parts need it.
    pub is_base: bool,
}

/// Where a series comes from, for its messages.
pub struct Provenance<'a> {
    pub tool: &'a str,
    pub tree: &'a str,
    pub source_sha256: &'a str,
    pub points_sha256: &'a str,
    pub added_sha256: &'a str,
}

/// One patch.
pub struct Patch {
    /// File name.
    pub name: String,
    /// First line of the message, without the number.
    pub subject: String,
    /// Ids of its points.
    pub points: Vec<String>,
    /// The mail.
    pub mail: Vec<u8>,
    /// Whether a line in it ends with CR LF, which `git am` drops unless told not to.
    pub has_cr: bool,
}

/// A change of one file: its path, and its bytes before (`None`: a new file) and after.
type Change = (String, Option<Vec<u8>>, Vec<u8>);

/// Writes the series: the files that are added, then each part, then the stamp.
///
/// # Errors
/// The tree cannot be read, or does not fit the plan.
pub fn write(
    tree: &Tree,
    root: &Path,
    plan: &Plan,
    applied: &Applied,
    parts: &[Part],
    stamp: &[u8],
    provenance: &Provenance<'_>,
) -> Result<Vec<Patch>> {
    let mut steps: Vec<(String, String, Vec<String>, Vec<Change>)> = Vec::new();
    let added = plan.added.iter().map(|file| (file.path.clone(), None, file.bytes.clone())).collect();
    let what = "The telemetry macros and the library behind them. Nothing uses them yet.\n".to_owned();
    steps.push(("add the runtime in common/otel".to_owned(), what, Vec::new(), added));

    let mut now: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (mut points, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    for part in parts {
        points.extend(part.points.iter().map(|(id, _)| id.as_str()));
        blocks.extend(part.blocks.iter().map(String::as_str));
        let mut so_far = Plan { files: BTreeMap::new(), added: Vec::new(), ..plan.clone() };
        for (path, edit) in &plan.files {
            let mut edit = edit.clone();
            edit.insertions.retain(|insertion| points.contains(insertion.point.as_str()));
            edit.block = edit.block.filter(|_| blocks.contains(path.as_str()));
            if !edit.insertions.is_empty() || edit.block.is_some() {
                so_far.files.insert(path.clone(), edit);
            }
        }
        let mut changes = Vec::new();
        for (path, after) in so_far.apply(tree)?.files {
            let path = path.to_string_lossy().into_owned();
            let before = match now.get(&path) {
                Some(before) => before.clone(),
                None => tree.read(&path)?.with_context(|| format!("{path} is gone"))?.to_vec(),
            };
            if before != after {
                changes.push((path.clone(), Some(before), after.clone()));
                now.insert(path, after);
            }
        }
        let mut body = String::new();
        for file in &part.blocks {
            let _ = writeln!(body, "- {file}: the runtime is built and linked");
        }
        for (id, purpose) in &part.points {
            let _ = writeln!(body, "- {id}: {purpose}");
        }
        let verb = if part.is_base { "build and include the runtime" } else { "instrument" };
        let ids = part.points.iter().map(|(id, _)| id.clone()).collect();
        steps.push((format!("{verb} ({})", part.name), body, ids, changes));
    }
    let edited = plan.files.keys().all(|path| now.get(path) == applied.files.get(Path::new(path)));
    if !edited || now.len() != plan.files.len() {
        bail!("the series does not add up to the plan; this is a defect of the export, please report it");
    }
    let what = "What was inserted where, for `cargo xtask patch` to check, renew or revert it.\n".to_owned();
    steps.push((
        format!("say what was patched ({STAMP})"),
        what,
        Vec::new(),
        vec![(STAMP.to_owned(), None, stamp.to_vec())],
    ));

    steps.retain(|(.., changes)| !changes.is_empty());
    let total = steps.len();
    let patches = steps.into_iter().enumerate().map(|(index, (subject, body, points, changes))| {
        let subject = format!("llama-otel: {subject}");
        let diff: Vec<u8> = changes.iter().flat_map(|change| diff(change, root)).collect();
        let mail = mail((index + 1, total), &subject, &body, &diff, provenance);
        let name = format!("{:04}-{}.patch", index + 1, slug(&subject));
        Patch { name, subject, points, mail, has_cr: memchr::memmem::find(&diff, b"\r\n").is_some() }
    });
    Ok(patches.collect())
}

/// As `git format-patch` would write it, but for the date: the same tree and points give the same bytes.
fn mail((index, total): (usize, usize), subject: &str, body: &str, diff: &[u8], from: &Provenance<'_>) -> Vec<u8> {
    let Provenance { tool, tree, source_sha256, points_sha256, added_sha256 } = from;
    let mut mail = format!(
        "From {NO_BLOB} Mon Sep 17 00:00:00 2001\n\
         From: llama-otel <llama-otel@localhost>\n\
         Subject: [PATCH {index}/{total}] {subject}\n\
         MIME-Version: 1.0\n\
         Content-Type: text/plain; charset=UTF-8\n\
         Content-Transfer-Encoding: 8bit\n\n\
         {body}\n\
         Patched-by: {tool}\n\
         Upstream: {tree}\n\
         Upstream-sha256: {source_sha256}\n\
         Points-sha256: {points_sha256}\n\
         Runtime-sha256: {added_sha256}\n\
         ---\n\n"
    )
    .into_bytes();
    mail.extend_from_slice(diff);
    mail.extend_from_slice(format!("-- \n{tool}\n\n").as_bytes());
    mail
}

fn slug(subject: &str) -> String {
    let words = subject.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// One file's part of a patch.
fn diff((path, before, after): &Change, root: &Path) -> Vec<u8> {
    let mode = if is_executable(&root.join(path)) { "100755" } else { "100644" };
    let mut out = format!("diff --git a/{path} b/{path}\n");
    let _ = match before {
        None => writeln!(out, "new file mode 100644\nindex {NO_BLOB}..{}\n--- /dev/null\n+++ b/{path}", blob(after)),
        Some(before) => {
            writeln!(out, "index {}..{} {mode}\n--- a/{path}\n+++ b/{path}", blob(before), blob(after))
        }
    };
    let mut out = out.into_bytes();
    hunks(&edits(before.as_deref().unwrap_or_default(), after), &mut out);
    out
}

/// The id that git gives a file of these bytes: with it, `git am --3way` finds upstream's text in a fork's history.
fn blob(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex::encode(hasher.finalize())
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_: &Path) -> bool {
    false
}

/// A line of a patch: ` `, `-` or `+`, and the line with its end.
type Edit<'a> = (u8, &'a [u8]);

/// What makes `after` of `before`, where `after` is `before` with whole lines inserted, and perhaps a newline added at
/// the end. Lines end at LF and nowhere else, as git has it.
fn edits<'a>(before: &'a [u8], after: &'a [u8]) -> Vec<Edit<'a>> {
    let mut old = before.split_inclusive(|byte| *byte == b'\n').peekable();
    let mut edits = Vec::new();
    for line in after.split_inclusive(|byte| *byte == b'\n') {
        if old.next_if(|old| *old == line).is_some() {
            edits.push((b' ', line));
            continue;
        }
        // The last line, which gets a newline.
        if let Some(last) = old.next_if(|old| {
            !old.ends_with(b"\n")
                && line.strip_suffix(b"\n").is_some_and(|line| line.strip_suffix(b"\r").unwrap_or(line) == *old)
        }) {
            edits.push((b'-', last));
        }
        edits.push((b'+', line));
    }
    edits
}

fn hunks(edits: &[Edit<'_>], out: &mut Vec<u8>) {
    let changed: Vec<usize> = (0..edits.len()).filter(|at| edits[*at].0 != b' ').collect();
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for at in changed {
        let (start, end) = (at.saturating_sub(CONTEXT), (at + 1 + CONTEXT).min(edits.len()));
        match groups.last_mut() {
            Some(last) if start <= last.1 => last.1 = end,
            _ => groups.push((start, end)),
        }
    }
    let count = |edits: &[Edit<'_>], without: u8| edits.iter().filter(|(sign, _)| *sign != without).count();
    for (start, end) in groups {
        let (before, hunk) = (&edits[..start], &edits[start..end]);
        let range = |without: u8| {
            let (first, lines) = (count(before, without), count(hunk, without));
            // An empty range is named by the line before it.
            format!("{},{lines}", if lines == 0 { first } else { first + 1 })
        };
        out.extend_from_slice(format!("@@ -{} +{} @@\n", range(b'+'), range(b'-')).as_bytes());
        for (sign, line) in hunk {
            out.push(*sign);
            out.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                out.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(before: &str, after: &str) -> String {
        let mut out = Vec::new();
        hunks(&edits(before.as_bytes(), after.as_bytes()), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hunks_have_git_s_numbers() {
        assert_eq!(patch("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(patch("a\nb\n", "a\nx\nb\n"), "@@ -1,2 +1,3 @@\n a\n+x\n b\n");
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "x\n1\n2\n3\n4\n5\n6\n7\n8\ny\n9\n";
        assert_eq!(patch(old, new), "@@ -1,3 +1,4 @@\n+x\n 1\n 2\n 3\n@@ -6,4 +7,5 @@\n 6\n 7\n 8\n+y\n 9\n");
    }

    #[test]
    fn a_missing_last_newline_is_said() {
        assert_eq!(patch("a\nb", "x\na\nb"), "@@ -1,2 +1,3 @@\n+x\n a\n b\n\\ No newline at end of file\n");
        assert_eq!(patch("a", "a\nx\n"), "@@ -1,1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+x\n");
    }

    #[test]
    fn a_blob_has_git_s_id() {
        assert_eq!(blob(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
