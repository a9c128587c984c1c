//! `cargo xtask point new`: a point from its parts. Where no file is named, the trees at hand are searched for the
//! function, and each file that has it somewhere becomes an alternate, the newest tree's first.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use patcher::{PointSet, point::Position, tree::sha256, verdict::Outcome};

use super::{
    draft::{Alternate, Draft},
    file_of, outcome_word, trees, verdict,
};
use crate::{
    context::Context,
    patch::{NO_PLAN, load_points, source::Source},
};

/// Folders of a tree that are searched for a function.
const SEARCHED: [&str; 5] = ["src", "ggml", "common", "tools", "examples"];

/// Command line of the verb.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the point is written (with --dry-run: it could be)
  1  there is such a point already, the parts do not make a valid one, or something could not be read or written
  2  wrong usage
  3  it has no place in any of the trees; nothing is written

Example:
  cargo xtask point new state.save --function llama_context::state_save_file \\
      --insert 'LLAMA_OTEL_SPAN(\"llama_state_save\");' --purpose \"time to write a context's state to a file\"")]
pub struct Args {
    /// Unique name; what is in front of the first dot names the file in patcher/points
    id: String,
    /// Qualified name of the function
    #[arg(long, required_unless_present_all = ["file", "includes_end"])]
    function: Option<String>,
    /// File that has it [default: every file that has the function in one of the trees]
    #[arg(long)]
    file: Option<String>,
    /// The parameter that picks the overload and that {NAME} in the line stands for
    #[arg(long = "param", value_name = "NAME=TYPE", value_parser = parse_param)]
    params: Vec<(String, String)>,
    /// The line goes before the statement that begins with a match of this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["after", "includes_end"])]
    before: Option<String>,
    /// The line goes after the statement that begins with a match of this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with = "includes_end")]
    after: Option<String>,
    /// The line goes after the file's includes
    #[arg(long, requires = "file", conflicts_with_all = ["function", "params"])]
    includes_end: bool,
    /// The line [default: a span of the point's name]
    #[arg(long)]
    insert: Option<String>,
    /// Why the line is there, in one sentence
    #[arg(long, default_value = "TODO: why this line is there")]
    purpose: String,
    /// Look at this tree as well
    #[arg(long = "tree", value_name = "DIR")]
    trees: Vec<PathBuf>,
    /// Write nothing
    #[arg(long)]
    dry_run: bool,
}

fn parse_param(text: &str) -> Result<(String, String), String> {
    let (name, of) = text.split_once('=').ok_or("it must be NAME=TYPE, such as batch=llama_batch")?;
    Ok((name.trim().to_owned(), of.trim().to_owned()))
}

pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let points = load_points(context)?;
    if let Some(known) = points.points().iter().find(|point| point.id == args.id) {
        bail!(
            "there is a point `{}` already: {}\nhelp: `cargo xtask point why {}` explains it",
            args.id,
            context.shown(&known.source),
            args.id
        );
    }
    let sources = trees::open_all(context, &args.trees, &points)?;
    let mut draft = draft(args);
    if let (Some(function), None) = (&args.function, &args.file) {
        let files = find(&draft, &sources, function)?;
        if files.is_empty() {
            eprintln!(
                "error: none of {} trees has a function `{function}` that takes the line\n\
                 help: write the name with namespace and class; with --file, each tree says what is in the way",
                sources.len()
            );
            return Ok(ExitCode::from(NO_PLAN));
        }
        let alternate = draft.at.remove(0);
        draft.at = files.into_iter().map(|file| Alternate { file, ..alternate.clone() }).collect();
    }
    print!("{}", draft.toml());
    let placed = show(&draft.parse()?, &sources)?;
    if placed == 0 {
        eprintln!("error: it has a place in none of {} trees; nothing is written", sources.len());
        return Ok(ExitCode::from(NO_PLAN));
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let path = file_of(context, &args.id);
    append(&path, &draft.toml())?;
    context.ui.say(format_args!(
        "added to {}\nnext: `cargo xtask codegen` renews INDEX.md, `cargo xtask patch --dry-run` shows the line in place",
        context.shown(&path)
    ));
    Ok(ExitCode::SUCCESS)
}

