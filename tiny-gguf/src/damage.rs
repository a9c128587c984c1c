//! Files that are wrong in one known way, for tests of what a loader does with them.

use std::{fs, path::Path};

use crate::{ALIGNMENT, Error, GgufWriter};

/// One way in which a file is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage<'a> {
    /// A key or tensor is missing.
    Without(&'a str),
    /// The data of this tensor is said to lie behind the end of the file.
    OutOfBounds(&'a str),
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
            Damage::OutOfBounds(name) => {
                let end = bytes.len() as u64;
                let at = self.offset_field(&bytes, name).ok_or_else(|| missing(format!("`{name}`")))?;
                bytes[at..at + 8].copy_from_slice(&end.next_multiple_of(ALIGNMENT as u64).to_le_bytes());
            }
            Damage::BadMagic => bytes.iter_mut().take(4).for_each(|byte| *byte = b'X'),
            Damage::TruncatedAt(length) if length < bytes.len() => bytes.truncate(length),
            Damage::TruncatedAt(length) => return Err(missing(format!("byte {length}"))),
        }
        let path = path.as_ref();
        fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_path_buf(), source })
    }
    /// Where the description of this tensor has the offset of its data.
    fn offset_field(&self, bytes: &[u8], name: &str) -> Option<usize> {
        let n_dims = self.tensors.iter().find(|tensor| tensor.name == name)?.dims.len();
        let mut described = (name.len() as u64).to_le_bytes().to_vec();
        described.extend(name.as_bytes());
        described.extend((n_dims as u32).to_le_bytes());
        let at = bytes.windows(described.len()).position(|window| window == described)?;
        Some(at + described.len() + 8 * n_dims + 4)
    }
}
