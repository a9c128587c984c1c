//! How far a point has drifted in a tree since the lock was written.

use std::fmt;

use serde::Serialize;

use crate::lock::Entry;
use crate::verdict::{Outcome, Verdict};

/// The grades of drift, harmless ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Same file, function, lines and text.
    Same,
    /// The lock does not know the point in this tree yet.
    New,
    /// Absent by the point's own declaration.
    Absent,
    /// Same text of the function, elsewhere.
    Moved,
    /// The function's text is another one: someone should look.
    BodyChanged,
    /// No site.
    Lost,
    /// Too many sites.
    Ambiguous,
}

impl Grade {
    /// Whether a sweep fails on it.
    pub fn is_failure(self) -> bool {
        matches!(self, Grade::Lost | Grade::Ambiguous)
    }

    /// Whether a sweep should mention it: the point is placed, and not where or in what the lock remembers.
    pub fn is_warning(self) -> bool {
        self == Grade::BodyChanged
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Grade::Same => "same",
            Grade::New => "new",
            Grade::Absent => "absent",
            Grade::Moved => "moved",
            Grade::BodyChanged => "body-changed",
            Grade::Lost => "LOST",
            Grade::Ambiguous => "AMBIGUOUS",
        })
    }
}

/// Grades a verdict against what the lock remembers of the same point, of the same tree or of the one before it.
pub fn grade(known: Option<&Entry>, verdict: &Verdict) -> Grade {
    match verdict.outcome {
        Outcome::Lost => return Grade::Lost,
        Outcome::Ambiguous => return Grade::Ambiguous,
        Outcome::Absent => return Grade::Absent,
        Outcome::Placed => {}
    }
    let (Some(known), Some(now)) = (known, Entry::of(verdict)) else {
        return Grade::New;
    };
    if known.sha256 != now.sha256 {
        Grade::BodyChanged
    } else if (&known.file, &known.function, &known.lines) != (&now.file, &now.function, &now.lines) {
        Grade::Moved
    } else {
        Grade::Same
    }
}
