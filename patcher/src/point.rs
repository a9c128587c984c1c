//! Instrumentation points: what is inserted, where, and how often; read from TOML and checked before use.
//!
//! Not here: looking at a tree. A [`PointSet`] is valid by itself or does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cpp_type;
use crate::error::{PointError, PointErrors, PointProblem};
use crate::strip::{INCLUDE_LINE, MACRO_PREFIX};

/// Where, relative to its anchor, the line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// The line after the function's opening brace.
    BodyStart,
    /// The line before the matched statement.
    Before,
    /// The line after the matched statement's last line.
    After,
    /// The line after the last `#include` of the file's first run of includes.
    IncludesEnd,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Position::BodyStart => "body-start",
            Position::Before => "before",
            Position::After => "after",
            Position::IncludesEnd => "includes-end",
        })
    }
}

/// How many sites a point must have in a tree: in each version of its function, where an `#if` chain has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// At least this many, and never 0.
    pub min: usize,
    /// At most this many; `None` is no bound.
    pub max: Option<usize>,
}

impl Count {
    /// Exactly one, the default.
    pub const ONE: Count = Count { min: 1, max: Some(1) };

    fn parse(text: &str) -> Option<Self> {
        let count = match text.split_once("..") {
            None => {
                let exact = text.trim().parse().ok()?;
                Count { min: exact, max: Some(exact) }
            }
            Some((min, "")) => Count { min: min.parse().ok()?, max: None },
            Some((min, max)) => Count { min: min.parse().ok()?, max: Some(max.parse().ok()?) },
        };
        (count.min >= 1 && count.max.is_none_or(|max| max >= count.min)).then_some(count)
    }

    /// Whether it is that many.
    pub(crate) fn allows(self, sites: usize) -> bool {
        sites >= self.min && self.max.is_none_or(|max| sites <= max)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(f, "{max}"),
            Some(max) => write!(f, "{}..{max}", self.min),
            None => write!(f, "{}..", self.min),
        }
    }
}

/// A parameter that the function must have: its type picks the overload, its name is bound to `capture`.
#[derive(Debug, Clone)]
pub struct Param {
    /// The name between braces in the inserted line.
    pub capture: String,
    /// The type as the point writes it.
    pub written: String,
    /// The type in the form that is compared, see `cpp_type::normalise`.
    pub normal: String,
}

/// One place where a point may be, chosen by what the tree contains.
#[derive(Debug, Clone)]
pub struct Alternate {
    /// Path from the tree's root, with `/`.
    pub file: String,
    /// Qualified function name; `None` for a position of the file itself.
    pub function: Option<String>,
    /// Parameters that the function must have.
    pub params: Vec<Param>,
    /// Where the line goes.
    pub position: Position,
    /// For [`Position::Before`] and [`Position::After`]: what the statement must begin with.
    pub anchor: Option<Anchor>,
    /// The line to insert, captures not yet replaced.
    pub insert: Template,
    /// Whether the line may stand inside an `#if` chain of the function.
    pub in_preproc: bool,
    /// Whether matches that leave no room for a line of their own are left out (and reported) instead of refused.
    pub skip_inline: bool,
}

impl Alternate {
    /// The place in words, for example `llama_context::decode(llama_batch_ext) before ^return`.
    pub fn describe(&self) -> String {
        let mut text = self.function.clone().unwrap_or_else(|| self.position.to_string());
        if !self.params.is_empty() {
            let types: Vec<_> = self.params.iter().map(|p| p.written.as_str()).collect();
            text.push_str(&format!("({})", types.join(", ")));
        }
        if let Some(anchor) = &self.anchor {
            text.push_str(&format!(" {} `{}`", self.position, anchor.written));
        }
        text
    }
}

/// A statement anchor.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// The regular expression as the point writes it.
    pub written: String,
    /// The same, bound to the statement's first byte.
    pub regex: BytesRegex,
    /// Words that every match holds, in order: what the statement can be told by when its layout has changed.
    pub words: Vec<String>,
}

