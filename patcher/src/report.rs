//! Verdicts in words, and the difference that a plan makes, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::apply::Applied;
use crate::error::{PlanErrors, TreeError};
use crate::plan::Plan;
use crate::point::PointSet;
use crate::tree::{Tree, sha256};
use crate::verdict::{Outcome, Tried, Verdict};

/// Everything about one tree, as `--format json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the tree is called.
    pub tree: String,
    /// Whether a plan exists.
    pub ok: bool,
    /// Problems of the tree itself.
    pub errors: Vec<String>,
    /// One verdict for each point.
    pub points: Vec<Verdict>,
    /// The files that the plan changes or adds.
    pub files: Vec<FileReport>,
}

/// One changed or added file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct FileReport {
    /// Path from the tree's root.
    pub path: String,
    /// SHA-256 of upstream's file; `None` for an added file.
    pub before: Option<String>,
    /// SHA-256 of the patched file.
    pub after: String,
    /// Number of inserted lines, those of an appended block not counted.
    pub insertions: usize,
}

impl Report {
    /// The report of a plan that was carried out.
    pub fn of_plan(plan: &Plan, applied: &Applied) -> Self {
        let files = applied
            .files
            .iter()
            .map(|(path, bytes)| {
                let path = path.to_string_lossy().into_owned();
                let edit = plan.files.get(&path);
                FileReport {
                    before: edit.map(|e| e.sha256.clone()),
                    after: sha256(bytes),
                    insertions: edit.map_or(0, |e| e.insertions.len()),
                    path,
                }
            })
            .collect();
        Report { tree: plan.tree.clone(), ok: true, errors: Vec::new(), points: plan.verdicts.clone(), files }
    }

    /// The report of a tree that has no plan.
    pub fn of_errors(errors: &PlanErrors) -> Self {
        let texts = errors.tree_errors.iter().map(ToString::to_string).collect();
        Report {
            tree: errors.tree.clone(),
            ok: false,
            errors: texts,
            points: errors.verdicts.clone(),
            files: Vec::new(),
        }
    }
}

/// All failures of a plan in words: what, where, and what next.
pub(crate) fn render_failures(errors: &PlanErrors) -> String {
    let mut out = String::new();
    for error in &errors.tree_errors {
        let _ = writeln!(out, "error: {error} ({})", errors.tree);
    }
    for help in errors.tree_errors.iter().map(TreeError::help).collect::<BTreeSet<_>>() {
        let _ = writeln!(out, "help: {help}");
    }
    for verdict in errors.verdicts.iter().filter(|v| !v.outcome.is_fine()) {
        out.push_str(&render_verdict(verdict, &errors.tree));
    }
    if errors.verdicts.is_empty() {
        return out.trim_end().to_owned();
    }
    let lost = errors.verdicts.iter().filter(|v| !v.outcome.is_fine()).count();
    let _ = write!(out, "no plan for {}: {lost} of {} points failed", errors.tree, errors.verdicts.len());
    out
}

fn render_verdict(verdict: &Verdict, tree: &str) -> String {
    let what = if verdict.outcome == Outcome::Ambiguous { "has more sites than it declares" } else { "has no site" };
    let mut out = format!("error: point `{}` {what} in this tree ({tree})\n", verdict.id);
    let width = |text: fn(&Tried) -> usize| verdict.tried.iter().map(text).max().unwrap_or(0);
    let file_width = width(|t| t.file.len());
    let place_width = width(|t| t.place.len()).min(60);
    let mut previous = String::new();
    for tried in &verdict.tried {
        let why = tried.why.to_string();
        let shown = if why == previous { "same" } else { &why };
        let _ = writeln!(out, "  tried {:file_width$}  {:place_width$}   {shown}", tried.file, tried.place);
        for candidate in &tried.candidates {
            let refusal = candidate.refusal.as_ref().map(|r| format!("   {r}")).unwrap_or_default();
            let _ = writeln!(out, "        {}:{}  {}{refusal}", tried.file, candidate.line, candidate.text);
        }
        previous = why;
    }
    let source = verdict.source.display();
    let last = verdict.tried.last().filter(|t| t.why.is_final());
    let _ = match (verdict.outcome, last) {
        (Outcome::Ambiguous, Some(tried)) => {
            writeln!(
                out,
                "help: narrow alternate {} in {source} until one site is left, or state the count and its reason",
                tried.alternate
            )
        }
        (_, Some(tried)) => {
            let is_inline = tried.candidates.iter().filter_map(|c| c.refusal.as_ref()).any(|r| r.is_inline());
            let or = if is_inline { ", or set skip_inline = true to leave out those that do not" } else { "" };
            writeln!(
                out,
                "help: change alternate {} in {source} to a place that takes a line of its own and occurs as often as declared{or}",
                tried.alternate
            )
        }
        _ => writeln!(out, "help: add an alternate at the top of {source}, then run `cargo xtask drift --bless`"),
    };
    out
}