fn draft(args: &Args) -> Draft {
    let (position, matching) = match (&args.before, &args.after) {
        (Some(regex), _) => (Position::Before, Some(regex.clone())),
        (_, Some(regex)) => (Position::After, Some(regex.clone())),
        _ if args.includes_end => (Position::IncludesEnd, None),
        _ => (Position::BodyStart, None),
    };
    let insert = match &args.insert {
        Some(insert) => insert.clone(),
        None if args.includes_end => patcher::strip::INCLUDE_LINE.to_owned(),
        None => format!("LLAMA_OTEL_SPAN(\"{}\");", args.id.replace(['.', '-'], "_")),
    };
    let alternate = Alternate {
        file: args.file.clone().unwrap_or_else(|| "src/llama.cpp".to_owned()),
        function: args.function.clone(),
        params: args.params.clone(),
        position,
        matching,
    };
    Draft { id: args.id.clone(), purpose: args.purpose.clone(), insert, at: vec![alternate] }
}

/// The files in which the draft has a place, the newest tree's first.
fn find(draft: &Draft, sources: &[Source], function: &str) -> Result<Vec<String>> {
    let name = function.rsplit("::").next().unwrap_or(function);
    let finder = memchr::memmem::Finder::new(name);
    let mut files: Vec<String> = Vec::new();
    let mut tried = BTreeSet::new();
    for source in sources {
        for (path, content) in candidates(source, &finder)? {
            // The same file of the next tree may have the function where this one does not; most are alike.
            if files.contains(&path) || !tried.insert((path.clone(), sha256(&content))) {
                continue;
            }
            let alternate = draft.at.iter().map(|at| Alternate { file: path.clone(), ..at.clone() });
            let trial = Draft { at: alternate.collect(), ..draft.clone() }.parse()?;
            if verdict(&source.open_for(&trial)?, &trial)?.outcome == Outcome::Placed {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Source files that mention the name.
fn candidates(source: &Source, finder: &memchr::memmem::Finder<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut paths = Vec::new();
    for dir in SEARCHED {
        for entry in walkdir::WalkDir::new(source.root.join(dir)).sort_by_file_name().into_iter().flatten() {
            let extension = entry.path().extension().and_then(|extension| extension.to_str());
            if !entry.file_type().is_file() || !matches!(extension, Some("c" | "cc" | "cpp" | "h" | "hpp")) {
                continue;
            }
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            if finder.find(&bytes).is_some() {
                paths.push((relative(&source.root, entry.path())?, bytes));
            }
        }
    }
    Ok(paths)
}

fn relative(root: &Path, path: &Path) -> Result<String> {
    let parts = path.strip_prefix(root)?.components().map(|part| part.as_os_str().to_string_lossy());
    Ok(parts.collect::<Vec<_>>().join("/"))
}

/// One line for each tree: where the point lands, or why not. Returns the number of those that have it.
fn show(point: &PointSet, sources: &[Source]) -> Result<usize> {
    let mut placed = 0;
    let width = sources.iter().map(|source| source.name.len()).max().unwrap_or(0);
    eprintln!();
    for source in sources {
        let verdict = verdict(&source.open_for(point)?, point)?;
        let what = match (verdict.sites.first(), verdict.alternate) {
            (Some(first), Some(index)) => {
                placed += 1;
                let lines: Vec<_> = verdict.sites.iter().map(|site| site.line.to_string()).collect();
                format!("alternate {index}  {}:{}  {}", first.file, lines.join(","), first.inserted)
            }
            _ => {
                let why = verdict.tried.iter().map(|tried| format!("{}: {}", tried.file, tried.why));
                format!("{}  {}", outcome_word(verdict.outcome), why.collect::<Vec<_>>().join("; "))
            }
        };
        eprintln!("{:width$}  {what}", source.name);
    }
    Ok(placed)
}

fn append(path: &Path, point: &str) -> Result<()> {
    let mut text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if !text.is_empty() {
        text = format!("{}\n\n", text.trim_end());
    }
    text.push_str(point);
    let new = path.with_extension("toml.new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
