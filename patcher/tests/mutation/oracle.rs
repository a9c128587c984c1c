//! Whether a line went in where its mark stood. It knows offsets and comments, and nothing of the engine.

use crate::doc::Mark;

/// What became of one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Each line stands at a mark, and each mark has a line.
    Right,
    /// Each line stands at a mark, and a mark has none.
    Partial,
    /// Lost or ambiguous: no plan.
    Refused,
    /// Absent by the point's own declaration: no line.
    Absent,
    /// A line stands where no mark stood.
    Wrong,
}

/// Judges the lines of one point: `offsets` of `bytes` where they go in, against the point's marks.
pub fn judge(bytes: &[u8], marks: &[(usize, Mark)], point: usize, offsets: &[usize]) -> Fate {
    let mut open: Vec<usize> = marks.iter().filter(|(_, mark)| mark.point == point).map(|(at, _)| *at).collect();
    for offset in offsets {
        // The exact place first: a neighbour may be as good for a second line.
        let exact = open.iter().position(|at| at == offset);
        let Some(found) = exact.or_else(|| open.iter().position(|at| nothing_between(bytes, *at, *offset))) else {
            return Fate::Wrong;
        };
        open.swap_remove(found);
    }
    if open.is_empty() { Fate::Right } else { Fate::Partial }
}

/// Whether there are only white space and whole comments between two places.
fn nothing_between(bytes: &[u8], one: usize, other: usize) -> bool {
    let mut rest = &bytes[one.min(other)..one.max(other)];
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return true;
        } else if rest.starts_with(b"//") {
            let Some(end) = rest.iter().position(|b| *b == b'\n') else { return false };
            if rest[..end].trim_ascii_end().ends_with(b"\\") {
                return false;
            }
            rest = &rest[end..];
        } else if rest.starts_with(b"/*") {
            let Some(end) = rest[2..].windows(2).position(|w| w == b"*/") else { return false };
            rest = &rest[end + 4..];
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::Side;

    const CODE: &[u8] = b"f() {\n// c\n    x();\n    /* y();\n    */ y();\n}\n";

    fn fate(marks: &[usize], offsets: &[usize]) -> Fate {
        let marks: Vec<_> = marks.iter().map(|at| (*at, Mark { point: 0, side: Side::After })).collect();
        judge(CODE, &marks, 0, offsets)
    }

    #[test]
    fn a_line_elsewhere_is_wrong_and_a_mark_without_a_line_is_seen() {
        assert_eq!(fate(&[6], &[6]), Fate::Right);
        // Behind the comment is the same place.
        assert_eq!(fate(&[6], &[11]), Fate::Right);
        // Behind a statement, or inside a comment, is another.
        assert_eq!(fate(&[6], &[20]), Fate::Wrong);
        assert_eq!(fate(&[20], &[32]), Fate::Wrong);
        assert_eq!(fate(&[6, 20], &[6]), Fate::Partial);
        // One mark is good for one line.
        assert_eq!(fate(&[6], &[6, 6]), Fate::Wrong);
        assert_eq!(fate(&[], &[6]), Fate::Wrong);
    }
}
