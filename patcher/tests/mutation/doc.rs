//! A source file as lines, with a comment line where each point's line belongs. Nothing here knows the engine: what a
//! function is, is told by its indentation.

/// What a mark must stay next to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The code before it.
    After,
    /// The code after it.
    Before,
}

/// One comment that stands where a line of the point of that index belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub point: usize,
    pub side: Side,
}

/// Lines with their ends.
#[derive(Debug, Clone)]
pub struct Doc {
    pub lines: Vec<Vec<u8>>,
}

/// A function definition: from its head's first line to its closing brace, by lines.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub start: usize,
    /// The line that ends in the brace that opens the body.
    pub open: usize,
    /// The closing brace's line.
    pub close: usize,
    /// Width of the head's indentation.
    pub indent: usize,
}

impl Doc {
    /// A file with its marks. `marks` are offsets of line starts, sorted.
    pub fn new(bytes: &[u8], marks: &[(usize, Mark)]) -> Self {
        let mut lines = Vec::new();
        let (mut at, mut next) = (0, 0);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            while let Some((_, mark)) = marks.get(next).filter(|(offset, _)| *offset <= at) {
                lines.push(mark_line(*mark, line));
                next += 1;
            }
            lines.push(line.to_vec());
            at += line.len();
        }
        lines.extend(marks[next..].iter().map(|(_, mark)| mark_line(*mark, b"\n")));
        Doc { lines }
    }

    /// The file without marks, and the offset of each.
    pub fn split(&self) -> (Vec<u8>, Vec<(usize, Mark)>) {
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        for line in &self.lines {
            match mark_of(line) {
                Some(mark) => marks.push((bytes.len(), mark)),
                None => bytes.extend_from_slice(line),
            }
        }
        (bytes, marks)
    }

    pub fn mark(&self, line: usize) -> Option<Mark> {
        self.lines.get(line).and_then(|line| mark_of(line))
    }

    /// Lines of the marks of a point.
    pub fn marks_of(&self, point: usize) -> Vec<usize> {
        (0..self.lines.len()).filter(|line| self.mark(*line).is_some_and(|mark| mark.point == point)).collect()
    }

    /// A line without white space around it.
    pub fn text(&self, line: usize) -> &[u8] {
        self.lines.get(line).map_or(b"", |line| line.trim_ascii())
    }

    pub fn is_code(&self, line: usize) -> bool {
        let text = self.text(line);
        self.mark(line).is_none()
            && !text.is_empty()
            && !text.starts_with(b"#")
            && !text.starts_with(b"//")
            && !text.starts_with(b"/*")
            && !text.ends_with(b"\\")
    }

    pub fn indent(&self, line: usize) -> usize {
        self.lines[line].iter().take_while(|b| **b == b' ').count()
    }

    /// The code line before or after a line that is a mark.
    pub fn neighbour(&self, line: usize, side: Side) -> Option<usize> {
        match side {
            Side::After => (0..line).rev().find(|line| self.is_code(*line)),
            Side::Before => (line + 1..self.lines.len()).find(|line| self.is_code(*line)),
        }
    }

    /// The function around a line.
    pub fn chunk(&self, line: usize) -> Option<Chunk> {
        [0, 4].into_iter().find_map(|indent| self.chunk_at(line, indent))
    }

    fn chunk_at(&self, line: usize, indent: usize) -> Option<Chunk> {
        let at_level = |line: &usize| self.is_code(*line) && self.indent(*line) == indent;
        let close = (line..self.lines.len()).find(|line| at_level(line) && !self.text(*line).starts_with(b")"))?;
        // Another function's head, or the end of something that is no function.
        let close = if self.text(line).first().is_some_and(|b| b.is_ascii_alphabetic()) && close == line {
            (line + 1..self.lines.len()).find(|line| at_level(line) && !self.text(*line).starts_with(b")"))?
        } else {
            close
        };
        if self.text(close) != b"}" {
            return None;
        }
        let start = (0..close).rev().find(|line| at_level(line) && !self.text(*line).starts_with(b")"))?;
        let is_name = |b: &u8| b.is_ascii_alphabetic() || *b == b'_' || *b == b'~';
        let head = self.text(start);
        if !head.first().is_some_and(is_name)
            || [&b"namespace"[..], b"extern", b"case "].iter().any(|w| head.starts_with(w))
        {
            return None;
        }
        let open = (start..close).find(|line| self.is_code(*line) && self.text(*line).ends_with(b"{"))?;
        let has_list = (start..=open).any(|line| self.lines[line].contains(&b'('));
        (has_list && start <= line).then_some(Chunk { start, open, close, indent })
    }

    /// Functions that begin in the first column, in file order.
    pub fn chunks(&self) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for line in 0..self.lines.len() {
            if self.text(line) == b"}" && self.lines[line].starts_with(b"}") {
                chunks.extend(self.chunk_at(line, 0).filter(|c| c.close == line));
            }
        }
        chunks
    }

    /// A function's text without marks.
    pub fn copy(&self, chunk: Chunk) -> Vec<Vec<u8>> {
        self.lines[chunk.start..=chunk.close].iter().filter(|line| mark_of(line).is_none()).cloned().collect()
    }

    /// Whether something may be put in front of a line without parting a mark from its code.
    pub fn may_insert(&self, line: usize) -> bool {
        // What stands between a mark and its code: other marks, blank lines and comments of one line.
        let is_between = |line: &usize| {
            let text = self.text(*line);
            text.is_empty() || text.starts_with(b"//") || (text.starts_with(b"/*") && text.ends_with(b"*/"))
        };
        let mut before = (0..line).rev().take_while(is_between).filter_map(|line| self.mark(line));
        let mut after = (line..self.lines.len()).take_while(is_between).filter_map(|line| self.mark(line));
        before.all(|mark| mark.side == Side::After) && after.all(|mark| mark.side == Side::Before)
    }

    /// Lines of a function in front of which a statement can stand, as far as indentation tells.
    pub fn gaps(&self, chunk: Chunk) -> Vec<usize> {
        (chunk.open + 1..=chunk.close)
            .filter(|line| {
                let previous = (chunk.open..*line).rev().find(|line| self.mark(*line).is_none());
                let previous = previous.map_or(&b""[..], |line| self.text(line));
                let next = self.text(*line);
                let continues = [&b"else"[..], b"catch", b"while", b"}", b"case", b"default", b"."];
                let ends = previous.ends_with(b";") || previous.ends_with(b"}") || previous.ends_with(b" {");
                // `new T {` opens one too
                let of_new = previous.windows(5).any(|word| word == b" new ") && previous.ends_with(b" {");
                let is_list = of_new
                    || previous.ends_with(b"= {")
                    || previous.ends_with(b", {")
                    || previous.ends_with(b"return {");
                ends && !is_list
                    && !previous.starts_with(b"for (")
                    && (*line == chunk.close || !continues.iter().any(|word| next.starts_with(word)))
                    && self.may_insert(*line)
            })
            .collect()
    }

    pub fn insert(&mut self, line: usize, new: Vec<Vec<u8>>) {
        self.lines.splice(line..line, new);
    }

    /// Lines of a text, each with the end that it has there.
    pub fn lines_of(text: &str) -> Vec<Vec<u8>> {
        text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect()
    }
}