/// A line with `{name}` placeholders; `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}").unwrap_or_else(|e| unreachable!("constant regex: {e}"))
});

impl Template {
    /// The text as the point writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names of the captures that the line uses.
    pub fn captures(&self) -> BTreeSet<&str> {
        PLACEHOLDER.captures_iter(&self.0).filter_map(|c| c.get(1)).map(|m| m.as_str()).collect()
    }

    /// The line with every capture replaced by its value.
    pub fn render(&self, values: &BTreeMap<String, String>) -> String {
        let replace = |c: &regex::Captures<'_>| match c.get(1) {
            Some(name) => values.get(name.as_str()).cloned().unwrap_or_default(),
            None => c[0][..1].to_owned(),
        };
        PLACEHOLDER.replace_all(&self.0, replace).into_owned()
    }
}

/// A condition under which a tree is known not to have a point.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The file that the condition is about.
    pub file: String,
    /// The function with a body in that file that it is about; without it, the file itself.
    pub function: Option<String>,
    /// `true`: the condition holds if the thing is missing; `false`: if it is there.
    pub missing: bool,
    /// Why the point cannot exist then.
    pub reason: String,
}

/// One instrumentation point.
#[derive(Debug, Clone)]
pub struct Point {
    /// Unique name.
    pub id: String,
    /// Why the point exists.
    pub purpose: String,
    /// Number of sites.
    pub count: Count,
    /// Why it is not one.
    pub count_reason: Option<String>,
    /// Alternates, newest first.
    pub at: Vec<Alternate>,
    /// When the point is known to be absent.
    pub absent: Vec<Absent>,
    /// The TOML file that declares it.
    pub source: PathBuf,
}

/// A text that is appended to a file between two marker lines.
#[derive(Debug, Clone)]
pub struct Block {
    /// Path from the tree's root, with `/`.
    pub file: String,
    /// The text; a final newline is added if it lacks one.
    pub text: String,
    /// The TOML file that declares it.
    pub source: PathBuf,
}

/// All points and blocks, in file order and then in order of declaration.
#[derive(Debug, Clone)]
pub struct PointSet {
    points: Vec<Point>,
    blocks: Vec<Block>,
    hash: String,
}

impl PointSet {
    /// Reads every `*.toml` of a folder, in the order of their names.
    ///
    /// # Errors
    /// All problems of all files at once.
    pub fn load_dir(dir: &Path) -> Result<Self, PointErrors> {
        let unreadable = |path: &Path, error: std::io::Error| {
            PointErrors(vec![PointError {
                source_file: path.to_owned(),
                point: None,
                problem: PointProblem::Unreadable(error.to_string()),
            }])
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| unreadable(dir, e))? {
            let path = entry.map_err(|e| unreadable(dir, e))?.path();
            if path.extension().is_some_and(|e| e == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut sources = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| unreadable(&path, e))?;
            sources.push((path, text));
        }
        Self::parse(sources)
    }

    /// Reads points from (file name, TOML text) pairs, in the order given.
    ///
    /// # Errors
    /// All problems of all texts at once.
    pub fn parse<P: Into<PathBuf>, T: AsRef<str>>(
        sources: impl IntoIterator<Item = (P, T)>,
    ) -> Result<Self, PointErrors> {
        let mut errors = Vec::new();
        let mut set = PointSet { points: Vec::new(), blocks: Vec::new(), hash: String::new() };
        let mut hasher = Sha256::new();
        for (path, text) in sources {
            let (path, text) = (path.into(), text.as_ref());
            // The folder is not part of the identity: the same set hashes alike in every checkout.
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update([0]);
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
            match toml::from_str::<RawFile>(text) {
                Err(error) => errors.push(PointError {
                    source_file: path,
                    point: None,
                    problem: PointProblem::Toml(error.to_string().trim_end().to_owned()),
                }),
                Ok(raw) => {
                    for point in raw.point {
                        set.add_point(point, &path, &mut errors);
                    }
                    for block in raw.block {
                        set.add_block(block, &path, &mut errors);
                    }
                }
            }
        }
        set.hash = hex::encode(hasher.finalize());
        if errors.is_empty() { Ok(set) } else { Err(PointErrors(errors)) }
    }

