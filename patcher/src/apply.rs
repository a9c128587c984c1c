//! A plan carried out in memory: upstream's bytes in, patched bytes out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{ApplyError, VerifyError};
use crate::plan::{FileEdit, Plan};
use crate::strip::{self, BEGIN, BEGIN_NO_NEWLINE, END};
use crate::tree::{Tree, sha256};

/// The files of a patched tree that differ from upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Path from the tree's root to the whole new content; edited and added files.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Plan {
    /// Carries the plan out on the tree that it was made for.
    ///
    /// # Errors
    /// A file is gone or has changed since.
    pub fn apply(&self, tree: &Tree) -> Result<Applied, ApplyError> {
        let mut files = BTreeMap::new();
        for (path, edit) in &self.files {
            let gone = |error: String| ApplyError::Gone { path: path.clone(), error };
            let bytes =
                tree.read(path).map_err(|e| gone(e.to_string()))?.ok_or_else(|| gone("no such file".to_owned()))?;
            let found = sha256(&bytes);
            if found != edit.sha256 {
                return Err(ApplyError::Changed { path: path.clone(), planned: edit.sha256.clone(), found });
            }
            files.insert(PathBuf::from(path), edit_file(&bytes, edit));
        }
        for added in &self.added {
            files.insert(PathBuf::from(&added.path), added.bytes.clone());
        }
        Ok(Applied { files })
    }

    /// Checks that what was applied is upstream's text and our lines, nothing else.
    ///
    /// # Errors
    /// The first file that is not.
    pub fn verify(&self, tree: &Tree, applied: &Applied) -> Result<(), VerifyError> {
        for path in self.files.keys() {
            let path_of = || path.clone();
            let unreadable = |error: String| VerifyError::Unreadable { path: path_of(), error };
            let pristine = tree
                .read(path)
                .map_err(|e| unreadable(e.to_string()))?
                .ok_or_else(|| unreadable("no such file".to_owned()))?;
            let patched = applied
                .files
                .get(&PathBuf::from(path))
                .ok_or_else(|| unreadable("not among the applied files".to_owned()))?;
            // What planning on the patched tree would stumble over: applying twice is refused.
            if strip::first_mark(patched).is_none() {
                return Err(VerifyError::Unmarked { path: path_of() });
            }
            let stripped = strip::strip_file(patched).map_err(|error| VerifyError::Strip { path: path_of(), error })?;
            if stripped != *pristine {
                let offset = stripped.iter().zip(pristine.iter()).take_while(|(a, b)| a == b).count();
                return Err(VerifyError::Differs { path: path_of(), offset });
            }
        }
        Ok(())
    }
}

/// One file with its edit. Back to front, so that offsets stay those of upstream's file.
fn edit_file(bytes: &[u8], edit: &FileEdit) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> = Vec::new();
    let mut end = bytes.len();
    for insertion in edit.insertions.iter().rev() {
        let offset = insertion.offset.min(end);
        pieces.push(&bytes[offset..end]);
        pieces.push(eol_before(bytes, offset));
        pieces.push(insertion.text.as_bytes());
        end = offset;
    }
    pieces.push(&bytes[..end]);
    pieces.reverse();
    let mut out = pieces.concat();
    if let Some(block) = &edit.block {
        append_block(&mut out, block);
    }
    out
}

/// The line end in use just before `offset`; at the file's start, that of its first line.
fn eol_before(bytes: &[u8], offset: usize) -> &'static [u8] {
    let before = &bytes[..offset];
    let line =
        if before.is_empty() { bytes.split_inclusive(|b| *b == b'\n').next().unwrap_or_default() } else { before };
    if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" }
}

fn append_block(out: &mut Vec<u8>, block: &str) {
    // A lone carriage return at the end would become half of the line end that is added after it.
    let is_crlf = crate::mask::find(out, b"\r\n", 0).is_some() || out.ends_with(b"\r");
    let eol = if is_crlf { "\r\n" } else { "\n" };
    let is_complete = out.is_empty() || out.ends_with(b"\n");
    if !is_complete {
        out.extend_from_slice(eol.as_bytes());
    }
    let begin = if is_complete { BEGIN } else { BEGIN_NO_NEWLINE };
    for line in std::iter::once(begin).chain(block.trim_end().lines()).chain([END]) {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(eol.as_bytes());
    }
}
