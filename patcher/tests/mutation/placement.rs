//! Real files, changed on purpose, and where the lines go then. A few hundred cases by default; `MUTATION_CASES` sets their
//! number, `MUTATION_SEED` other ones, and `cargo xtask test --only mutation` runs 100,000.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use patcher::{PatchError, PointSet, Sources};
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::doc::Doc;
use crate::mutate::{KINDS, Random, changes_head, may_lose_anchors, moves_functions, thin_out};
use crate::oracle::{Fate, judge};
use crate::trees::{Base, Target, folders};

const CASES: u32 = 400;
/// Wrong cases of a tree that are shown.
const SHOWN: usize = 40;
/// Tries to make a wrong case smaller.
const SHRINKS: usize = 40;
/// Bytes from which a file is rarely taken as a whole.
const LARGE: usize = 100_000;

/// One case: which file and mark, and what is done to it.
#[derive(Debug, Clone)]
struct Case {
    target: usize,
    mark: usize,
    /// Kind and seed of each change.
    steps: Vec<(usize, u64)>,
}

fn cases() -> impl Strategy<Value = Case> {
    let step = (0..KINDS.len(), any::<u64>());
    (any::<u32>(), any::<u32>(), proptest::collection::vec(step, 1..=3)).prop_map(|(target, mark, mut steps)| {
        // Half of the cases have one change: the table tells kinds apart by them.
        if target % 2 == 0 {
            steps.truncate(1);
        }
        Case { target: target as usize / 2, mark: mark as usize, steps }
    })
}

/// What was done and what came of it, for the table.
#[derive(Default)]
struct Tally {
    cases: usize,
    /// By kind: of the point that the change was about, and of all others in the file.
    fates: BTreeMap<&'static str, [BTreeMap<Fate, usize>; 2]>,
}

impl Tally {
    fn count(&self, column: usize, fate: Fate) -> usize {
        self.fates.values().filter_map(|columns| columns[column].get(&fate)).sum()
    }

    fn print(&self) {
        println!(
            "{:30} {:>8} {:>8} {:>8} {:>8} {:>8} | {:>9} {:>8} {:>6}",
            "change", "cases", "right", "partial", "refused", "absent", "others", "refused", "WRONG"
        );
        let of = |columns: &BTreeMap<Fate, usize>, fate| columns.get(&fate).copied().unwrap_or_default();
        for (kind, [focus, others]) in &self.fates {
            let cases: usize = focus.values().sum();
            let share = |n: usize| format!("{:.1} %", 100.0 * n as f64 / cases.max(1) as f64);
            let all: usize = others.values().sum();
            println!(
                "{kind:30} {cases:>8} {:>8} {:>8} {:>8} {:>8} | {all:>9} {:>8} {:>6}",
                share(of(focus, Fate::Right)),
                share(of(focus, Fate::Partial)),
                share(of(focus, Fate::Refused)),
                share(of(focus, Fate::Absent)),
                format!("{:.1} %", 100.0 * of(others, Fate::Refused) as f64 / all.max(1) as f64),
                of(focus, Fate::Wrong) + of(others, Fate::Wrong)
            );
        }
        println!(
            "{} cases, {} points judged; wrong: {}",
            self.cases,
            self.fates.values().flatten().flat_map(BTreeMap::values).sum::<usize>(),
            self.count(0, Fate::Wrong) + self.count(1, Fate::Wrong)
        );
    }
}