    /// The points, in order.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The appended blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// SHA-256, in hexadecimal, over the names and texts of the files that the set was read from.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn add_point(&mut self, raw: RawPoint, source: &Path, errors: &mut Vec<PointError>) {
        let mut problems = Vec::new();
        if raw.id.is_empty() || !raw.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            problems.push(PointProblem::BadId);
        }
        if let Some(first) = self.points.iter().find(|p| p.id == raw.id) {
            problems.push(PointProblem::DuplicateId { first: first.source.clone() });
        }
        if raw.purpose.trim().is_empty() {
            problems.push(PointProblem::NoPurpose);
        }
        if raw.at.is_empty() {
            problems.push(PointProblem::NoAlternate);
        }
        let count = raw.count.map_or(Ok(Count::ONE), |c| c.parse()).unwrap_or_else(|problem| {
            problems.push(problem);
            Count::ONE
        });
        if count != Count::ONE && raw.count_reason.as_deref().is_none_or(|r| r.trim().is_empty()) {
            problems.push(PointProblem::NoCountReason { count });
        }
        for absent in &raw.absent {
            check_path(&absent.file, &mut problems);
            if absent.reason.trim().is_empty() {
                problems.push(PointProblem::NoAbsentReason { file: absent.file.clone() });
            }
        }
        check_insert(raw.insert.as_deref(), &mut problems);
        let at = raw
            .at
            .into_iter()
            .enumerate()
            .filter_map(|(index, a)| a.check(index, raw.insert.as_deref(), &mut problems))
            .collect();
        errors.extend(problems.into_iter().map(|problem| PointError {
            source_file: source.to_owned(),
            point: Some(raw.id.clone()),
            problem,
        }));
        self.points.push(Point {
            id: raw.id,
            purpose: raw.purpose,
            count,
            count_reason: raw.count_reason,
            at,
            absent: raw.absent,
            source: source.to_owned(),
        });
    }

    fn add_block(&mut self, raw: RawBlock, source: &Path, errors: &mut Vec<PointError>) {
        let mut problems = Vec::new();
        check_path(&raw.file, &mut problems);
        if self.blocks.iter().any(|b| b.file == raw.file) {
            problems.push(PointProblem::DuplicateBlock { file: raw.file.clone() });
        }
        if raw.text.lines().any(|line| crate::strip::is_marker(line.as_bytes())) {
            problems.push(PointProblem::MarkerInBlock);
        }
        errors.extend(problems.into_iter().map(|problem| PointError {
            source_file: source.to_owned(),
            point: None,
            problem,
        }));
        self.blocks.push(Block { file: raw.file, text: raw.text, source: source.to_owned() });
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    point: Vec<RawPoint>,
    #[serde(default)]
    block: Vec<RawBlock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlock {
    file: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPoint {
    id: String,
    #[serde(default)]
    purpose: String,
    insert: Option<String>,
    count: Option<RawCount>,
    count_reason: Option<String>,
    #[serde(default)]
    at: Vec<RawAlternate>,
    #[serde(default)]
    absent: Vec<Absent>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "count is a number such as 2, or a range such as \"1..\" or \"2..4\"")]
enum RawCount {
    Exact(usize),
    Range(String),
}

impl RawCount {
    fn parse(self) -> Result<Count, PointProblem> {
        let text = match self {
            RawCount::Exact(n) => n.to_string(),
            RawCount::Range(text) => text,
        };
        Count::parse(&text).ok_or(PointProblem::BadCount { written: text })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlternate {
    file: String,
    function: Option<String>,
    #[serde(default)]
    params: BTreeMap<String, String>,
    position: Position,
    r#match: Option<String>,
    insert: Option<String>,
    #[serde(default)]
    in_preproc: bool,
    #[serde(default)]
    skip_inline: bool,
}

impl RawAlternate {
    fn check(self, index: usize, point_insert: Option<&str>, problems: &mut Vec<PointProblem>) -> Option<Alternate> {
        check_path(&self.file, problems);
        check_insert(self.insert.as_deref(), problems);
        let of_file = self.position == Position::IncludesEnd;
        let of_statement = matches!(self.position, Position::Before | Position::After);
        let mut wrong = |field: &'static str, needed: bool| {
            let position = self.position;
            problems.push(if needed {
                PointProblem::FieldNeeded { index, field, position }
            } else {
                PointProblem::FieldUseless { index, field, position }
            });
        };
        match (of_file, &self.function) {
            (true, Some(_)) => wrong("function", false),
            (false, None) => wrong("function", true),
            _ => {}
        }
        if of_file && !self.params.is_empty() {
            wrong("params", false);
        }
        match (of_statement, &self.r#match) {
            (true, None) => wrong("match", true),
            (false, Some(_)) => wrong("match", false),
            _ => {}
        }
        if !of_statement && self.skip_inline {
            wrong("skip_inline", false);
        }
        if !of_statement && self.in_preproc {
            wrong("in_preproc", false);
        }
        let anchor = self.r#match.and_then(|written| match BytesRegex::new(&format!(r"\A(?:{written})")) {
            Ok(regex) => Some(Anchor { words: anchor_words(&written), written, regex }),
            Err(error) => {
                problems.push(PointProblem::BadRegex { index, error: error.to_string() });
                None
            }
        });
        let params: Vec<_> = self
            .params
            .into_iter()
            .map(|(capture, written)| Param { normal: cpp_type::normalise(&written), capture, written })
            .collect();
        let mut declared: BTreeSet<&str> = BTreeSet::new();
        let groups = anchor.iter().flat_map(|a| a.regex.capture_names().flatten());
        for name in params.iter().map(|p| p.capture.as_str()).chain(groups) {
            if !declared.insert(name) {
                problems.push(PointProblem::CaptureTwice { index, name: name.to_owned() });
            }
        }
        let Some(insert) = self.insert.as_deref().or(point_insert) else {
            problems.push(PointProblem::NoInsert { index });
            return None;
        };
        let insert = Template(insert.to_owned());
        for name in insert.captures() {
            if !declared.contains(name) {
                problems.push(PointProblem::UnknownCapture { index, name: name.to_owned() });
            }
        }
        let (file, function, position, in_preproc, skip_inline) =
            (self.file, self.function, self.position, self.in_preproc, self.skip_inline);
        Some(Alternate { file, function, params, position, anchor, insert, in_preproc, skip_inline })
    }
}

