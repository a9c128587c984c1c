//! The real trees that are changed: one of each era where the sweep's cache is here, else the vendored one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patcher::point::{Point, Position};
use patcher::verdict::Outcome;
use patcher::{PointSet, Sources, Tree};

use crate::doc::{Mark, Side};

/// One tree of each kind of code, newest first.
const ERAS: [&str; 16] = [
    "llama-cpp-sys-2-0.1.161",
    "llama-cpp-sys-4-0.11.0",
    "llama-cpp-python-0.3.36",
    "llama-cpp-sys-2-0.1.157",
    "llama-cpp-sys-2-0.1.154",
    "llama-cpp-sys-2-0.1.147",
    "llama-cpp-sys-2-0.1.143",
    "llama-cpp-sys-2-0.1.138",
    "llama-cpp-sys-2-0.1.132",
    "llama-cpp-sys-2-0.1.122",
    "llama-cpp-python-0.3.16",
    "llama-cpp-sys-2-0.1.115",
    "llama-cpp-sys-2-0.1.107",
    "llama-cpp-sys-2-0.1.103",
    "llama-cpp-sys-2-0.1.90",
    "llama-cpp-sys-2-0.1.86",
];

/// One real file in which points are placed.
pub struct Target {
    pub path: String,
    pub bytes: Vec<u8>,
    /// Where lines go in, sorted by offset; the index counts `points`.
    pub marks: Vec<(usize, Mark)>,
    /// The points that are placed in it.
    pub points: Vec<Point>,
    /// All of them, and each alone.
    pub set: PointSet,
    pub alone: Vec<PointSet>,
    /// The other files that these points look at.
    pub others: Vec<(String, Arc<[u8]>)>,
}

/// A tree and the files of it in which points are placed.
pub struct Base {
    pub name: String,
    pub targets: Vec<Target>,
}

/// Folders of the trees to change, or why there are none.
pub fn folders() -> Result<Vec<(String, PathBuf)>, String> {
    if let Some(places) = std::env::var_os("PLACES") {
        let text = std::fs::read(&places).map_err(|error| format!("{}: {error}", PathBuf::from(&places).display()))?;
        let known: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        let folder = |name: &&str| Some(((*name).to_owned(), PathBuf::from(known.get(*name)?["folder"].as_str()?)));
        return Ok(ERAS.iter().filter_map(folder).filter(|(_, folder)| folder.is_dir()).collect());
    }
    match std::env::var_os("LLAMA_OTEL_SRC").map(PathBuf::from) {
        Some(folder) => Ok(vec![("LLAMA_OTEL_SRC".to_owned(), folder)]),
        None => Err("neither PLACES (the sweep's places.json) nor LLAMA_OTEL_SRC names real trees".to_owned()),
    }
}

impl Base {
    /// Where the points are placed in a tree as it was published: the sweep and the builds of its trees vouch for that.
    pub fn read(name: &str, folder: &Path) -> Self {
        let points_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("points");
        let points = PointSet::load_dir(&points_dir).unwrap_or_else(|errors| panic!("{errors}"));
        let tree = Tree::open(folder, name).unwrap();
        let sources = Sources::new(1 << 26);
        let verdicts = match patcher::plan_with(&sources, &tree, &points, Vec::new()) {
            Ok(plan) => plan.verdicts,
            Err(errors) => panic!("{name}: {errors}"),
        };
        let mut of_file: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
        for (point, verdict) in points.points().iter().zip(&verdicts) {
            if let Some(file) = verdict.file.as_deref().filter(|_| verdict.outcome == Outcome::Placed) {
                of_file.entry(file).or_default().push(point);
            }
        }
        let targets = of_file.into_iter().map(|(path, points)| Target::new(&tree, &sources, path, points)).collect();
        Base { name: name.to_owned(), targets }
    }
}

impl Target {
    fn new(tree: &Tree, sources: &Sources, path: &str, points: Vec<&Point>) -> Self {
        let alone: Vec<_> = points.iter().map(|point| set_of(&[point])).collect();
        let mut marks = Vec::new();
        for (index, set) in alone.iter().enumerate() {
            let plan = patcher::plan_with(sources, tree, set, Vec::new()).unwrap();
            let position = points[index].at[plan.verdicts[0].alternate.unwrap()].position;
            let side = if position == Position::Before { Side::Before } else { Side::After };
            // Lines in other files stay what they are.
            let edit = plan.files.get(path).into_iter().flat_map(|edit| &edit.insertions);
            marks.extend(edit.map(|insertion| (insertion.offset, Mark { point: index, side })));
        }
        // At one place, what belongs to the code before comes first.
        marks.sort_by_key(|(offset, mark)| (*offset, mark.side == Side::Before));
        let named = points.iter().flat_map(|point| {
            let absent = point.absent.iter().map(|absent| absent.file.clone());
            point.at.iter().map(|alternate| alternate.file.clone()).chain(absent)
        });
        let others: BTreeSet<_> = named.filter(|other| other != path).collect();
        let others = others.into_iter().filter_map(|path| Some((path.clone(), tree.read(&path).unwrap()?)));
        Target {
            path: path.to_owned(),
            bytes: tree.read(path).unwrap().unwrap().to_vec(),
            marks,
            set: set_of(&points),
            alone,
            others: others.collect(),
            points: points.into_iter().cloned().collect(),
        }
    }

    /// The tree of this target, as far as its points look at it, with another content of the file.
    pub fn tree(&self, bytes: Vec<u8>) -> Tree {
        let changed = std::iter::once((self.path.clone(), Arc::from(bytes)));
        Tree::from_shared("changed", self.others.iter().cloned().chain(changed))
    }

    /// Room for what does not change, and for some of what does.
    pub fn sources(&self) -> Sources {
        Sources::new(self.others.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + 3 * self.bytes.len() + (1 << 20))
    }
}

/// A set of the points alone, read from the files that declare them.
fn set_of(points: &[&Point]) -> PointSet {
    let mut texts: BTreeMap<PathBuf, toml::Table> = BTreeMap::new();
    for point in points {
        let text = || std::fs::read_to_string(&point.source).unwrap().parse::<toml::Table>().unwrap();
        texts.entry(point.source.clone()).or_insert_with(text);
    }
    let texts = texts.into_iter().map(|(path, mut table)| {
        let declared = table.remove("point").unwrap();
        let is_wanted = |value: &&toml::Value| points.iter().any(|point| value["id"].as_str() == Some(&point.id));
        let kept: Vec<_> = declared.as_array().unwrap().iter().filter(is_wanted).cloned().collect();
        let table = toml::Table::from_iter([("point".to_owned(), toml::Value::Array(kept))]);
        (path, toml::to_string(&table).unwrap())
    });
    PointSet::parse(texts).unwrap_or_else(|errors| panic!("{errors}"))
}
