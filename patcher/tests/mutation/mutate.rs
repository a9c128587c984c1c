//! The changes, one function a kind. Each works on lines and carries the marks along; a change that takes away the place of
//! a mark takes the mark away too. What comes out need not compile: the engine must not misplace a line there either.

use crate::doc::{Chunk, Doc, Side};

/// A small linear congruential generator: a case is its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.below(items.len())).copied()
    }
}

/// One change: `focus` is the line of the mark that it is about. `None` if the file has no place for it.
type Change = fn(&mut Doc, usize, &mut Random) -> Option<()>;

/// Every kind by name.
pub const KINDS: [(&str, Change); 36] = [
    ("indentation", indentation),
    ("white space", white_space),
    ("blank lines", blank_lines),
    ("CRLF", crlf),
    ("byte order mark", byte_order_mark),
    ("lines broken", lines_broken),
    ("lines joined", lines_joined),
    ("brace on its own line", brace_on_its_own_line),
    ("parameter renamed", parameter_renamed),
    ("parameter of another type", parameter_of_another_type),
    ("function moved", function_moved),
    ("functions in another order", functions_in_another_order),
    ("function renamed", function_renamed),
    ("function split in two", function_split_in_two),
    ("function in a namespace", function_in_a_namespace),
    ("overload, other type", overload_with_another_type),
    ("overload, one parameter more", overload_with_one_parameter_more),
    ("decoy in a comment", decoy_in_a_comment),
    ("decoy in a continued comment", decoy_in_a_continued_comment),
    ("decoy in a string", decoy_in_a_string),
    ("decoy in a raw string", decoy_in_a_raw_string),
    ("decoy in a macro", decoy_in_a_macro),
    ("decoy in #if 0", decoy_in_if_0),
    ("decoy in a lambda", decoy_in_a_lambda),
    ("decoy in a local class", decoy_in_a_local_class),
    ("decoy function", decoy_function),
    ("#ifdef around two versions", ifdef_around_two_versions),
    ("#ifdef around a statement", ifdef_around_a_statement),
    ("#ifdef with two heads", ifdef_with_two_heads),
    ("#ifdef cuts a statement", ifdef_cuts_a_statement),
    ("if without braces", if_without_braces),
    ("block around a statement", block_around_a_statement),
    ("statement twice", statement_twice),
    ("odd literals", odd_literals),
    ("line deleted", line_deleted),
    ("stray token", stray_token),
];

/// Changes that may take away what a line is anchored on, or the name that it is looked for by, while the mark stays.
pub fn may_lose_anchors(kind: &str) -> bool {
    let is_textual =
        ["line deleted", "stray token", "lines broken", "lines joined", "white space", "#ifdef cuts a statement"];
    is_textual.contains(&kind) || changes_head(kind) || kind == "function split in two"
}

/// Changes after which a function cannot be told by its name and parameters.
pub fn changes_head(kind: &str) -> bool {
    ["function renamed", "function in a namespace", "parameter of another type", "line deleted", "stray token"]
        .contains(&kind)
}

/// Changes that cut functions out of the file and put them in elsewhere.
pub fn moves_functions(kind: &str) -> bool {
    ["function moved", "functions in another order"].contains(&kind)
}

/// Drops most functions without a mark whose names no point names, and of long ones most statements without a mark.
/// One in `share` stays.
pub fn thin_out(doc: &mut Doc, named: &[&str], share: usize, random: &mut Random) {
    for (start, close) in long_structs(doc).into_iter().rev() {
        let head = text(&doc.lines[start]);
        let name = head.split(|c: char| c != '_' && !c.is_alphanumeric()).nth(1).unwrap_or_default();
        let is_wanted = (start..=close).any(|line| doc.mark(line).is_some())
            || named.iter().any(|named| named.split("::").any(|part| part == name));
        if !is_wanted && random.below(share) > 0 {
            doc.lines.drain(start..=close);
        }
    }
    for chunk in doc.chunks().into_iter().rev() {
        let range = chunk.start..=chunk.close;
        let is_wanted = range.clone().any(|line| doc.mark(line).is_some())
            || name(doc, chunk).is_none_or(|name| named.iter().any(|named| named.ends_with(&name)));
        if !is_wanted && random.below(share) > 0 {
            doc.lines.drain(range);
        } else if chunk.close - chunk.open > LONG {
            (1..=LEVELS).for_each(|level| thin_out_level(doc, chunk.start, chunk.indent + 4 * level, share, random));
        }
    }
}