/// Whole words that a regular expression asks for, in order. What is optional, or one of several, is left out.
fn anchor_words(pattern: &str) -> Vec<String> {
    use regex_syntax::hir::{Hir, HirKind};
    /// Literal text, with a `\0` wherever something else may stand.
    fn literals(hir: &Hir, text: &mut Vec<u8>) {
        match hir.kind() {
            HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
            HirKind::Capture(capture) => literals(&capture.sub, text),
            HirKind::Concat(parts) => parts.iter().for_each(|part| literals(part, text)),
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                literals(&repetition.sub, text);
                text.push(0);
            }
            HirKind::Look(_) | HirKind::Empty => {}
            HirKind::Class(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => text.push(0),
        }
    }
    let mut text = Vec::new();
    if let Ok(hir) = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern) {
        literals(&hir, &mut text);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut words = Vec::new();
    for (at, piece) in
        text.split(|c: char| !is_word(c)).map(|piece| (piece.as_ptr() as usize - text.as_ptr() as usize, piece))
    {
        // A word that something else may go on is only a part of one.
        let is_cut = text[..at].ends_with('\0') || text[at + piece.len()..].starts_with('\0');
        if !piece.is_empty() && !is_cut {
            words.push(piece.to_owned());
        }
    }
    words
}

