//! From an alternate to the exact bytes of one file where its line goes, or to the reason why not.
//!
//! Every place is judged twice, by the syntax tree and by the text around it; where the two do not agree, the
//! place is refused. A refusal costs an alternate, a wrong place costs a user's trust.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;
use tree_sitter::Node;

use crate::point::{Alternate, Anchor, Count, Position};
use crate::preproc::{directive_lines, without_directives};
use crate::source::{Body, Function, SourceFile, children};
use crate::tree::sha256;
use crate::verdict::{Candidate, Refusal, Site, Why};

/// How far into a statement the words of an anchor are looked for.
const RESEMBLING_BYTES: usize = 400;

static ANY: LazyLock<Regex> = LazyLock::new(|| Regex::new("").unwrap_or_else(|e| unreachable!("constant regex: {e}")));

/// A place that can take the line.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Start of the line in front of which the new one goes.
    pub offset: usize,
    /// White space in front of the new line.
    pub indentation: String,
    /// The place in upstream's terms.
    pub site: Site,
    /// Of the function's versions in one `#if` chain, the number of the one that it is in, from 0.
    pub version: usize,
}

/// What an alternate finds in a file.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    /// Places that can take the line.
    pub found: Vec<Found>,
    /// Places that match and cannot.
    pub refused: Vec<Candidate>,
}

/// Whether the file has a function of that name with a body.
pub(crate) fn has_function(file: &SourceFile, name: &str) -> bool {
    file.functions().iter().any(|f| f.name == name && matches!(f.body, Body::Block(_)))
}

/// Looks for an alternate in its file.
pub(crate) fn locate(file: &SourceFile, alternate: &Alternate) -> Result<Finding, Why> {
    let Some(name) = &alternate.function else {
        return includes_end(file, alternate);
    };
    let scopes = select(file, name, alternate)?;
    let mut finding = Finding::default();
    let mut versions_without = Vec::new();
    for (version, scope) in scopes.iter().enumerate() {
        let places = match &alternate.anchor {
            None => vec![body_start(scope)],
            Some(anchor) => statements(scope, anchor),
        };
        if places.is_empty() {
            versions_without.push(file.line_of(scope.function.range.start));
        }
        for place in places {
            let line = file.line_of(place.span.start);
            match judge(scope, alternate, &place) {
                Err(refusal) => {
                    finding.refused.push(Candidate { line, text: file.line_text(line), refusal: Some(refusal) })
                }
                Ok(offset) => finding.found.push(Found {
                    offset,
                    indentation: place.indentation,
                    site: Site {
                        file: file.path.clone(),
                        line,
                        function: Some(scope.function.name.clone()),
                        function_sha256: sha256(&file.bytes[scope.function.range.clone()]),
                        inserted: alternate.insert.render(&place.values),
                    },
                    version,
                }),
            }
        }
    }
    if finding.found.is_empty() && finding.refused.is_empty() {
        return Err(Why::NoMatch { lines: versions_without });
    }
    // A line in one version of a function and none in the other would be missed by nobody.
    let others = file.functions().iter().filter(|other| {
        let is_selected = scopes.iter().any(|scope| scope.function.range == other.range);
        let is_version = |scope: &Scope| file.chains.are_exclusive(scope.function.range.start, other.range.start);
        other.name == *name && matches!(other.body, Body::Block(_)) && !is_selected && scopes.iter().any(is_version)
    });
    versions_without.extend(others.map(|other| file.line_of(other.range.start)));
    finding.refused.extend(versions_without.into_iter().map(|line| Candidate {
        line,
        text: file.line_text(line),
        refusal: Some(Refusal::VersionWithout),
    }));
    Ok(finding)
}

/// The places in the first version of a function that has not as many as declared. No program has two versions at once, so that
/// each of them has to have that many. Without any place, what is found.
pub(crate) fn miscounted(found: &[Found], count: Count) -> Option<&[Found]> {
    if found.is_empty() {
        return (!count.allows(0)).then_some(found);
    }
    found.chunk_by(|one, two| one.version == two.version).find(|version| !count.allows(version.len()))
}

