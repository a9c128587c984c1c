//! Where a lost point went: the functions of a tree that are most like the one that the point stood in, ranked, each as
//! the alternate to add.
//!
//! Nothing here places a line. A proposal is for a person to judge; it is checked to have a place, not to be right.

mod calls;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use self::calls::{CallEvidence, Split};
use self::surroundings::Surroundings;
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
/// How much it speaks for a function that it is called where the lost one was.
const CALLED: f64 = 0.2;
/// What is left of a function that has only a part of the lost one's text, and what goes to the one that calls the parts.
const A_PART: f64 = 0.75;
const A_WHOLE: f64 = 0.9;
/// How like a statement must be to be taken for the remembered one, and how many are tried.
const ALIKE: f64 = 0.4;
const LIKEST: usize = 3;
/// How like a statement is at least that has the remembered one's comment above it.
const COMMENT: f64 = 0.7;
/// What is left of a place for each word of the line that is declared below it.
const TOO_EARLY: f64 = 0.7;
/// What is left of a place in a loop, of a line that was in none: it would run more often.
const IN_LOOP: f64 = 0.5;
/// How much speaks for the place where the last of the line's words is declared.
const DECLARED: f64 = 0.5;
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
    let mut ranked = corpus.rank(&memory, &Corpus::read(before, &memory)?);
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
    /// Whether it is run more than once in a run of the function.
    is_in_loop: bool,
    /// What stands around the first site.
    surroundings: Surroundings,
    /// Words of the inserted line that the function has.
    words: BTreeSet<String>,
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
            let text = Text::of(&file, range.clone());
            let mut words = words_of(&first.site.inserted);
            words.retain(|word| text.words.contains(word));
            return Ok(Memory {
                alternate: alternate.clone(),
                has_own_line: point.at.first().is_some_and(|first| first.insert != alternate.insert),
                file: alternate.file.clone(),
                function: function.map(Signature::of),
                text,
                statement,
                is_in_loop: file.loops_around(first.offset) > 0,
                surroundings: Surroundings::of(&file, &range, first.offset, first.site.line),
                words,
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
    /// Names of the functions that it calls.
    calls: BTreeSet<String>,
}

impl Text {
    fn of(file: &SourceFile, range: Range<usize>) -> Self {
        let text = file.mask.text_without_comments(&file.bytes, range);
        let tokens = without_receivers(tokens(&text));
        let mut shingles = HashMap::new();
        for window in tokens.windows(SHINGLE) {
            *shingles.entry(hash(window)).or_insert(0) += 1;
        }
        Text { calls: calls::called(&tokens), words: tokens.into_iter().collect(), shingles }
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

/// How like two statements are: the words count more than the signs between them, and the objects least.
fn statement_likeness(one: &str, other: &str) -> f64 {
    let parts = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let with_objects = likeness_of(&parts(one), &parts(other));
    let (one, other) = (without_receivers(tokens(one)), without_receivers(tokens(other)));
    let words = |tokens: &[String]| tokens.iter().filter(|token| is_word(token)).cloned().collect::<Vec<_>>();
    0.75 * likeness_of(&words(&one), &words(&other)) + 0.15 * likeness_of(&one, &other) + 0.10 * with_objects
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
    /// In which candidates a shingle occurs, and how often.
    index: HashMap<u64, Vec<(usize, usize)>>,
    /// What each candidate's text weighs.
    totals: Vec<f64>,
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
    /// The candidate's place among all of them.
    number: usize,
    score: f64,
    text: f64,
    name: f64,
    /// How much of the remembered text it has.
    held: f64,
    /// What is to be said of it, besides that.
    evidence: Vec<String>,
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
        let mut corpus =
            Corpus { files: Vec::new(), candidates: Vec::new(), index: HashMap::new(), totals: Vec::new() };
        for path in tree.paths()?.into_iter().filter(is_wanted) {
            let Some(bytes) = tree.read(&path)? else { continue };
            corpus.add(&path, bytes, memory);
        }
        let total = |text: &Text| text.shingles.iter().map(|(s, n)| corpus.weight(*s) * *n as f64).sum::<f64>();
        corpus.totals = corpus.candidates.iter().map(|candidate| total(&candidate.text)).collect();
        Ok(corpus)
    }

    fn add(&mut self, path: &str, bytes: Arc<[u8]>, memory: &Memory) {
        let file = SourceFile::parse(path, bytes);
        let mut push = |function, range| {
            let text = Text::of(&file, range);
            for (shingle, times) in &text.shingles {
                self.index.entry(*shingle).or_default().push((self.candidates.len(), *times));
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
        let known = self.index.get(&shingle).map_or(0, Vec::len);
        ((1 + self.candidates.len()) as f64 / (1 + known) as f64).ln().max(0.01)
    }

    /// The candidates by what speaks for them: what they are like, and that they are called where the lost one was.
    fn rank(&self, memory: &Memory, old: &Corpus) -> Vec<Ranked<'_>> {
        let mut ranked = self.compare(&memory.text, memory.function.as_ref(), &memory.file);
        let calls = CallEvidence::of(memory, old, self);
        let mut held = vec![0.0; self.candidates.len()];
        for one in &ranked {
            held[one.number] = one.held;
        }
        if let Some(split) = Split::of(memory, self, &calls, &held) {
            self.follow(&split, &mut ranked);
        }
        for one in &mut ranked {
            let worth = calls.worth(one.number);
            one.score += CALLED * worth * (1.0 - one.score);
            if let Some(callers) = calls.callers(one.number).filter(|_| worth >= 0.1) {
                one.evidence.push(format!("called where the old one was, in {callers}"));
            }
        }
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        ranked
    }

    /// What calls all the parts takes their text over.
    fn follow(&self, split: &Split, ranked: &mut [Ranked<'_>]) {
        let name = |number: &usize| self.function(&self.candidates[*number]).map(|f| format!("`{}`", f.name));
        let parts: BTreeSet<_> = split.parts.iter().filter_map(name).collect();
        let parts = parts.into_iter().collect::<Vec<_>>().join(" and ");
        let part = |one: &&Ranked<'_>| split.parts.contains(&one.number);
        let likest = ranked.iter().filter(part).map(|one| one.score).fold(0.0, f64::max);
        for one in ranked {
            if split.parts.contains(&one.number) {
                one.score *= A_PART;
                one.evidence.push(format!("but only a part: its text is in {parts}"));
            } else if split.whole.contains(&one.number) && one.score < A_WHOLE * likest {
                one.score = A_WHOLE * likest;
                one.evidence.push(format!("calls {parts}, which have its text"));
            }
        }
    }

    /// The candidates by how like they are to a function: its text, head and file.
    fn compare(&self, text: &Text, function: Option<&Signature>, path: &str) -> Vec<Ranked<'_>> {
        let total = |text: &Text| text.shingles.iter().map(|(s, n)| self.weight(*s) * *n as f64).sum::<f64>();
        let of_memory = total(text);
        let mut shared = vec![0.0; self.candidates.len()];
        for (shingle, times) in &text.shingles {
            let weight = self.weight(*shingle);
            for (number, there) in self.index.get(shingle).into_iter().flatten() {
                shared[*number] += weight * *times.min(there) as f64;
            }
        }
        let mut ranked: Vec<_> = self
            .candidates
            .iter()
            .enumerate()
            .map(|(number, candidate)| {
                let shared: f64 = shared[number];
                let of_candidate = self.totals[number];
                let whole = ratio(shared, of_memory + of_candidate - shared);
                // A function that was split, or took another one in, holds it or is held by it.
                let held = ratio(shared, of_memory);
                let part = ratio(shared, of_memory.min(of_candidate)) * held.sqrt();
                let text = 0.6 * whole + 0.4 * part;
                let file = nearness(path, &self.file(candidate).path);
                let (name, types) = match (function, self.function(candidate)) {
                    (Some(old), Some(new)) => {
                        (likeness(&old.name, &new.name), overlap(&old.types, &Signature::of(new).types))
                    }
                    _ => (likeness(path, &self.file(candidate).path), 1.0),
                };
                let score = 0.55 * text + 0.30 * name + 0.10 * types + 0.05 * file;
                Ranked { candidate, number, score, text, name, held, evidence: Vec::new() }
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
        evidence.extend(ranked.evidence);
        let mut score = ranked.score;
        let (alternate, found) = if memory.is_anchored() {
            let Anchored { alternate, found, statement, around, why } =
                anchor(point, memory, file, &body(function?), &draft)?;
            score = 0.55 * score + 0.35 * statement + 0.10 * around;
            evidence.extend(why);
            (alternate, found)
        } else {
            let alternate = draft.toml(None);
            let found = place(point, file, &alternate)?;
            if let (Some(function), Some(first)) = (function, found.first()) {
                let around = Surroundings::of(file, &body(function), first.offset, first.site.line);
                score = 0.85 * score + 0.15 * around.likeness(&memory.surroundings);
            }
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
}

/// A place for an anchored line in a function.
struct Anchored {
    alternate: String,
    found: Vec<Found>,
    /// How like its statement is to the remembered one.
    statement: f64,
    /// How like the statements around it are.
    around: f64,
    why: Vec<String>,
}

impl Anchored {
    fn worth(&self) -> f64 {
        0.8 * self.statement + 0.2 * self.around
    }
}

/// The place in a function whose statement is the remembered one, or most like it.
fn anchor(
    point: &Point,
    memory: &Memory,
    file: &SourceFile,
    body: &Range<usize>,
    draft: &Draft<'_>,
) -> Option<Anchored> {
    let around =
        |found: &Found| Surroundings::of(file, body, found.offset, found.site.line).likeness(&memory.surroundings);
    let anchor = memory.alternate.anchor.as_ref()?;
    let alternate = draft.toml(Some(&anchor.written));
    if let Some(found) = place(point, file, &alternate) {
        let first = found.first()?;
        let line = file.line_text(first.site.line);
        let same = statement_likeness(&line, &memory.statement);
        let why = vec![format!("the statement is there: `{line}`")];
        let around = around(first);
        return Some(Anchored { alternate, statement: 0.5 + 0.5 * same, around, found, why });
    }
    // Whatever stands alone on its line.
    let set = PointSet::parse([("any.toml", draft.any())]).ok()?;
    let statements = locate::locate(file, set.points().first()?.at.first()?).ok()?.found;
    let declared = surroundings::declarations(file, body, &memory.words);
    let too_early = |found: &Found| declared.iter().filter(|(_, at)| *at >= found.offset).count();
    let mut likest: Vec<_> = statements
        .iter()
        .filter_map(|found| {
            let line = file.line_text(found.site.line);
            let like = statement_likeness(&line, &memory.statement);
            let comment = surroundings::comment_above(file, found.site.line);
            let is_told = comment.is_some() && comment == memory.surroundings.comment;
            let like = if is_told { like.max(COMMENT) } else { like };
            (like >= ALIKE).then_some((like, is_told, found.site.line))
        })
        .collect();
    likest.sort_by(|a, b| b.0.total_cmp(&a.0));
    likest.truncate(LIKEST);
    let mut places = Vec::new();
    for (like, is_told, number) in likest {
        let line = file.line_text(number);
        let position = memory.alternate.position;
        let Some((alternate, found)) = draft.place(point, file, number, position) else { continue };
        let first = found.first()?;
        let mut why = vec![format!("`{}` is now `{line}` ({:.0} %)", memory.statement, 100.0 * like)];
        why.extend(is_told.then(|| "the same comment above".to_owned()));
        let early = too_early(first);
        if early > 0 {
            why.push(format!("but {early} of the line's words are declared further down"));
        }
        let mut statement = 0.8 * like * TOO_EARLY.powi(early as i32);
        if file.loops_around(first.offset) > 0 && !memory.is_in_loop {
            why.push("but in a loop, where the old one was in none".to_owned());
            statement *= IN_LOOP;
        }
        let around = around(first);
        places.push(Anchored { alternate, found, statement, around, why });
    }
    // Of a statement that is gone: as soon as everything that the line needs is there.
    if let Some((word, at)) = declared.iter().max_by_key(|(_, at)| *at)
        && let Some((alternate, found)) = draft.place(point, file, file.line_of(*at), Position::After)
    {
        let why = vec![format!("`{word}`, which the line uses, is declared there; the statement itself is not found")];
        let around = around(found.first()?);
        places.push(Anchored { alternate, found, statement: 0.8 * DECLARED, around, why });
    }
    places.into_iter().max_by(|a, b| a.worth().total_cmp(&b.worth()))
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
        self.write(matching, self.memory.alternate.position, self.memory.alternate.skip_inline, true)
    }

    /// The sites of this line at the statement that begins on a line of the file. Where another statement of the function
    /// begins alike, the expression goes on with the next lines.
    fn place(
        &self,
        point: &Point,
        file: &SourceFile,
        number: usize,
        position: Position,
    ) -> Option<(String, Vec<Found>)> {
        let mut regex = self.regex(&file.line_text(number));
        let mut first = None;
        for next in number + 1..=number + 3 {
            let alternate = self.write(Some(&regex), position, self.memory.alternate.skip_inline, true);
            let found = place(point, file, &alternate)?;
            let is_there = found.iter().any(|found| found.site.line == number);
            if !is_there {
                break;
            }
            let is_clear = locate::miscounted(&found, point.count).is_none();
            let whole = file.line_text(next - 1);
            first = first.filter(|_| !is_clear).or(Some((alternate, found)));
            if is_clear || whole.contains(['"', '\'']) || whole.contains("//") || whole.contains("/*") {
                break;
            }
            regex = format!(r"{regex}\s*{}", self.regex(&file.line_text(next)).trim_start_matches('^'));
        }
        first
    }

    fn write(&self, matching: Option<&str>, position: Position, skip_inline: bool, with_line: bool) -> String {
        let mut fields = vec![format!("file = {}", quoted(self.file))];
        fields.extend(self.function.map(|name| format!("function = {}", quoted(name))));
        if !self.params.is_empty() {
            let params: Vec<_> = self.params.iter().map(|(name, of)| format!("{name} = {}", quoted(of))).collect();
            fields.push(format!("params = {{ {} }}", params.join(", ")));
        }
        fields.push(format!("position = \"{position}\""));
        fields.extend(matching.map(|regex| format!("match = {}", literal(regex))));
        let insert = self.insert.as_deref().unwrap_or(self.memory.alternate.insert.as_str());
        if with_line {
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
        let alternate = self.write(Some(ANY), Position::Before, true, false);
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

/// Words of an inserted line, without the macro and what stands in strings.
fn words_of(inserted: &str) -> BTreeSet<String> {
    let mask = crate::mask::Mask::new(inserted.as_bytes());
    let code = String::from_utf8_lossy(mask.code()).into_owned();
    tokens(&code).into_iter().filter(|word| is_word(word) && !word.starts_with("LLAMA_OTEL_")).collect()
}

/// Words of the inserted line that the old function knew and the new one does not.
fn unknown_words(inserted: &str, old: &Text, new: &Text) -> Vec<String> {
    words_of(inserted).into_iter().filter(|word| old.words.contains(word) && !new.words.contains(word)).collect()
}

/// The last part of a qualified name.
fn last_name(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
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