/// The structures that begin in the first column: their first and last lines.
fn long_structs(doc: &Doc) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for line in 0..doc.lines.len() {
        match doc.lines[line].as_slice() {
            head if head.starts_with(b"struct ") && head.trim_ascii_end().ends_with(b"{") => start = Some(line),
            end if end.trim_ascii_end() == b"};" => {
                found.extend(start.take().map(|start| (start, line)).filter(|(start, end)| end - start > LONG));
            }
            // Something else ends or begins here.
            other if other.first().is_some_and(|b| !b.is_ascii_whitespace() && !b"#/".contains(b)) => start = None,
            _ => {}
        }
    }
    found
}

/// Drops statements of one indentation from the function that begins in a line, those with a mark excepted.
fn thin_out_level(doc: &mut Doc, start: usize, indent: usize, share: usize, random: &mut Random) {
    let Some(chunk) = doc.chunk(start).filter(|chunk| chunk.start == start) else { return };
    let gaps: Vec<_> = doc.gaps(chunk).into_iter().filter(|line| doc.indent(*line) == indent).collect();
    for gap in gaps.windows(2).rev() {
        let is_deeper = |line: usize| !doc.is_code(line) || doc.indent(line) >= indent;
        let is_free =
            (gap[0]..gap[1]).all(|line| is_deeper(line) && doc.mark(line).is_none() && !is_directive(doc, line));
        let text = doc.lines[gap[0]..gap[1]].concat();
        let count = |byte: u8| text.iter().filter(|b| **b == byte).count();
        let is_whole = count(b'{') == count(b'}') && count(b'(') == count(b')');
        if is_free && is_whole && random.below(share) > 0 {
            doc.lines.drain(gap[0]..gap[1]);
        }
    }
}

/// Lines from which a function counts as long.
const LONG: usize = 30;
/// How deep statements are dropped from long functions: steps of indentation.
const LEVELS: usize = 8;

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn lines(text: &str) -> Vec<Vec<u8>> {
    Doc::lines_of(text)
}

fn is_directive(doc: &Doc, line: usize) -> bool {
    doc.text(line).starts_with(b"#") || doc.text(line).ends_with(b"\\")
}

/// Lines outside of functions and `#if` chains, in front of which a definition can stand.
fn top_level_gaps(doc: &Doc) -> Vec<usize> {
    let chunks = doc.chunks();
    let first = chunks.first().map_or(doc.lines.len(), |chunk| chunk.close);
    let mut depth = 0_i32;
    let mut gaps = Vec::new();
    for line in 0..doc.lines.len() {
        let here = doc.text(line);
        if here.starts_with(b"#if") {
            depth += 1;
        } else if here.starts_with(b"#endif") {
            depth -= 1;
        }
        let is_end = chunks.iter().any(|chunk| chunk.close == line);
        if is_end && line >= first && depth == 0 && doc.may_insert(line + 1) {
            gaps.push(line + 1);
        }
    }
    gaps
}

/// A place for a definition: half of the time right before or after the function of the focus.
fn decoy_place(doc: &Doc, focus: usize, random: &mut Random) -> Option<usize> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0);
    match (random.below(4), chunk) {
        (0, Some(chunk)) if doc.may_insert(chunk.start) => Some(chunk.start),
        (1, Some(chunk)) => Some(chunk.close + 1),
        _ => random.one_of(&top_level_gaps(doc)),
    }
}

/// Text that a careless search would take for the place: the whole function, its head, or the statement and its neighbours.
fn bait(doc: &Doc, focus: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let whole = doc.chunk(focus).map(|chunk| doc.copy(chunk)).filter(|lines| lines.len() < 600);
    let around: Vec<_> = [Side::After, Side::Before]
        .into_iter()
        .filter_map(|side| doc.neighbour(focus, side))
        .map(|line| doc.lines[line].clone())
        .collect();
    match (random.below(3), whole) {
        (0, _) | (_, None) => around,
        (_, Some(lines)) => lines,
    }
}

fn indentation(doc: &mut Doc, _: usize, random: &mut Random) -> Option<()> {
    let style = random.below(3);
    for line in &mut doc.lines {
        let width = line.iter().take_while(|b| **b == b' ').count();
        let new = match style {
            0 => b"\t".repeat(width / 4),
            1 => b" ".repeat(width / 2),
            _ => b" ".repeat(width * 2),
        };
        line.splice(..width, new);
    }
    Some(())
}

