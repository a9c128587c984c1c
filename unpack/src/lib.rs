//! Unpacks an archive that nobody vouches for into a new folder. What may come of it: regular files below that
//! folder, each written once, within stated bounds; or an error that names the entry, and no folder.
//!
//! Nothing else is ever made: no link, no device, no file outside. A link to a file of the archive becomes a copy of
//! that file, so that no path of the archive is ever resolved by the system through a link of the archive. Names that
//! some system reads differently (drives, `\`, `NUL`, names that differ by case only) are refused on every system, so
//! that an archive is good everywhere or nowhere.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let (archive, folder) = (scratch.path().join("a.zip"), scratch.path().join("a"));
//! # std::fs::write(&archive, [&b"PK\x05\x06"[..], &[0; 18]].concat())?;
//! let unpacked = unpack::unpack(std::fs::File::open(&archive)?, &folder, &unpack::Limits::default())?;
//! assert_eq!(unpacked.files, 0);
//! # Ok(())
//! # }
//! ```

mod error;
mod folder;
mod format;
mod name;
mod tarball;
mod zipped;

use std::{
    fs,
    io::{Read, Seek},
    path::Path,
};

use self::folder::Folder;
pub use self::{
    error::{Error, Problem},
    format::Format,
};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of all files together, copies that stand for links included.
    pub bytes: u64,
}

impl Default for Limits {
    /// Ten times what the largest published llama.cpp tree has: 100,000 entries, 2 GiB.
    fn default() -> Self {
        Self { entries: 100_000, bytes: 2 << 30 }
    }
}

/// What came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// What the archive was.
    pub format: Format,
    /// Files written, copies that stand for links included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links to folders of the archive and to nothing: they are left out.
    pub left_out: Vec<String>,
    /// The archive's own comment. `git archive`, and so the archives of most hosts, put the commit there.
    pub comment: Option<String>,
}

/// Unpacks `archive` into `to`, which must not exist; its parent must. The form is told by the content: tar, plain or
/// in gzip, xz or zstd, or zip.
///
/// # Errors
/// The archive is of no such form, damaged, larger than `limits` or holds an entry that is refused; `to` exists or
/// cannot be written. There is no folder `to` then, unless it was there before.
pub fn unpack(mut archive: impl Read + Seek, to: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    let format = Format::of(&mut archive)?;
    fs::create_dir(to).map_err(|source| Error::Write { path: to.to_path_buf(), source })?;
    let mut folder = Folder::new(to, *limits);
    let filled = match format {
        Format::Zip => zipped::read(archive, &mut folder),
        _ => format.decompressed(archive, limits).and_then(|stream| tarball::read(stream, &mut folder)),
    };
    let unpacked = filled.and_then(|comment| folder.finish(format, comment));
    if unpacked.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_dir_all(to);
    }
    unpacked
}
