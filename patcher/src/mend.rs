//! Where a lost point went: the functions of a tree that are most like the one that the point stood in, ranked, each as
//! the alternate to add.
//!
//! Nothing here places a line. A proposal is for a person to judge; it is checked to have a place, not to be right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::locate::{self, Found};
use crate::point::{Alternate, Point, PointSet, Position};
use crate::source::{Body, Function, Parameter, SourceFile};
use crate::tree::Tree;

/// How many functions are looked into for the statement that a point is anchored on.
const LOOKED_INTO: usize = 40;
/// How many proposals are made at most.
const PROPOSED: usize = 5;
/// Files that can hold a function.
const EXTENSIONS: [&str; 6] = ["c", "cc", "cpp", "cxx", "h", "hpp"];
/// The expression that finds every statement.
const ANY: &str = ".";
/// Length of the shingles that texts are compared by, in tokens.
const SHINGLE: usize = 3;

/// One place where a lost point may have gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proposal {
    /// How much speaks for it, from 0 to 1.
    pub score: f64,
    /// Path from the tree's root.
    pub file: String,
    /// Qualified name of the function; `None` for positions of the file.
    pub function: Option<String>,
    /// Line of the first site in upstream's file, from 1.
    pub line: usize,
    /// The alternate to add, as TOML.
    pub alternate: String,
    /// What speaks for it and against it.
    pub evidence: Vec<String>,
}

/// Why nothing can be proposed.
#[derive(Debug, Error)]
pub enum MendError {
    /// The tree to compare with does not have the point either.
    #[error("point `{point}` is not placed in {tree} either; compare with a tree that has it")]
    NotPlaced {
        /// The point.
        point: String,
        /// The tree to compare with.
        tree: String,
    },
    /// A tree cannot be read.
    #[error("a tree cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Compares the place that a point has in `before` with the functions of `after`; the likeliest first.
///
/// # Errors
/// The point has no place in `before`, or a tree cannot be read.
pub fn mend(point: &Point, before: &Tree, after: &Tree) -> Result<Vec<Proposal>, MendError> {
    let memory = Memory::of(point, before)?;
    let corpus = Corpus::read(after, &memory)?;
    let mut ranked = corpus.rank(&memory);
    ranked.truncate(LOOKED_INTO);
    let mut proposals: Vec<Proposal> =
        ranked.into_iter().filter_map(|candidate| corpus.propose(point, &memory, candidate)).collect();
    proposals.sort_by(|a, b| b.score.total_cmp(&a.score));
    proposals.truncate(PROPOSED);
    Ok(proposals)
}

/// What is remembered of a point where it was last placed.
struct Memory {
    alternate: Alternate,
    /// Whether its line is another one than that of the newest alternate.
    has_own_line: bool,
    file: String,
    function: Option<Signature>,
    text: Text,
    /// The first site's statement, its first line.
    statement: String,
    /// Number of sites.
    sites: usize,
}

/// What of a function is compared besides its text.
#[derive(Clone)]
struct Signature {
    name: String,
    types: Vec<String>,
    /// Type by name.
    parameters: BTreeMap<String, String>,
}

impl Signature {
    fn of(function: &Function) -> Self {
        Signature {
            name: function.name.clone(),
            types: function.parameters.iter().map(|p| p.normal.clone()).collect(),
            parameters: function.parameters.iter().filter_map(|p| Some((p.name.clone()?, p.normal.clone()))).collect(),
        }
    }
}

impl Memory {
    fn of(point: &Point, tree: &Tree) -> Result<Self, MendError> {
        for alternate in &point.at {
            let Some(bytes) = tree.read(&alternate.file)? else { continue };
            let file = SourceFile::parse(&alternate.file, bytes);
            let Ok(finding) = locate::locate(&file, alternate) else { continue };
            let Some(first) = finding.found.first() else { continue };
            let function = first.site.function.as_ref().and_then(|name| {
                let at = |f: &&Function| f.name == *name && f.range.contains(&first.offset.saturating_sub(1));
                file.functions().iter().filter(at).min_by_key(|f| f.range.len())
            });
            let range = function.map_or(0..file.bytes.len(), body);
            let statement = file.line_text(first.site.line);
            return Ok(Memory {
                alternate: alternate.clone(),
                has_own_line: point.at.first().is_some_and(|first| first.insert != alternate.insert),
                file: alternate.file.clone(),
                function: function.map(Signature::of),
                text: Text::of(&file, range),
                statement,
                sites: finding.found.len(),
            });
        }
        Err(MendError::NotPlaced { point: point.id.clone(), tree: tree.name().to_owned() })
    }

