//! A patched tree beside the pristine one: written whole, into the place of the one before.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use patcher::{Applied, Tree, tree::digest_without};

use super::{
    Job,
    stamp::{STAMP, Stamp},
};
use crate::{cache::Slot, context::Context};

/// Brings the target to what the plan says: not at all if it is that already, else as a whole.
///
/// # Errors
/// The target is a folder of someone else's; something cannot be read or written, and then the target is as before.
pub fn write(context: &Context, job: &Job, applied: &Applied, mut stamp: Stamp<'_>) -> Result<()> {
    let slot = Slot::lock(&job.target, &context.ui)?;
    let Some(difference) = stamp.difference(&job.target)? else {
        context.ui.say(format_args!("{}: up to date", context.shown(&job.target)));
        return Ok(());
    };
    let exists = job.target.exists();
    if exists && !job.target.join(STAMP).is_file() && fs::read_dir(&job.target)?.next().is_some() {
        bail!(
            "{} is a folder that this program did not make\nhelp: name an empty or a new one with --out",
            job.target.display()
        );
    }
    if exists {
        context.ui.say(format_args!("{}: {difference}", context.shown(&job.target)));
    }
    slot.replace(|new| {
        derive(job, applied, new)?;
        let digest = digest_without(new, |_| false).with_context(|| format!("cannot read {}", new.display()))?;
        stamp.sha256 = Some(digest);
        let path = new.join(STAMP);
        fs::write(&path, stamp.bytes()?).with_context(|| format!("cannot write {}", path.display()))
    })
}

/// Fills `new` with the patched tree. A file that equals the present one keeps its time, so that a build
/// afterwards compiles what changed and nothing else; one that differs from it is new, even where upstream's is old.
fn derive(job: &Job, applied: &Applied, new: &Path) -> Result<()> {
    let now = SystemTime::now();
    let has_present = job.target.join(STAMP).is_file();
    let listed = Tree::open(&job.source, &job.name).and_then(|tree| tree.paths());
    let listed = listed.with_context(|| format!("cannot read {}", job.source.display()))?;
    let paths: BTreeSet<_> = listed.into_iter().filter(|path| !is_not_source(path)).map(PathBuf::from).collect();
    for path in paths.iter().chain(applied.files.keys().filter(|path| !paths.contains(*path))) {
        let (from, to, present) = (job.source.join(path), new.join(path), job.target.join(path));
        let failed = || format!("cannot write {}", to.display());
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        let patched = applied.files.get(path);
        let is_same = has_present
            && match patched {
                Some(bytes) => has_content(&present, bytes),
                None => {
                    has_content(&present, &fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?)
                }
            };
        match patched {
            Some(bytes) => fs::write(&to, bytes).with_context(failed)?,
            // A copy, never a link: a pristine file must not be reachable through a path that tools write to.
            None => fs::copy(&from, &to).and_then(|_| make_writable(&to)).with_context(failed)?,
        }
        let modified = match (is_same, patched) {
            (true, _) => modified(&present),
            (false, None) if !has_present => modified(&from),
            _ => Ok(now),
        };
        let file = File::options().write(true).open(&to).with_context(failed)?;
        file.set_modified(modified.with_context(failed)?).with_context(failed)?;
    }
    Ok(())
}

/// Git's own folder, or the file that stands for it in a worktree, is no part of a tree.
pub fn is_not_source(path: &str) -> bool {
    path == ".git" || path.starts_with(".git/")
}

fn has_content(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|present| present == bytes)
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

fn make_writable(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        permissions.set_mode(permissions.mode() | 0o200);
    }
    #[cfg(not(unix))]
    #[expect(clippy::permissions_set_readonly_false, reason = "no mode bits there")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;

    fn job(dir: &Path) -> Job {
        let (source, target) = (dir.join("src"), dir.join("patched"));
        fs::create_dir_all(source.join("a")).unwrap();
        for (name, text) in [("a/one.cpp", "1"), ("two.cpp", "2"), ("three.cpp", "3")] {
            let path = source.join(name);
            fs::write(&path, text).unwrap();
            let old = SystemTime::now() - Duration::from_secs(1000);
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions).unwrap();
        }
        Job { name: "t".to_owned(), source, source_sha256: String::new(), target, _scratch: None }
    }

    fn applied(files: &[(&str, &str)]) -> Applied {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec()));
        Applied { files: files.collect::<BTreeMap<_, _>>() }
    }

    fn derive_into_target(job: &Job, applied: &Applied) {
        let new = job.target.with_extension("new");
        fs::create_dir(&new).unwrap();
        derive(job, applied, &new).unwrap();
        fs::write(new.join(STAMP), "{}").unwrap();
        let _ = fs::remove_dir_all(&job.target);
        fs::rename(&new, &job.target).unwrap();
    }

    #[test]
    fn only_files_that_change_get_a_new_time() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        derive_into_target(&job, &applied(&[("a/one.cpp", "x1"), ("two.cpp", "x2"), ("common/otel/otel.h", "h")]));
        let time = |name: &str| modified(&job.target.join(name)).unwrap();
        assert_eq!(time("three.cpp"), modified(&job.source.join("three.cpp")).unwrap());
        let names = ["a/one.cpp", "two.cpp", "three.cpp", "common/otel/otel.h"];
        let before = names.map(time);
        std::thread::sleep(Duration::from_millis(20));

        // One point changes, another one goes: its file is upstream's again, and still newer than what was built from it.
        derive_into_target(&job, &applied(&[("a/one.cpp", "y1"), ("common/otel/otel.h", "h")]));
        let after = names.map(time);
        assert!(after[0] > before[0] && after[1] > before[1]);
        assert_eq!((after[2], after[3]), (before[2], before[3]));
        assert_eq!(fs::read(job.target.join("two.cpp")).unwrap(), b"2");
    }

    #[test]
    fn the_source_is_never_linked_and_stays_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        derive_into_target(&job, &applied(&[]));
        fs::write(job.target.join("two.cpp"), "changed").unwrap();
        assert_eq!(fs::read(job.source.join("two.cpp")).unwrap(), b"2");
        assert!(fs::metadata(job.source.join("two.cpp")).unwrap().permissions().readonly());
    }
}