fn white_space(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    for line in chunk.start..=chunk.close {
        if !doc.is_code(line) || doc.lines[line].iter().any(|b| b"\"'".contains(b)) {
            continue;
        }
        let old = text(&doc.lines[line]);
        let (body, end) = old.split_at(old.trim_end().len());
        let new = match random.below(4) {
            0 => body.replace(", ", " ,   "),
            1 => body.replace(" = ", "  =\t").replace("( ", "("),
            2 => body.replace('(', "( ").replace(" * ", "* "),
            _ => format!("{body}   "),
        };
        doc.lines[line] = format!("{new}{end}").into_bytes();
    }
    Some(())
}

fn blank_lines(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    for _ in 0..=random.below(6) {
        let near = focus.saturating_sub(8) + random.below(16);
        let line = near.min(doc.lines.len());
        let is_free = line == 0 || !doc.text(line - 1).ends_with(b"\\");
        let new: &[&str] = &["\n", "    \n", "\n\n\n", "// a note\n", "/* a longer note */\n", "// caf\u{e9}\n"];
        if is_free {
            let mut new = lines(random.one_of(new)?);
            // Latin-1, as old files have it.
            for line in &mut new {
                line.retain(|b| *b != 0xC3);
            }
            doc.insert(line, new);
        }
    }
    Some(())
}

fn crlf(doc: &mut Doc, _: usize, random: &mut Random) -> Option<()> {
    let all = random.below(3) > 0;
    for line in &mut doc.lines {
        if line.ends_with(b"\n") && !line.ends_with(b"\r\n") && (all || random.below(2) == 0) {
            line.insert(line.len() - 1, b'\r');
        }
    }
    Some(())
}

fn byte_order_mark(doc: &mut Doc, _: usize, _: &mut Random) -> Option<()> {
    let first = (0..doc.lines.len()).find(|line| doc.mark(*line).is_none())?;
    doc.lines[first].splice(..0, *b"\xEF\xBB\xBF");
    Some(())
}

fn lines_broken(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let mut line = chunk.start;
    while line <= doc.chunk(focus)?.close {
        let old = text(&doc.lines[line]);
        let is_plain = doc.is_code(line) && !old.contains(['"', '\'']) && !old.contains("//") && !old.contains("/*");
        let places: Vec<_> = old.match_indices([',', '(']).map(|(at, _)| at + 1).collect();
        if is_plain && !places.is_empty() && random.below(3) == 0 {
            let (one, two) = old.split_at(random.one_of(&places)?);
            let eol = if old.ends_with("\r\n") { "\r\n" } else { "\n" };
            let new =
                vec![format!("{one}{eol}").into_bytes(), format!("            {}", two.trim_start()).into_bytes()];
            doc.lines.splice(line..=line, new);
            line += 1;
        }
        line += 1;
        if line >= doc.lines.len() {
            break;
        }
    }
    Some(())
}

fn lines_joined(doc: &mut Doc, focus: usize, _: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let joins = |line: &usize| {
        let here = doc.text(*line);
        let is_open = here.ends_with(b",") || here.ends_with(b"(") || here.ends_with(b"||") || here.ends_with(b"&&");
        is_open && doc.is_code(*line) && doc.is_code(line + 1) && !text(here).contains("//")
    };
    let found: Vec<_> = (chunk.start..chunk.close).filter(joins).collect();
    for line in found.iter().rev() {
        let next = doc.lines.remove(line + 1);
        let here = &mut doc.lines[*line];
        here.truncate(here.trim_ascii_end().len());
        here.push(b' ');
        here.extend_from_slice(next.trim_ascii_start());
    }
    (!found.is_empty()).then_some(())
}

fn brace_on_its_own_line(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let braces: Vec<_> = (chunk.start..chunk.close)
        .filter(|line| doc.is_code(*line) && doc.text(*line).ends_with(b") {"))
        .filter(|line| *line == chunk.open || random.below(2) == 0)
        .collect();
    for line in braces.iter().rev() {
        let width = doc.indent(*line);
        let here = &mut doc.lines[*line];
        let eol = if here.ends_with(b"\r\n") { "\r\n" } else { "\n" };
        here.truncate(here.trim_ascii_end().len() - 2);
        here.extend_from_slice(eol.as_bytes());
        let brace = format!("{}{{{eol}", " ".repeat(width));
        doc.insert(line + 1, lines(&brace));
    }
    (!braces.is_empty()).then_some(())
}

