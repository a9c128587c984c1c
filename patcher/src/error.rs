//! What can go wrong, one type for each step, each with the data that a reader or a program needs.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::point::{Count, Position};
use crate::verdict::Verdict;

/// Everything that is wrong with a set of points.
#[derive(Debug, Clone, Error)]
pub struct PointErrors(pub Vec<PointError>);

impl fmt::Display for PointErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "error: {error}")?;
        }
        write!(f, "help: every point needs an id, a purpose, one line to insert and at least one alternate in `at`")
    }
}

/// One thing that is wrong with one file of points.
#[derive(Debug, Clone, Error)]
pub struct PointError {
    /// The TOML file.
    pub source_file: PathBuf,
    /// The point, where the problem belongs to one.
    pub point: Option<String>,
    /// The problem.
    pub problem: PointProblem,
}

impl fmt::Display for PointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Some(id) => write!(f, "point `{id}` in {}: {}", self.source_file.display(), self.problem),
            None => write!(f, "{}: {}", self.source_file.display(), self.problem),
        }
    }
}

/// The ways in which a point can be wrong without any tree. `index` counts alternates from 0.
#[derive(Debug, Clone, Error)]
#[allow(missing_docs)] // each variant's message says what it is
pub enum PointProblem {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is not a valid point file:\n{0}")]
    Toml(String),
    #[error("the id may hold letters, digits, `.`, `_` and `-` only, and not be empty")]
    BadId,
    #[error("the id is taken: {} declares it too", first.display())]
    DuplicateId { first: PathBuf },
    #[error("it has no purpose; say in one sentence what the line is there for")]
    NoPurpose,
    #[error("it has no alternate; list at least one in `at`")]
    NoAlternate,
    #[error("count `{written}` is neither a number from 1 nor a range such as \"1..\" or \"2..4\"")]
    BadCount { written: String },
    #[error("count {count} is not 1 and needs a count_reason")]
    NoCountReason { count: Count },
    #[error("the absence that {file} decides has no reason")]
    NoAbsentReason { file: String },
    #[error("`{path}` is not a plain path from the tree's root, with `/` and without `..`")]
    BadPath { path: String },
    #[error("alternate {index}: position {position} needs `{field}`")]
    FieldNeeded { index: usize, field: &'static str, position: Position },
    #[error("alternate {index}: position {position} has no use for `{field}`")]
    FieldUseless { index: usize, field: &'static str, position: Position },
    #[error("alternate {index}: match is not a regular expression: {error}")]
    BadRegex { index: usize, error: String },
    #[error("alternate {index}: capture `{name}` is declared twice")]
    CaptureTwice { index: usize, name: String },
    #[error("alternate {index}: neither it nor its point has an `insert`")]
    NoInsert { index: usize },
    #[error("`{line}` cannot be inserted: {why}")]
    BadInsert { line: String, why: &'static str },
    #[error(
        "alternate {index}: `{{{name}}}` in the inserted line is neither one of its params nor a named group of its match"
    )]
    UnknownCapture { index: usize, name: String },
    #[error("a second block for {file}; write one")]
    DuplicateBlock { file: String },
    #[error("the block's text holds a marker line; the engine adds the markers")]
    MarkerInBlock,
}

/// A plan that could not be made: every failure, and the verdict of every point, also of those that were placed.
#[derive(Debug, Clone, Error)]
#[error("{}", crate::report::render_failures(self))]
pub struct PlanErrors {
    /// What the tree is called.
    pub tree: String,
    /// Problems of the tree itself, before any point.
    pub tree_errors: Vec<TreeError>,
    /// One verdict for each point, in order.
    pub verdicts: Vec<Verdict>,
}

/// Why a tree cannot be patched, whatever the points are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum TreeError {
    #[error("{path}: cannot be read: {error}")]
    Unreadable { path: String, error: String },
    #[error("{path}:{line}: is patched already: `{text}`")]
    AlreadyPatched { path: String, line: usize, text: String },
    #[error("{path}: the tree has a file of that name, which patching would add")]
    AddedFileExists { path: String },
    #[error("{path}: is listed twice among the files to add")]
    AddedTwice { path: String },
    #[error("there is no {path} to append the block of {} to: a tree without CMake cannot be patched", source_file.display())]
    NoBlockFile { path: String, source_file: PathBuf },
    #[error("{path}:{line}: points `{first}` and `{second}` insert the same line in the same place")]
    SameLineTwice { path: String, line: usize, first: String, second: String },
}

impl TreeError {
    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            TreeError::Unreadable { .. } => "make the tree readable, or get it anew with `cargo xtask vendor --force`",
            TreeError::AlreadyPatched { .. } => "patch a pristine tree; `cargo xtask vendor` unpacks one",
            TreeError::AddedFileExists { .. } => {
                "patch a pristine tree; if upstream has that file, the added one needs another name"
            }
            TreeError::AddedTwice { .. } => "name each file to add once",
            TreeError::NoBlockFile { .. } => {
                "take a llama.cpp from November 2024 or newer, such as that of the crate llama-cpp-sys-2 0.1.84"
            }
            TreeError::SameLineTwice { .. } => "drop one of the two points, or give it another line",
        }
    }
}

/// Why a plan does not fit the tree that it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The file was read when the plan was made and cannot be read now.
    #[error("{path}: was there when the plan was made and cannot be read now: {error}")]
    Gone {
        /// Path from the tree's root.
        path: String,
        /// What reading it gave.
        error: String,
    },
    /// The file changed in between.
    #[error("{path}: has changed since the plan was made (sha256 {found}, planned on {planned}); plan again")]
    Changed {
        /// Path from the tree's root.
        path: String,
        /// SHA-256 of the bytes that were planned on.
        planned: String,
        /// SHA-256 of the bytes found.
        found: String,
    },
}

/// Why a file cannot be stripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StripError {
    /// A begin marker without an end marker, or the other way round, or two of one kind.
    #[error("line {line}: the llama-otel markers do not pair up; restore the file from upstream")]
    UnpairedMarker {
        /// Line number, from 1.
        line: usize,
    },
}

/// Why a patched file is not exactly upstream's plus our lines.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// Stripping failed.
    #[error("{path}: {error}; this is a defect of the patcher, please report it")]
    Strip {
        /// Path from the tree's root.
        path: String,
        /// What stripping said.
        error: StripError,
    },
    /// Stripping gave other bytes than upstream's.
    #[error(
        "{path}: without our lines, byte {offset} differs from upstream's; this is a defect of the patcher, please report it"
    )]
    Differs {
        /// Path from the tree's root.
        path: String,
        /// First differing byte.
        offset: usize,
    },
    /// The plan touches the file, and still nothing in the result shows that it is patched.
    #[error("{path}: the patched file carries none of our lines; this is a defect of the patcher, please report it")]
    Unmarked {
        /// Path from the tree's root.
        path: String,
    },
    /// The tree could not be read.
    #[error("{path}: cannot be read: {error}")]
    Unreadable {
        /// Path from the tree's root.
        path: String,
        /// What reading it gave.
        error: String,
    },
}

/// Why a tree could not be patched in one go, see [`crate::patch`].
#[derive(Debug, Clone, Error)]
pub enum PatchError {
    /// No plan.
    #[error(transparent)]
    Plan(#[from] PlanErrors),
    /// The tree changed underneath.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The result failed its check.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