/// Line of a statement that holds all the words of an alternate's anchor, in order, though the anchor does not match it.
pub(crate) fn resembling(file: &SourceFile, alternate: &Alternate) -> Option<usize> {
    let anchor = alternate.anchor.as_ref().filter(|anchor| !anchor.words.is_empty())?;
    let scopes = select(file, alternate.function.as_deref()?, alternate).ok()?;
    let any = Anchor { regex: ANY.clone(), written: String::new(), words: Vec::new() };
    scopes.iter().flat_map(|scope| statements(scope, &any)).find_map(|place| {
        let text = file.mask.code().get(place.span.start..place.span.end.min(place.span.start + RESEMBLING_BYTES))?;
        let text = String::from_utf8_lossy(text);
        let mut words = text.split(|c: char| c != '_' && !c.is_alphanumeric());
        anchor.words.iter().all(|wanted| words.any(|word| word == wanted)).then(|| file.line_of(place.span.start))
    })
}

/// A function that an alternate selects.
struct Scope<'a> {
    file: &'a SourceFile,
    function: &'a Function,
    body: Range<usize>,
    /// Parameter names by capture.
    values: BTreeMap<String, String>,
}

/// A place that matches, before it is judged.
struct Place {
    /// The statement, or the function's opening brace.
    span: Range<usize>,
    indentation: String,
    values: BTreeMap<String, String>,
    role: Role,
    /// The parser made sense of all of it.
    is_whole: bool,
}

/// What the syntax tree says of a statement's surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Directly in a block or under a `case`.
    InBlock,
    /// The body of a control statement that has no braces.
    Braceless(&'static str),
    /// Somewhere in a part that the parser gave up on.
    Unclear,
}

fn select<'a>(file: &'a SourceFile, name: &str, alternate: &Alternate) -> Result<Vec<Scope<'a>>, Why> {
    let named: Vec<_> = file.functions().iter().filter(|f| f.name == name).collect();
    if named.is_empty() {
        let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
        let mut similar: Vec<_> =
            file.functions().iter().filter(|f| last(&f.name) == last(name)).map(|f| f.name.clone()).collect();
        similar.dedup();
        similar.truncate(4);
        let unclear = file.unclear_mention(&last(name)).map(|at| file.line_of(at));
        return Err(Why::NoFunction { similar, unclear });
    }
    let typed: Vec<_> = named
        .iter()
        .filter(|f| alternate.params.iter().all(|p| f.parameters.iter().any(|q| q.normal == p.normal)))
        .collect();
    if typed.is_empty() {
        return Err(Why::NoParameter { signatures: named.iter().map(|f| f.signature.clone()).collect() });
    }
    let mut scopes = Vec::new();
    let mut bodiless = None;
    for function in typed {
        match &function.body {
            Body::Without(how) => bodiless = Some(how.clone()),
            Body::Block(body) => {
                scopes.push(Scope { file, function, body: body.clone(), values: bind(function, alternate)? })
            }
        }
    }
    let starts = || scopes.iter().map(|scope| scope.function.range.start);
    // Versions of one function in an `#if` chain are one function; two that a program has at once are not.
    let is_one =
        starts().enumerate().all(|(n, one)| starts().skip(n + 1).all(|two| file.chains.are_exclusive(one, two)));
    // One that the parser could not make sense of may be the one that is meant.
    let last = name.rsplit("::").next().unwrap_or(name);
    let known = file.functions().iter().filter(|f| f.name.rsplit("::").next() == Some(last)).count();
    if !scopes.is_empty() && file.definitions_by_text(last) > known {
        return Err(Why::HiddenFunction { name: last.to_owned() });
    }
    if !is_one {
        let signatures = scopes.iter().map(|s| (file.line_of(s.function.range.start), s.function.signature.clone()));
        return Err(Why::SeveralFunctions { signatures: signatures.collect() });
    }
    match bodiless {
        Some(how) if scopes.is_empty() => Err(Why::NoBody { how }),
        _ => Ok(scopes),
    }
}

