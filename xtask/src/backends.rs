//! `cargo xtask backends`: tries backends on this machine, keeps what came of it in docs/backends.json,
//! and writes the page docs/backends.md from that.

mod metal;
mod table;
mod trial;

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use llama_build::{Backend, Backends};
use serde::{Deserialize, Serialize};

use crate::{Format, ci, context::Context, tools, upstream::Upstream};

pub use trial::{SHADER_CACHE, build_for_tests, complete, link_cuda, missing_text, shader_cache};

const RESULTS: &str = "docs/backends.json";
const PAGE: &str = "docs/backends.md";

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Configure, compile, link and run these here, and keep what came of it; `dynamic` stands for backends as modules
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    run: Vec<String>,
    /// Get a missing toolkit into the cache first
    #[arg(long, requires = "run")]
    provision: bool,
    /// Build one library with all of them, which is quicker, and try each in it
    #[arg(long, requires = "run")]
    together: bool,
    /// GPU architectures of the cuda backend, with flash attention [default: 75-virtual, without]
    #[arg(long, value_name = "LIST", requires = "run")]
    cuda_arch: Option<String>,
    /// Keep the results under this name; the workflow uses its own
    #[arg(long, value_enum, default_value = "here", requires = "run")]
    place: Place,
    /// Fail if docs/backends.md is not what the results give
    #[arg(long, conflicts_with = "run")]
    check: bool,
    /// How to print the table
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Where something was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A developer's machine
    Here,
    /// A runner of the workflow
    Workflow,
}

/// What came of one try of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outcome {
    /// The backend's name, or `dynamic`.
    backend: String,
    /// Operating system and architecture.
    system: String,
    place: Place,
    /// The pin that was built.
    tree: String,
    /// `None`: not tried.
    configures: Option<bool>,
    compiles: Option<bool>,
    links: Option<bool>,
    runs: Option<bool>,
    /// What a reader must know to read the rest right.
    note: String,
}

impl Outcome {
    /// Of a backend that was not tried yet, on this system and the default tree.
    fn untried(context: &Context, backend: &str, place: Place, note: String) -> Result<Self> {
        Ok(Self {
            backend: backend.to_owned(),
            system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            place,
            tree: Upstream::read(context)?.default,
            configures: None,
            compiles: None,
            links: None,
            runs: None,
            note,
        })
    }
}

/// The stored results, one for each backend, system and place.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Results {
    outcomes: Vec<Outcome>,
}

impl Results {
    fn read(context: &Context) -> Result<Self> {
        let path = context.root.join(RESULTS);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", context.shown(&path)))
    }

    fn put(&mut self, outcome: Outcome) {
        let key = |outcome: &Outcome| (outcome.backend.clone(), outcome.system.clone(), outcome.place);
        self.outcomes.retain(|old| key(old) != key(&outcome));
        self.outcomes.push(outcome);
        self.outcomes.sort_by_key(key);
    }

    fn find(&self, backend: &str, place: Place) -> Option<&Outcome> {
        // A backend may be tried on several systems of a place: the one where most went well says the most.
        let went_well =
            |o: &&Outcome| [o.configures, o.compiles, o.links, o.runs].into_iter().flatten().filter(|&y| y).count();
        self.outcomes.iter().filter(|o| o.backend == backend && o.place == place).max_by_key(went_well)
    }
}

/// A row of the table, as `--format json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    backend: String,
    configures: Option<bool>,
    compiles: Option<bool>,
    links: Option<bool>,
    runs_here: Option<bool>,
    runs_in_workflow: Option<bool>,
    /// The jobs of the workflow that try it.
    jobs: Vec<String>,
    note: String,
    /// What this machine lacks, with what gets it; only where the machine was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

