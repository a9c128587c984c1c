//! The locator: whatever a source file holds, a point is placed in it and comes out again byte for byte, or is refused.
//!
//! The first byte of the input chooses the points, the rest is the file.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use patcher::{PatchError, PointSet, Tree, strip_file};

const FILE: &str = "case.cpp";

/// Places of every kind: position, function (and what `params` it has), statement, options.
const PLACES: [&str; 20] = [
    r#"function = "f", position = "body-start""#,
    r#"function = "f", params = { b = "batch" }, position = "body-start""#,
    r#"function = "f", params = { b = "batch *" }, position = "body-start", insert = "LLAMA_OTEL_X({b});""#,
    r#"function = "S::f", position = "body-start""#,
    r#"function = "S::S", position = "body-start""#,
    r#"function = "S::~S", position = "body-start""#,
    r#"function = "n::f", position = "body-start""#,
    r#"function = "f::g", position = "body-start""#,
    r#"function = "S::operator==", position = "body-start""#,
    r#"position = "includes-end", insert = '#include "common/otel/otel.h"'"#,
    r#"function = "f", position = "before", match = '^return'"#,
    r#"function = "f", position = "before", match = '^return (?<v>-?\w+)', insert = "LLAMA_OTEL_X({v});""#,
    r#"function = "f", position = "before", match = '^return', skip_inline = true"#,
    r#"function = "f", position = "before", match = '.', in_preproc = true, skip_inline = true"#,
    r#"function = "f", position = "after", match = '.', in_preproc = true, skip_inline = true"#,
    r#"function = "f", position = "after", match = '^(const |auto )*\w+ = g\('"#,
    r#"function = "f", position = "after", match = '^\w+\(', skip_inline = true"#,
    r#"function = "f", position = "before", match = '^(if|switch|for|while|do|try)\b'"#,
    r#"function = "f", position = "after", match = '^(if|switch|for|while|do|try)\b'"#,
    r#"function = "S::f", params = { b = "batch" }, position = "before", match = '^return', in_preproc = true"#,
];

fn point(index: usize, place: &str) -> String {
    let insert = if place.contains("insert =") { String::new() } else { format!(", insert = 'LLAMA_OTEL_P{index}(1);'") };
    format!(
        "[[point]]\nid = \"p{index}\"\npurpose = \"p\"\ncount = \"1..\"\ncount_reason = \"any\"\n\
         at = [{{ file = \"{FILE}\", {place}{insert} }}]\n"
    )
}

/// Each place alone, some of them together, and an appended block.
static SETS: LazyLock<Vec<PointSet>> = LazyLock::new(|| {
    let parse = |text: String| PointSet::parse([("p.toml", text)]).unwrap_or_else(|errors| panic!("{errors}"));
    let mut sets: Vec<_> = PLACES.iter().enumerate().map(|(index, place)| parse(point(index, place))).collect();
    let together = |chosen: &[usize]| parse(chosen.iter().map(|index| point(*index, PLACES[*index])).collect());
    sets.extend([&[0, 9, 12][..], &[0, 13], &[13, 14], &[3, 4, 5]].map(together));
    sets.push(parse(format!("[[block]]\nfile = \"{FILE}\"\ntext = \"add_subdirectory(otel)\"\n")));
    sets
});

fuzz_target!(|input: &[u8]| {
    let Some((selector, source)) = input.split_first() else { return };
    let set = &SETS[usize::from(*selector) % SETS.len()];
    let Some(patched) = patch(source, set) else { return };

    // The line filter of a reader who does not know the engine.
    if set.blocks().is_empty() {
        let lines = patched.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_ours(line));
        assert!(lines.flatten().eq(source), "without our lines it is another file");
    }
    let stripped = strip_file(&patched).expect("what was patched can be stripped");
    assert_eq!(stripped, source);
    // Our lines end as the lines around them do.
    let has_lone = |bytes: &[u8]| bytes.iter().enumerate().any(|(at, b)| *b == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
    if set.blocks().is_empty() && !has_lone(source) {
        assert!(!has_lone(&patched), "a line of ours has another line end than the file");
    }
    // Twice is refused, and from the stripped file the same comes out.
    match patcher::patch(&tree(&patched), set, Vec::new()) {
        Err(PatchError::Plan(errors)) => assert!(!errors.tree_errors.is_empty(), "{errors}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("patched twice"),
    }
    assert_eq!(patch(&stripped, set), Some(patched));
});

fn tree(source: &[u8]) -> Tree {
    Tree::from_files("fuzz", [(FILE.to_owned(), source)])
}

fn is_ours(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"LLAMA_OTEL_") || line == b"#include \"common/otel/otel.h\""
}

fn patch(source: &[u8], set: &PointSet) -> Option<Vec<u8>> {
    match patcher::patch(&tree(source), set, Vec::new()) {
        Ok((plan, mut applied)) => {
            let patched = applied.files.remove(Path::new(FILE)).expect("the file is among the results");
            let sites: usize = plan.verdicts.iter().map(|verdict| verdict.sites.len()).sum();
            if set.blocks().is_empty() {
                let ours = patched.split_inclusive(|byte| *byte == b'\n').filter(|line| is_ours(line)).count();
                assert_eq!(sites, ours);
            }
            Some(patched)
        }
        Err(PatchError::Plan(errors)) => {
            assert!(!errors.to_string().is_empty());
            None
        }
        // A plan that cannot be carried out, or does not come out again.
        Err(other) => panic!("{other}"),
    }
}
