//! Why an archive was not unpacked.

use std::{io, path::PathBuf};

/// Everything that can go wrong. An entry is shown as the archive names it, escaped and cut to 200 characters.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither tar nor zip.
    #[error("it is no archive of a known form (.tar, .tar.gz, .tar.xz, .tar.zst, .zip)")]
    UnknownForm,
    /// The archive itself cannot be read.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// One entry is refused, and so the archive.
    #[error("its entry `{entry}` {problem}")]
    Entry {
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// More entries than allowed.
    #[error("it has more than {0} entries")]
    TooManyEntries(u64),
    /// The folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its name starts at the root.
    #[error("has an absolute name")]
    Absolute,
    /// Its name has a `..`.
    #[error("leads out of the folder")]
    LeadsOut,
    /// Its name cannot be a file's name on every system.
    #[error("has a name that is not portable: {0}")]
    Name(&'static str),
    /// There is an entry of that name already.
    #[error("is there twice")]
    Twice,
    /// There is an entry whose name a system without case takes for the same.
    #[error("differs from `{0}` by case only")]
    Case(String),
    /// A file or link, and a folder too, since something lies in it.
    #[error("is a file or link and a folder at once")]
    FileAndFolder,
    /// A link to an absolute path.
    #[error("is a link to an absolute path, {0}")]
    LinkAbsolute(String),
    /// A link out of the folder.
    #[error("is a link that leads out of the folder, to {0}")]
    LinkOut(String),
    /// A link to or through another link.
    #[error("is a link through another link, to {0}")]
    LinkChain(String),
    /// A hard link to what is not a file of the archive before it.
    #[error("is a hard link to {0}, which is no file before it in the archive")]
    HardLink(String),
    /// A device, a pipe and the like.
    #[error("is neither a file nor a folder nor a link, but {0}")]
    Kind(String),
    /// It is encrypted.
    #[error("is encrypted")]
    Encrypted,
    /// It is compressed in a way that is not known here.
    #[error("is compressed in a way that is not supported ({0})")]
    Method(String),
    /// Two places of the archive give different sizes for it.
    #[error("has two sizes")]
    TwoSizes,
    /// With it, the archive is larger than allowed.
    #[error("makes the archive larger than {0} bytes")]
    TooLarge(u64),
}

impl Problem {
    /// The error that says it of an entry.
    pub(crate) fn of(self, entry: &[u8]) -> Error {
        Error::Entry { entry: shown(entry), problem: self }
    }
}

/// A name out of an archive, safe to print.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().take(200).collect()
}

pub(crate) fn damaged(error: impl ToString) -> Error {
    Error::Damaged(error.to_string())
}
