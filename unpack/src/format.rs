//! What form an archive has, told by its first bytes, and the tar stream inside it.

use std::{
    fmt,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use crate::{
    Limits,
    error::{Error, damaged},
};

/// The forms that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain tar.
    Tar,
    /// tar in gzip.
    TarGz,
    /// tar in xz.
    TarXz,
    /// tar in zstd.
    TarZst,
    /// zip, stored or deflated.
    Zip,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarXz => "tar.xz",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        })
    }
}

/// Memory that a decompressor may take, in KiB. `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 256 << 10;

impl Format {
    /// Reads the first bytes, and goes back to the start.
    pub(crate) fn of(archive: &mut (impl Read + Seek)) -> Result<Self, Error> {
        let mut head = Vec::new();
        archive
            .seek(SeekFrom::Start(0))
            .and_then(|_| archive.by_ref().take(512).read_to_end(&mut head))
            .and_then(|_| archive.seek(SeekFrom::Start(0)))
            .map_err(damaged)?;
        let is_tar = |head: &[u8]| tar::Header::from_byte_slice(head).cksum().is_ok_and(|sum| sum == checksum(head));
        match head.as_slice() {
            [0x1f, 0x8b, ..] => Ok(Self::TarGz),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::TarXz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::TarZst),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            head if head.len() == 512 && is_tar(head) => Ok(Self::Tar),
            _ => Err(Error::UnknownForm),
        }
    }

    /// The tar stream. It ends with an error where it is longer than any archive within `limits` can be.
    pub(crate) fn decompressed<'a>(
        self,
        archive: impl Read + 'a,
        limits: &Limits,
    ) -> Result<Box<dyn Read + 'a>, Error> {
        let archive = BufReader::with_capacity(64 << 10, archive);
        let stream: Box<dyn Read> = match self {
            Self::TarGz => Box::new(flate2::bufread::MultiGzDecoder::new(archive)),
            Self::TarXz => Box::new(lzma_rust2::XzReader::new_mem_limit(archive, true, XZ_MEMORY)),
            // Its window is bounded by default.
            Self::TarZst => Box::new(ruzstd::decoding::StreamingDecoder::new(archive).map_err(damaged)?),
            Self::Tar | Self::Zip => Box::new(archive),
        };
        // Two blocks for an entry, one for what describes it, and the padding at the end.
        let room = limits.entries.saturating_mul(3 * 512).saturating_add(1 << 20);
        Ok(Box::new(Bounded { stream, left: limits.bytes.saturating_add(room) }))
    }
}

/// The sum of the header's bytes, with blanks in the place of the sum itself.
fn checksum(head: &[u8]) -> u32 {
    let is_sum = |index: usize| (148..156).contains(&index);
    head.iter().enumerate().map(|(index, byte)| if is_sum(index) { 32 } else { u32::from(*byte) }).sum()
}

struct Bounded<R> {
    stream: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than an archive may hold"))?;
        Ok(read)
    }
}