fn bind(function: &Function, alternate: &Alternate) -> Result<BTreeMap<String, String>, Why> {
    let used = alternate.insert.captures();
    let mut values = BTreeMap::new();
    for param in alternate.params.iter().filter(|p| used.contains(p.capture.as_str())) {
        let mut of_type = function.parameters.iter().filter(|q| q.normal == param.normal);
        let first = of_type.next();
        let (capture, written, signature) = (param.capture.clone(), param.written.clone(), function.signature.clone());
        if of_type.next().is_some() {
            return Err(Why::SeveralParameters { capture, written, signature });
        }
        let Some(name) = first.and_then(|q| q.name.clone()) else {
            return Err(Why::UnnamedParameter { capture, written, signature });
        };
        values.insert(capture, name);
    }
    Ok(values)
}

fn body_start(scope: &Scope<'_>) -> Place {
    let file = scope.file;
    let brace = scope.body.start..scope.body.start + 1;
    let first = file
        .node(&scope.body)
        .and_then(|body| children(body).find(|n| n.kind() != "comment" && !n.kind().starts_with("preproc_")));
    let indentation = match first {
        Some(node) if is_blank(&file.mask.code()[file.line_start(node.start_byte())..node.start_byte()]) => {
            file.indentation(node.start_byte()).to_owned()
        }
        _ => format!("{}    ", file.indentation(scope.function.range.start)),
    };
    Place { span: brace, indentation, values: scope.values.clone(), role: Role::InBlock, is_whole: true }
}

/// The statements of a function that begin with a match, those of lambdas and local classes in it left out.
fn statements(scope: &Scope<'_>, anchor: &Anchor) -> Vec<Place> {
    let file = scope.file;
    let Some(body) = file.node(&scope.body) else {
        return Vec::new();
    };
    let mut places = Vec::new();
    let mut open = vec![(body, Role::InBlock)];
    while let Some((node, role)) = open.pop() {
        open_statement(node, role, &mut open);
        // A block is a container here: what it holds can be anchored on, the braces cannot.
        if node.kind() == "compound_statement" || node.kind() == "ERROR" || node.kind().starts_with("preproc_") {
            continue;
        }
        let span = node.byte_range();
        let Some(groups) = anchor.regex.captures(&file.mask.code()[span.clone()]) else {
            continue;
        };
        let mut values = scope.values.clone();
        for name in anchor.regex.capture_names().flatten() {
            if let Some(group) = groups.name(name) {
                let range = span.start + group.start()..span.start + group.end();
                values.insert(name.to_owned(), file.mask.text_without_comments(&file.bytes, range));
            }
        }
        let indentation = file.indentation(span.start).to_owned();
        places.push(Place { span, indentation, values, role, is_whole: !node.has_error() });
    }
    places.sort_by_key(|place| place.span.start);
    places
}

/// Pushes the statements that stand directly in `node`. Expressions are not entered: a lambda's body is another function.
fn open_statement<'t>(node: Node<'t>, role: Role, open: &mut Vec<(Node<'t>, Role)>) {
    let inside = if role == Role::Unclear { Role::Unclear } else { Role::InBlock };
    let mut push_body = |body: Option<Node<'t>>, of: &'static str| {
        if let Some(body) = body {
            let is_block = body.kind() == "compound_statement" || inside == Role::Unclear;
            open.push((body, if is_block { inside } else { Role::Braceless(of) }));
        }
    };
    match node.kind() {
        "if_statement" => {
            push_body(node.child_by_field_name("consequence"), "if");
            if let Some(alternative) = node.child_by_field_name("alternative") {
                push_body(children(alternative).find(|n| n.kind() != "comment"), "else");
            }
        }
        "for_statement" | "for_range_loop" => push_body(node.child_by_field_name("body"), "for"),
        "while_statement" => push_body(node.child_by_field_name("body"), "while"),
        "do_statement" => push_body(node.child_by_field_name("body"), "do"),
        "switch_statement" => push_body(node.child_by_field_name("body"), "switch"),
        "try_statement" => {
            push_body(node.child_by_field_name("body"), "try");
            for handler in children(node).filter(|n| n.kind() == "catch_clause") {
                push_body(handler.child_by_field_name("body"), "catch");
            }
        }
        "ERROR" => open.extend(children(node).map(|child| (child, Role::Unclear))),
        "compound_statement" => open.extend(children(node).map(|child| (child, inside))),
        // A chain is transparent: what it holds stands where the chain stands.
        kind if kind.starts_with("preproc_") => open.extend(children(node).map(|child| (child, role))),
        "case_statement" | "labeled_statement" => {
            let head = node.child_by_field_name("value").or_else(|| node.child_by_field_name("label"));
            open.extend(children(node).filter(|child| Some(*child) != head).map(|child| (child, inside)));
        }
        _ => {}
    }
}

