//! Damaged input: the golden cases with bytes dropped, doubled and swapped. Whatever happens to a file, the engine
//! answers with a verified result or an error, never with a panic or a result that does not strip back.

use std::path::Path;

use patcher::{PatchError, PointSet, Tree};

/// A small linear congruential generator: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"{",
        b"}",
        b"(",
        b")",
        b"\"",
        b"'",
        b"/*",
        b"*/",
        b"//",
        b"\\\n",
        b"\n#if A\n",
        b"\n#else\n",
        b"\n#endif\n",
        b"R\"(",
        b"else ",
        b"\xFF",
    ];
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(out.len());
        let end = (at + random.below(24)).min(out.len());
        match random.below(4) {
            0 => drop(out.drain(at..end)),
            1 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            2 => out.truncate(end),
            _ => {
                out.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied());
            }
        }
    }
    out
}

#[test]
fn damaged_files_give_a_verified_result_or_an_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut random = Random(42);
    let (mut placed, mut refused) = (0, 0);
    for entry in std::fs::read_dir(root).unwrap() {
        let dir = entry.unwrap().path();
        let Ok(points) = std::fs::read_to_string(dir.join("point.toml")) else { continue };
        let Ok(points) = PointSet::parse([("point.toml", points)]) else { continue };
        for (before, case) in [("before.cpp", "case.cpp"), ("before.h", "case.h"), ("before.txt", "case.txt")] {
            let Ok(bytes) = std::fs::read(dir.join(before)) else { continue };
            for _ in 0..60 {
                let damaged = damage(&bytes, &mut random);
                let tree = Tree::from_files("damaged", [(case.to_owned(), damaged.clone())]);
                match patcher::patch(&tree, &points, Vec::new()) {
                    Ok(_) => placed += 1,
                    Err(PatchError::Plan(errors)) => {
                        assert!(!errors.to_string().is_empty());
                        refused += 1;
                    }
                    Err(error) => panic!("{}: {error}\n{}", dir.display(), String::from_utf8_lossy(&damaged)),
                }
            }
        }
    }
    assert!(placed > 500 && refused > 500, "placed {placed}, refused {refused}");
}
