//! The plan: for a tree and a set of points, every line to insert, or every reason why that cannot be.
//!
//! A plan is complete or absent: no point is dropped, and a first match is never taken for the only one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::{PlanErrors, TreeError};
use crate::locate::{self, Found};
use crate::point::{Absent, Alternate, Block, Point, PointSet};
use crate::source::{Function, SourceFile};
use crate::sources::Sources;
use crate::strip;
use crate::tree::{Tree, sha256};
use crate::verdict::{Candidate, Outcome, Tried, Verdict, Why};

/// Files of one tree by path.
type Files = HashMap<String, Arc<SourceFile>>;

/// A file that patching adds to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedFile {
    /// Path from the tree's root, with `/`.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// One line to insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// Offset in upstream's file: the start of the line in front of which it goes.
    pub offset: usize,
    /// The line with its indentation, without its end.
    pub text: String,
    /// The point that it belongs to.
    pub point: String,
}

/// What happens to one file of the tree. Insertions are sorted by offset; all are at starts of lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileEdit {
    /// Lines to insert.
    pub insertions: Vec<Insertion>,
    /// A block to append.
    pub block: Option<String>,
    /// SHA-256 of the bytes that were planned on.
    pub sha256: String,
}

/// Everything that patching a tree would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the tree is called.
    pub tree: String,
    /// Edits by path.
    pub files: BTreeMap<String, FileEdit>,
    /// Files to add.
    pub added: Vec<AddedFile>,
    /// One verdict for each point, in order.
    pub verdicts: Vec<Verdict>,
}

/// Plans all points of a set on a tree.
///
/// # Errors
/// Every problem of the tree and every point that is lost or ambiguous, all in one.
pub fn plan(tree: &Tree, points: &PointSet, added: Vec<AddedFile>) -> Result<Plan, PlanErrors> {
    plan_with(&Sources::default(), tree, points, added)
}

/// [`plan()`], with files that were parsed for other trees.
///
/// # Errors
/// Those of [`plan()`].
pub fn plan_with(sources: &Sources, tree: &Tree, points: &PointSet, added: Vec<AddedFile>) -> Result<Plan, PlanErrors> {
    let mut tree_errors = Vec::new();
    for block in points.blocks() {
        if matches!(tree.contains(&block.file), Ok(false)) {
            tree_errors.push(TreeError::NoBlockFile { path: block.file.clone(), source_file: block.source.clone() });
        }
    }
    if !tree_errors.is_empty() {
        // Not a tree of this kind: what else it lacks is not worth a word.
        return Err(PlanErrors { tree: tree.name().to_owned(), tree_errors, verdicts: Vec::new() });
    }
    let files = read_files(sources, tree, points, &mut tree_errors);
    for file in files.values() {
        tree_errors.extend(already_patched(&file.path, &file.bytes));
    }
    tree_errors.extend(check_added(tree, &added));

    let mut edits: BTreeMap<String, FileEdit> = BTreeMap::new();
    let mut verdicts = Vec::new();
    let judged = on_all_cores(points.points(), |point| judge(point, &files));
    for (point, (verdict, found)) in points.points().iter().zip(judged) {
        verdicts.push(verdict);
        for Found { offset, indentation, site, .. } in found {
            let text = format!("{indentation}{}", site.inserted);
            edits.entry(site.file).or_default().insertions.push(Insertion { offset, text, point: point.id.clone() });
        }
    }
    for (path, edit) in &mut edits {
        // Stable: at one offset, points stay in order of declaration.
        edit.insertions.sort_by_key(|insertion| insertion.offset);
        if let Some(file) = files.get(path) {
            edit.sha256 = sha256(&file.bytes);
            tree_errors.extend(same_line_twice(file, &edit.insertions));
        }
    }
    for block in points.blocks() {
        add_block(tree, block, &mut edits, &mut tree_errors);
    }
    if tree_errors.is_empty() && verdicts.iter().all(|v| v.outcome.is_fine()) {
        Ok(Plan { tree: tree.name().to_owned(), files: edits, added, verdicts })
    } else {
        tree_errors.sort_by_key(ToString::to_string);
        Err(PlanErrors { tree: tree.name().to_owned(), tree_errors, verdicts })
    }
}

/// The files that a set of points looks at, and of each whether it needs to know the functions in it.
fn wanted_files(points: &PointSet) -> BTreeMap<&str, bool> {
    let mut wanted: BTreeMap<&str, bool> = BTreeMap::new();
    for point in points.points() {
        for alternate in &point.at {
            *wanted.entry(&alternate.file).or_default() |= alternate.function.is_some();
        }
        for absent in &point.absent {
            *wanted.entry(&absent.file).or_default() |= absent.function.is_some();
        }
    }
    wanted
}

