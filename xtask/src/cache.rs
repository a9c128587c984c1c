//! Folders that are either absent or complete: one writer at a time, filled beside their place and
//! renamed into it. A run killed at any moment leaves at worst a sibling that the next run removes.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow};

use crate::progress::Ui;

/// The exclusive right to fill one folder. Held until dropped, also against other processes.
pub struct Slot {
    target: PathBuf,
    parent: PathBuf,
    name: String,
    _lock: File,
}

impl Slot {
    /// Waits for the right to fill `target` (saying so if it has to wait) and removes what killed runs left.
    ///
    /// # Errors
    /// The parent folder cannot be made or written, or its file system has no locks.
    pub fn lock(target: &Path, ui: &Ui) -> Result<Self> {
        let (parent, name) = match (target.parent(), target.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) => (parent.to_path_buf(), name.to_owned()),
            _ => return Err(anyhow!("{} cannot be a folder of the cache", target.display())),
        };
        fs::create_dir_all(&parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let lock_path = parent.join(format!(".{name}.lock"));
        let lock =
            lock_file(&lock_path, || ui.say(format_args!("waiting for another run that fills {}", target.display())))
                .with_context(|| format!("cannot lock {}", lock_path.display()))?;
        let slot = Self { target: target.to_path_buf(), parent, name, _lock: lock };
        slot.remove_leftovers();
        Ok(slot)
    }

    /// Fills a new folder through `fill` and puts it in the place of the old one, if there is one.
    /// If `fill` fails, the target stays as it was.
    ///
    /// # Errors
    /// Those of `fill`; the new folder cannot be made or renamed.
    pub fn replace<T>(&self, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let new = self.sibling("new");
        fs::create_dir(&new).with_context(|| format!("cannot make the folder {}", new.display()))?;
        let filled = fill(&new).and_then(|value| self.swap_in(&new).map(|()| value));
        if filled.is_err() {
            // The error that matters is the one of `fill`; what stays is removed by the next run.
            let _ = remove_tree(&new);
        }
        filled
    }

    fn swap_in(&self, new: &Path) -> Result<()> {
        let old = self.sibling("old");
        let had_old = self.target.exists();
        let place = || format!("cannot put the new folder at {}", self.target.display());
        if had_old {
            fs::rename(&self.target, &old).with_context(place)?;
        }
        if let Err(error) = fs::rename(new, &self.target) {
            if had_old {
                fs::rename(&old, &self.target).with_context(place)?;
            }
            return Err(error).with_context(place);
        }
        if had_old {
            let _ = remove_tree(&old);
        }
        Ok(())
    }

    /// A name that no run, dead or alive, uses: an orphaned child of a killed run may still write to its own.
    fn sibling(&self, role: &str) -> PathBuf {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        self.parent.join(format!(".{}.{role}-{}-{nanos}", self.name, process::id()))
    }

    fn remove_leftovers(&self) {
        let prefixes = [format!(".{}.new-", self.name), format!(".{}.old-", self.name)];
        for entry in fs::read_dir(&self.parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())) {
                let _ = remove_tree(&entry.path());
            }
        }
    }
}

/// Opens and locks `path` exclusively; calls `waiting` first if another process holds it.
pub fn lock_file(path: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}

/// Removes a folder, read-only files included.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    // Windows refuses to delete a read-only file on older systems; elsewhere only the folder's mode counts.
    #[cfg(windows)]
    for entry in walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let mut permissions = entry.metadata()?.permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "Windows only: no mode bits there")]
        permissions.set_readonly(false);
        fs::set_permissions(entry.path(), permissions)?;
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    const QUIET: fn() -> Ui = || Ui::new(true);

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_fill_leaves_the_old_folder() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let slot = Slot::lock(&target, &QUIET()).unwrap();
        slot.replace(|new| Ok(fs::write(new.join("one"), "1")?)).unwrap();
        let failed = slot.replace(|new| {
            fs::write(new.join("two"), "2")?;
            Err::<(), _>(anyhow!("broken off"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "broken off");
        assert_eq!(names(&target), ["one"]);
        assert_eq!(names(dir.path()), [".a.lock", "a"]);
    }

    #[test]
    fn a_fill_replaces_everything() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let slot = Slot::lock(&target, &QUIET()).unwrap();
        slot.replace(|new| Ok(fs::write(new.join("one"), "1")?)).unwrap();
        slot.replace(|new| Ok(fs::write(new.join("two"), "2")?)).unwrap();
        assert_eq!(names(&target), ["two"]);
    }

    #[test]
    fn leftovers_go_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for left in [".a.new-7-7", ".a.old-7-7", ".ab.new-7-7"] {
            fs::create_dir(dir.path().join(left)).unwrap();
        }
        let _slot = Slot::lock(&dir.path().join("a"), &QUIET()).unwrap();
        assert_eq!(names(dir.path()), [".a.lock", ".ab.new-7-7"]);
    }

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let first = Slot::lock(&target, &QUIET()).unwrap();
        let (sender, receiver) = mpsc::channel();
        let other = thread::spawn({
            let target = target.clone();
            move || {
                let slot = Slot::lock(&target, &QUIET()).unwrap();
                sender.send(target.exists()).unwrap();
                drop(slot);
            }
        });
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err(), "the second did not wait");
        first.replace(|_| Ok(())).unwrap();
        drop(first);
        assert!(receiver.recv().unwrap(), "the second came in before the first was done");
        other.join().unwrap();
    }
}
