//! Folders that are either absent or complete: one writer at a time, filled beside their place and
//! put in its place in one step. A run killed at any moment leaves at worst a sibling that the next run removes.

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
    /// Waits for the right to fill `target` (saying so if it has to wait), mends what a killed run broke off and
    /// removes what it left.
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
        slot.put_back()?;
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
        let filled = fill(&new).and_then(|value| self.swap_in(&new, exchange).map(|()| value));
        if filled.is_err() {
            // The error that matters is the one of `fill`; what stays is removed by the next run.
            let _ = remove_tree(&new);
        }
        filled
    }

    /// Puts `new` at the target. With `exchange` it is one step for everybody who looks; where the file system has no
    /// such call, the target is missing for a moment, and `put_back` mends a run that is killed in it.
    fn swap_in(&self, new: &Path, exchange: impl Fn(&Path, &Path) -> io::Result<Exchange>) -> Result<()> {
        let place = || format!("cannot put the new folder at {}", self.target.display());
        if fs::symlink_metadata(&self.target).is_err() {
            return fs::rename(new, &self.target).with_context(place);
        }
        let old = match exchange(new, &self.target).with_context(place)? {
            Exchange::Done => new.to_path_buf(),
            Exchange::NotHere => {
                let old = self.sibling("old");
                fs::rename(&self.target, &old).with_context(place)?;
                if let Err(error) = fs::rename(new, &self.target) {
                    fs::rename(&old, &self.target).with_context(place)?;
                    return Err(error).with_context(place);
                }
                old
            }
        };
        // It is done; what stays of the old one is removed by the next run.
        let _ = remove_tree(&old);
        Ok(())
    }

    /// Puts the old folder back where a run was killed between the two renames of `swap_in`.
    fn put_back(&self) -> Result<()> {
        if fs::symlink_metadata(&self.target).is_ok() {
            return Ok(());
        }
        let started = |path: &Path| fs::symlink_metadata(path).and_then(|old| old.modified()).ok();
        match self.leftovers("old").into_iter().max_by_key(|path| started(path)) {
            None => Ok(()),
            Some(old) => fs::rename(&old, &self.target)
                .with_context(|| format!("cannot put {} back at {}", old.display(), self.target.display())),
        }
    }

    /// A name that no run, dead or alive, uses: an orphaned child of a killed run may still write to its own.
    fn sibling(&self, role: &str) -> PathBuf {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        self.parent.join(format!(".{}.{role}-{}-{nanos}", self.name, process::id()))
    }

    fn remove_leftovers(&self) {
        for path in self.leftovers("new").into_iter().chain(self.leftovers("old")) {
            let _ = remove_tree(&path);
        }
    }

    /// What killed runs left beside the target.
    fn leftovers(&self, role: &str) -> Vec<PathBuf> {
        let prefix = format!(".{}.{role}-", self.name);
        let entries = fs::read_dir(&self.parent).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect()
    }
}

/// What came of the wish to exchange two folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// Each is where the other one was.
    Done,
    /// The system or this file system cannot do that.
    NotHere,
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(one: &Path, other: &Path) -> io::Result<Exchange> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(Exchange::Done),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(Exchange::NotHere),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> io::Result<Exchange> {
    Ok(Exchange::NotHere)
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

/// Removes a folder, read-only files and folders included.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    // What is in a folder can be removed only where the folder may be written.
    #[cfg(unix)]
    for entry in walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
        use std::os::unix::fs::PermissionsExt as _;
        let mut permissions = entry.metadata()?.permissions();
        if permissions.mode() & 0o700 != 0o700 {
            permissions.set_mode(permissions.mode() | 0o700);
            fs::set_permissions(entry.path(), permissions)?;
        }
    }
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
    fn two_renames_do_where_folders_cannot_be_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let slot = Slot::lock(&target, &QUIET()).unwrap();
        for (content, before) in [("one", false), ("two", true)] {
            assert_eq!(target.exists(), before);
            let new = slot.sibling("new");
            fs::create_dir(&new).unwrap();
            fs::write(new.join(content), "").unwrap();
            slot.swap_in(&new, |_, _| Ok(Exchange::NotHere)).unwrap();
            assert_eq!(names(&target), [content]);
        }
        assert_eq!(names(dir.path()), [".a.lock", "a"]);
    }

    #[test]
    fn a_run_killed_between_the_two_renames_is_undone_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        for (left, content) in [(".a.old-7-7", "before"), (".a.new-7-8", "half")] {
            fs::create_dir(dir.path().join(left)).unwrap();
            fs::write(dir.path().join(left).join(content), "").unwrap();
        }
        let target = dir.path().join("a");
        let _slot = Slot::lock(&target, &QUIET()).unwrap();
        assert_eq!(names(&target), ["before"]);
        assert_eq!(names(dir.path()), [".a.lock", "a"]);
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn folders_are_exchanged_in_one_step_on_this_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        for path in [&one, &two] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(path.file_name().unwrap()), "").unwrap();
        }
        if exchange(&one, &two).unwrap() == Exchange::NotHere {
            eprintln!("SKIP: {} cannot exchange folders", dir.path().display());
            return;
        }
        assert_eq!((names(&one), names(&two)), (vec!["two".to_owned()], vec!["one".to_owned()]));
    }

    /// A kill hits the moment between two renames too seldom to show that there is none; somebody who looks all the
    /// time does see it.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn the_target_is_there_at_every_moment_of_a_replacement() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        if exchange(&one, &two).unwrap() == Exchange::NotHere {
            eprintln!("SKIP: {} cannot exchange folders", dir.path().display());
            return;
        }
        let target = dir.path().join("a");
        let slot = Slot::lock(&target, &QUIET()).unwrap();
        let replace = || slot.replace(|new| Ok(fs::write(new.join("stamp"), "")?)).unwrap();
        replace();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut looks, mut missing) = (0_u64, 0_u64);
                while !is_over.load(Ordering::Relaxed) {
                    looks += 1;
                    missing += u64::from(fs::metadata(target.join("stamp")).is_err());
                }
                (looks, missing)
            });
            for _ in 0..300 {
                replace();
            }
            is_over.store(true, Ordering::Relaxed);
            let (looks, missing) = watcher.join().unwrap();
            assert!(looks > 300, "only {looks} looks");
            assert_eq!(missing, 0, "of {looks} looks");
        });
    }

    #[cfg(unix)]
    #[test]
    fn read_only_folders_can_be_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        fs::create_dir_all(target.join("b")).unwrap();
        fs::write(target.join("b/old"), "").unwrap();
        for path in [target.join("b"), target.clone()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
        }
        Slot::lock(&target, &QUIET()).unwrap().replace(|new| Ok(fs::write(new.join("one"), "1")?)).unwrap();
        assert_eq!(
            (names(&target), names(dir.path())),
            (vec!["one".to_owned()], vec![".a.lock".to_owned(), "a".to_owned()])
        );
    }

    #[test]
    fn leftovers_go_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for left in ["a", ".a.new-7-7", ".a.old-7-7", ".ab.new-7-7"] {
            fs::create_dir(dir.path().join(left)).unwrap();
        }
        let _slot = Slot::lock(&dir.path().join("a"), &QUIET()).unwrap();
        assert_eq!(names(dir.path()), [".a.lock", ".ab.new-7-7", "a"]);
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