/// Runs the verb. With `--check`, the exit code is 1 if the page is not up to date; with `--run`, if a stage failed
/// that this machine has the toolkit for.
///
/// # Errors
/// A name is unknown; a file cannot be read or written; the tools are missing.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let mut results = Results::read(context)?;
    let mut failed = Vec::new();
    let together: Option<Backends> = match args.together {
        true => Some(trial::complete(context, &args.run.join(",").parse()?, args.provision)?),
        false => None,
    };
    for name in &args.run {
        let outcome = match name.as_str() {
            "dynamic" => trial::dynamic(context, args.place)?,
            name => {
                let backend: Backend = name.parse()?;
                if args.provision {
                    tools::toolkit::provision(context, &backend.into())?;
                }
                match backend {
                    Backend::Metal if !cfg!(target_os = "macos") => metal::check_from_elsewhere(context, args.place)?,
                    _ => trial::backend(context, backend, together.as_ref(), args.cuda_arch.as_deref(), args.place)?,
                }
            }
        };
        context.ui.say(format_args!("{name}: {}", table::in_words(&outcome)));
        if [outcome.compiles, outcome.links].contains(&Some(false)) || outcome.runs == Some(false) {
            failed.push(name.clone());
        }
        // After each, since the next may take long or be broken off; read anew, since another run may have finished.
        results = Results::read(context)?;
        results.put(outcome);
        let json = format!("{}\n", serde_json::to_string_pretty(&results)?);
        write(context, RESULTS, &json)?;
        write(context, PAGE, &table::page(&results))?;
    }
    if args.check {
        let page = fs::read_to_string(context.root.join(PAGE)).unwrap_or_default();
        if page != table::page(&results) {
            bail!("{PAGE} is not what {RESULTS} gives\nhelp: cargo xtask backends");
        }
        return Ok(ExitCode::SUCCESS);
    }
    write(context, PAGE, &table::page(&results))?;
    let rows = rows(&results, &missing_here(context)?);
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Format::Text => print!("{}", table::text(&rows)),
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What can be found out about the metal backend without a Mac, unless that was found out before; nothing is recorded.
///
/// # Errors
/// It does not configure or compile; zig or the tree cannot be had.
pub fn compile_metal(context: &Context) -> Result<()> {
    match metal::check_once(context)? {
        metal::Checked::Before => {
            context.ui.say("metal: passed before, says the cache: the same tree, options and compilers")
        }
        metal::Checked::Now(outcome) if outcome.compiles == Some(true) => {}
        metal::Checked::Now(outcome) => bail!("metal: {}", table::in_words(&outcome)),
    }
    Ok(())
}

fn rows(results: &Results, missing: &BTreeMap<&'static str, String>) -> Vec<Row> {
    let names = Backend::all().map(Backend::name).chain(["dynamic"]);
    names
        .map(|name| {
            let here = results.find(name, Place::Here);
            let there = results.find(name, Place::Workflow);
            let best = |stage: fn(&Outcome) -> Option<bool>| here.and_then(stage).or_else(|| there.and_then(stage));
            Row {
                backend: name.to_owned(),
                configures: best(|o| o.configures),
                compiles: best(|o| o.compiles),
                links: best(|o| o.links),
                runs_here: here.and_then(|o| o.runs),
                runs_in_workflow: there.and_then(|o| o.runs),
                jobs: ci::jobs_of(name),
                note: here.or(there).map(|o| o.note.clone()).unwrap_or_default(),
                missing: missing.get(name).cloned(),
            }
        })
        .collect()
}

fn missing_here(context: &Context) -> Result<BTreeMap<&'static str, String>> {
    if tools::find_all(context).is_none() {
        return Ok(BTreeMap::new());
    }
    let toolkits = tools::toolkit::examine(context, &Backend::all().collect())?;
    Ok(toolkits.iter().filter_map(|toolkit| Some((toolkit.backend.name(), missing_text(toolkit)?))).collect())
}

fn write(context: &Context, path: &str, text: &str) -> Result<()> {
    let path: PathBuf = context.root.join(path);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(backend: &str, place: Place, runs: Option<bool>) -> Outcome {
        Outcome {
            backend: backend.into(),
            system: "linux-x86_64".into(),
            place,
            tree: "t".into(),
            configures: Some(true),
            compiles: Some(true),
            links: None,
            runs,
            note: String::new(),
        }
    }

    #[test]
    fn a_later_try_takes_the_place_of_an_earlier_one() {
        let mut results = Results::default();
        results.put(outcome("rpc", Place::Here, Some(false)));
        results.put(outcome("rpc", Place::Workflow, None));
        results.put(outcome("rpc", Place::Here, Some(true)));
        assert_eq!(results.outcomes.len(), 2);
        let rows = rows(&results, &BTreeMap::from([("cuda", "nvcc".to_owned())]));
        assert_eq!(rows.len(), Backend::all().count() + 1);
        let row = |name: &str| rows.iter().find(|row| row.backend == name).unwrap();
        assert_eq!((row("rpc").runs_here, row("rpc").runs_in_workflow), (Some(true), None));
        assert_eq!(row("cuda").configures, None, "nothing is claimed that was not tried");
        assert_eq!(row("cuda").missing.as_deref(), Some("nvcc"));
    }

    #[test]
    fn the_committed_page_is_what_the_committed_results_give() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let results: Results = serde_json::from_str(&fs::read_to_string(root.join(RESULTS)).unwrap()).unwrap();
        let page = fs::read_to_string(root.join(PAGE)).unwrap();
        assert!(page == table::page(&results), "run `cargo xtask backends`");
    }
}
