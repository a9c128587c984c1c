//! `cargo xtask point why`: each alternate of a point held against a tree, and each declared absence, one by one. A
//! plan stops at the first that fits; here all are tried, so that it shows which others would do.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use patcher::{
    point::{Absent, Point},
    verdict::{Outcome, Tried, Verdict},
};
use serde::Serialize;

use super::{WhyArgs, draft::Declared, outcome_word, trees, verdict};
use crate::{
    Format,
    context::Context,
    patch::{NO_PLAN, load_points, source::Source},
};

/// Lines of upstream around a site.
const AROUND: usize = 2;

/// What `--format json` prints.
#[derive(Serialize)]
struct Output<'a> {
    tree: &'a str,
    point: &'a str,
    purpose: &'a str,
    /// What a plan makes of it.
    verdict: &'a Verdict,
    /// Every alternate by itself.
    alternates: Vec<Alternate<'a>>,
    absent: Vec<Condition<'a>>,
}

#[derive(Serialize)]
struct Alternate<'a> {
    place: String,
    file: &'a str,
    /// Whether a plan takes this one.
    is_taken: bool,
    verdict: Verdict,
}

#[derive(Serialize)]
struct Condition<'a> {
    condition: String,
    reason: &'a str,
    holds: bool,
}

pub fn run(context: &Context, args: &WhyArgs) -> Result<ExitCode> {
    let points = load_points(context)?;
    let point = points.points().iter().find(|point| point.id == args.id).with_context(|| {
        let ids: Vec<_> = points.points().iter().map(|point| point.id.as_str()).collect();
        format!("there is no point `{}`\nhelp: there are: {}", args.id, ids.join(", "))
    })?;
    let source = trees::open(context, args.tree.as_deref(), &points)?;
    let declared = Declared::read(&point.source, &point.id)?;
    let whole = verdict(&source.tree, &declared.whole()?)?;
    let mut output = Output {
        tree: &source.name,
        point: &point.id,
        purpose: &point.purpose,
        verdict: &whole,
        alternates: Vec::new(),
        absent: Vec::new(),
    };
    for (index, alternate) in point.at.iter().enumerate() {
        output.alternates.push(Alternate {
            place: alternate.describe(),
            file: &alternate.file,
            is_taken: whole.alternate == Some(index),
            verdict: verdict(&source.tree, &declared.with_alternate(index)?)?,
        });
    }
    for (index, absent) in point.absent.iter().enumerate() {
        let holds = verdict(&source.tree, &declared.with_absence(index)?)?.outcome == Outcome::Absent;
        output.absent.push(Condition { condition: condition(absent), reason: &absent.reason, holds });
    }
    match args.format {
        Format::Text => print!("{}", text(context, point, &source, &output)?),
        Format::Json => println!("{}", serde_json::to_string_pretty(&output)?),
    }
    Ok(if whole.outcome.is_fine() { ExitCode::SUCCESS } else { ExitCode::from(NO_PLAN) })
}

fn condition(absent: &Absent) -> String {
    let is = if absent.missing { "is missing" } else { "is there" };
    match &absent.function {
        Some(function) => format!("{function} {is} in {}", absent.file),
        None => format!("{} {is}", absent.file),
    }
}

fn text(context: &Context, point: &Point, source: &Source, output: &Output<'_>) -> Result<String> {
    let Output { tree, verdict: whole, .. } = output;
    let how = match (whole.outcome, &whole.reason) {
        (Outcome::Placed, _) => match whole.alternate {
            Some(index) => format!("placed by alternate {index} of {}", point.at.len()),
            None => "placed".to_owned(),
        },
        (_, Some(reason)) => format!("absent by its own declaration: {reason}"),
        (outcome, None) => outcome_word(outcome).to_owned(),
    };
    let mut out = format!("{} in {tree}: {how}\n  {}\n", point.id, point.purpose);
    let _ = writeln!(out, "  declared in {}; {} declared", context.shown(&point.source), sites(point));
    for (index, alternate) in output.alternates.iter().enumerate() {
        let mark = if alternate.is_taken { "=>" } else { "  " };
        let _ = writeln!(out, "\n{mark} {index}  {}  {}", alternate.file, alternate.place);
        let verdict = &alternate.verdict;
        for tried in &verdict.tried {
            explain(&mut out, tried);
        }
        if verdict.outcome == Outcome::Placed && !alternate.is_taken {
            let _ = writeln!(out, "      would be placed as well: line {}", lines(verdict));
        }
        for site in verdict.sites.iter().filter(|_| alternate.is_taken) {
            let _ = writeln!(out, "      in {}", site.function.as_deref().unwrap_or("the file's includes"));
            let bytes = source.tree.read(&site.file)?.unwrap_or_default();
            excerpt(&mut out, &bytes, site.line, &site.inserted);
        }
        for candidate in &verdict.skipped {
            let refusal = candidate.refusal.as_ref().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(out, "      skipped line {}: {}   {refusal}", candidate.line, candidate.text);
        }
    }
    for condition in &output.absent {
        let holds = if condition.holds { "holds" } else { "does not hold" };
        let _ = writeln!(out, "\n   absent if {}: {holds} ({})", condition.condition, condition.reason);
    }
    if !whole.outcome.is_fine() {
        let _ = writeln!(out, "\nhelp: `cargo xtask point mend {} --tree {tree}` proposes where it went", point.id);
    }
    Ok(out)
}

fn explain(out: &mut String, tried: &Tried) {
    let _ = writeln!(out, "      {}", tried.why);
    for candidate in &tried.candidates {
        let refusal = candidate.refusal.as_ref().map(|refusal| format!("   {refusal}")).unwrap_or_default();
        let _ = writeln!(out, "        line {}: {}{refusal}", candidate.line, candidate.text);
    }
}

/// Upstream's lines around a site, and the line that goes with it.
fn excerpt(out: &mut String, bytes: &[u8], line: usize, inserted: &str) {
    let first = line.saturating_sub(AROUND).max(1);
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate().skip(first - 1).take(line + AROUND + 1 - first)
    {
        let here = if index + 1 == line { '>' } else { ' ' };
        let _ = writeln!(out, "      {here}{:6}  {}", index + 1, String::from_utf8_lossy(text).trim_end());
    }
    let _ = writeln!(out, "      +        {inserted}");
}

fn lines(verdict: &Verdict) -> String {
    verdict.sites.iter().map(|site| site.line.to_string()).collect::<Vec<_>>().join(", ")
}

fn sites(point: &Point) -> String {
    let reason = point.count_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let word = if point.count == patcher::point::Count::ONE { "site" } else { "sites" };
    format!("{} {word}{reason}", point.count)
}
