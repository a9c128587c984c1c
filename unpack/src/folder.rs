//! The folder that is filled: every entry comes through here, whatever the archive's form is.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::PathBuf,
};

use crate::{
    Format, Limits, Unpacked,
    error::{Error, Problem, damaged, shown},
    name,
};

/// A folder under way.
pub struct Folder {
    root: PathBuf,
    limits: Limits,
    entries: u64,
    files: u64,
    bytes: u64,
    /// By folded path: what is there, spelled how.
    known: HashMap<String, (String, Kind)>,
    links: Vec<Link>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Dir,
    Link,
}

struct Link {
    path: String,
    target: Vec<u8>,
}

impl Folder {
    /// `root` exists and is empty.
    pub fn new(root: impl Into<PathBuf>, limits: Limits) -> Self {
        let root = root.into();
        Self { root, limits, entries: 0, files: 0, bytes: 0, known: HashMap::new(), links: Vec::new() }
    }

    /// Counts an entry, of whatever kind.
    pub fn count(&mut self) -> Result<(), Error> {
        self.entries += 1;
        match self.entries > self.limits.entries {
            true => Err(Error::TooManyEntries(self.limits.entries)),
            false => Ok(()),
        }
    }

    /// A folder. It is made when something lies in it.
    pub fn dir(&mut self, entry: &[u8]) -> Result<(), Error> {
        let parts = name::parts(entry).map_err(|problem| problem.of(entry))?;
        match self.note_dirs(&parts) {
            Ok(()) => Ok(()),
            Err(problem) => Err(problem.of(entry)),
        }
    }

    /// A file, with what `content` gives.
    pub fn file(&mut self, entry: &[u8], content: &mut dyn Read, is_executable: bool) -> Result<(), Error> {
        let path = self.note(entry, Kind::File)?;
        let target = self.root.join(&path);
        let failed = |source| Error::Write { path: target.clone(), source };
        let mut file = create(&target, is_executable).map_err(failed)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(format_args!("{} breaks off: {error}", shown(entry)))),
            };
            self.add_bytes(entry, read as u64)?;
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(failed)?;
        }
        self.files += 1;
        Ok(())
    }

    /// A symbolic link. What it stands for is seen when everything is there.
    pub fn symbolic_link(&mut self, entry: &[u8], target: &[u8]) -> Result<(), Error> {
        let path = self.note(entry, Kind::Link)?;
        self.links.push(Link { path, target: target.to_vec() });
        Ok(())
    }

    /// A hard link: another name for a file that is there already. It becomes a copy.
    pub fn hard_link(&mut self, entry: &[u8], target: &[u8]) -> Result<(), Error> {
        let refused = |problem: Problem| problem.of(entry);
        let parts = name::parts(target).map_err(|problem| match problem {
            Problem::Absolute => refused(Problem::LinkAbsolute(shown(target))),
            Problem::LeadsOut => refused(Problem::LinkOut(shown(target))),
            other => refused(other),
        })?;
        let from = parts.join("/");
        if self.kind(&from) != Some(Kind::File) {
            return Err(refused(Problem::HardLink(shown(target))));
        }
        let path = self.note(entry, Kind::File)?;
        self.copy(&from, &path)
    }

    /// Puts copies in the place of links, and sums up.
    pub fn finish(mut self, format: Format, comment: Option<String>) -> Result<Unpacked, Error> {
        let mut left_out = Vec::new();
        for Link { path, target } in std::mem::take(&mut self.links) {
            let refused = |problem: Problem| problem.of(path.as_bytes());
            let mut parent: Vec<_> = path.split('/').collect();
            parent.pop();
            let is_link = |path: &str| self.kind(path) == Some(Kind::Link);
            let from = name::link_target(&parent, &target, is_link).map_err(refused)?;
            match self.kind(&from) {
                Some(Kind::File) => self.copy(&from, &path)?,
                _ => left_out.push(path),
            }
        }
        Ok(Unpacked { format, files: self.files, bytes: self.bytes, left_out, comment })
    }

    /// What is at that very path, in this spelling.
    fn kind(&self, path: &str) -> Option<Kind> {
        let (spelled, kind) = self.known.get(&name::folded(path))?;
        (spelled == path).then_some(*kind)
    }

    fn copy(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let (from, target) = (self.root.join(from), self.root.join(to));
        let failed = |source| Error::Write { path: target.clone(), source };
        let size = fs::metadata(&from).map_err(failed)?.len();
        self.add_bytes(to.as_bytes(), size)?;
        make_parent(&target).and_then(|()| fs::copy(&from, &target)).map_err(failed)?;
        self.files += 1;
        Ok(())
    }

    fn add_bytes(&mut self, entry: &[u8], more: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(more);
        match self.bytes > self.limits.bytes {
            true => Err(Problem::TooLarge(self.limits.bytes).of(entry)),
            false => Ok(()),
        }
    }

    /// Takes note of a new file or link and of the folders that it lies in, and returns its path.
    fn note(&mut self, entry: &[u8], kind: Kind) -> Result<String, Error> {
        let refused = |problem: Problem| problem.of(entry);
        let parts = name::parts(entry).map_err(refused)?;
        let Some((_, parent)) = parts.split_last() else {
            return Err(refused(Problem::FileAndFolder));
        };
        self.note_dirs(parent).map_err(refused)?;
        let path = parts.join("/");
        match self.known.insert(name::folded(&path), (path.clone(), kind)) {
            None => Ok(path),
            Some((spelled, _)) if spelled != path => Err(refused(Problem::Case(shown(spelled.as_bytes())))),
            Some((_, Kind::Dir)) => Err(refused(Problem::FileAndFolder)),
            Some(_) => Err(refused(Problem::Twice)),
        }
    }

    fn note_dirs(&mut self, parts: &[&str]) -> Result<(), Problem> {
        for depth in 1..=parts.len() {
            let path = parts.get(..depth).unwrap_or_default().join("/");
            match self.known.get(&name::folded(&path)) {
                None => drop(self.known.insert(name::folded(&path), (path, Kind::Dir))),
                Some((spelled, _)) if *spelled != path => return Err(Problem::Case(shown(spelled.as_bytes()))),
                Some((_, Kind::Dir)) => {}
                Some(_) => return Err(Problem::FileAndFolder),
            }
        }
        Ok(())
    }
}

/// A file that was not there: names that only this file system takes for the same end here.
fn create(path: &PathBuf, is_executable: bool) -> io::Result<fs::File> {
    make_parent(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if is_executable { 0o755 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = is_executable;
    options.open(path)
}

fn make_parent(path: &std::path::Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
