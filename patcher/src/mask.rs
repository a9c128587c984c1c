//! A lexical view of a C or C++ file in which comments, the contents of literals and what `#if 0` takes out are blanks
//! of the same length.
//!
//! It serves two readers: the parser (which then cannot stumble over odd bytes in comments) and the statement
//! anchors (which then cannot match a name that only a comment, a string or dead code mentions).
//! Offsets in the masked text are offsets in the file.

use std::ops::Range;

/// What a blanked range of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// `// …` or `/* … */`.
    Comment,
    /// A string or character literal, quotes included.
    Literal,
}

/// One comment or literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the file that it covers, delimiters included.
    pub range: Range<usize>,
    /// Comment or literal.
    pub kind: SpanKind,
}

/// The masked text of one file and the spans that were masked, in file order.
#[derive(Debug, Clone)]
pub struct Mask {
    code: Vec<u8>,
    spans: Vec<Span>,
}

impl Mask {
    /// Masks a whole file. Total: any byte sequence is accepted.
    pub fn new(bytes: &[u8]) -> Self {
        let mut scanner = Scanner { src: bytes, code: bytes.to_vec(), spans: Vec::new(), at: 0 };
        scanner.run();
        let Scanner { mut code, spans, .. } = scanner;
        for dead in crate::preproc::disabled(&code) {
            blank(&mut code[dead]);
        }
        Mask { code, spans }
    }

    /// The file with comments and literal contents blanked; as long as the file, newlines kept.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// Whether there is any comment.
    pub fn has_comment(&self) -> bool {
        self.spans.iter().any(|span| span.kind == SpanKind::Comment)
    }

    /// The comment or literal that `offset` is strictly inside of: a line inserted there would be swallowed by it.
    pub fn span_across(&self, offset: usize) -> Option<&Span> {
        let next = self.spans.partition_point(|span| span.range.start < offset);
        let span = self.spans.get(next.checked_sub(1)?)?;
        (span.range.end > offset).then_some(span)
    }

    /// `bytes[range]` without comments, every run of white space outside of literals made one space.
    pub fn text_without_comments(&self, bytes: &[u8], range: Range<usize>) -> String {
        let mut text: Vec<u8> = Vec::new();
        let mut at = range.start;
        let from = self.spans.partition_point(|span| span.range.end <= range.start);
        for span in self.spans[from..].iter().take_while(|span| span.range.start < range.end) {
            let (start, end) = (span.range.start.max(at), span.range.end.min(range.end));
            push_collapsed(&mut text, &bytes[at..start]);
            match span.kind {
                SpanKind::Literal => text.extend_from_slice(&bytes[start..end]),
                SpanKind::Comment => push_collapsed(&mut text, b" "),
            }
            at = end;
        }
        push_collapsed(&mut text, &bytes[at..range.end]);
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

fn push_collapsed(text: &mut Vec<u8>, piece: &[u8]) {
    for &byte in piece {
        if !byte.is_ascii_whitespace() {
            text.push(byte);
        } else if text.last() != Some(&b' ') {
            text.push(b' ');
        }
    }
}

struct Scanner<'a> {
    src: &'a [u8],
    code: Vec<u8>,
    spans: Vec<Span>,
    at: usize,
}

impl Scanner<'_> {
    fn run(&mut self) {
        let mut line_is_blank = true;
        if self.src.starts_with(b"\xEF\xBB\xBF") {
            self.code[..3].fill(b' ');
            self.at = 3;
        }
        while let Some(&byte) = self.src.get(self.at) {
            match byte {
                b'\n' => {
                    line_is_blank = true;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.peek(1) == Some(b'/') => {
                    let end = self.logical_line_end(self.at);
                    self.mask(self.at, end, self.at..end, SpanKind::Comment);
                }
                b'/' if self.peek(1) == Some(b'*') => {
                    let end = find(self.src, b"*/", self.at + 2).map_or(self.src.len(), |e| e + 2);
                    self.mask(self.at, end, self.at..end, SpanKind::Comment);
                }
                // The text of these directives is prose: an apostrophe in it opens nothing.
                b'#' if line_is_blank && self.is_prose_directive() => self.at = self.logical_line_end(self.at),
                b'"' => self.string(),
                b'\'' => self.character(),
                b'0'..=b'9' => self.number(),
                b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => self.word(),
                _ => self.at += 1,
            }
            line_is_blank &= matches!(byte, b'\n' | b' ' | b'\t' | b'\r');
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.src.get(self.at + ahead).copied()
    }

    fn mask(&mut self, start: usize, end: usize, blank: Range<usize>, kind: SpanKind) {
        self::blank(&mut self.code[blank]);
        self.spans.push(Span { range: start..end, kind });
        self.at = end;
    }

    /// End of the line that `from` is on, its newline excluded; a backslash before the newline continues it.
    fn logical_line_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(newline) = find(self.src, b"\n", at) {
            let before = self.src[from..newline].strip_suffix(b"\r").unwrap_or(&self.src[from..newline]);
            if !before.ends_with(b"\\") {
                return from + before.len();
            }
            at = newline + 1;
        }
        self.src.len()
    }

    fn is_prose_directive(&self) -> bool {
        let rest = self.src[self.at + 1..].trim_ascii_start();
        [&b"error"[..], b"warning", b"pragma"].iter().any(|word| rest.starts_with(word))
    }

    fn string(&mut self) {
        let start = self.at;
        let (end, closed) = self.quoted_end(b'"');
        let inner_end = if closed { end - 1 } else { end };
        self.mask(start, end, start + 1..inner_end, SpanKind::Literal);
        self.restore_continuations(start..end);
    }

    fn character(&mut self) {
        let start = self.at;
        let (end, closed) = self.quoted_end(b'\'');
        if closed {
            self.mask(start, end, start + 1..end - 1, SpanKind::Literal);
        } else {
            self.at += 1;
        }
    }

    /// End of an ordinary literal that opens at `self.at`, and whether its closing quote was found.
    fn quoted_end(&self, quote: u8) -> (usize, bool) {
        let mut at = self.at + 1;
        while let Some(&byte) = self.src.get(at) {
            match byte {
                b'\\' if self.src.get(at + 1) == Some(&b'\r') && self.src.get(at + 2) == Some(&b'\n') => at += 3,
                b'\\' => at += 2,
                b'\n' => return (at, false),
                _ if byte == quote => return (at + 1, true),
                _ => at += 1,
            }
        }
        (self.src.len(), false)
    }

    /// Puts the backslash back where a literal goes on in the next line, so that the parser sees one literal.
    fn restore_continuations(&mut self, range: Range<usize>) {
        for at in range {
            let newline_follows = match self.src.get(at + 1) {
                Some(b'\n') => true,
                Some(b'\r') => self.src.get(at + 2) == Some(&b'\n'),
                _ => false,
            };
            if self.src.get(at) == Some(&b'\\') && newline_follows {
                self.code[at] = b'\\';
            }
        }
    }

    /// A number swallows its digit separators: the `'` of `1'000` opens no literal.
    fn number(&mut self) {
        while let Some(byte) = self.peek(0) {
            let separator = byte == b'\'' && self.peek(1).is_some_and(|next| next.is_ascii_alphanumeric());
            if !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || separator) {
                break;
            }
            self.at += 1;
        }
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|b| b == b'_' || b.is_ascii_alphanumeric() || b >= 0x80) {
            self.at += 1;
        }
        let is_raw_prefix = matches!(&self.src[start..self.at], b"R" | b"LR" | b"uR" | b"UR" | b"u8R");
        if is_raw_prefix && self.peek(0) == Some(b'"') {
            self.raw_string();
        }
    }

    fn raw_string(&mut self) {
        let start = self.at;
        let Some(open) = self.src[start..].iter().take(20).position(|&b| b == b'(').map(|p| start + p) else {
            return self.string();
        };
        let mut close = vec![b')'];
        close.extend_from_slice(&self.src[start + 1..open]);
        close.push(b'"');
        let (inner_end, end) = match find(self.src, &close, open + 1) {
            Some(at) => (at, at + close.len()),
            None => (self.src.len(), self.src.len()),
        };
        self.mask(start, end, open + 1..inner_end, SpanKind::Literal);
    }
}