/// Where the lines of a target's points go in a changed file, by point; `None` of those without a place.
fn place(target: &Target, sources: &Sources, bytes: &[u8]) -> Vec<Result<Vec<usize>, Fate>> {
    let tree = target.tree(bytes.to_vec());
    let offsets = |set: &PointSet| -> Result<BTreeMap<String, Vec<(String, usize)>>, PatchError> {
        let (plan, _) = patcher::patch_with(sources, &tree, set, Vec::new())?;
        let mut by_point: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
        for verdict in &plan.verdicts {
            by_point.entry(verdict.id.clone()).or_default();
        }
        for (path, edit) in plan.files {
            for insertion in edit.insertions {
                by_point.entry(insertion.point).or_default().push((path.clone(), insertion.offset));
            }
        }
        Ok(by_point)
    };
    // A line in a file that nothing was done to is as wrong as one elsewhere in this one.
    let mine = |sites: &[(String, usize)]| -> Result<Vec<usize>, Fate> {
        match sites.iter().all(|(path, _)| *path == target.path) {
            true if sites.is_empty() => Err(Fate::Absent),
            true => Ok(sites.iter().map(|(_, offset)| *offset).collect()),
            false => Err(Fate::Wrong),
        }
    };
    match offsets(&target.set) {
        Ok(all) => target.points.iter().map(|point| mine(&all[&point.id])).collect(),
        Err(PatchError::Plan(errors)) => target
            .alone
            .iter()
            .zip(&errors.verdicts)
            .map(|(set, verdict)| match offsets(set) {
                Ok(alone) => mine(&alone[&verdict.id]),
                Err(PatchError::Plan(_)) => Err(Fate::Refused),
                Err(other) => panic!("{other}"),
            })
            .collect(),
        Err(other) => panic!("{other}"),
    }
}

