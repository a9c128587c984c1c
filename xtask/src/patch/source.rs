//! What a tree carries before we touch it: nothing of ours, an older version of our lines, or what only someone
//! else can have put there. The planner gets upstream's text in the first two cases; the third is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use memchr::memmem;
use patcher::{
    PointSet, Tree,
    strip::{ADDED_DIR, INCLUDE_LINE, MACRO_PREFIX, first_mark, strip_file},
};

use super::{
    derive::is_not_source,
    stamp::{self, Known, STAMP},
};

/// Files that a line of ours can be in. Anything else that looks like one is text about it, or CMake's cache.
const EXTENSIONS: [&str; 16] =
    ["c", "cc", "cpp", "cxx", "h", "hh", "hpp", "cu", "cuh", "m", "mm", "metal", "cl", "comp", "cmake", "inc"];
/// How the names of new contents begin and end until they take their place, see [`super::in_place`].
pub const STAGED: (&str, &str) = (".llama-otel-", ".tmp");
/// How many findings of a kind a refusal lists.
const LISTED: usize = 8;

/// A tree that cannot be patched whatever the points are, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What the tree is called.
    pub tree: String,
    /// Everything that stands against it.
    pub reasons: Vec<String>,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left as it is", self.tree)?;
        for reason in &self.reasons {
            write!(f, "\n  {reason}")?;
        }
        write!(f, "\nhelp: {}", self.help)
    }
}

impl std::error::Error for Refused {}

/// A tree that can be planned on.
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Upstream's text: the tree as it is, or without our lines.
    pub tree: Tree,
    /// What its `PATCHED.json` says, if it is one of ours.
    pub known: Option<Known>,
    /// Of each file that carries our lines, the text without them.
    pub stripped: BTreeMap<String, Vec<u8>>,
    /// The files in it that an earlier run has added.
    pub added: Vec<String>,
    /// What runs that were killed left in it.
    pub staged: Vec<String>,
}

/// A tree that is known to be upstream's, such as one out of the cache.
///
/// # Errors
/// It cannot be read.
pub fn pristine(root: &Path, name: &str) -> Result<Source> {
    Ok(Source {
        name: name.to_owned(),
        root: root.to_owned(),
        tree: Tree::open(root, name).with_context(|| format!("cannot read the tree {}", root.display()))?,
        known: None,
        stripped: BTreeMap::new(),
        added: Vec::new(),
        staged: Vec::new(),
    })
}

/// Looks at a tree. With `force`, what would be lost by stripping is no reason to refuse it.
///
/// # Errors
/// [`Refused`], or the tree cannot be read.
pub fn examine(root: &Path, name: &str, points: &PointSet, force: bool) -> Result<Source> {
    let found = scan(root).with_context(|| format!("cannot read {}", root.display()))?;
    let known = stamp::read(root).as_ref().and_then(Known::of);
    let mut source = Source { known, added: found.added, staged: found.staged, ..pristine(root, name)? };
    let refused = |reasons: Vec<String>, help: &str| Refused { tree: name.to_owned(), reasons, help: help.to_owned() };
    let Some(known) = &source.known else {
        let mut reasons: Vec<_> = listed(found.marked.iter().filter_map(|(path, bytes)| {
            let (line, text) = first_mark(bytes)?;
            Some(format!("{path}:{line}: is patched already: `{text}`"))
        }));
        reasons.extend(listed(
            source.added.iter().map(|path| format!("{path}: the tree has a folder {ADDED_DIR} of its own")),
        ));
        if reasons.is_empty() {
            return Ok(source);
        }
        return Err(refused(
            reasons,
            "patch a pristine tree (`cargo xtask vendor` unpacks one); lines of ours without our PATCHED.json are \
             someone else's, and a folder of that name upstream's",
        )
        .into());
    };
    let mut reasons = Vec::new();
    for (path, bytes) in &found.marked {
        if known.files.get(path).is_none_or(|file| file.before.is_none()) {
            reasons.extend(first_mark(bytes).map(|(line, text)| {
                format!("{path}:{line}: `{text}` is not by this program: {STAMP} does not list the file")
            }));
        } else {
            let foreign = foreign_lines(bytes, &known.lines).into_iter();
            reasons.extend(foreign.map(|(line, text)| {
                format!("{path}:{line}: `{text}` is not by this program: {STAMP} does not list the line")
            }));
        }
    }
    for path in &source.added {
        let bytes = read(root, path)?;
        match known.files.get(path) {
            Some(file) if file.is_ours(&bytes) => {}
            Some(_) => reasons.push(format!("{path}: was changed by hand, which would be lost")),
            None => reasons.push(format!("{path}: is not by this program: {STAMP} does not list it")),
        }
    }
    if !reasons.is_empty() && !force {
        return Err(refused(
            listed(reasons.into_iter()),
            "keep them elsewhere, or take them out with --force; lines of your own that are no points need another \
             prefix than LLAMA_OTEL_",
        )
        .into());
    }
    for (path, bytes) in found.marked {
        let stripped = strip_file(&bytes).with_context(|| format!("{path} in {}", root.display()))?;
        source.stripped.insert(path, stripped);
    }
    source.tree = upstream_view(root, name, points, &source.stripped)?;
    Ok(source)
}

