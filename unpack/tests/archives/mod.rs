//! Writes tar and zip with whatever names, kinds and contents a test wants.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// One entry; `kind` is tar's letter.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub kind: u8,
    pub link: &'a str,
    pub content: &'a [u8],
    pub mode: u32,
}

impl<'a> Entry<'a> {
    pub fn file(name: &'a str, content: &'a [u8]) -> Self {
        Entry { name, kind: b'0', link: "", content, mode: 0o644 }
    }

    pub fn dir(name: &'a str) -> Self {
        Entry { kind: b'5', mode: 0o755, ..Self::file(name, b"") }
    }

    pub fn link(name: &'a str, link: &'a str) -> Self {
        Entry { kind: b'2', link, ..Self::file(name, b"") }
    }

    #[allow(dead_code, reason = "zip has none, so only one of the two tests does")]
    pub fn hard_link(name: &'a str, link: &'a str) -> Self {
        Entry { kind: b'1', link, ..Self::file(name, b"") }
    }
}

pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, entry.name.as_bytes());
        put(100, format!("{:07o}", entry.mode).as_bytes());
        put(124, format!("{:011o}", entry.content.len()).as_bytes());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[entry.kind]);
        put(157, entry.link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend([0; 1024]);
    archive
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every second entry deflated, the others stored.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut archive, mut list) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let (kind, content) = match entry.kind {
            b'2' => (0o120_000, entry.link.as_bytes()),
            b'3' => (0o020_000, entry.content),
            b'5' => (0o040_000, entry.content),
            _ => (0o100_000, entry.content),
        };
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let method: u16 = if index % 2 == 0 { 8 } else { 0 };
        let data = match method {
            8 => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            _ => content.to_vec(),
        };
        let mut shared = Vec::new();
        shared.extend(20_u16.to_le_bytes());
        shared.extend(0x800_u16.to_le_bytes());
        shared.extend(method.to_le_bytes());
        shared.extend([0; 4]);
        for number in [crc.sum(), data.len() as u32, content.len() as u32] {
            shared.extend(number.to_le_bytes());
        }
        shared.extend((entry.name.len() as u16).to_le_bytes());
        shared.extend([0; 2]);
        let offset = archive.len() as u32;
        archive.extend(b"PK\x03\x04");
        archive.extend(&shared);
        archive.extend(entry.name.as_bytes());
        archive.extend(data);
        list.extend(b"PK\x01\x02\x14\x03");
        list.extend(&shared);
        list.extend([0; 6]);
        list.extend(((kind | entry.mode) << 16).to_le_bytes());
        list.extend(offset.to_le_bytes());
        list.extend(entry.name.as_bytes());
    }
    let (start, count) = (archive.len() as u32, entries.len() as u16);
    archive.extend(&list);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend((list.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    archive
}
