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

    /// Whether two places are in different branches of one chain, so that no compilation sees both.
    pub fn are_exclusive(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.branches_at(one), self.branches_at(other));
        one.iter().any(|(chain, branch)| other.iter().any(|(c, b)| c == chain && b != branch))
    }

    /// The chains that are open at an offset, each with the number of its branch.
    fn branches_at(&self, offset: usize) -> Vec<(usize, usize)> {
        let mut open: Vec<(usize, usize)> = Vec::new();
        for directive in self.within(&(0..offset)) {
            match directive.kind {
                Kind::Open => open.push((directive.start, 0)),
                Kind::Middle => open.iter_mut().next_back().into_iter().for_each(|(_, branch)| *branch += 1),
                Kind::Close => drop(open.pop()),
            }
        }
        open
    }

    fn within(&self, range: &Range<usize>) -> &[Directive] {
        let from = self.directives.partition_point(|d| d.start < range.start);
        let to = self.directives.partition_point(|d| d.start < range.end);
        self.directives.get(from..to).unwrap_or_default()
    }
}

/// What `#if 0` takes out: from the line after it up to the `#else`, `#elif` or `#endif` of the same chain.
pub(crate) fn disabled(code: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    // Start of the part that is out, and how many chains are open in it.
    let mut dead: Option<(usize, usize)> = None;
    for line in directive_lines(code) {
        let opens = matches!(line.word, b"if" | b"ifdef" | b"ifndef");
        let closes = line.word == b"endif";
        dead = match dead {
            None => {
                let condition = line.condition(code);
                (line.word == b"if" && (condition == b"0" || condition == b"false")).then_some((line.range.end, 0))
            }
            Some((start, depth)) if opens => Some((start, depth + 1)),
            Some((start, depth)) if closes && depth > 0 => Some((start, depth - 1)),
            Some((start, 0)) if closes || matches!(line.word, b"else" | b"elif" | b"elifdef" | b"elifndef") => {
                ranges.push(start..line.range.start);
                None
            }
            dead => dead,
        };
    }
    ranges.extend(dead.map(|(start, _)| start..code.len()));
    ranges
}

/// Masked text in which directives are blanks.
pub(crate) fn without_directives(code: &[u8]) -> Vec<u8> {
    let mut text = code.to_vec();
    for directive in directive_lines(code) {
        text[directive.range].fill(b' ');
    }
    text
}

/// Whether braces pair up, where of each chain the first branch is the one that counts.
pub(crate) fn braces_balance(code: &[u8]) -> bool {
    let mut depth = 0_i64;
    // Of each open chain, the depth at its start, and the depth at the end of its first branch.
    let mut open: Vec<(i64, Option<i64>)> = Vec::new();
    let mut at = 0;
    for line in directive_lines(code) {
        if !count_braces(code.get(at..line.range.start).unwrap_or_default(), &mut depth) {
            return false;
        }
        at = line.range.end;
        match line.word {
            b"if" | b"ifdef" | b"ifndef" => open.push((depth, None)),
            b"else" | b"elif" | b"elifdef" | b"elifndef" => {
                if let Some((start, end)) = open.last_mut() {
                    end.get_or_insert(depth);
                    depth = *start;
                }
            }
            b"endif" => depth = open.pop().and_then(|(_, end)| end).unwrap_or(depth),
            _ => {}
        }
    }
    count_braces(code.get(at..).unwrap_or_default(), &mut depth) && depth == 0
}

/// Counts on from `depth`; `false` where it falls below zero.
fn count_braces(code: &[u8], depth: &mut i64) -> bool {
    for at in memchr::memchr2_iter(b'{', b'}', code) {
        *depth += if code.get(at) == Some(&b'{') { 1 } else { -1 };
        if *depth < 0 {
            return false;
        }
    }
    true
}

/// One preprocessor directive with its continuation lines.
pub(crate) struct DirectiveLine<'a> {
    /// From the `#` to the end of the last continuation line, newline excluded.
    pub range: Range<usize>,
    /// The word after `#`.
    pub word: &'a [u8],
}

impl DirectiveLine<'_> {
    /// What follows the word.
    fn condition<'a>(&self, code: &'a [u8]) -> &'a [u8] {
        let text = code.get(self.range.clone()).unwrap_or_default();
        let word = text.windows(self.word.len().max(1)).position(|window| window == self.word).unwrap_or_default();
        text.get(word + self.word.len()..).unwrap_or_default().trim_ascii()
    }
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
            let end = memchr::memchr(b'\n', &code[next..]).map_or(code.len(), |p| next + p);
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
    fn branches_of_one_chain_exclude_each_other() {
        let code = b"a\n#if A\nb\n#if X\nc\n#endif\n#elif B\nd\n#endif\n#if A\ne\n#endif\n";
        let chains = Chains::new(code);
        let at = |what: &[u8]| code.windows(2).position(|w| w == what).unwrap();
        assert!(chains.are_exclusive(at(b"b\n"), at(b"d\n")) && chains.are_exclusive(at(b"d\n"), at(b"c\n")));
        for pair in [[b"a\n", b"b\n"], [b"b\n", b"c\n"], [b"d\n", b"e\n"], [b"b\n", b"e\n"]] {
            assert!(!chains.are_exclusive(at(pair[0]), at(pair[1])), "{pair:?}");
        }
    }

    #[test]
    fn braces_are_counted_along_the_first_branches() {
        for text in [
            "{ }",
            "#if A\n{\n#else\n{\n#endif\n}",
            "#if A\n{\n#endif\n}\n",
            "#define X {\n",
            "{\n#if A\n}\n#elif B\n}\n#endif\n",
        ] {
            assert!(braces_balance(text.as_bytes()), "{text}");
        }
        for text in ["{", "}{", "}", "#if A\n#else\n{\n#endif\n}\n"] {
            assert!(!braces_balance(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn continued_lines_are_one_directive() {
        let code = b"#define A \\\n#if\nb\n#if 1 \\\r\n && 2\r\n#endif";
        let words: Vec<_> = directive_lines(code).map(|d| d.word.to_vec()).collect();
        assert_eq!(words, [b"define".to_vec(), b"if".to_vec(), b"endif".to_vec()]);
    }
}
