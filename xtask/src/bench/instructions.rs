//! Instructions of the hot path, counted by callgrind: the one figure that a busy machine does not move. Recorded for
//! each pair of compilers in bench/instructions.toml, and compared with it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{programs, row::Row};
use crate::{context::Context, progress::Unit, python::checked};

/// What is counted: names of loops in bench/cpp/hot.cpp, with the name that `bench-hot run` has for them.
const WORKS: [(&str, &str); 7] = [
    ("off.span", "span"),
    ("off.attributes", "attributes"),
    ("off.metric", "metric"),
    ("span", "span"),
    ("span_with_attributes", "span_with_attributes"),
    ("metric", "metric"),
    ("metric_with_attribute", "metric_with_attribute"),
];
/// Operations of the two runs whose difference is taken, so that what happens once does not count. Both fit into a
/// ring that is less than a quarter full.
const N: [u64; 2] = [100, 300];
/// How far a count may be from the recorded one.
const TOLERANCE: f64 = 0.02;
/// A part of an instruction an operation is what the edges of the loop leave: for the shortest loops more than 2 %.
const SLACK: f64 = 0.5;
const FILE: &str = "bench/instructions.toml";
const COMMAND: &str = "cargo xtask bench instructions --record";

/// Command line of the subject.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Fail if a count is more than 2 % off the recorded one
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// Write the counts of these compilers into bench/instructions.toml
    #[arg(long)]
    record: bool,
}

/// `bench/instructions.toml`.
#[derive(Default, Serialize, Deserialize)]
struct Recorded {
    #[serde(default)]
    compilers: Vec<Counts>,
}

/// Counts with one set of compilers.
#[derive(Clone, Serialize, Deserialize)]
struct Counts {
    #[serde(flatten)]
    compilers: Compilers,
    /// Instructions per operation.
    instructions: BTreeMap<String, f64>,
}

/// What decides about the counts beside the sources: the compilers and the C library, each as it names itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Compilers {
    rustc: String,
    cxx: String,
    libc: String,
}

impl Compilers {
    fn find() -> Result<Self> {
        let first_line = |program: &str| {
            let text = checked(Command::new(program).arg("--version"))?;
            Ok::<_, anyhow::Error>(text.lines().next().unwrap_or_default().trim().to_owned())
        };
        let cxx = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        // The version is the last word; a distribution's revisions before it leave the instructions alone.
        let libc = first_line("ldd")?.split_whitespace().next_back().unwrap_or_default().to_owned();
        Ok(Self { rustc: first_line("rustc")?, cxx: first_line(&cxx)?, libc })
    }
}

/// Counts. No rows, and a line that says why, where there is no valgrind, or nothing to check against; no baselines
/// where nothing is recorded for these compilers.
///
/// # Errors
/// The program cannot be built or run under valgrind; with `--check`, a count is off.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    match measure(context, args)? {
        Outcome::Counted(rows) => Ok(rows),
        Outcome::Skipped(why) => {
            eprintln!("skipped: {why}");
            Ok(Vec::new())
        }
    }
}

/// As `bench instructions --check`.
///
/// # Errors
/// As [`rows`].
pub fn checked_or_skipped(context: &Context) -> Result<Option<String>> {
    match measure(context, &Args { check: true, record: false })? {
        Outcome::Counted(_) => Ok(None),
        Outcome::Skipped(why) => Ok(Some(why)),
    }
}

enum Outcome {
    Counted(Vec<Row>),
    Skipped(String),
}