/// The unified difference between a tree and what is applied to it. `colour` adds terminal colours.
///
/// # Errors
/// A file of the tree cannot be read.
pub fn unified_diff(tree: &Tree, applied: &Applied, colour: bool) -> std::io::Result<String> {
    let style =
        |colour_of: AnsiColor| if colour { Style::new().fg_color(Some(colour_of.into())) } else { Style::new() };
    let (added, removed, place) = (style(AnsiColor::Green), style(AnsiColor::Red), style(AnsiColor::Cyan));
    let head = if colour { Style::new().bold() } else { Style::new() };
    let mut out = String::new();
    for (path, after) in &applied.files {
        let path = path.to_string_lossy();
        let before = tree.read(&path)?;
        let old = before.as_deref().unwrap_or_default();
        let old_name = if before.is_some() { format!("a/{path}") } else { "/dev/null".to_owned() };
        let _ = writeln!(out, "{head}--- {old_name}{head:#}\n{head}+++ b/{path}{head:#}");
        let diff = TextDiff::configure().algorithm(similar::Algorithm::Patience).diff_lines(old, after.as_slice());
        for hunk in diff.unified_diff().iter_hunks() {
            let _ = writeln!(out, "{place}{}{place:#}", hunk.header());
            for change in hunk.iter_changes() {
                let (sign, style) = match change.tag() {
                    ChangeTag::Delete => ('-', removed),
                    ChangeTag::Insert => ('+', added),
                    ChangeTag::Equal => (' ', Style::new()),
                };
                let text = change.to_string_lossy();
                let _ = writeln!(out, "{style}{sign}{}{style:#}", text.strip_suffix('\n').unwrap_or(&text));
                if change.missing_newline() {
                    out.push_str("\\ No newline at end of file\n");
                }
            }
        }
    }
    Ok(out)
}

/// The one-minute view of a set of points, as Markdown: id, file, function, position, inserted line of the newest alternate.
pub fn index_markdown(points: &PointSet) -> String {
    let mut out = String::from(
        "<!-- Generated by `cargo xtask codegen`; do not edit. -->\n\
         # Instrumentation points\n\n\
         The newest alternate of each point; older ones, purposes and declared absences are in the TOML files.\n\n\
         | id | file | function | position | inserted line |\n|---|---|---|---|---|\n",
    );
    for point in points.points() {
        let Some(alternate) = point.at.first() else { continue };
        let types: Vec<_> = alternate.params.iter().map(|p| p.written.as_str()).collect();
        let function = match &alternate.function {
            Some(name) if types.is_empty() => format!("`{name}`"),
            Some(name) => format!("`{name}({})`", types.join(", ")),
            None => String::new(),
        };
        let position = match &alternate.anchor {
            Some(anchor) => format!("{} `{}`", alternate.position, anchor.written),
            None => alternate.position.to_string(),
        };
        let cells = [
            format!("`{}`", point.id),
            alternate.file.clone(),
            function,
            position,
            format!("`{}`", alternate.insert.as_str()),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    for block in points.blocks() {
        let lines = block.text.trim_end().lines().count();
        let _ = writeln!(out, "\nAppended to `{}` between marker comments: {lines} lines.", block.file);
    }
    out
}