fn check_insert(line: Option<&str>, problems: &mut Vec<PointProblem>) {
    if let Some(line) = line
        && let Some(why) = bad_line(line)
    {
        problems.push(PointProblem::BadInsert { line: line.to_owned(), why });
    }
}

/// Why a line may not be inserted, if so. The rule keeps `strip` exact: whole lines that only we would write.
fn bad_line(line: &str) -> Option<&'static str> {
    if line.contains(['\n', '\r']) {
        return Some("it is more than one line");
    }
    if line.trim() != line {
        return Some("it begins or ends with white space; the engine indents it");
    }
    if line == INCLUDE_LINE {
        return None;
    }
    let Some(rest) = line.strip_prefix(MACRO_PREFIX) else {
        return Some("its first token is neither a LLAMA_OTEL_ macro nor the one #include \"common/otel/otel.h\"");
    };
    if !rest.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Some("LLAMA_OTEL_ must be followed by the macro's name in capitals");
    }
    if line.ends_with('\\') {
        return Some("a backslash at its end would swallow the next line");
    }
    let mask = crate::mask::Mask::new(line.as_bytes());
    if mask.has_comment() {
        return Some("it holds a comment; the place for that is the point's purpose");
    }
    let depth = mask.code().iter().try_fold(0_usize, |depth, byte| match byte {
        b'(' => Some(depth + 1),
        b')' => depth.checked_sub(1),
        _ => Some(depth),
    });
    if depth != Some(0) {
        return Some("its parentheses do not balance");
    }
    None
}

fn check_path(path: &str, problems: &mut Vec<PointProblem>) {
    let plain = !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        problems.push(PointProblem::BadPath { path: path.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_numbers_or_ranges_that_hold_something() {
        assert_eq!(Count::parse("2"), Some(Count { min: 2, max: Some(2) }));
        assert_eq!(Count::parse("1.."), Some(Count { min: 1, max: None }));
        assert_eq!(Count::parse("2..4"), Some(Count { min: 2, max: Some(4) }));
        for bad in ["0", "0..", "4..2", "..", "..3", "x", "-1", ""] {
            assert_eq!(Count::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_template_replaces_captures_and_keeps_escaped_braces() {
        let template = Template("LLAMA_OTEL_X({{ {a}, {a}, {b} }});".to_owned());
        let values = BTreeMap::from([("a".to_owned(), "x".to_owned()), ("b".to_owned(), "{c}".to_owned())]);
        assert_eq!(template.render(&values), "LLAMA_OTEL_X({ x, x, {c} });");
        assert_eq!(template.captures(), BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn an_anchor_is_told_by_the_words_that_it_cannot_do_without() {
        let words = |pattern: &str| anchor_words(pattern).join(" ");
        assert_eq!(words(r"^const uint32_t n_outputs_all = "), "const uint32_t n_outputs_all");
        assert_eq!(words(r"^return +(?<code>-?[1-9]|ret);"), "return");
        assert_eq!(words(r"(?s)^for \([^{]*\) \{\s*auto & head = v_heads"), "for head v_heads");
        assert_eq!(words(r"^kv_\w+ = (foo)?bar\("), "");
        assert_eq!(words(r"^x(\.y)? = f\("), "f");
    }

    #[test]
    fn the_hash_depends_on_text_and_file_name_but_not_on_the_folder() {
        let hash = |path: &str, text: &str| PointSet::parse([(path, text)]).unwrap().hash().to_owned();
        assert_eq!(hash("a/x.toml", ""), hash("b/x.toml", ""));
        assert_ne!(hash("a/x.toml", ""), hash("a/y.toml", ""));
        assert_ne!(hash("a/x.toml", ""), hash("a/x.toml", "# c"));
    }
}