    fn is_anchored(&self) -> bool {
        self.alternate.anchor.is_some()
    }
}

/// A text as it is compared: its shingles and how often each occurs.
struct Text {
    shingles: HashMap<u64, usize>,
    words: BTreeSet<String>,
}

impl Text {
    fn of(file: &SourceFile, range: Range<usize>) -> Self {
        let text = file.mask.text_without_comments(&file.bytes, range);
        let tokens = without_receivers(tokens(&text));
        let mut shingles = HashMap::new();
        for window in tokens.windows(SHINGLE) {
            *shingles.entry(hash(window)).or_insert(0) += 1;
        }
        Text { words: tokens.into_iter().collect(), shingles }
    }
}

/// What is compared of a function besides its head.
fn body(function: &Function) -> Range<usize> {
    match &function.body {
        Body::Block(range) => range.clone(),
        Body::Without(_) => function.range.clone(),
    }
}

/// Without the object in front of a member: `lctx.sched` and `this->sched` are `sched`, since functions become methods.
fn without_receivers(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let [first, tail @ ..] = rest {
        let is_name = first.starts_with(|c: char| c == '_' || c.is_alphabetic());
        rest = match tail {
            [dot, name, ..] if is_name && dot == "." && is_word(name) => &tail[1..],
            [dash, arrow, ..] if is_name && dash == "-" && arrow == ">" => &tail[2..],
            _ => {
                out.push(first.clone());
                tail
            }
        };
    }
    out
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// How like two statements are: the words count more than the signs between them.
fn statement_likeness(one: &str, other: &str) -> f64 {
    let (one, other) = (without_receivers(tokens(one)), without_receivers(tokens(other)));
    let words = |tokens: &[String]| tokens.iter().filter(|token| is_word(token)).cloned().collect::<Vec<_>>();
    0.8 * likeness_of(&words(&one), &words(&other)) + 0.2 * likeness_of(&one, &other)
}

fn hash(window: &[String]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    window.hash(&mut hasher);
    hasher.finish()
}

/// Words and single signs; white space counts for nothing.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c == '_' || c.is_alphanumeric();
        let end = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, tail) = rest.split_at(end);
        if !first.is_whitespace() {
            tokens.push(token.to_owned());
        }
        rest = tail;
    }
    tokens
}

/// The functions of a tree that come into question.
struct Corpus {
    files: Vec<SourceFile>,
    candidates: Vec<Candidate>,
    /// In how many candidates a shingle occurs.
    frequency: HashMap<u64, usize>,
}

/// A function, or a file where the point is one of the file's.
struct Candidate {
    file: usize,
    function: Option<usize>,
    text: Text,
}

/// A candidate and how like the remembered function it is.
struct Ranked<'a> {
    candidate: &'a Candidate,
    score: f64,
    text: f64,
    name: f64,
}

impl Corpus {
    fn read(tree: &Tree, memory: &Memory) -> io::Result<Self> {
        let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        let extension = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let is_wanted = |path: &String| {
            top(path) == top(&memory.file)
                && match memory.function {
                    Some(_) => EXTENSIONS.contains(&extension(path).as_str()),
                    None => extension(path) == extension(&memory.file),
                }
        };
        let mut corpus = Corpus { files: Vec::new(), candidates: Vec::new(), frequency: HashMap::new() };
        for path in tree.paths()?.into_iter().filter(is_wanted) {
            let Some(bytes) = tree.read(&path)? else { continue };
            corpus.add(&path, bytes, memory);
        }
        Ok(corpus)
    }