impl Source {
    /// Whether the tree is upstream's as it stands there.
    pub fn is_pristine(&self) -> bool {
        self.known.is_none()
    }

    /// Upstream's text for other points than those that the tree was examined with.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open_for(&self, points: &PointSet) -> Result<Tree> {
        if self.is_pristine() {
            return self.open_whole();
        }
        upstream_view(&self.root, &self.name, points, &self.stripped)
    }

    /// Every file of the tree; upstream's text where that is all there is, else with our lines in it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open_whole(&self) -> Result<Tree> {
        Tree::open(&self.root, &self.name).with_context(|| format!("cannot read the tree {}", self.root.display()))
    }

    /// Writes upstream's tree into the folder `to`.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn write_pristine(&self, to: &Path) -> Result<()> {
        let ours: BTreeSet<_> = self.added.iter().chain(&self.staged).collect();
        let paths = Tree::open(&self.root, &self.name).and_then(|tree| tree.paths());
        for path in paths.with_context(|| format!("cannot read {}", self.root.display()))? {
            if is_not_source(&path) || path == STAMP || ours.contains(&path) {
                continue;
            }
            let target = to.join(&path);
            let written =
                fs::create_dir_all(target.parent().unwrap_or(to)).and_then(|()| match self.stripped.get(&path) {
                    Some(bytes) => fs::write(&target, bytes),
                    None => fs::copy(self.root.join(&path), &target).map(|_| ()),
                });
            written.with_context(|| format!("cannot write {}", target.display()))?;
        }
        Ok(())
    }
}

struct Scan {
    /// Files with a line or a block of ours.
    marked: BTreeMap<String, Vec<u8>>,
    /// Everything in the folder of added files.
    added: Vec<String>,
    staged: Vec<String>,
}

fn scan(root: &Path) -> io::Result<Scan> {
    let mut scan = Scan { marked: BTreeMap::new(), added: Vec::new(), staged: Vec::new() };
    // A build folder in the tree holds copies and caches that name our options.
    let is_entered = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || entry.file_name() != ".git" && !entry.path().join("CMakeCache.txt").is_file()
    };
    let finders = [MACRO_PREFIX, "common/otel/otel.h", " llama-otel"].map(memmem::Finder::new);
    for entry in walkdir::WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_entered) {
        let entry = entry.map_err(io::Error::from)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let parts = entry.path().strip_prefix(root).map_err(io::Error::other)?.components();
        let path = parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        let name = entry.file_name().to_string_lossy();
        if name.starts_with(STAGED.0) && name.ends_with(STAGED.1) {
            scan.staged.push(path);
            continue;
        }
        if path.starts_with(ADDED_DIR) {
            scan.added.push(path);
            continue;
        }
        let extension = entry.path().extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if name != "CMakeLists.txt" && !EXTENSIONS.contains(&extension) {
            continue;
        }
        let bytes = fs::read(entry.path())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path().display())))?;
        if finders.iter().any(|finder| finder.find(&bytes).is_some()) && first_mark(&bytes).is_some() {
            scan.marked.insert(path, bytes);
        }
    }
    Ok(scan)
}

/// Lines of ours by their form that are not among `lines`, those of an appended block left out.
fn foreign_lines(bytes: &[u8], lines: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut is_in_block = false;
    let mut foreign = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(line.trim_ascii());
        if text.starts_with("# >>> llama-otel") {
            is_in_block = true;
        } else if text.starts_with("# <<< llama-otel") {
            is_in_block = false;
        } else if !is_in_block
            && (text.starts_with(MACRO_PREFIX) || text == INCLUDE_LINE)
            && !lines.contains(text.as_ref())
        {
            foreign.push((index + 1, text.into_owned()));
        }
    }
    foreign
}

/// The files that the points look at, without our lines.
fn upstream_view(root: &Path, name: &str, points: &PointSet, stripped: &BTreeMap<String, Vec<u8>>) -> Result<Tree> {
    let mut paths = BTreeSet::new();
    for point in points.points() {
        paths.extend(point.at.iter().map(|alternate| &alternate.file));
        paths.extend(point.absent.iter().map(|absent| &absent.file));
    }
    paths.extend(points.blocks().iter().map(|block| &block.file));
    let mut files = Vec::new();
    for path in paths {
        if let Some(bytes) = stripped.get(path) {
            files.push((path.clone(), bytes.clone()));
        } else if root.join(path).is_file() {
            files.push((path.clone(), read(root, path)?));
        }
    }
    Ok(Tree::from_files(name, files))
}

fn read(root: &Path, path: &str) -> Result<Vec<u8>> {
    let full = root.join(path);
    fs::read(&full).with_context(|| format!("cannot read {}", full.display()))
}

fn listed(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<_> = all.collect();
    let more = all.len().saturating_sub(LISTED);
    all.truncate(LISTED);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all
}
