//! Reads zip, by the list at its end. The crate `rawzip` shows every entry of that list, also one that is there twice.

use std::io::{Read, Seek};

use flate2::read::DeflateDecoder;
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use crate::{
    error::{Error, Problem, damaged, shown},
    folder::Folder,
};

/// The bits of a Unix mode that tell the kind, and the kinds.
const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;
const DIR: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// Longest target of a link.
const LONGEST_LINK: u64 = 4096;

/// Unpacks an archive and returns its comment.
///
/// # Errors
/// It is damaged, or an entry is refused.
pub fn read(archive: impl Read + Seek, folder: &mut Folder) -> Result<Option<String>, Error> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_seekable(archive, &mut buffer).map_err(damaged)?;
    let mut comment = String::new();
    let is_text = archive.comment().read_to_string(&mut comment).is_ok() && !comment.is_empty();
    let mut entries = archive.entries(&mut buffer);
    let mut found = 0;
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        folder.count()?;
        found += 1;
        let name = entry.file_path().as_bytes().to_vec();
        let mode = entry.mode().value();
        if entry.is_dir() || mode & KIND == DIR {
            folder.dir(&name)?;
            continue;
        }
        if entry.flags().is_encrypted() {
            return Err(Problem::Encrypted.of(&name));
        }
        let stored = archive.get_entry(entry.wayfinder()).map_err(damaged)?;
        let mut content: Box<dyn Read> = match entry.compression_method() {
            CompressionMethod::STORE => Box::new(stored.verifying_reader(stored.reader())),
            CompressionMethod::DEFLATE => Box::new(stored.verifying_reader(DeflateDecoder::new(stored.reader()))),
            other => return Err(Problem::Method(format!("{other:?}")).of(&name)),
        };
        match mode & KIND {
            FILE | 0 => folder.file(&name, &mut content, mode & 0o100 != 0)?,
            LINK => {
                let mut target = Vec::new();
                content
                    .take(LONGEST_LINK)
                    .read_to_end(&mut target)
                    .map_err(|error| damaged(format_args!("{} breaks off: {error}", shown(&name))))?;
                folder.symbolic_link(&name, &target)?;
            }
            other => return Err(Problem::Kind(format!("of the Unix kind {other:o}")).of(&name)),
        }
    }
    if found != archive.entries_hint() {
        return Err(damaged(format_args!("it announces {} entries and has {found}", archive.entries_hint())));
    }
    Ok(is_text.then_some(comment))
}