    fn add(&mut self, path: &str, bytes: Arc<[u8]>, memory: &Memory) {
        let file = SourceFile::parse(path, bytes);
        let mut push = |function, range| {
            let text = Text::of(&file, range);
            for shingle in text.shingles.keys() {
                *self.frequency.entry(*shingle).or_insert(0) += 1;
            }
            self.candidates.push(Candidate { file: self.files.len(), function, text });
        };
        match memory.function {
            None => push(None, 0..file.bytes.len()),
            Some(_) => {
                for (index, function) in file.functions().iter().enumerate() {
                    if matches!(function.body, Body::Block(_)) {
                        push(Some(index), body(function));
                    }
                }
            }
        }
        self.files.push(file);
    }

    fn file(&self, candidate: &Candidate) -> &SourceFile {
        &self.files[candidate.file]
    }

    fn function(&self, candidate: &Candidate) -> Option<&Function> {
        self.file(candidate).functions().get(candidate.function?)
    }

    /// Rare shingles tell more.
    fn weight(&self, shingle: u64) -> f64 {
        let known = self.frequency.get(&shingle).copied().unwrap_or(0);
        ((1 + self.candidates.len()) as f64 / (1 + known) as f64).ln().max(0.01)
    }

    fn rank(&self, memory: &Memory) -> Vec<Ranked<'_>> {
        let total = |text: &Text| text.shingles.iter().map(|(s, n)| self.weight(*s) * *n as f64).sum::<f64>();
        let of_memory = total(&memory.text);
        let mut ranked: Vec<_> = self
            .candidates
            .iter()
            .map(|candidate| {
                let shared: f64 = memory
                    .text
                    .shingles
                    .iter()
                    .filter_map(|(s, n)| Some(self.weight(*s) * *n.min(candidate.text.shingles.get(s)?) as f64))
                    .sum();
                let of_candidate = total(&candidate.text);
                let whole = ratio(shared, of_memory + of_candidate - shared);
                // A function that was split, or took another one in, holds it or is held by it.
                let part = ratio(shared, of_memory.min(of_candidate)) * ratio(shared, of_memory).sqrt();
                let text = 0.6 * whole + 0.4 * part;
                let file = nearness(&memory.file, &self.file(candidate).path);
                let (name, types) = match (&memory.function, self.function(candidate)) {
                    (Some(old), Some(new)) => {
                        (likeness(&old.name, &new.name), overlap(&old.types, &Signature::of(new).types))
                    }
                    _ => (likeness(&memory.file, &self.file(candidate).path), 1.0),
                };
                let score = 0.55 * text + 0.30 * name + 0.10 * types + 0.05 * file;
                Ranked { candidate, score, text, name }
            })
            .collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked
    }

    /// The alternate for a candidate, if a line has a place in it.
    fn propose(&self, point: &Point, memory: &Memory, ranked: Ranked<'_>) -> Option<Proposal> {
        let candidate = ranked.candidate;
        let file = self.file(candidate);
        let function = self.function(candidate);
        let mut evidence = vec![format!("{:.0} % of the text", 100.0 * ranked.text)];
        let mut draft = Draft {
            file: &file.path,
            function: function.map(|f| f.name.as_str()),
            params: Vec::new(),
            insert: None,
            memory,
        };
        if let Some(function) = function {
            bind(&mut draft, file, function, &candidate.text, &mut evidence)?;
        }
        let mut score = ranked.score;
        let (alternate, found) = if memory.is_anchored() {
            let (alternate, found, statement) = self.anchor(point, memory, file, &draft, &mut evidence)?;
            score = 0.6 * score + 0.4 * statement;
            (alternate, found)
        } else {
            let alternate = draft.toml(None);
            let found = place(point, file, &alternate)?;
            (alternate, found)
        };
        let first = found.first()?;
        if let (Some(old), Some(new)) = (&memory.function, function) {
            if old.name == new.name {
                evidence.push("the same name".to_owned());
            } else {
                evidence.push(format!("{} is like {} ({:.0} %)", new.name, old.name, 100.0 * ranked.name));
            }
        }
        if memory.file != file.path {
            evidence.push(format!("moved from {}", memory.file));
        }
        for unknown in unknown_words(&first.site.inserted, &memory.text, &candidate.text) {
            evidence.push(format!("but the line uses `{unknown}`, which is not in it"));
            score *= 0.85;
        }
        if let Some(version) = locate::miscounted(&found, point.count) {
            evidence.push(format!("but {} sites, {} declared", version.len(), point.count));
            score *= 0.85;
        } else if memory.sites != found.len() {
            evidence.push(format!("{} sites instead of {}", found.len(), memory.sites));
        }
        Some(Proposal {
            score,
            file: file.path.clone(),
            function: first.site.function.clone(),
            line: first.site.line,
            alternate,
            evidence,
        })
    }

    /// The statement in a function that is the remembered one, or most like it.
    fn anchor(
        &self,
        point: &Point,
        memory: &Memory,
        file: &SourceFile,
        draft: &Draft<'_>,
        evidence: &mut Vec<String>,
    ) -> Option<(String, Vec<Found>, f64)> {
        let anchor = memory.alternate.anchor.as_ref()?;
        let alternate = draft.toml(Some(&anchor.written));
        if let Some(found) = place(point, file, &alternate) {
            let line = file.line_text(found.first()?.site.line);
            let same = statement_likeness(&line, &memory.statement);
            evidence.push(format!("the statement is there: `{line}`"));
            return Some((alternate, found, 0.5 + 0.5 * same));
        }
        // Whatever stands alone on its line.
        let any = draft.any();
        let set = PointSet::parse([("any.toml", any)]).ok()?;
        let finding = locate::locate(file, set.points().first()?.at.first()?).ok()?;
        let mut lines: Vec<_> = finding
            .found
            .iter()
            .map(|found| {
                let line = file.line_text(found.site.line);
                (statement_likeness(&line, &memory.statement), line)
            })
            .filter(|(like, _)| *like >= 0.4)
            .collect();
        lines.sort_by(|a, b| b.0.total_cmp(&a.0));
        lines.dedup();
        for (like, line) in lines.into_iter().take(3) {
            let regex = draft.regex(&line);
            let alternate = draft.toml(Some(&regex));
            if let Some(found) = place(point, file, &alternate) {
                evidence.push(format!("`{}` is now `{line}` ({:.0} %)", memory.statement, 100.0 * like));
                return Some((alternate, found, 0.8 * like));
            }
        }
        None
    }
}