/// Runs one case; `None` if none of its changes has a place in the file.
fn run(targets: &[(Target, Sources)], case: &Case, tally: &Mutex<Tally>) -> Result<(), String> {
    let (target, sources) = &targets[case.target % targets.len()];
    let focus = target.marks[case.mark % target.marks.len()].1.point;
    let mut doc = Doc::new(&target.bytes, &target.marks);
    // Most cases leave out most of the functions that nothing is said of: what is left is as real, and read sooner.
    let whole = if target.bytes.len() < LARGE { 32 } else { 128 };
    if !case.target.is_multiple_of(whole) {
        let named = target.points.iter().flat_map(|point| &point.at).filter_map(|at| at.function.as_deref());
        let share = 2 + target.bytes.len() / (LARGE / 10);
        thin_out(&mut doc, &named.collect::<Vec<_>>(), share, &mut Random(case.mark as u64));
    }
    let mut done: Vec<&str> = Vec::new();
    for (kind, seed) in &case.steps {
        let (name, change) = KINDS[*kind];
        let mut random = Random(*seed);
        let marks = doc.marks_of(focus);
        let Some(line) = marks.get(random.below(marks.len())) else { break };
        // An overload whose original gets another name or head is, to any reader, the original with another head.
        if done.iter().any(|kind| kind.starts_with("overload")) && changes_head(name) {
            continue;
        }
        // What is a function is told by columns, and decoys have those too.
        if done.iter().any(|kind| kind.starts_with("decoy")) && moves_functions(name) {
            continue;
        }
        let before = doc.clone();
        match change(&mut doc, *line, &mut random) {
            Some(()) => done.push(name),
            None => doc = before,
        }
    }
    let (bytes, marks) = doc.split();
    if done.is_empty() {
        return Ok(());
    }
    let row = if let [kind] = done[..] { kind } else { "several" };
    let mut wrong = Vec::new();
    let mut tally_now = Vec::new();
    for (index, placed) in place(target, sources, &bytes).into_iter().enumerate() {
        let fate = match &placed {
            Err(fate) => *fate,
            Ok(offsets) => judge(&bytes, &marks, index, offsets),
        };
        // Nothing was taken away, and still a line is missing: nobody would notice.
        let is_silent = fate == Fate::Partial && !done.iter().any(|kind| may_lose_anchors(kind));
        if fate == Fate::Wrong || is_silent {
            wrong.push(format!(
                "{} in {} after {done:?}: {fate:?}, {placed:?}\n{}",
                target.points[index].id,
                target.path,
                excerpt(&bytes, &marks, index, placed.as_deref().unwrap_or_default())
            ));
        }
        tally_now.push((usize::from(index != focus), fate));
    }
    let mut tally = tally.lock().unwrap();
    tally.cases += 1;
    let columns = tally.fates.entry(row).or_default();
    for (column, fate) in tally_now {
        *columns[column].entry(fate).or_default() += 1;
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The lines around each place in question.
fn excerpt(bytes: &[u8], marks: &[(usize, crate::doc::Mark)], point: usize, offsets: &[usize]) -> String {
    let mut text = String::new();
    let marks = marks.iter().filter(|(_, mark)| mark.point == point).map(|(at, _)| ("mark", *at));
    for (what, at) in marks.chain(offsets.iter().map(|at| ("line", *at))).take(6) {
        let before = bytes[..at].rsplit(|b| *b == b'\n').skip(1).take(4).collect::<Vec<_>>();
        text.push_str(&format!("--- {what} at {at}\n"));
        for line in before.iter().rev() {
            text.push_str(&format!("  {}\n", String::from_utf8_lossy(line)));
        }
        text.push_str(">>>\n");
        for line in bytes[at..].split(|b| *b == b'\n').take(3) {
            text.push_str(&format!("  {}\n", String::from_utf8_lossy(line)));
        }
    }
    text
}

#[test]
fn no_line_goes_in_the_wrong_place() {
    let folders = match folders() {
        Ok(folders) => folders,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")));
    let wanted: u32 = number("MUTATION_CASES").unwrap_or(CASES);
    let seed = number("MUTATION_SEED").unwrap_or(0);
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some((name, folder)) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let share = wanted.div_ceil(u32::try_from(folders.len()).unwrap());
            if let Err(failure) = check(name, folder, share, seed.into(), &tally) {
                failures.lock().unwrap().push(failure);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from).min(folders.len()) {
            scope.spawn(work);
        }
        work();
    });
    let tally = tally.into_inner().unwrap();
    println!("{} trees", folders.len());
    tally.print();
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    // Most changes are harmless, and some are not: else the changes or the engine do not do their work.
    let (right, refused) = (tally.count(0, Fate::Right), tally.count(0, Fate::Refused));
    assert!(
        right * 3 > tally.cases && refused * 20 > tally.cases,
        "right {right}, refused {refused} of {}",
        tally.cases
    );
}

fn check(name: &str, folder: &Path, cases_wanted: u32, seed: u64, tally: &Mutex<Tally>) -> Result<(), String> {
    let base = Base::read(name, folder);
    let targets: Vec<_> = base
        .targets
        .into_iter()
        .map(|target| {
            let sources = target.sources();
            (target, sources)
        })
        .collect();
    // What is placed in the unchanged file stands at its own mark: the oracle is not blind.
    for (target, sources) in &targets {
        for (index, placed) in place(target, sources, &target.bytes).into_iter().enumerate() {
            let fate = placed.map(|offsets| judge(&target.bytes, &target.marks, index, &offsets));
            assert_eq!(fate, Ok(Fate::Right), "{} in {} of {name}", target.points[index].id, target.path);
        }
    }
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(name.len() as u64 + name.bytes().map(u64::from).sum::<u64>()).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let failures: Vec<_> = (0..cases_wanted).filter_map(|_| one(&targets, &mut runner, tally)).collect();
    match failures.len() {
        0 => Ok(()),
        number => {
            let shown = failures.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
            Err(format!("{}: {number} of {cases_wanted} cases\n{shown}", base.name))
        }
    }
}

/// Runs the next case, and makes it as small as it goes if a line is wrong: what it says then.
fn one(targets: &[(Target, Sources)], runner: &mut TestRunner, tally: &Mutex<Tally>) -> Option<String> {
    let mut tree = cases().new_tree(runner).expect("nothing is filtered out");
    let mut case = tree.current();
    let mut why = run(targets, &case, tally).err()?;
    // What is tried on the way counts for nothing.
    let scratch = Mutex::new(Tally::default());
    let mut is_smaller = tree.simplify();
    for _ in 0..SHRINKS {
        if !is_smaller {
            break;
        }
        is_smaller = match run(targets, &tree.current(), &scratch) {
            Ok(()) => tree.complicate(),
            Err(smaller) => {
                (case, why) = (tree.current(), smaller);
                tree.simplify()
            }
        };
    }
    Some(format!("{case:?}\n{why}"))
}
