//! What stands around a line that is inserted: the statements next to it, the comment above, and what is declared by then.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{likeness_of, tokens, without_receivers};
use crate::source::SourceFile;

/// How many tokens on each side are compared.
const NEAR: usize = 30;
/// In how many bytes they are looked for.
const NEAR_BYTES: usize = 1500;
/// A comment of fewer words says too little to be known again.
const COMMENT_WORDS: usize = 3;
/// What can stand in front of a name that is not being declared.
const NO_TYPES: [&str; 8] = ["return", "else", "case", "goto", "delete", "new", "throw", "not"];

/// What stands around a site.
pub(super) struct Surroundings {
    before: Vec<String>,
    after: Vec<String>,
    /// The comment above the statement.
    pub(super) comment: Option<String>,
}

impl Surroundings {
    /// Around a line that goes in at `offset` for the statement on `line` of a function's body.
    pub(super) fn of(file: &SourceFile, body: &Range<usize>, offset: usize, line: usize) -> Self {
        let offset = offset.clamp(body.start, body.end);
        let near = |range| without_receivers(tokens(&file.mask.text_without_comments(&file.bytes, range)));
        let mut before = near(body.start.max(offset.saturating_sub(NEAR_BYTES))..offset);
        let mut after = near(offset..body.end.min(offset + NEAR_BYTES));
        before.drain(..before.len().saturating_sub(NEAR));
        after.truncate(NEAR);
        Surroundings { before, after, comment: comment_above(file, line) }
    }

    /// From 0 to 1.
    pub(super) fn likeness(&self, other: &Surroundings) -> f64 {
        let after = likeness_of(&self.after, &other.after);
        // Of a body's start there is nothing before but the brace.
        if self.before.len() < 2 && other.before.len() < 2 {
            return after;
        }
        0.5 * after + 0.5 * likeness_of(&self.before, &other.before)
    }
}

/// The text of the comment lines that end right above a line.
pub(super) fn comment_above(file: &SourceFile, line: usize) -> Option<String> {
    let mut lines: Vec<_> = (1..line)
        .rev()
        .map(|number| file.line_text(number))
        .take_while(|text| text.starts_with("//"))
        .map(|text| text.trim_start_matches('/').trim().to_owned())
        .collect();
    lines.reverse();
    let text = lines.join(" ");
    (text.split_whitespace().count() >= COMMENT_WORDS).then_some(text)
}

/// Of the words, those that the body declares: each with the offset of the line where it does.
pub(super) fn declarations(file: &SourceFile, body: &Range<usize>, words: &BTreeSet<String>) -> Vec<(String, usize)> {
    let mut left = words.clone();
    let mut found = Vec::new();
    let mut at = file.line_start(body.start);
    while at < body.end && !left.is_empty() {
        let next = file.next_line_start(at).unwrap_or(body.end).min(body.end);
        let line = tokens(&file.mask.text_without_comments(&file.bytes, at.max(body.start)..next));
        for (index, token) in line.iter().enumerate() {
            // The first time that a word is there decides.
            if left.remove(token) && is_declared(&line, index) {
                found.push((token.clone(), at));
            }
        }
        at = next.max(at + 1);
    }
    found
}

fn is_declared(line: &[String], index: usize) -> bool {
    let Some(before) = index.checked_sub(1).map(|before| line[before].as_str()) else { return false };
    let is_type = match before {
        "&" | "*" => index >= 2 && super::is_word(&line[index - 2]),
        ">" => line.get(index.wrapping_sub(2)).is_some_and(|token| token != "-"),
        word => super::is_word(word) && !NO_TYPES.contains(&word),
    };
    is_type && matches!(line.get(index + 1).map(String::as_str), Some("=" | ";" | "(" | "{"))
}