/// Names the parameters in a draft: those that the line uses, and one that picks the overload. A parameter that is gone
/// is replaced in the line: by `this` in a method of its class, by a local of its name.
fn bind(
    draft: &mut Draft<'_>,
    file: &SourceFile,
    function: &Function,
    text: &Text,
    evidence: &mut Vec<String>,
) -> Option<()> {
    let memory = draft.memory;
    for old in &memory.alternate.params {
        let old_name = memory
            .function
            .as_ref()
            .and_then(|f| f.parameters.iter().find(|(_, of)| **of == old.normal).map(|(name, _)| name.as_str()));
        let has_name = |p: &&Parameter| {
            p.name.is_some() && (p.name.as_deref() == old_name || p.name.as_deref() == Some(&old.capture))
        };
        let same = function.parameters.iter().find(|p| p.normal == old.normal);
        let like = || {
            let likest = function
                .parameters
                .iter()
                .max_by(|a, b| likeness(&a.normal, &old.normal).total_cmp(&likeness(&b.normal, &old.normal)));
            likest.filter(|p| likeness(&p.normal, &old.normal) >= 0.3)
        };
        let is_method = is_method_of(&function.name, old.normal.trim_end_matches('*'));
        let new = same.or_else(|| function.parameters.iter().find(has_name)).or_else(|| (!is_method).then(like)?);
        let placeholder = format!("{{{}}}", old.capture);
        let line = draft.insert.as_deref().unwrap_or(memory.alternate.insert.as_str());
        if let Some(new) = new {
            if new.normal != old.normal {
                evidence.push(format!("`{}` is now {}", old.capture, new.normal));
            }
            let written = if new.normal == old.normal { &old.written } else { &new.normal };
            draft.params.push((old.capture.clone(), written.clone()));
        } else if !line.contains(&placeholder) {
            evidence.push(format!("no parameter like {}", old.written));
        } else if is_method {
            let this = if old.normal.ends_with('*') { "this" } else { "*this" };
            let line = line.replace(&format!("&{placeholder}"), "this");
            let line = line.replace(&format!("{placeholder}->"), "").replace(&format!("{placeholder}."), "");
            draft.insert = Some(line.replace(&format!("*{placeholder}"), "*this").replace(&placeholder, this));
            evidence.push(format!("`{}` is the object itself now", old.capture));
        } else {
            let name = old_name.filter(|name| text.words.contains(*name))?;
            draft.insert = Some(line.replace(&placeholder, name));
            evidence.push(format!("`{name}` is no parameter now, but in it; look at its type"));
        }
    }
    let overloads: Vec<_> =
        file.functions().iter().filter(|f| f.name == function.name && matches!(f.body, Body::Block(_))).collect();
    if overloads.len() > 1 && draft.params.is_empty() {
        let is_telling = |p: &&Parameter| {
            let have = |f: &&&Function| f.parameters.iter().any(|q| q.normal == p.normal);
            overloads.iter().filter(have).count() == 1
        };
        let telling = function.parameters.iter().find(is_telling)?;
        draft.params.push((telling.name.clone().unwrap_or_else(|| "which".to_owned()), telling.normal.clone()));
    }
    Some(())
}

