//! Files that are wrong in one known way, for tests of what a loader does with them.

use std::{fs, path::Path};

use crate::{Error, GgufWriter};

/// One way in which a file is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage<'a> {
    /// A key or tensor is missing.
    Without(&'a str),
    /// The first four bytes are not `GGUF`.
    BadMagic,
    /// The file ends after that many bytes.
    TruncatedAt(usize),
}

impl GgufWriter {
    /// Writes the file, damaged.
    ///
    /// # Errors
    /// Those of [`write`](Self::write); a name to leave out, or a length to cut to, that the file does not have.
    pub fn write_damaged(mut self, path: impl AsRef<Path>, damage: Damage<'_>) -> Result<(), Error> {
        let missing = |what: String| Error::Shape { what, value: 0, rule: "part of the file".to_owned() };
        if let Damage::Without(name) = damage
            && !self.remove(name)
        {
            return Err(missing(format!("`{name}`")));
        }
        let mut bytes = self.to_bytes()?;
        match damage {
            Damage::Without(_) => {}
            Damage::BadMagic => bytes.iter_mut().take(4).for_each(|byte| *byte = b'X'),
            Damage::TruncatedAt(length) if length < bytes.len() => bytes.truncate(length),
            Damage::TruncatedAt(length) => return Err(missing(format!("byte {length}"))),
        }
        let path = path.as_ref();
        fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_path_buf(), source })
    }
}
