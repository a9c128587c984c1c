//! The `#if … #else … #endif` chains of a file, read line by line from its masked text.
//!
//! Lines, not the syntax tree: a chain that cuts a statement in two leaves the tree in pieces, and exactly then
//! the chain must be known.

use std::ops::Range;

/// What a conditional directive does to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Middle,
    Close,
}

#[derive(Debug, Clone)]
struct Directive {
    start: usize,
    kind: Kind,
}

/// All conditional directives of one file.
#[derive(Debug, Clone, Default)]
pub struct Chains {
    directives: Vec<Directive>,
}

impl Chains {
    /// Reads the directives from masked text.
    pub fn new(code: &[u8]) -> Self {
        let mut directives = Vec::new();
        for line in directive_lines(code) {
            let kind = match line.word {
                b"if" | b"ifdef" | b"ifndef" => Kind::Open,
                b"else" | b"elif" | b"elifdef" | b"elifndef" => Kind::Middle,
                b"endif" => Kind::Close,
                _ => continue,
            };
            directives.push(Directive { start: line.range.start, kind });
        }
        Chains { directives }
    }

    /// Start of the innermost chain that opens inside `scope` and is still open at `offset`.
    pub fn open_at(&self, scope: &Range<usize>, offset: usize) -> Option<usize> {
        let mut open = Vec::new();
        for directive in self.within(&(scope.start..offset.min(scope.end))) {
            match directive.kind {
                Kind::Open => open.push(directive.start),
                Kind::Middle => {}
                Kind::Close => drop(open.pop()),
            }
        }
        open.pop()
    }

    /// The first directive in `range` whose chain does not begin and end there.
    pub fn unbalanced_in(&self, range: &Range<usize>) -> Option<usize> {
        let mut open = Vec::new();
        for directive in self.within(range) {
            match directive.kind {
                Kind::Open => open.push(directive.start),
                Kind::Middle if open.is_empty() => return Some(directive.start),
                Kind::Middle => {}
                Kind::Close => {
                    if open.pop().is_none() {
                        return Some(directive.start);
                    }
                }
            }
        }
        open.pop()
    }

    fn within(&self, range: &Range<usize>) -> &[Directive] {
        let from = self.directives.partition_point(|d| d.start < range.start);
        let to = self.directives.partition_point(|d| d.start < range.end);
        self.directives.get(from..to).unwrap_or_default()
    }
}

/// One preprocessor directive with its continuation lines.
pub(crate) struct DirectiveLine<'a> {
    /// From the `#` to the end of the last continuation line, newline excluded.
    pub range: Range<usize>,
    /// The word after `#`.
    pub word: &'a [u8],
}

/// Every directive of masked text, in order.
pub(crate) fn directive_lines(code: &[u8]) -> impl Iterator<Item = DirectiveLine<'_>> {
    logical_lines(code).filter_map(move |line| {
        let text = &code[line.clone()];
        let indent = text.len() - text.trim_ascii_start().len();
        let rest = text[indent..].strip_prefix(b"#")?.trim_ascii_start();
        let end = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
        Some(DirectiveLine { range: line.start + indent..line.end, word: &rest[..end] })
    })
}

/// Lines of masked text, newline excluded, joined where a backslash continues them.
pub(crate) fn logical_lines(code: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut next = 0;
    std::iter::from_fn(move || {
        if next >= code.len() {
            return None;
        }
        let start = next;
        loop {
            let end = code[next..].iter().position(|&b| b == b'\n').map_or(code.len(), |p| next + p);
            next = end + 1;
            let text = code[start..end].strip_suffix(b"\r").unwrap_or(&code[start..end]);
            if !text.ends_with(b"\\") || next >= code.len() {
                return Some(start..start + text.len());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_knows_the_chain_it_is_in() {
        let code = b"#if A\n{\n#ifdef B\nx\n# else\ny\n#endif\nz\n}\n#endif\n";
        let chains = Chains::new(code);
        let at = |what: &[u8]| code.windows(what.len()).position(|w| w == what).unwrap();
        let body = at(b"{")..at(b"}") + 1;
        assert_eq!(chains.open_at(&body, at(b"x\n")), Some(at(b"#ifdef B")));
        assert_eq!(chains.open_at(&body, at(b"y\n")), Some(at(b"#ifdef B")));
        assert_eq!(chains.open_at(&body, at(b"z\n")), None);
        assert_eq!(chains.unbalanced_in(&body), None);
        assert_eq!(chains.unbalanced_in(&(at(b"x\n")..at(b"z\n"))), Some(at(b"# else")));
        assert_eq!(chains.unbalanced_in(&(0..at(b"x\n"))), Some(at(b"#ifdef B")));
    }

    #[test]
    fn continued_lines_are_one_directive() {
        let code = b"#define A \\\n#if\nb\n#if 1 \\\r\n && 2\r\n#endif";
        let words: Vec<_> = directive_lines(code).map(|d| d.word.to_vec()).collect();
        assert_eq!(words, [b"define".to_vec(), b"if".to_vec(), b"endif".to_vec()]);
    }
}
