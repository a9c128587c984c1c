//! What became of each point in one tree: the data behind every report.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::point::Count;

/// The outcome of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The line goes in, as often as the point declares.
    Placed,
    /// The point's own declaration says that this tree cannot have it.
    Absent,
    /// No alternate fits, or one fits and leaves no room for the line.
    Lost,
    /// More sites than the point declares.
    Ambiguous,
}

impl Outcome {
    /// Whether a plan can be made with it.
    pub fn is_fine(self) -> bool {
        matches!(self, Outcome::Placed | Outcome::Absent)
    }
}

/// One place where a line goes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Path from the tree's root.
    pub file: String,
    /// Upstream's line that the site is anchored on, from 1.
    pub line: usize,
    /// Qualified name of the function around it; `None` for positions of the file.
    pub function: Option<String>,
    /// SHA-256 of the text of that function, or of the file's include lines where there is none.
    pub function_sha256: String,
    /// The inserted line without indentation.
    pub inserted: String,
}

/// A statement that an anchor matched and that takes no line, or too many of which match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Line in upstream's file, from 1.
    pub line: usize,
    /// That line's text.
    pub text: String,
    /// What keeps the line from being inserted; `None` if nothing does.
    #[serde(serialize_with = "optional_text")]
    pub refusal: Option<Refusal>,
}

/// Why no whole line can be inserted at a place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)] // each variant's message says what it is
pub enum Refusal {
    #[error("code follows the function's opening brace on its line")]
    BodyOnOneLine,
    #[error("is not the first thing on its line")]
    NotFirstOnLine,
    #[error("is not the last thing on its line")]
    NotLastOnLine,
    #[error("is the body of `{of}` without braces: a line there would change what it controls")]
    Braceless { of: &'static str },
    #[error("is inside the #if chain that opens in line {line}; set in_preproc = true if the point may be conditional")]
    InChain { line: usize },
    #[error("is cut by an #if chain in line {line}")]
    CutByChain { line: usize },
    #[error("the line would be inside a comment or literal that begins in line {line}")]
    InsideSpan { line: usize },
    #[error("the line before ends with a backslash")]
    Continued,
    #[error("what the match captures does not make one line: `{rendered}`")]
    NotOneLine { rendered: String },
    #[error("the file ends there without a newline")]
    NoNewline,
    #[error("the parser makes no sense of the code around it")]
    Unclear,
    #[error("parser and brace count do not agree on where the function ends")]
    Braces,
    #[error("the braces of the file do not balance")]
    Unbalanced,
    #[error("`{found}` before it may make it the body of something without braces")]
    After { found: String },
    #[error("`{found}` after it belongs to the statement before")]
    Before { found: String },
    #[error("another version of this function, in the same #if chain, has a match, and this one has none")]
    VersionWithout,
}

impl Refusal {
    /// Whether `skip_inline` covers it.
    pub fn is_inline(&self) -> bool {
        matches!(self, Refusal::NotFirstOnLine | Refusal::NotLastOnLine | Refusal::Braceless { .. })
    }
}

/// Why an alternate did not give a point its site.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Why {
    #[error("no such file")]
    NoFile,
    #[error("no such function{}", similar_text(similar, *unclear))]
    NoFunction {
        /// Functions of the file with the same last name.
        similar: Vec<String>,
        /// Line of a part that mentions the name and that the parser gave up on.
        unclear: Option<usize>,
    },
    #[error("function found, but it has no body: `{how}`")]
    NoBody { how: String },
    #[error("function found, no parameter of that type: {}", signatures.join(", "))]
    NoParameter { signatures: Vec<String> },
    #[error("function found, several parameters of type {written}, so `{{{capture}}}` is not clear: {signature}")]
    SeveralParameters { capture: String, written: String, signature: String },
    #[error("function found, its parameter of type {written} has no name for `{{{capture}}}`: {signature}")]
    UnnamedParameter { capture: String, written: String, signature: String },
    #[error("{} functions of that name and those parameters: {}", signatures.len(), functions_text(signatures))]
    SeveralFunctions {
        /// Line and parameter list of each.
        signatures: Vec<(usize, String)>,
    },
    #[error("function found, but the text has one more definition of `{name}`, which the parser makes no sense of")]
    HiddenFunction { name: String },
    #[error("not looked for: alternate {newer} is this tree's own, since {sign}; an older one would be a guess")]
    Outdated {
        /// Index of a newer alternate that did not fit.
        newer: usize,
        /// What of it is in the tree.
        sign: String,
    },
    #[error("function found, no statement in it begins with a match (line {})", lines_text(lines))]
    NoMatch { lines: Vec<usize> },
    #[error("no #include outside of #if chains before the first declaration")]
    NoIncludes,
    #[error("{} found, {count} declared", sites_text(*found))]
    TooFew { found: usize, count: Count },
    #[error("{} found, {count} declared", sites_text(*found))]
    TooMany { found: usize, count: Count },
    #[error("found, but there is no room for a line")]
    NoRoom,
}

impl Why {
    /// Whether the alternate is the tree's own: later ones are then not tried, since one of them could only be wrong.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Why::TooFew { .. }
                | Why::TooMany { .. }
                | Why::NoRoom
                | Why::SeveralFunctions { .. }
                | Why::HiddenFunction { .. }
        )
    }

    /// Whether there is more than the point asks for.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Why::TooMany { .. } | Why::SeveralFunctions { .. })
    }
}

fn sites_text(found: usize) -> String {
    if found == 1 { "1 site".to_owned() } else { format!("{found} sites") }
}

fn functions_text(signatures: &[(usize, String)]) -> String {
    signatures.iter().map(|(line, list)| format!("{list} in line {line}")).collect::<Vec<_>>().join(", ")
}

fn lines_text(lines: &[usize]) -> String {
    lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn similar_text(similar: &[String], unclear: Option<usize>) -> String {
    match (similar, unclear) {
        ([], None) => String::new(),
        ([], Some(line)) => format!("; the name is in a part from line {line} on that the parser cannot make sense of"),
        _ => format!("; there is {}", similar.join(", ")),
    }
}

/// One alternate that was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Index in the point's `at`, from 0.
    pub alternate: usize,
    /// Path from the tree's root.
    pub file: String,
    /// Function, parameters and anchor in words.
    pub place: String,
    /// What was found instead.
    #[serde(serialize_with = "text")]
    pub why: Why,
    /// The statements that came into question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// What became of one point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The point.
    pub id: String,
    /// The outcome.
    #[serde(rename = "verdict")]
    pub outcome: Outcome,
    /// The alternate that fits, from 0.
    pub alternate: Option<usize>,
    /// File of the first site.
    pub file: Option<String>,
    /// Line of the first site in upstream's file, from 1.
    pub line: Option<usize>,
    /// Function of the first site.
    pub function: Option<String>,
    /// Every site.
    pub sites: Vec<Site>,
    /// Matches left out because the alternate says `skip_inline`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Candidate>,
    /// Why the point is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Alternates that did not fit; given for points that are lost or ambiguous.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// The TOML file that declares the point.
    #[serde(skip)]
    pub source: PathBuf,
}

fn text<T: ToString, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn optional_text<T: ToString, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}