/// Names of the parameters in a function's head.
fn parameters(doc: &Doc, chunk: Chunk) -> Vec<String> {
    let head: String = doc.lines[chunk.start..=chunk.open].iter().map(|line| text(line)).collect();
    let Some((_, list)) = head.split_once('(') else { return Vec::new() };
    let list = list.split(") ").next().unwrap_or_default();
    let last_word = |part: &str| part.split('=').next().unwrap_or_default().trim().trim_end_matches(')').to_owned();
    list.split(',')
        .map(last_word)
        .filter_map(|part| {
            let name = part.rsplit([' ', '*', '&']).next()?.to_owned();
            let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty();
            (is_name && name != part && !name.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
        })
        .collect()
}

/// Replaces a whole word in some lines, except as a member of something.
fn replace_word(doc: &mut Doc, range: std::ops::RangeInclusive<usize>, old: &str, new: &str) {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    for line in range.filter(|line| *line < doc.lines.len()).collect::<Vec<_>>() {
        if doc.mark(line).is_some() || std::str::from_utf8(&doc.lines[line]).is_err() {
            continue;
        }
        let (here, mut out, mut from) = (text(&doc.lines[line]), String::new(), 0);
        for (at, _) in here.match_indices(old) {
            let before = here[..at].chars().next_back();
            let after = here[at + old.len()..].chars().next();
            if !before.is_some_and(|c| is_word(c) || c == '.' || c == '>') && !after.is_some_and(is_word) {
                out.push_str(&here[from..at]);
                out.push_str(new);
                from = at + old.len();
            }
        }
        out.push_str(&here[from..]);
        doc.lines[line] = out.into_bytes();
    }
}

fn parameter_renamed(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let names = parameters(doc, chunk);
    let old = names.get(random.below(names.len()))?;
    let new = format!("{old}_{}", random.below(100));
    replace_word(doc, chunk.start..=chunk.close, old, &new);
    Some(())
}

fn parameter_of_another_type(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let types = types(doc, chunk);
    let old = types.get(random.below(types.len()))?;
    replace_word(doc, chunk.start..=chunk.open, old, &format!("{old}_v2"));
    Some(())
}

/// Types of this library in a function's parameter list.
fn types(doc: &Doc, chunk: Chunk) -> Vec<String> {
    let head: String = doc.lines[chunk.start..=chunk.open].iter().map(|line| text(line)).collect();
    let list = head.split_once('(').map(|(_, list)| list.to_owned()).unwrap_or_default();
    let words = list.split(|c: char| c != '_' && !c.is_alphanumeric());
    let mut words: Vec<_> =
        words.filter(|w| w.starts_with("llama_") || w.starts_with("ggml_")).map(str::to_owned).collect();
    words.dedup();
    words
}

/// Takes a function with its marks out of the file.
fn cut(doc: &mut Doc, chunk: Chunk) -> Vec<Vec<u8>> {
    doc.lines.drain(chunk.start..=chunk.close).collect()
}

fn function_moved(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0)?;
    let function = cut(doc, chunk);
    match random.one_of(&top_level_gaps(doc)) {
        Some(gap) => {
            doc.insert(gap, function);
            doc.insert(gap, lines("\n"));
            Some(())
        }
        None => {
            doc.insert(chunk.start, function);
            None
        }
    }
}

fn functions_in_another_order(doc: &mut Doc, _: usize, random: &mut Random) -> Option<()> {
    for _ in 0..=random.below(4) {
        let chunks = doc.chunks();
        let (one, two) = (random.one_of(&chunks)?, random.one_of(&chunks)?);
        let (first, second) = if one.start < two.start { (one, two) } else { (two, one) };
        if first.close < second.start {
            let later = cut(doc, second);
            let sooner: Vec<_> = doc.lines.splice(first.start..=first.close, later.clone()).collect();
            let shift = later.len() as isize - sooner.len() as isize;
            doc.insert(second.start.checked_add_signed(shift)?, sooner);
        }
    }
    Some(())
}

/// The last part of the name in a function's head.
fn name(doc: &Doc, chunk: Chunk) -> Option<String> {
    let head = text(&doc.lines[chunk.start]);
    let before = head.split_once('(')?.0.trim_end().to_owned();
    let name = before.rsplit(|c: char| c != '_' && !c.is_alphanumeric()).next()?.to_owned();
    (!name.is_empty()).then_some(name)
}

fn function_renamed(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let old = name(doc, chunk)?;
    let new = [format!("{old}_impl"), format!("{old}_v2"), "process".to_owned(), format!("do_{old}")];
    replace_word(doc, chunk.start..=chunk.start, &old, &new[random.below(new.len())]);
    Some(())
}