/// The offset at which a place takes the line, or why it takes none.
fn judge(scope: &Scope<'_>, alternate: &Alternate, place: &Place) -> Result<usize, Refusal> {
    let Scope { file, function, body, .. } = scope;
    let code = file.mask.code();
    match place.role {
        Role::Braceless(of) => return Err(Refusal::Braceless { of }),
        Role::Unclear => return Err(Refusal::Unclear),
        Role::InBlock => {}
    }
    // Where a statement that the parser stumbled over ends is a guess; where it begins is not.
    let is_sure = place.is_whole || alternate.position != Position::After;
    if !function.head_is_clear || !is_sure {
        return Err(Refusal::Unclear);
    }
    for range in [body, &(function.range.start..body.start), &place.span] {
        if let Some(at) = file.chains.unbalanced_in(range) {
            return Err(Refusal::CutByChain { line: file.line_of(at) });
        }
    }
    if !file.is_balanced() {
        return Err(Refusal::Unbalanced);
    }
    let end = matching_brace(code, body.start);
    let ends_alike = end == Some(body.end - 1);
    // An `else` behind an `#ifdef` makes the parser end the function too early. Its start is not in doubt
    // then, if what the braces say ends in a brace of its own below the function's first column.
    let starts_for_sure = alternate.position == Position::BodyStart
        && end.is_some_and(|end| {
            let line = &code[file.line_start(end)..end];
            is_blank(line) && line.len() == file.indentation(function.range.start).len()
        });
    if !ends_alike && !starts_for_sure {
        return Err(Refusal::Braces);
    }
    let line_start = file.line_start(place.span.start);
    let after_line = file.next_line_start(place.span.end.saturating_sub(1));
    let rest = &code[place.span.end..after_line.unwrap_or(code.len())];
    let offset = match alternate.position {
        Position::Before if !is_blank(&code[line_start..place.span.start]) => return Err(Refusal::NotFirstOnLine),
        Position::Before => line_start,
        Position::BodyStart if !is_blank(rest) => return Err(Refusal::BodyOnOneLine),
        Position::After if !is_blank(rest) => return Err(Refusal::NotLastOnLine),
        Position::BodyStart | Position::After | Position::IncludesEnd => after_line.ok_or(Refusal::NoNewline)?,
    };
    check_line_start(file, offset)?;
    let rendered = alternate.insert.render(&place.values);
    if rendered.contains(['\n', '\r']) || rendered.ends_with('\\') {
        return Err(Refusal::NotOneLine { rendered });
    }
    if alternate.position == Position::BodyStart {
        return Ok(offset);
    }
    if let Some(at) = file.chains.open_at(body, offset).filter(|_| !alternate.in_preproc) {
        return Err(Refusal::InChain { line: file.line_of(at) });
    }
    check_neighbours(code, body, alternate.position, place.span.start, offset)?;
    Ok(offset)
}

/// A new line at `offset` must be a line of its own to the compiler.
fn check_line_start(file: &SourceFile, offset: usize) -> Result<(), Refusal> {
    if let Some(span) = file.mask.span_across(offset) {
        return Err(Refusal::InsideSpan { line: file.line_of(span.range.start) });
    }
    let before = &file.bytes[..offset];
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    if before.strip_suffix(b"\r").unwrap_or(before).ends_with(b"\\") {
        return Err(Refusal::Continued);
    }
    Ok(())
}

