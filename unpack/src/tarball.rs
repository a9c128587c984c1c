//! Reads tar. The headers of long names (GNU) and of extended ones (pax) are read here and not by the crate `tar`,
//! which puts no bound on them, and which lets a pax size override the other one: two readers would then see two
//! different archives.

use std::io::{self, Read};

use tar::{Archive, EntryType, PaxExtensions};

use crate::{
    error::{Error, Problem, damaged, shown},
    folder::Folder,
};

/// Bytes of a header that describes the next entry.
const LONGEST_HEADER: u64 = 64 << 10;

/// What headers before an entry say of it.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<Vec<u8>>,
    is_sparse: bool,
}

/// Unpacks a stream and returns the archive's comment.
///
/// # Errors
/// It is damaged, or an entry is refused.
pub fn read(stream: impl Read, folder: &mut Folder) -> Result<Option<String>, Error> {
    let mut archive = Archive::new(stream);
    let mut comment = None;
    let mut ahead = Ahead::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        folder.count()?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => ahead.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => ahead.link = Some(long_name(&mut entry)?),
            EntryType::XHeader => ahead.read(&header(&mut entry)?)?,
            EntryType::XGlobalHeader => comment = comment_of(&header(&mut entry)?).or(comment),
            _ => place(&mut entry, std::mem::take(&mut ahead), folder)?,
        }
    }
    if ahead.path.is_some() || ahead.link.is_some() || ahead.size.is_some() {
        return Err(damaged("it ends where an entry is announced"));
    }
    // To the end, so that a checksum behind the last entry is looked at.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    Ok(comment)
}

fn place(entry: &mut tar::Entry<'_, impl Read>, ahead: Ahead, folder: &mut Folder) -> Result<(), Error> {
    let header = entry.header().clone();
    let name = ahead.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let size = header.entry_size().map_err(damaged)?;
    let refused = |problem: Problem| Err(problem.of(&name));
    if ahead.is_sparse || header.entry_type() == EntryType::GNUSparse {
        return refused(Problem::Kind("a file with holes".to_owned()));
    }
    if ahead.size.is_some_and(|announced| announced != size.to_string().as_bytes()) {
        return refused(Problem::TwoSizes);
    }
    let target = || ahead.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
    match header.entry_type() {
        // Before there was a type for folders, a / at the end told them.
        EntryType::Regular if name.ends_with(b"/") && size == 0 => folder.dir(&name),
        EntryType::Regular if name.ends_with(b"/") => refused(Problem::FileAndFolder),
        EntryType::Regular => {
            let is_executable = header.mode().is_ok_and(|mode| mode & 0o100 != 0);
            let mut read = 0;
            folder.file(&name, &mut Counted { stream: entry, read: &mut read }, is_executable)?;
            match read == size {
                true => Ok(()),
                false => Err(damaged(format_args!("{} breaks off", shown(&name)))),
            }
        }
        EntryType::Directory => folder.dir(&name),
        EntryType::Symlink => folder.symbolic_link(&name, &target().unwrap_or_default()),
        EntryType::Link => folder.hard_link(&name, &target().unwrap_or_default()),
        EntryType::Char | EntryType::Block => refused(Problem::Kind("a device".to_owned())),
        EntryType::Fifo => refused(Problem::Kind("a pipe".to_owned())),
        other => refused(Problem::Kind(format!("of type `{}`", shown(&[other.as_byte()])))),
    }
}

impl Ahead {
    fn read(&mut self, text: &[u8]) -> Result<(), Error> {
        for record in PaxExtensions::new(text) {
            let record = record.map_err(damaged)?;
            let value = || Some(record.value_bytes().to_vec());
            match record.key_bytes() {
                b"path" => self.path = value(),
                b"linkpath" => self.link = value(),
                b"size" => self.size = value(),
                key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

fn comment_of(text: &[u8]) -> Option<String> {
    let mut records = PaxExtensions::new(text).flatten();
    let comment = records.find(|record| record.key_bytes() == b"comment")?;
    comment.value().ok().map(str::to_owned)
}

/// A name in the place of a file's content, with a zero at its end.
fn long_name(entry: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut name = header(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn header(entry: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    entry.take(LONGEST_HEADER + 1).read_to_end(&mut bytes).map_err(damaged)?;
    match bytes.len() as u64 > LONGEST_HEADER {
        true => Err(damaged("a header in it is too long")),
        false => Ok(bytes),
    }
}

struct Counted<'a, R> {
    stream: R,
    read: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        *self.read += read as u64;
        Ok(read)
    }
}
