//! Plans and applies instrumentation lines to a llama.cpp tree.
//!
//! Bytes in, a plan or a complete list of errors out. Nothing here writes a file, starts a process, opens a
//! connection or reads the environment; [`tree::Tree`] alone reads the disk.
//!
//! The way of a point, module by module:
//!
//! 1. [`point`] — what is inserted, where, how often: TOML, checked before any tree is looked at.
//! 2. [`tree`] — the tree: paths to bytes, and its digest.
//! 3. `mask`, `preproc`, `source` — one file: comments and literals blanked, `#if` chains, functions found by tree-sitter;
//!    [`sources`] remembers files that trees share.
//! 4. `locate` — an alternate's exact place in a file, or why there is none.
//! 5. [`mod@plan`] — all points of a tree at once: every line to insert, or every reason why not.
//! 6. [`apply`] — the plan carried out in memory, and checked: [`strip`] gives back upstream's bytes.
//! 7. [`verdict`], [`report`], [`lock`], [`drift`] — what became of each point, in words and data, now and since last time.
//! 8. [`mend`] — where a lost point went, for a person to judge.

pub mod apply;
mod cpp_type;
pub mod drift;
pub mod error;
mod locate;
pub mod lock;
mod mask;
pub mod mend;
pub mod plan;
pub mod point;
mod preproc;
pub mod report;
mod source;
pub mod sources;
pub mod strip;
pub mod tree;
pub mod verdict;

pub use apply::Applied;
pub use error::{PatchError, PlanErrors, PointErrors};
pub use plan::{AddedFile, Plan, contents, plan, plan_with};
pub use point::PointSet;
pub use report::{Report, index_markdown, unified_diff};
pub use sources::Sources;
pub use strip::{strip_file, strip_tree};
pub use tree::Tree;

/// Plans, applies and verifies in one go: what comes back is complete and proven to be upstream's text and our lines.
///
/// # Errors
/// No plan, or the tree changed underneath, or the check failed.
pub fn patch(tree: &Tree, points: &PointSet, added: Vec<AddedFile>) -> Result<(Plan, Applied), PatchError> {
    patch_with(&Sources::default(), tree, points, added)
}

/// [`patch()`], with files that were parsed for other trees.
///
/// # Errors
/// Those of [`patch()`].
pub fn patch_with(
    sources: &Sources,
    tree: &Tree,
    points: &PointSet,
    added: Vec<AddedFile>,
) -> Result<(Plan, Applied), PatchError> {
    let plan = plan_with(sources, tree, points, added)?;
    let applied = plan.apply(tree)?;
    plan.verify(tree, &applied)?;
    Ok((plan, applied))
}
