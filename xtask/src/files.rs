//! Files of a folder that is being made: listed, copied, read and written, each failure with its place.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use walkdir::WalkDir;

/// Every regular file in `dir`, or `dir` itself if it is one, in the order of their names.
pub fn list(dir: &Path) -> impl Iterator<Item = Result<PathBuf>> {
    let entries = WalkDir::new(dir).sort_by_file_name().into_iter();
    entries.filter_map(|entry| match entry {
        Ok(entry) if entry.file_type().is_file() => Some(Ok(entry.into_path())),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    })
}

/// Copies a file or a folder. Contents alone: a vendored file may be read-only.
///
/// # Errors
/// Something cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in list(from) {
        let file = file?;
        let relative = file.strip_prefix(from).unwrap_or(&file);
        // `join("")` would end in a separator.
        let to = if relative.as_os_str().is_empty() { to.to_path_buf() } else { to.join(relative) };
        write(&to, fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?)?;
    }
    Ok(())
}

/// Reads a text.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, and makes the folder around it if there is none.
///
/// # Errors
/// One of the two cannot be written.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(failed)?;
    fs::write(path, bytes).with_context(failed)
}

/// As [`write()`], unless the file is the same already, so that cargo leaves alone what was built from it; says whether it wrote.
///
/// # Errors
/// Those of [`write()`].
pub fn update(path: &Path, bytes: impl AsRef<[u8]>) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes.as_ref()) {
        return Ok(false);
    }
    write(path, bytes)?;
    Ok(true)
}

/// Gives each file of `new` that equals the one in `present` that one's time, so that a build compiles what changed alone, and
/// returns the others, relative to `new`.
///
/// # Errors
/// A file cannot be read, or its time not be set.
pub fn keep_times(present: &Path, new: &Path) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for file in list(new) {
        let file = file?;
        let relative = file.strip_prefix(new).unwrap_or(&file);
        let old = present.join(relative);
        if let (Ok(was), Ok(is)) = (fs::read(&old), fs::read(&file))
            && was == is
        {
            let failed = || format!("cannot write {}", file.display());
            let time = fs::metadata(&old).and_then(|old| old.modified()).with_context(failed)?;
            let handle = fs::File::options().write(true).open(&file).with_context(failed)?;
            handle.set_modified(time).with_context(failed)?;
        } else {
            changed.push(relative.to_owned());
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_stay_the_same_keep_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let [present, new] = ["present", "new"].map(|name| dir.path().join(name));
        for (folder, other) in [(&present, "1"), (&new, "2")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("same"), "x").unwrap();
            fs::write(folder.join("other"), other).unwrap();
        }
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
        for name in ["same", "other"] {
            fs::File::options().write(true).open(present.join(name)).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(keep_times(&present, &new).unwrap(), [Path::new("other")]);
        let time = |name: &str| fs::metadata(new.join(name)).unwrap().modified().unwrap();
        assert_eq!(time("same"), fs::metadata(present.join("same")).unwrap().modified().unwrap());
        assert!(time("other") > time("same"));
    }
}
