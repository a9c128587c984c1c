//! The sweep itself: every tree planned, applied, stripped and verified in memory, trees with the same content once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use patcher::{
    AddedFile, PatchError, PlanErrors, PointSet, Tree,
    drift::{Grade, grade},
    lock::Lock,
    verdict::Verdict,
};

use super::{list::Listed, trees::Place};
use crate::progress::Phase;

/// What became of one tree.
pub struct Swept<'a> {
    /// The tree.
    pub tree: Listed<'a>,
    /// What it came to.
    pub fate: Fate,
    /// Each point's grade, in order; empty for a tree that was refused.
    pub grades: Vec<Grade>,
}

/// How a tree took its points.
#[derive(Clone)]
pub enum Fate {
    /// Every point is placed or declared absent, and without our lines the bytes are upstream's.
    Patched(Vec<Verdict>),
    /// No plan; or what was applied is not upstream's text and our lines.
    Failed {
        /// Empty if the tree was refused as a whole.
        verdicts: Vec<Verdict>,
        /// Everything that is wrong, in words.
        message: String,
    },
    /// Not a tree that can be patched, and its era says so.
    Refused(String),
}

impl Swept<'_> {
    /// The points' verdicts.
    pub fn verdicts(&self) -> &[Verdict] {
        match &self.fate {
            Fate::Patched(verdicts) | Fate::Failed { verdicts, .. } => verdicts,
            Fate::Refused(_) => &[],
        }
    }
}

/// Time that was spent on one content.
#[derive(Debug, Clone)]
pub struct Timing {
    /// The first tree that has it.
    pub tree: String,
    /// Reading, planning, applying and verifying.
    pub elapsed: Duration,
}

/// Patches every tree in memory. `places` says where each of `trees` is.
///
/// # Errors
/// A tree's files cannot be read.
pub fn sweep<'a>(
    trees: &[Listed<'a>],
    places: &[Place],
    points: &PointSet,
    added: &[AddedFile],
    lock: &Lock,
    threads: usize,
    phase: &Phase,
) -> Result<(Vec<Swept<'a>>, Vec<Timing>)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Done::default());
    thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some(tree), Some(place)) = (trees.get(index), places.get(index)) else { return Ok(()) };
                let content = read(tree, place, points, added)?;
                let Some((open, hash)) = content else {
                    continue;
                };
                // Whoever comes first to a content patches it; the others look it up at the end.
                let mine = lock_of(&done).claim(index, &hash);
                if mine {
                    let started = Instant::now();
                    let fate = patch(&open, points, added);
                    let timing = Timing { tree: tree.to_string(), elapsed: started.elapsed() };
                    lock_of(&done).finish(hash, fate, timing);
                }
                phase.set(index as u64 + 1, trees.len() as u64);
            }
        };
        let others: Vec<_> = (1..threads.min(trees.len())).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for other in others {
            match other.join() {
                Ok(others) => result = result.and(others),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut swept: Vec<Swept<'a>> = Vec::new();
    for (index, (tree, place)) in trees.iter().zip(places).enumerate() {
        let fate = match place {
            Place::Refused(sentence) => Fate::Refused(sentence.clone()),
            Place::Folder(_) => expected(tree, done.fate(index).context("a tree was left out of the sweep")?),
        };
        swept.push(Swept { tree: *tree, fate, grades: Vec::new() });
    }
    for index in 0..swept.len() {
        let name = swept[index].tree.to_string();
        // A tree that is new to the lock is held against the release before it.
        let before = swept[index + 1..].iter().find(|older| older.tree.package == swept[index].tree.package);
        let before = before.map(|older| older.tree.to_string()).filter(|_| !lock.0.contains_key(&name));
        let known = before.unwrap_or(name);
        swept[index].grades =
            swept[index].verdicts().iter().map(|verdict| grade(lock.entry(&known, &verdict.id), verdict)).collect();
    }
    Ok((swept, done.timings))
}

#[derive(Default)]
struct Done {
    /// Content by tree.
    hashes: BTreeMap<usize, String>,
    /// Fate by content, `None` while one of the threads is at it.
    fates: HashMap<String, Option<Fate>>,
    timings: Vec<Timing>,
}

impl Done {
    fn claim(&mut self, index: usize, hash: &str) -> bool {
        self.hashes.insert(index, hash.to_owned());
        if self.fates.contains_key(hash) {
            return false;
        }
        self.fates.insert(hash.to_owned(), None);
        true
    }

    fn finish(&mut self, hash: String, fate: Fate, timing: Timing) {
        self.fates.insert(hash, Some(fate));
        self.timings.push(timing);
    }

    fn fate(&self, index: usize) -> Option<Fate> {
        self.fates.get(self.hashes.get(&index)?)?.clone()
    }
}

fn lock_of(done: &Mutex<Done>) -> std::sync::MutexGuard<'_, Done> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(tree: &Listed<'_>, place: &Place, points: &PointSet, added: &[AddedFile]) -> Result<Option<(Tree, String)>> {
    let Place::Folder(dir) = place else { return Ok(None) };
    let failed = || format!("cannot read the tree {}", dir.display());
    let open = Tree::open(dir, tree.to_string()).with_context(failed)?;
    let hash = patcher::contents(&open, points, added).with_context(failed)?;
    Ok(Some((open, hash)))
}

fn patch(tree: &Tree, points: &PointSet, added: &[AddedFile]) -> Fate {
    match patcher::patch(tree, points, added.to_vec()) {
        Ok((plan, _)) => Fate::Patched(plan.verdicts),
        Err(PatchError::Plan(errors)) => {
            let message = errors.to_string();
            let PlanErrors { verdicts, .. } = errors;
            Fate::Failed { verdicts, message }
        }
        Err(error) => Fate::Failed { verdicts: Vec::new(), message: format!("error: {error} ({})", tree.name()) },
    }
}

/// A tree of an era that cannot be patched must be refused, and for the reason that the era gives.
fn expected(tree: &Listed<'_>, fate: Fate) -> Fate {
    match (&tree.era.refused, fate) {
        (None, fate) => fate,
        (Some(why), Fate::Failed { message, .. }) if message.contains(why) => {
            Fate::Refused(message.lines().next().unwrap_or_default().to_owned())
        }
        (Some(why), _) => Fate::Failed {
            verdicts: Vec::new(),
            message: format!("error: {tree} should be refused because `{why}`, and is not"),
        },
    }
}