fn mark_line(mark: Mark, next: &[u8]) -> Vec<u8> {
    let side = if mark.side == Side::After { 'a' } else { 'b' };
    let eol = if next.ends_with(b"\r\n") { "\r\n" } else { "\n" };
    format!("/*@@{} {side}@@*/{eol}", mark.point).into_bytes()
}

fn mark_of(line: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(line.trim_ascii().strip_prefix(b"/*@@")?.strip_suffix(b"@@*/")?).ok()?;
    let (point, side) = text.split_once(' ')?;
    let side = if side == "a" { Side::After } else { Side::Before };
    Some(Mark { point: point.parse().ok()?, side })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "#include <a>\n\nint f(int a,\n      int b) {\n    x();\n    return a;\n}\n\nstruct S {\n    int m() {\n        y();\n    }\n};\n";

    #[test]
    fn marks_come_back_where_they_were_put() {
        let marks = [(13, Mark { point: 3, side: Side::After }), (51, Mark { point: 1, side: Side::Before })];
        let doc = Doc::new(CODE.as_bytes(), &marks);
        assert_eq!(doc.split(), (CODE.as_bytes().to_vec(), marks.to_vec()));
    }

    #[test]
    fn functions_are_told_by_their_indentation() {
        let doc = Doc::new(CODE.as_bytes(), &[]);
        let of = |line| doc.chunk(line).map(|c| (c.start, c.open, c.close, c.indent));
        assert_eq!(of(4), Some((2, 3, 6, 0)));
        assert_eq!(of(10), Some((9, 9, 11, 4)));
        assert_eq!(doc.chunks().len(), 1);
        assert_eq!(doc.gaps(doc.chunk(4).unwrap()), [4, 5, 6]);
    }

    #[test]
    fn nothing_is_put_between_a_mark_and_its_code() {
        let at = CODE.find("    return").unwrap();
        for (side, allowed) in [(Side::After, [false, true]), (Side::Before, [true, false])] {
            let doc = Doc::new(CODE.as_bytes(), &[(at, Mark { point: 0, side })]);
            assert_eq!([doc.may_insert(5), doc.may_insert(6)], allowed);
        }
    }
}