/// Whether `name` is a member of `class`.
fn is_method_of(name: &str, class: &str) -> bool {
    name.rsplit_once("::").is_some_and(|(scope, _)| scope == class || scope.ends_with(&format!("::{class}")))
}

/// An alternate in the making.
struct Draft<'a> {
    file: &'a str,
    function: Option<&'a str>,
    params: Vec<(String, String)>,
    /// The line, where it is no longer the point's.
    insert: Option<String>,
    memory: &'a Memory,
}

impl Draft<'_> {
    fn toml(&self, matching: Option<&str>) -> String {
        self.write(matching, self.memory.alternate.position, self.memory.alternate.skip_inline)
    }

    fn write(&self, matching: Option<&str>, position: Position, skip_inline: bool) -> String {
        let mut fields = vec![format!("file = {}", quoted(self.file))];
        fields.extend(self.function.map(|name| format!("function = {}", quoted(name))));
        if !self.params.is_empty() {
            let params: Vec<_> = self.params.iter().map(|(name, of)| format!("{name} = {}", quoted(of))).collect();
            fields.push(format!("params = {{ {} }}", params.join(", ")));
        }
        fields.push(format!("position = \"{position}\""));
        fields.extend(matching.map(|regex| format!("match = {}", literal(regex))));
        let insert = self.insert.as_deref().unwrap_or(self.memory.alternate.insert.as_str());
        if position == self.memory.alternate.position && matching != Some(ANY) {
            let is_points_own = self.insert.is_none() && !self.memory.has_own_line;
            fields.extend((!is_points_own).then(|| format!("insert = {}", literal(insert))));
        }
        if self.memory.alternate.in_preproc {
            fields.push("in_preproc = true".to_owned());
        }
        if skip_inline {
            fields.push("skip_inline = true".to_owned());
        }
        format!("{{ {} }}", fields.join(", "))
    }

    /// A point that finds every statement of the function.
    fn any(&self) -> String {
        let alternate = self.write(Some(ANY), Position::Before, true);
        format!(
            "[[point]]\nid = \"any\"\npurpose = \"any\"\ncount = \"1..\"\ncount_reason = \"any\"\ninsert = 'LLAMA_OTEL_ANY();'\nat = [{alternate}]\n"
        )
    }

    /// An expression for a statement's first line: its beginning up to a string or comment, with the groups that the
    /// line uses where their old values were.
    fn regex(&self, line: &str) -> String {
        let end = line.find(['"', '\'']).or_else(|| line.find("//")).or_else(|| line.find("/*")).unwrap_or(line.len());
        let mut regex = regex::escape(line[..end].trim_end());
        let groups = self.memory.alternate.insert.captures();
        let declared: Vec<_> = self.params.iter().map(|(name, _)| name.as_str()).collect();
        for group in groups.into_iter().filter(|group| !declared.contains(group)) {
            let Some(anchor) = &self.memory.alternate.anchor else { continue };
            let old = anchor.regex.captures(self.memory.statement.as_bytes());
            let value = old.and_then(|old| Some(String::from_utf8_lossy(old.name(group)?.as_bytes()).into_owned()));
            let known = value
                .and_then(|value| regex::Regex::new(&format!(r"{}\b", regex::escape(&regex::escape(&value)))).ok());
            // A word of its own: not the end of a longer one.
            let at = known.and_then(|known| {
                let is_apart =
                    |at: &regex::Match<'_>| !regex[..at.start()].ends_with(|c: char| c == '_' || c.is_alphanumeric());
                known.find_iter(&regex).find(is_apart).map(|at| at.range())
            });
            if let Some(at) = at {
                regex.replace_range(at, &format!(r"(?<{group}>-?\w+)"));
            }
        }
        format!("^{regex}")
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As regular expressions and code read best.
fn literal(text: &str) -> String {
    if text.contains(['\'', '\n', '\r']) { quoted(text) } else { format!("'{text}'") }
}

/// The sites of the point with this one alternate in the file, if the line can stand at all of them.
fn place(point: &Point, file: &SourceFile, alternate: &str) -> Option<Vec<Found>> {
    let insert = point.at.first()?.insert.as_str();
    let text =
        format!("[[point]]\nid = \"mend\"\npurpose = \"mend\"\ninsert = {}\nat = [{alternate}]\n", quoted(insert));
    let set = PointSet::parse([("mend.toml", text)]).ok()?;
    let alternate = set.points().first()?.at.first()?;
    let finding = locate::locate(file, alternate).ok()?;
    let is_refused = finding
        .refused
        .iter()
        .any(|candidate| !(alternate.skip_inline && candidate.refusal.as_ref().is_some_and(|r| r.is_inline())));
    (!is_refused && !finding.found.is_empty()).then_some(finding.found)
}

/// Words of the inserted line that the old function knew and the new one does not.
fn unknown_words(inserted: &str, old: &Text, new: &Text) -> Vec<String> {
    let mask = crate::mask::Mask::new(inserted.as_bytes());
    let code = String::from_utf8_lossy(mask.code()).into_owned();
    let words: BTreeSet<_> = tokens(&code).into_iter().filter(|word| !word.starts_with("LLAMA_OTEL_")).collect();
    words.into_iter().filter(|word| old.words.contains(word) && !new.words.contains(word)).collect()
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// Of two paths: the same, in the same folder, or neither.
fn nearness(one: &str, other: &str) -> f64 {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default();
    if one == other {
        1.0
    } else if folder(one) == folder(other) {
        0.5
    } else {
        0.0
    }
}

/// How many words two names share, the last part of a qualified one counting double.
fn likeness(one: &str, other: &str) -> f64 {
    if one == other {
        return 1.0;
    }
    let words = |name: &str| -> Vec<String> {
        let name = name.to_lowercase();
        let last = name.rsplit("::").next().unwrap_or_default().to_owned();
        let split = |text: &str| {
            text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut words = split(&name);
        words.extend(split(&last));
        words
    };
    0.95 * likeness_of(&words(one), &words(other))
}

/// Shared elements of two lists, as a share of both: 1 for the same, 0 for nothing in common.
fn likeness_of(one: &[String], other: &[String]) -> f64 {
    let mut left = other.to_vec();
    let shared =
        one.iter().filter(|word| left.iter().position(|o| o == *word).map(|at| left.swap_remove(at)).is_some());
    let shared = shared.count();
    ratio(2.0 * shared as f64, (one.len() + other.len()) as f64)
}

fn overlap(one: &[String], other: &[String]) -> f64 {
    if one.is_empty() && other.is_empty() { 1.0 } else { likeness_of(one, other) }
}