fn function_split_in_two(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let gaps: Vec<_> = doc
        .gaps(chunk)
        .into_iter()
        .filter(|line| doc.is_code(*line) && doc.indent(*line) == chunk.indent + 4)
        // Indentation tells no more once there is a block around something: a statement must not be cut in two.
        .filter(|line| open_braces(doc, chunk.open, *line) == 1)
        .collect();
    let gap = random.one_of(&gaps)?;
    doc.insert(gap, lines(&format!("}}\n\nvoid llama_second_half_{}() {{\n", random.below(100))));
    Some(())
}

/// Braces that are open behind the lines from `first` on, `line` left out.
fn open_braces(doc: &Doc, first: usize, line: usize) -> i64 {
    let code = (first..line).filter(|line| doc.is_code(*line)).flat_map(|line| doc.text(line));
    code.map(|byte| i64::from(*byte == b'{') - i64::from(*byte == b'}')).sum()
}

fn function_in_a_namespace(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0)?;
    let open = ["namespace other {\n", "namespace {\n", "namespace a::b {\n", "inline namespace v2 {\n"];
    doc.insert(chunk.close + 1, lines("}\n"));
    doc.insert(chunk.start, lines(random.one_of(&open)?));
    Some(())
}

fn overload(doc: &mut Doc, focus: usize, random: &mut Random, head: impl Fn(&mut Doc)) -> Option<()> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0)?;
    let mut copy = Doc { lines: doc.copy(chunk) };
    if random.below(3) == 0 {
        // A body that forwards, as compatible overloads have it.
        let open =
            chunk.open - (chunk.start..chunk.open).filter(|line| doc.mark(*line).is_some()).count() - chunk.start;
        copy.lines.truncate(open + 1);
        copy.lines.extend(lines("    return forward(it);\n}\n"));
    }
    head(&mut copy);
    copy.lines.push(b"\n".to_vec());
    let after = random.below(2) == 0 || !doc.may_insert(chunk.start);
    doc.insert(if after { chunk.close + 1 } else { chunk.start }, copy.lines);
    Some(())
}

fn overload_with_another_type(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let types = types(doc, doc.chunk(focus)?);
    let old = types.get(random.below(types.len()))?.clone();
    let open = |copy: &Doc| (0..copy.lines.len()).find(|line| copy.text(*line).ends_with(b"{")).unwrap_or(0);
    overload(doc, focus, random, |copy| replace_word(copy, 0..=open(copy), &old, &format!("{old}_compat")))
}

fn overload_with_one_parameter_more(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    overload(doc, focus, random, |copy| {
        if let Some(at) = copy.lines.first().and_then(|line| line.iter().position(|b| *b == b'(')) {
            copy.lines[0].splice(at + 1..at + 1, *b"int more, ");
        }
    })
}

fn decoy_in_a_comment(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let bait = bait(doc, focus, random);
    let mut decoy = Vec::new();
    if random.below(2) == 0 {
        decoy.extend(bait.iter().map(|line| [b"// ", line.as_slice()].concat()));
        // A backslash at the end would take the next line along.
        decoy.iter_mut().filter(|line| line.trim_ascii_end().ends_with(b"\\")).for_each(|line| {
            line.truncate(line.trim_ascii_end().len() - 1);
            line.push(b'\n');
        });
    } else {
        decoy.push(b"/*\n".to_vec());
        decoy.extend(bait.iter().map(|line| text(line).replace("*/", "* /").into_bytes()));
        decoy.push(b" */\n".to_vec());
    }
    let near = focus.saturating_sub(6) + random.below(12);
    let place = if random.below(2) == 0 { decoy_place(doc, focus, random)? } else { near.min(doc.lines.len()) };
    let is_block = decoy.first().is_some_and(|line| line.starts_with(b"/*"));
    if (place > 0 && is_directive(doc, place - 1)) || (is_block && !doc.may_insert(place)) {
        return None;
    }
    doc.insert(place, decoy);
    Some(())
}

fn decoy_in_a_continued_comment(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let place = random.one_of(&doc.gaps(chunk))?;
    let mut decoy = b"// it goes on \\\n".to_vec();
    for line in [Side::After, Side::Before].into_iter().filter_map(|side| doc.neighbour(focus, side)) {
        decoy.extend_from_slice(doc.text(line).trim_ascii_end());
        decoy.extend_from_slice(b" \\\n");
    }
    decoy.extend_from_slice(b"the end\n");
    doc.insert(place, decoy.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect());
    Some(())
}

