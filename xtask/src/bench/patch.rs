//! What patching costs: one tree planned, applied and verified; every tree of the sweep; and the memory that both take.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, bail};
use patcher::{AddedFile, PointSet, Tree, lock::Lock};

use super::row::{Row, median};
use crate::{
    context::Context,
    drift::{
        list::{Listed, Sweep},
        sweep,
        trees::{Place, Places},
    },
    patch::{added_files, load_points},
    progress::Unit,
};

/// Cores that the goals are stated for.
const CORES: usize = 2;
/// Goal for one tree, in milliseconds.
const TREE_MS: f64 = 150.0;
/// Goal for the whole sweep, in seconds.
const SWEEP_S: f64 = 60.0;
/// How often one tree is measured; the median counts.
const REPEATS: usize = 3;

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    /// Measure these trees only, such as llama-cpp-sys-2-0.1.161, and leave the sweep out
    #[arg(long, value_name = "TREE")]
    only: Vec<String>,
}

/// Measures.
///
/// # Errors
/// A tree cannot be read, or does not take its points.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let list = Sweep::read(context)?;
    let all = list.trees();
    if let Some(unknown) = args.only.iter().find(|name| all.iter().all(|tree| tree.to_string() != **name)) {
        bail!("upstream.toml lists no tree `{unknown}` in [sweep]");
    }
    let wanted = |tree: &Listed<'_>| args.only.is_empty() || args.only.contains(&tree.to_string());
    let trees: Vec<_> = all.into_iter().filter(wanted).collect();
    let places = Places::read(context).find(context, &trees)?;
    let points = load_points(context)?;
    let added = added_files(context)?;

    let phase = context.ui.phase(format!("patch {} trees one by one", trees.len()), Unit::Steps);
    reset_peak_memory();
    let mut times = Vec::new();
    for (index, (tree, place)) in trees.iter().zip(&places).enumerate() {
        phase.set(index as u64, trees.len() as u64);
        // An era that is refused takes no time worth measuring.
        let (Place::Folder(dir), None) = (place, &tree.era.refused) else { continue };
        times.push((median(&one_tree(dir, &tree.to_string(), &points, &added)?), tree.to_string()));
    }
    let worst = times.iter().max_by(|a, b| a.0.total_cmp(&b.0)).cloned().unwrap_or_default();
    phase.finish(format_args!("slowest {}", worst.1));
    let medians: Vec<_> = times.iter().map(|(time, _)| *time).collect();
    let mut rows = vec![
        Row::new("patch.tree.median", median(&medians), "ms").at_most(TREE_MS),
        Row::new("patch.tree.worst", worst.0, "ms").at_most(TREE_MS),
    ];
    rows.extend(peak_memory().map(|peak| Row::new("patch.tree.peak_memory", peak, "MiBy")));

    if args.only.is_empty() {
        let phase = context.ui.phase(format!("sweep {} trees", trees.len()), Unit::Steps);
        reset_peak_memory();
        let started = Instant::now();
        let (_, timings) = sweep::sweep(&trees, &places, &points, &added, &Lock::default(), CORES, &phase)?;
        let seconds = started.elapsed().as_secs_f64();
        phase.finish(format_args!("{} different contents", timings.len()));
        rows.push(Row::new("patch.sweep", seconds, "s").at_most(SWEEP_S));
        rows.extend(peak_memory().map(|peak| Row::new("patch.sweep.peak_memory", peak, "MiBy")));
    }
    Ok(rows)
}

/// Times, in milliseconds, from opening a tree whose files the system has read before to the verified result.
fn one_tree(dir: &Path, name: &str, points: &PointSet, added: &[AddedFile]) -> Result<Vec<f64>> {
    (0..REPEATS)
        .map(|_| {
            let started = Instant::now();
            let tree = Tree::open(dir, name).with_context(|| format!("cannot read {}", dir.display()))?;
            let (plan, applied) =
                patcher::patch(&tree, points, added.to_vec()).map_err(|error| anyhow::anyhow!("{error}"))?;
            let elapsed = started.elapsed().as_secs_f64() * 1e3;
            drop((plan, applied, tree));
            Ok(elapsed)
        })
        .collect()
}

/// Lets the peak be that of what follows. Linux only; elsewhere no peak is reported.
fn reset_peak_memory() {
    // Without it the figure is that of the whole process so far: an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set since [`reset_peak_memory`], in MiB; `None` where the system does not tell.
fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
