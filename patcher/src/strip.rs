//! The inverse of patching, by the one rule that makes it exact: our lines can be told from upstream's.
//!
//! A line is ours if its first token begins with `LLAMA_OTEL_`, if it is the one include, or if it stands between
//! the two markers of an appended block.

use std::collections::BTreeMap;
use std::io;

use thiserror::Error;

use crate::error::StripError;
use crate::tree::Tree;

/// How the first token of an inserted line begins.
pub const MACRO_PREFIX: &str = "LLAMA_OTEL_";
/// The one other line that may be inserted.
pub const INCLUDE_LINE: &str = "#include \"common/otel/otel.h\"";
/// The folder of added files.
pub const ADDED_DIR: &str = "common/otel/";

/// First line of an appended block.
pub(crate) const BEGIN: &str = "# >>> llama-otel";
/// First line of an appended block in a file whose last line had no newline: the one before the block is ours too.
pub(crate) const BEGIN_NO_NEWLINE: &str = "# >>> llama-otel (upstream's last line has no newline)";
/// Last line of an appended block.
pub(crate) const END: &str = "# <<< llama-otel";

/// Whether a line opens or closes an appended block.
pub(crate) fn is_marker(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    [BEGIN, BEGIN_NO_NEWLINE, END].iter().any(|marker| line == marker.as_bytes())
}

fn is_inserted(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(MACRO_PREFIX.as_bytes()) || line == INCLUDE_LINE.as_bytes()
}

/// The first line of ours in a file: its number, from 1, and its text.
pub fn first_mark(bytes: &[u8]) -> Option<(usize, String)> {
    if !may_be_patched(bytes) {
        return None;
    }
    let mut lines = bytes.split_inclusive(|b| *b == b'\n').enumerate();
    let (index, line) = lines.find(|(_, line)| is_inserted(line) || is_marker(line))?;
    Some((index + 1, String::from_utf8_lossy(line.trim_ascii()).into_owned()))
}

/// A quick look that clears nearly every file of a tree.
fn may_be_patched(bytes: &[u8]) -> bool {
    [&b"LLAMA_OTEL_"[..], b"common/otel/otel.h", b" llama-otel"]
        .iter()
        .any(|mark| crate::mask::find(bytes, mark, 0).is_some())
}

/// A file without our lines.
///
/// # Errors
/// The markers of a block do not pair up.
pub fn strip_file(bytes: &[u8]) -> Result<Vec<u8>, StripError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut block_starts_at = None;
    let mut blocks = 0;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let text = line.trim_ascii();
        let unpaired = StripError::UnpairedMarker { line: index + 1 };
        if text == BEGIN.as_bytes() || text == BEGIN_NO_NEWLINE.as_bytes() {
            if block_starts_at.is_some() || blocks > 0 {
                return Err(unpaired);
            }
            block_starts_at = Some(index + 1);
            blocks += 1;
            if text == BEGIN_NO_NEWLINE.as_bytes() && out.pop_if(|b| *b == b'\n').is_some() {
                out.pop_if(|b| *b == b'\r');
            }
        } else if text == END.as_bytes() {
            if block_starts_at.take().is_none() {
                return Err(unpaired);
            }
        } else if block_starts_at.is_none() && !is_inserted(line) {
            out.extend_from_slice(line);
        }
    }
    match block_starts_at {
        Some(line) => Err(StripError::UnpairedMarker { line }),
        None => Ok(out),
    }
}

/// What stripping a tree comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stripped {
    /// Files that change, with upstream's bytes.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files that patching had added.
    pub removed: Vec<String>,
}

/// Why a tree cannot be stripped.
#[derive(Debug, Error)]
pub enum StripTreeError {
    /// Something could not be read.
    #[error("the tree cannot be read: {0}")]
    Io(#[from] io::Error),
    /// One file is damaged.
    #[error("{path}: {error}")]
    File {
        /// Path from the tree's root.
        path: String,
        /// What is wrong with it.
        error: StripError,
    },
}

/// Strips a whole tree: every file under `common/otel/` goes, every other file loses our lines.
///
/// # Errors
/// A file cannot be read, or its markers do not pair up.
pub fn strip_tree(tree: &Tree) -> Result<Stripped, StripTreeError> {
    let mut stripped = Stripped::default();
    for path in tree.paths()? {
        if path.starts_with(ADDED_DIR) {
            stripped.removed.push(path);
            continue;
        }
        let Some(bytes) = tree.read(&path)?.filter(|bytes| first_mark(bytes).is_some()) else {
            continue;
        };
        let clean = strip_file(&bytes).map_err(|error| StripTreeError::File { path: path.clone(), error })?;
        stripped.files.insert(path, clean);
    }
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_ours_go() {
        let text = b"a LLAMA_OTEL_X;\n  LLAMA_OTEL_Y(1);\r\n#include \"common/otel/otel.h\"\n#include \"common/otel/otel.h\" // no\nb";
        assert_eq!(strip_file(text).unwrap(), b"a LLAMA_OTEL_X;\n#include \"common/otel/otel.h\" // no\nb");
    }

    #[test]
    fn markers_must_pair_up() {
        let strip = |text: &str| strip_file(text.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(strip("a\n# >>> llama-otel\nb\n# <<< llama-otel\n").unwrap(), "a\n");
        assert_eq!(strip("a\n# >>> llama-otel\nb\n"), Err(StripError::UnpairedMarker { line: 2 }));
        assert_eq!(strip("a\n# <<< llama-otel\nb\n"), Err(StripError::UnpairedMarker { line: 2 }));
        let twice = "# >>> llama-otel\n# <<< llama-otel\n";
        assert_eq!(strip(&twice.repeat(2)), Err(StripError::UnpairedMarker { line: 3 }));
    }

    #[test]
    fn the_missing_last_newline_comes_back_missing() {
        let marker = BEGIN_NO_NEWLINE;
        for eol in ["\n", "\r\n"] {
            let text = format!("a{eol}{marker}{eol}b{eol}{END}{eol}");
            assert_eq!(strip_file(text.as_bytes()).unwrap(), b"a");
        }
    }
}