fn measure(context: &Context, args: &Args) -> Result<Outcome> {
    let Ok(valgrind) = which::which("valgrind") else {
        return Ok(Outcome::Skipped(
            "instructions are counted by valgrind, which is not installed; apt-get install valgrind".to_owned(),
        ));
    };
    let path = context.root.join(FILE);
    let mut recorded = read(&path)?;
    let compilers = Compilers::find()?;
    let known = |recorded: &Recorded| recorded.compilers.iter().find(|counts| counts.compilers == compilers).cloned();
    if known(&recorded).is_none() && !args.record {
        let Compilers { rustc, cxx, libc } = &compilers;
        let why = format!("{FILE} has no counts for these compilers ({rustc}; {cxx}; {libc}); {COMMAND} adds them");
        if args.check {
            return Ok(Outcome::Skipped(why));
        }
        eprintln!("{why}");
    }
    let instructions = count(context, &valgrind)?;
    if args.record {
        recorded.compilers.retain(|counts| counts.compilers != compilers);
        recorded.compilers.push(Counts { compilers: compilers.clone(), instructions: instructions.clone() });
        write(&path, &recorded)?;
    }
    let known = known(&recorded);
    let rows: Vec<Row> = instructions
        .iter()
        .map(|(work, count)| {
            let row = Row::new(format!("instructions.{work}"), *count, "1");
            match known.as_ref().and_then(|known| known.instructions.get(work)) {
                Some(before) => row.against(*before).at_most((1.0 + TOLERANCE).max((before + SLACK) / before)),
                None => row,
            }
        })
        .collect();
    if args.check {
        check(&rows)?;
    }
    Ok(Outcome::Counted(rows))
}

/// Both more and fewer than recorded: what got cheaper is recorded anew, or it may creep back unseen.
fn check(rows: &[Row]) -> Result<()> {
    let off: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, row.baseline?)))
        .filter(|(row, before)| (row.value - before).abs() > (before * TOLERANCE).max(SLACK))
        .map(|(row, before)| format!("  {}: {:.1}, recorded {before:.1}", row.name, row.value))
        .collect();
    if off.is_empty() {
        return Ok(());
    }
    bail!(
        "instructions of the hot path have changed by more than 2 %\n{}\nhelp: if that is meant, {COMMAND}",
        off.join("\n")
    )
}

/// Instructions per operation of everything.
fn count(context: &Context, valgrind: &Path) -> Result<BTreeMap<String, f64>> {
    let hot = programs::hot(context, false)?;
    let phase = context.ui.phase("count instructions", Unit::Steps);
    let mut instructions = BTreeMap::new();
    for (done, (work, function)) in WORKS.into_iter().enumerate() {
        phase.set(done as u64, WORKS.len() as u64);
        let mut collected = [0; 2];
        for (n, collected) in N.into_iter().zip(&mut collected) {
            *collected = callgrind(valgrind, &hot, work, function, n)?;
        }
        let per_operation = (collected[1] - collected[0]) as f64 / (N[1] - N[0]) as f64;
        instructions.insert(work.to_owned(), (per_operation * 100.0).round() / 100.0);
    }
    phase.finish("");
    Ok(instructions)
}

/// Instructions inside one loop, what it calls included.
fn callgrind(valgrind: &Path, hot: &Path, work: &str, function: &str, n: u64) -> Result<i64> {
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    command.arg(format!("--toggle-collect=llama_otel_bench_{function}")).arg(hot).args(["run", work, &n.to_string()]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") || name.to_string_lossy().starts_with("LLAMA_OTEL_") {
            command.env_remove(name);
        }
    }
    if !work.starts_with("off.") {
        // Somewhere to go; nothing is exported before the count ends.
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").env("OTEL_BSP_SCHEDULE_DELAY", "600000");
        command.env("OTEL_METRIC_EXPORT_INTERVAL", "600000");
    }
    let output = command.output().with_context(|| format!("cannot start {}", valgrind.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.filter(|&count| count > 0).with_context(|| format!("valgrind counted nothing for {work}:\n{text}"))
}

fn read(path: &Path) -> Result<Recorded> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} is not as {COMMAND} writes it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Recorded::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, recorded: &Recorded) -> Result<()> {
    let text = format!(
        "# Generated by `{COMMAND}`: instructions per operation, by compilers. Do not edit.\n\n{}",
        toml::to_string(recorded)?
    );
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(value: f64, before: f64) -> Vec<Row> {
        vec![Row::new("instructions.span", value, "1").against(before)]
    }

    #[test]
    fn a_count_may_move_by_two_percent_either_way() {
        check(&rows(406.0, 400.0)).unwrap();
        check(&rows(394.0, 400.0)).unwrap();
        let error = check(&rows(412.0, 400.0)).unwrap_err().to_string();
        assert!(error.contains("instructions.span: 412.0, recorded 400.0"), "{error}");
        assert!(check(&rows(388.0, 400.0)).is_err());
        check(&rows(8.4, 8.0)).unwrap();
        assert!(check(&rows(9.0, 8.0)).is_err());
    }
}