fn decoy_in_a_string(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let bait = bait(doc, focus, random);
    let escaped = |line: &Vec<u8>| text(line).trim_end().replace('\\', "\\\\").replace('"', "\\\"");
    let mut decoy = String::from("static const char * const decoy =\n");
    if random.below(2) == 0 {
        bait.iter().for_each(|line| decoy.push_str(&format!("    \"{}\\n\"\n", escaped(line))));
        decoy.push_str("    ;\n");
    } else {
        // One literal over several lines.
        decoy.push_str("    \"\\\n");
        bait.iter().for_each(|line| decoy.push_str(&format!("{}\\n\\\n", escaped(line))));
        decoy.push_str("\";\n");
    }
    place_decoy(doc, focus, random, &decoy)
}

fn decoy_in_a_raw_string(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let bait: String = bait(doc, focus, random).iter().map(|line| text(line)).collect();
    let (open, close) =
        random.one_of(&[("R\"(", ")\""), ("R\"x(", ")x\""), ("u8R\"cpp(", ")cpp\""), ("R\"x(\"", "{)\" )x\"")])?;
    place_decoy(doc, focus, random, &format!("static const auto * const decoy = {open}\n{bait}\n{close};\n"))
}

fn place_decoy(doc: &mut Doc, focus: usize, random: &mut Random, decoy: &str) -> Option<()> {
    let inside = doc.chunk(focus).map(|chunk| doc.gaps(chunk)).unwrap_or_default();
    let place = match random.below(2) {
        0 if !inside.is_empty() => random.one_of(&inside)?,
        _ => decoy_place(doc, focus, random)?,
    };
    doc.insert(place, lines(decoy));
    Some(())
}

fn decoy_in_a_macro(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let mut decoy = String::from("#define LLAMA_DECOY(x) \\\n");
    for line in bait(doc, focus, random) {
        let line = text(&line).trim_end().trim_end_matches('\\').to_owned();
        decoy.push_str(&format!("{} \\\n", line.split("//").next().unwrap_or_default()));
    }
    decoy.push_str("    x\n");
    place_decoy(doc, focus, random, &decoy)
}

fn decoy_in_if_0(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let bait: String = bait(doc, focus, random).iter().map(|line| text(line)).collect();
    let open = random.one_of(&["#if 0\n", "#if 0 // it's old\n", "  #  if 0\n", "#if 0\n#ifdef A\n#else\n#endif\n"])?;
    place_decoy(doc, focus, random, &format!("{open}{bait}#endif\n"))
}

/// The statement next to the focus, if it is one line by itself: the last line of an initialiser is none, and what is put
/// in front of that is one element more, behind which the declaration ends as before.
fn statement(doc: &Doc, focus: usize) -> Option<usize> {
    let line = doc.neighbour(focus, doc.mark(focus)?.side)?;
    let is_alone = |line: usize| {
        let previous = (0..line).rev().find(|line| doc.is_code(*line)).map_or(&b""[..], |line| doc.text(line));
        [&b";"[..], b"{", b"}", b":"].iter().any(|end| previous.ends_with(end))
    };
    let inside = doc.chunk(line).is_some_and(|chunk| chunk.open < line && line < chunk.close);
    let is_end = doc.text(line).starts_with(b"}") || doc.text(line).starts_with(b")");
    (inside && !is_end && doc.text(line).ends_with(b";") && is_alone(line)).then_some(line)
}

/// The same with its marks: the lines from the first to the last of them.
fn unit(doc: &Doc, focus: usize) -> Option<(usize, usize)> {
    let line = statement(doc, focus)?;
    let (mut first, mut last) = (line, line);
    while first > 0 && doc.mark(first - 1).is_some_and(|mark| mark.side == Side::Before) {
        first -= 1;
    }
    while doc.mark(last + 1).is_some_and(|mark| mark.side == Side::After) {
        last += 1;
    }
    // A mark of another statement in between, or one of this one behind it.
    (doc.may_insert(first) && doc.may_insert(last + 1)).then_some((first, last))
}

fn decoy_in_a_lambda(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let statement = text(&doc.lines[statement(doc, focus)?]);
    let place = random.one_of(&doc.gaps(doc.chunk(focus)?))?;
    let open = random.one_of(&[
        "auto decoy = [&]() {\n",
        "run([=](int i) mutable {\n",
        "const auto decoy = [&](auto & x) -> int {\n",
    ])?;
    let close = if open.starts_with("run") { "});\n" } else { "};\n" };
    doc.insert(place, lines(&format!("    {open}    {statement}    {close}")));
    Some(())
}