/// SHA-256, in hexadecimal, over everything of a tree that its plan depends on: two trees with the same one have
/// the same plan.
///
/// # Errors
/// A file of the tree cannot be read.
pub fn contents(tree: &Tree, points: &PointSet, added: &[AddedFile]) -> io::Result<String> {
    let blocks = points.blocks().iter().map(|block| block.file.as_str());
    let paths: BTreeSet<_> = wanted_files(points).into_keys().chain(blocks).collect();
    let mut hasher = Sha256::new();
    for path in paths {
        if let Some(bytes) = tree.read(path)? {
            hasher.update(path);
            hasher.update([0]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        }
    }
    for file in added {
        hasher.update([u8::from(tree.contains(&file.path)?)]);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Reads every file that a point names and the tree has, each once, on all cores.
fn read_files(sources: &Sources, tree: &Tree, points: &PointSet, errors: &mut Vec<TreeError>) -> Files {
    let mut jobs: Vec<(&str, bool, Arc<[u8]>)> = Vec::new();
    for (path, functions) in wanted_files(points) {
        match tree.read(path) {
            Ok(Some(bytes)) => jobs.push((path, functions, bytes)),
            Ok(None) => {}
            Err(error) => errors.push(TreeError::Unreadable { path: path.to_owned(), error: error.to_string() }),
        }
    }
    // Largest first: the last file to finish is then a small one.
    jobs.sort_by_key(|(_, functions, bytes)| std::cmp::Reverse(bytes.len() * if *functions { 10 } else { 1 }));
    let files = on_all_cores(&jobs, |(path, functions, bytes)| sources.get(path, bytes, *functions));
    jobs.iter().map(|(path, ..)| (*path).to_owned()).zip(files).collect()
}

/// What `work` makes of each of them, in their order.
fn on_all_cores<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(all.len()));
    let run = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(one) = all.get(index) else { break };
        let result = work(one);
        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(all.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn already_patched(path: &str, bytes: &[u8]) -> Option<TreeError> {
    let (line, text) = strip::first_mark(bytes)?;
    Some(TreeError::AlreadyPatched { path: path.to_owned(), line, text })
}

fn check_added(tree: &Tree, added: &[AddedFile]) -> Vec<TreeError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for AddedFile { path, .. } in added {
        if !seen.insert(path) {
            errors.push(TreeError::AddedTwice { path: path.clone() });
        }
        match tree.contains(path) {
            Ok(false) => {}
            Ok(true) => errors.push(TreeError::AddedFileExists { path: path.clone() }),
            Err(error) => errors.push(TreeError::Unreadable { path: path.clone(), error: error.to_string() }),
        }
    }
    errors
}

fn same_line_twice(file: &SourceFile, insertions: &[Insertion]) -> Vec<TreeError> {
    let mut errors = Vec::new();
    for (index, second) in insertions.iter().enumerate() {
        let earlier = insertions[..index].iter().rev().take_while(|first| first.offset == second.offset);
        for first in earlier.filter(|first| first.text == second.text) {
            let (path, line) = (file.path.clone(), file.line_of(second.offset));
            errors.push(TreeError::SameLineTwice {
                path,
                line,
                first: first.point.clone(),
                second: second.point.clone(),
            });
        }
    }
    errors
}

fn add_block(tree: &Tree, block: &Block, edits: &mut BTreeMap<String, FileEdit>, errors: &mut Vec<TreeError>) {
    match tree.read(&block.file) {
        Err(error) => errors.push(TreeError::Unreadable { path: block.file.clone(), error: error.to_string() }),
        // Refused before anything else was looked at.
        Ok(None) => {}
        Ok(Some(bytes)) => {
            if let Some(error) = already_patched(&block.file, &bytes).filter(|error| !errors.contains(error)) {
                errors.push(error);
            }
            let edit = edits.entry(block.file.clone()).or_default();
            edit.block = Some(block.text.clone());
            edit.sha256 = sha256(&bytes);
        }
    }
}

/// Looks at a point's declared absences, then tries its alternates in order.
fn judge(point: &Point, files: &Files) -> (Verdict, Vec<Found>) {
    let mut verdict = Verdict {
        id: point.id.clone(),
        outcome: Outcome::Lost,
        alternate: None,
        file: None,
        line: None,
        function: None,
        sites: Vec::new(),
        skipped: Vec::new(),
        reason: None,
        tried: Vec::new(),
        source: point.source.clone(),
    };
    if let Some(absent) = point.absent.iter().find(|absent| holds(absent, files)) {
        verdict.outcome = Outcome::Absent;
        verdict.reason = Some(absent.reason.clone());
        return (verdict, Vec::new());
    }
    for (index, alternate) in point.at.iter().enumerate() {
        let earlier = verdict.tried.iter().filter_map(|tried| Some((tried, point.at.get(tried.alternate)?)));
        let sign = earlier.clone().find_map(|(tried, newer)| {
            let sign = sign_of_newer(newer, &tried.why, alternate, files.get(&newer.file)?)?;
            Some(Why::Outdated { newer: tried.alternate, sign })
        });
        let result = match files.get(&alternate.file) {
            _ if sign.is_some() => Err((sign.unwrap_or(Why::NoFile), Vec::new())),
            None => Err((Why::NoFile, Vec::new())),
            Some(file) => locate::locate(file, alternate).map_err(|why| (why, Vec::new())).and_then(|finding| {
                let (skipped, refused): (Vec<_>, Vec<_>) = finding
                    .refused
                    .into_iter()
                    .partition(|c| alternate.skip_inline && c.refusal.as_ref().is_some_and(|r| r.is_inline()));
                check_count(point, file, &finding.found, refused).map(|()| (finding.found, skipped))
            }),
        };
        match result {
            Ok((found, skipped)) => {
                let sites: Vec<_> = found.iter().map(|f| f.site.clone()).collect();
                let first = sites.first();
                verdict.outcome = Outcome::Placed;
                verdict.alternate = Some(index);
                verdict.file = first.map(|s| s.file.clone());
                verdict.line = first.map(|s| s.line);
                verdict.function = first.and_then(|s| s.function.clone());
                verdict.sites = sites;
                verdict.skipped = skipped;
                verdict.tried.clear();
                return (verdict, found);
            }
            Err((why, candidates)) => {
                let is_final = why.is_final();
                if why.is_ambiguous() {
                    verdict.outcome = Outcome::Ambiguous;
                }
                verdict.tried.push(Tried {
                    alternate: index,
                    file: alternate.file.clone(),
                    place: alternate.describe(),
                    why,
                    candidates,
                });
                if is_final {
                    return (verdict, Vec::new());
                }
            }
        }
    }
    (verdict, Vec::new())
}

/// What shows that a tree is one of those that the newer alternate was written for, though it does not fit: then an
/// older one, if it fits, does so by chance.
fn sign_of_newer(newer: &Alternate, why: &Why, older: &Alternate, file: &SourceFile) -> Option<String> {
    let name = newer.function.as_deref()?;
    let is_same = newer.file == older.file && newer.function == older.function;
    match why {
        Why::NoFunction { unclear: Some(line), .. } => {
            Some(format!("{name} is in a part of {} that the parser makes no sense of (line {line})", newer.file))
        }
        Why::NoMatch { .. }
        | Why::NoParameter { .. }
        | Why::SeveralParameters { .. }
        | Why::UnnamedParameter { .. }
            if !is_same =>
        {
            Some(format!("{} has {name}", newer.file))
        }
        Why::NoMatch { .. } => {
            let line = locate::resembling(file, newer)?;
            Some(format!("line {line} of {} has the words of its match", newer.file))
        }
        Why::NoParameter { .. } | Why::NoFunction { .. } if is_same => {
            // The type that a parameter changed to.
            let changed = newer.params.iter().find(|param| {
                older.params.iter().any(|other| other.capture == param.capture && other.normal != param.normal)
            })?;
            let word = changed.normal.trim_end_matches(['*', '&']);
            file.mentions(word).then(|| format!("{} has {word}", newer.file))
        }
        // Renamed, or moved out of its class: its name is still called, or its class still has other functions here.
        Why::NoFunction { .. } if newer.file == older.file => match name.rsplit_once("::") {
            Some((class, _)) => {
                let is_of_class = |f: &Function| f.name.rsplit_once("::").is_some_and(|(scope, _)| scope == class);
                let other = file.functions().iter().find(|function| is_of_class(function))?;
                Some(format!("{} has {}", newer.file, other.name))
            }
            None => file.mentions(name).then(|| format!("{} mentions {name}", newer.file)),
        },
        _ => None,
    }
}

fn check_count(
    point: &Point,
    file: &SourceFile,
    found: &[Found],
    refused: Vec<Candidate>,
) -> Result<(), (Why, Vec<Candidate>)> {
    if !refused.is_empty() {
        return Err((Why::NoRoom, refused));
    }
    let count = point.count;
    let Some(version) = locate::miscounted(found, count) else {
        return Ok(());
    };
    let found = version.len();
    let why = if found < count.min { Why::TooFew { found, count } } else { Why::TooMany { found, count } };
    let candidate = |f: &Found| Candidate { line: f.site.line, text: file.line_text(f.site.line), refusal: None };
    Err((why, version.iter().map(candidate).collect()))
}

fn holds(absent: &Absent, files: &Files) -> bool {
    let file = files.get(&absent.file);
    let is_there = match &absent.function {
        None => file.is_some(),
        Some(name) => file.is_some_and(|file| locate::has_function(file, name)),
    };
    is_there != absent.missing
}