/// The second opinion, from the text alone: between statements there is an end of a statement, a brace or a label.
fn check_neighbours(
    code: &[u8],
    body: &Range<usize>,
    position: Position,
    statement: usize,
    offset: usize,
) -> Result<(), Refusal> {
    let before: Vec<u8> = without_directives(code.get(body.start..statement).unwrap_or_default());
    let before = before.trim_ascii_end();
    if !before.ends_with(b";") && !before.ends_with(b"{") && !before.ends_with(b"}") && !before.ends_with(b":") {
        let line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        return Err(Refusal::After { found: String::from_utf8_lossy(line.trim_ascii()).into_owned() });
    }
    if position == Position::After {
        let after = without_directives(code.get(offset..body.end).unwrap_or_default());
        let after = after.trim_ascii_start();
        for word in ["else", "catch"] {
            let rest = after.strip_prefix(word.as_bytes());
            if rest.is_some_and(|rest| !rest.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')) {
                return Err(Refusal::Before { found: word.to_owned() });
            }
        }
    }
    Ok(())
}

/// Offset of the brace that closes the one at `open`, by counting in masked text.
fn matching_brace(code: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The end of the file's first run of includes. Line by line: the tree is in pieces around `#if __has_include(<…>)`.
fn includes_end(file: &SourceFile, alternate: &Alternate) -> Result<Finding, Why> {
    let code = file.mask.code();
    let mut directives: Vec<_> = directive_lines(code).collect();
    let first_code = first_code_line(code);
    directives.retain(|d| d.range.start < first_code);
    let word = |i: usize| directives.get(i).map(|d| d.word);
    // An include guard is not a condition: it spans the file.
    let is_guarded = word(0) == Some(b"ifndef") && word(1) == Some(b"define");
    let mut depth = -i32::from(is_guarded);
    let mut last = None;
    let mut start = None;
    for directive in &directives {
        match directive.word {
            b"if" | b"ifdef" | b"ifndef" => depth += 1,
            b"endif" => depth -= 1,
            b"include" if depth == 0 => {
                start = start.or(Some(directive.range.start));
                last = Some(directive.range.clone());
            }
            _ => {}
        }
    }
    let (Some(last), Some(start)) = (last, start) else {
        return Err(Why::NoIncludes);
    };
    if let Some(at) = file.chains.unbalanced_in(&(0..code.len())) {
        let line = file.line_of(last.start);
        let refusal = Some(Refusal::CutByChain { line: file.line_of(at) });
        return Ok(Finding {
            found: Vec::new(),
            refused: vec![Candidate { line, text: file.line_text(line), refusal }],
        });
    }
    let line = file.line_of(last.start);
    let offset = file.next_line_start(last.end.saturating_sub(1)).ok_or(Refusal::NoNewline);
    let mut finding = Finding::default();
    match offset.and_then(|offset| check_line_start(file, offset).map(|()| offset)) {
        Err(refusal) => finding.refused.push(Candidate { line, text: file.line_text(line), refusal: Some(refusal) }),
        Ok(offset) => finding.found.push(Found {
            offset,
            indentation: String::new(),
            site: Site {
                file: file.path.clone(),
                line,
                function: None,
                function_sha256: sha256(&file.bytes[start..last.end]),
                inserted: alternate.insert.render(&BTreeMap::new()),
            },
            version: 0,
        }),
    }
    Ok(finding)
}

/// Start of the first line that is neither blank nor a directive, or the file's length.
fn first_code_line(code: &[u8]) -> usize {
    crate::preproc::logical_lines(code)
        .find(|line| {
            let text = code[line.clone()].trim_ascii();
            !text.is_empty() && !text.starts_with(b"#")
        })
        .map_or(code.len(), |line| line.start)
}

fn is_blank(text: &[u8]) -> bool {
    text.trim_ascii().is_empty()
}