fn decoy_in_a_local_class(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let statement = text(&doc.lines[statement(doc, focus)?]);
    let place = random.one_of(&doc.gaps(chunk))?;
    let name = name(doc, chunk)?;
    doc.insert(place, lines(&format!("    struct decoy {{\n    void {name}() {{\n    {statement}    }}\n    }};\n")));
    Some(())
}

fn decoy_function(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0)?;
    let name = name(doc, chunk)?;
    let statement = statement(doc, focus).map(|line| text(&doc.lines[line])).unwrap_or_default();
    let declarator = [format!("other::{name}"), format!("{name}_from_file"), format!("x_{name}"), format!("{name}_n")];
    let declarator = &declarator[random.below(declarator.len())];
    let place = decoy_place(doc, focus, random)?;
    doc.insert(
        place,
        lines(&format!("void {declarator}(const llama_batch & batch) {{\n    int y = 0;\n{statement}}}\n\n")),
    );
    Some(())
}

fn ifdef_around_two_versions(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus).filter(|chunk| chunk.indent == 0)?;
    // Both versions are live: the copy has the marks as well.
    let copy: Vec<_> = doc.lines[chunk.start..=chunk.close].to_vec();
    let (open, middle) = random.one_of(&[("#ifdef LLAMA_NEW\n", "#else\n"), ("#if defined(A)\n", "#elif B\n")])?;
    doc.insert(chunk.close + 1, lines("#endif\n"));
    doc.insert(chunk.start, lines(middle));
    doc.insert(chunk.start, copy);
    doc.insert(chunk.start, lines(open));
    Some(())
}

fn ifdef_around_a_statement(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let (first, last) = unit(doc, focus)?;
    // Both branches are live: a point that may be conditional belongs into each.
    let copy: Vec<_> = doc.lines[first..=last].to_vec();
    let mut tail = match random.below(3) {
        0 => [lines("#else\n"), copy].concat(),
        _ => Vec::new(),
    };
    tail.extend(lines("#endif\n"));
    doc.insert(last + 1, tail);
    doc.insert(first, lines(random.one_of(&["#ifdef GGML_USE_X\n", "#if !defined(NDEBUG)\n", "#ifndef X\n"])?));
    Some(())
}

fn ifdef_with_two_heads(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let chunk = doc.chunk(focus)?;
    let is_plain = (chunk.start..=chunk.open).all(|line| doc.mark(line).is_none()) && doc.may_insert(chunk.start);
    if !is_plain {
        return None;
    }
    let head: Vec<_> = doc.lines[chunk.start..=chunk.open].to_vec();
    let mut other = Doc { lines: head.clone() };
    let names = parameters(&other, Chunk { start: 0, open: head.len() - 1, ..chunk });
    if let Some(name) = names.get(random.below(names.len())) {
        replace_word(&mut other, 0..=head.len() - 1, name, "renamed");
    }
    let new = [lines("#ifdef A\n"), other.lines, lines("#else\n"), head, lines("#endif\n")].concat();
    doc.lines.splice(chunk.start..=chunk.open, new);
    Some(())
}

fn ifdef_cuts_a_statement(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let (first, last) = unit(doc, focus)?;
    let (open, close) = random.one_of(&[
        ("#ifdef A\n    if (a) {\n#else\n    if (b) {\n#endif\n", "    }\n"),
        ("#ifdef A\n    if (a)\n#endif\n    {\n", "    }\n"),
        ("#ifdef A\n    if (a) {\n#endif\n", "#ifdef A\n    }\n#endif\n"),
    ])?;
    doc.insert(last + 1, lines(close));
    doc.insert(first, lines(open));
    Some(())
}

fn if_without_braces(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let (first, last) = unit(doc, focus)?;
    let open = random.one_of(&[
        "    if (x)\n",
        "    for (int i = 0; i < 3; i++)\n",
        "    if (x) { y(); } else\n",
        "    while (x)\n",
        "#ifdef A\n    if (x)\n#endif\n",
        "    GGML_FOREACH(x)\n",
    ])?;
    // A line here would take the statement's place: none is right any more.
    for line in (first..=last).rev() {
        if doc.mark(line).is_some() {
            doc.lines.remove(line);
        }
    }
    doc.insert(first, lines(open));
    Some(())
}

