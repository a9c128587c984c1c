//! The point loader: any text is either refused with a reason or a valid set of points, and a valid set can be shown,
//! planned and planned again without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use patcher::{PointSet, Tree, index_markdown};

/// A file under several names, so that points which name one of them find it.
const CODE: &str = "\
#include <a>

struct S { int f(batch & b) { return b.n; } };

int S::g(const batch & b) {
    int x = f(b);
    x = 1;
    if (x) {
        return 2;
    }
    return x;
}
int f(int n) {
    return n;
}
";

fuzz_target!(|text: &str| {
    let set = match PointSet::parse([("points.toml", text)]) {
        Ok(set) => set,
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            return;
        }
    };
    let again = PointSet::parse([("elsewhere/points.toml", text)]).expect("the same text was valid before");
    assert_eq!(set.hash(), again.hash());
    for point in set.points() {
        assert!(!point.at.is_empty(), "{} has no alternate", point.id);
        assert!(point.count.min > 0 && point.count.max.is_none_or(|max| max >= point.count.min));
        for alternate in &point.at {
            let line = alternate.insert.as_str();
            assert!(!line.contains(['\n', '\r']));
            assert!(line.starts_with("LLAMA_OTEL_") || line == "#include \"common/otel/otel.h\"", "{line}");
            is_inside(&alternate.file);
            let _ = alternate.describe();
        }
        point.absent.iter().for_each(|absent| is_inside(&absent.file));
    }
    set.blocks().iter().for_each(|block| is_inside(&block.file));
    let _ = index_markdown(&set);

    let files = set.points().iter().flat_map(|point| &point.at).map(|alternate| alternate.file.as_str());
    let files = files.chain(set.blocks().iter().map(|block| block.file.as_str())).take(8);
    let tree = Tree::from_files("fuzz", files.map(|file| (file.to_owned(), CODE)));
    match patcher::patch(&tree, &set, Vec::new()) {
        Ok((plan, applied)) => {
            let (_, twice) = patcher::patch(&tree, &set, Vec::new()).expect("it had a plan before");
            assert_eq!(applied, twice);
            assert_eq!(plan.verdicts.len(), set.points().len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// A point cannot name a file outside the tree, on any system.
fn is_inside(path: &str) {
    assert!(!path.starts_with('/') && !path.contains(['\\', ':', '\0']), "{path:?}");
    assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
}
