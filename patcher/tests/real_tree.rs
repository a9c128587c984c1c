//! A few points on a whole llama.cpp tree, named by `LLAMA_OTEL_SRC`. Without it the test says so and passes.

use std::path::PathBuf;
use std::time::Instant;

use patcher::plan::{AddedFile, plan};
use patcher::verdict::Outcome;
use patcher::{PointSet, Tree, strip_tree};

fn points() -> PointSet {
    PointSet::parse([("points.toml", include_str!("real/points.toml"))]).unwrap_or_else(|e| panic!("{e}"))
}

fn added() -> Vec<AddedFile> {
    vec![AddedFile { path: "common/otel/otel.h".to_owned(), bytes: b"#pragma once\n".to_vec() }]
}

#[test]
fn a_real_tree_is_planned_applied_and_stripped_back_to_the_same_bytes() {
    let Some(root) = std::env::var_os("LLAMA_OTEL_SRC").map(PathBuf::from) else {
        eprintln!("skipped: LLAMA_OTEL_SRC names no llama.cpp tree");
        return;
    };
    let points = points();
    let tree = Tree::open(&root, root.display().to_string()).unwrap();
    let start = Instant::now();
    let plan = plan(&tree, &points, added()).unwrap_or_else(|e| panic!("{e}"));
    let planned = start.elapsed();
    let applied = plan.apply(&tree).unwrap();
    plan.verify(&tree, &applied).unwrap();
    eprintln!("plan {planned:?}, with apply and verify {:?}", start.elapsed());
    for verdict in &plan.verdicts {
        let lines: Vec<_> = verdict.sites.iter().map(|s| s.line).collect();
        eprintln!(
            "{:16} {:?} alternate {:?} {} {lines:?} skipped {}",
            verdict.id,
            verdict.outcome,
            verdict.alternate,
            verdict.file.as_deref().unwrap_or("-"),
            verdict.skipped.len()
        );
    }
    assert_eq!(plan.verdicts.len(), points.points().len());
    assert!(plan.verdicts.iter().all(|v| v.outcome == Outcome::Placed || v.reason.is_some()));

    // The patched tree, as a tree of its own: planning on it is refused, stripping it gives upstream's files.
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for path in tree.paths().unwrap().into_iter().filter(|p| !applied.files.contains_key(&PathBuf::from(p))) {
        files.push((path.clone(), tree.read(&path).unwrap().unwrap().to_vec()));
    }
    files.extend(applied.files.iter().map(|(path, bytes)| (path.to_string_lossy().into_owned(), bytes.clone())));
    let patched = Tree::from_files("patched", files);
    let refused = patcher::plan(&patched, &points, added()).unwrap_err();
    assert!(!refused.tree_errors.is_empty(), "{refused}");
    let stripped = strip_tree(&patched).unwrap();
    assert_eq!(stripped.removed, ["common/otel/otel.h"]);
    assert_eq!(stripped.files.keys().collect::<Vec<_>>(), plan.files.keys().collect::<Vec<_>>());
    for (path, bytes) in &stripped.files {
        assert_eq!(bytes.as_slice(), &*tree.read(path).unwrap().unwrap(), "{path}");
    }
}