fn block_around_a_statement(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let (first, last) = unit(doc, focus)?;
    let (open, close) = random.one_of(&[
        ("    if (x) {\n", "    }\n"),
        ("    {\n", "    }\n"),
        ("    switch (x) {\n    case 1:\n", "    break;\n    }\n"),
        ("    try {\n", "    } catch (...) {\n    }\n"),
        ("    for (auto & x : y) {\n", "    }\n"),
        ("    if (x) {\n        y();\n    } else {\n", "    }\n"),
    ])?;
    doc.insert(last + 1, lines(close));
    doc.insert(first, lines(open));
    Some(())
}

/// Whether a line is in what `#if 0` takes out, where no line belongs.
fn is_dead(doc: &Doc, line: usize) -> bool {
    let (mut depth, mut dead) = (0, None);
    for text in (0..line).map(|line| doc.text(line)) {
        let Some(word) = text.strip_prefix(b"#").map(<[u8]>::trim_ascii_start) else { continue };
        if word.starts_with(b"if") {
            depth += 1;
            dead = dead.or(word.starts_with(b"if 0").then_some(depth));
        } else if word.starts_with(b"el") || word.starts_with(b"endif") {
            dead = dead.filter(|at| *at != depth);
            depth -= i32::from(word.starts_with(b"endif"));
        }
    }
    dead.is_some()
}

/// Whether a line is in a class or a lambda that begins at `first` or later.
fn is_in_another_body(doc: &Doc, first: usize, line: usize) -> bool {
    (first..line).map(|line| doc.text(line)).fold(0, |open: u32, text| {
        let is_class = text.starts_with(b"struct ") || text.starts_with(b"class ");
        let is_lambda = text.windows(2).any(|word| word == b"](");
        let begins = (is_class || is_lambda) && text.ends_with(b"{");
        let ends = text.starts_with(b"};") || text.starts_with(b"});");
        (open + u32::from(begins)).saturating_sub(u32::from(ends))
    }) > 0
}

fn statement_twice(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let (first, last) = unit(doc, focus)?;
    // With its marks: the statement is what the point asks for, in both places.
    let copy: Vec<_> = doc.lines[first..=last].to_vec();
    let chunk = doc.chunk(focus)?;
    let place = random.one_of(&doc.gaps(chunk))?;
    // neither is a place of the function's own, where a line belongs
    if is_dead(doc, place) || is_in_another_body(doc, chunk.open + 1, place) {
        return None;
    }
    doc.insert(place, copy);
    Some(())
}

fn odd_literals(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let place = random.one_of(&doc.gaps(doc.chunk(focus)?))?;
    let odd = [
        "    char q = '\"'; char p = '\\''; int m = 1'000'000;\n",
        "    const char * s = \"/* no comment\"; // \" no literal\n",
        "    auto s = R\"({\"})\"; int FOOR = 1; f(FOOR);\n",
        "    auto s = u8\"}\" \"{\" L\"//\"; /* } */ /* \" */\n",
        "    int x = 0xF'F; auto y = 'a' + '{'; y = '}';\n",
        "    if (a <b && c> d) { } auto z = a<b<c>>(d);\n",
        "    printf(\"%\" PRId64 \"\\n\", x); [[maybe_unused]] int k = 1;\n",
        "    const char * s = \"one \\\n} two\";\n",
    ];
    doc.insert(place, lines(random.one_of(&odd)?));
    Some(())
}

fn line_deleted(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let near = focus.saturating_sub(10) + random.below(20);
    let line = if random.below(2) == 0 { near } else { random.below(doc.lines.len()) };
    if line >= doc.lines.len() || doc.mark(line).is_some() {
        return None;
    }
    doc.lines.remove(line);
    Some(())
}

fn stray_token(doc: &mut Doc, focus: usize, random: &mut Random) -> Option<()> {
    let tokens = [
        "{\n",
        "}\n",
        "(\n",
        ")\n",
        "\"\n",
        "'\n",
        "#if A\n",
        "#else\n",
        "#endif\n",
        "else\n",
        "R\"(\n",
        ");\n",
        "};\n",
        "case 1:\n",
        "#if 0\n",
        "\\\n",
        "catch\n",
        "?\n",
        "template <\n",
        "x = [&](\n",
    ];
    let near = focus.saturating_sub(10) + random.below(20);
    let place = if random.below(2) == 0 { near } else { random.below(doc.lines.len()) };
    let place = place.min(doc.lines.len());
    // Among the includes it would end their first run.
    let last_include = (0..doc.lines.len()).rev().find(|line| doc.text(*line).starts_with(b"#include"));
    if !doc.may_insert(place) || last_include.is_some_and(|include| place <= include) {
        return None;
    }
    doc.insert(place, lines(random.one_of(&tokens)?));
    Some(())
}