fn blank(code: &mut [u8]) {
    for byte in code {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Offset of `needle` in `haystack` at or after `from`.
pub(crate) fn find(haystack: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    Some(from + memchr::memmem::find(haystack.get(from..)?, needle)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        String::from_utf8(Mask::new(text.as_bytes()).code().to_vec()).unwrap()
    }

    #[test]
    fn comments_and_literal_contents_become_blanks_of_the_same_length() {
        assert_eq!(masked("a(\"b()\"); // c()\n/* d\n() */e"), "a(\"   \");       \n    \n     e");
        assert_eq!(masked("x = 'a' + '\\'' + 1'000 + 0xF'F;"), "x = ' ' + '  ' + 1'000 + 0xF'F;");
    }

    #[test]
    fn raw_strings_hide_quotes_braces_and_parentheses() {
        assert_eq!(masked("f(R\"x({\"\n)y)x\", g)"), "f(R\"x(  \n  )x\", g)");
        assert_eq!(masked("FOOR\"(\" + a"), "FOOR\" \" + a");
    }

    #[test]
    fn a_line_comment_goes_on_after_a_backslash() {
        assert_eq!(masked("a; // b \\\n c;\nd;"), "a;       \n   \nd;");
        assert_eq!(masked("a; // b \\\r\n c;\r\nd;"), "a;       \r\n   \r\nd;");
    }

    #[test]
    fn an_apostrophe_in_a_prose_directive_opens_nothing() {
        assert_eq!(masked("#error don't\nint a = 'x';"), "#error don't\nint a = ' ';");
    }

    #[test]
    fn what_if_0_takes_out_is_blank_up_to_its_own_else() {
        assert_eq!(
            masked("#if 0 // it's\na {\n#ifdef B\n#else\n#endif\n# else\nb\n#endif\n"),
            "#if 0        \n   \n        \n     \n      \n# else\nb\n#endif\n"
        );
        assert_eq!(masked("#if 0 || A\na\n#endif\n#if 0\nb"), "#if 0 || A\na\n#endif\n#if 0\n ");
    }

    #[test]
    fn an_unterminated_literal_ends_with_its_line() {
        assert_eq!(masked("a = \"b\nc(\"d\");"), "a = \" \nc(\" \");");
    }

    #[test]
    fn span_across_knows_both_edges() {
        let mask = Mask::new(b"ab/*c*/d");
        assert_eq!(mask.span_across(2), None);
        assert_eq!(mask.span_across(3).map(|s| s.range.clone()), Some(2..7));
        assert_eq!(mask.span_across(6).map(|s| s.range.clone()), Some(2..7));
        assert_eq!(mask.span_across(7), None);
    }

    #[test]
    fn any_bytes_are_masked_without_a_panic_and_keep_their_length() {
        let pieces: [&[u8]; 12] =
            [b"\"", b"'", b"R\"", b"(", b")", b"/*", b"//", b"\\", b"\r\n", b"\xFF\xFE", b"#error ", b"1'"];
        for seed in 0..4096_usize {
            let text: Vec<u8> = (0..4).flat_map(|i| pieces[(seed >> (3 * i)) % 12].iter().copied()).collect();
            assert_eq!(Mask::new(&text).code().len(), text.len());
        }
    }
}
