//! Unpacking: whatever an archive holds, what comes of it lies below its folder and is a file or a folder; after an
//! error there is nothing. The first byte of the input says whether the rest is an archive as it is, or a tar file that
//! is put into gzip first, so that the fuzzer need not find out about checksums of compressed streams.

#![no_main]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use unpack::{Limits, unpack};

/// Small, so that the bounds are met often.
const LIMITS: Limits = Limits { entries: 64, bytes: 1 << 16 };
/// A file beside the folder, which no archive may touch.
const BESIDE: &str = "beside";

fuzz_target!(|input: &[u8]| {
    let Some((form, rest)) = input.split_first() else { return };
    let archive = match form % 4 {
        0 => gzip(rest),
        1 => gzip(&with_checksums(rest)),
        2 => with_checksums(rest),
        _ => rest.to_vec(),
    };
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder for one run");
    fs::write(scratch.path().join(BESIDE), b"untouched").expect("a file for one run");
    let to = scratch.path().join("to");
    let result = unpack(Cursor::new(&archive), &to, &LIMITS);

    let beside: Vec<_> = fs::read_dir(scratch.path()).expect("the folder is there").flatten().map(|e| e.file_name()).collect();
    assert!(beside.iter().all(|name| name == BESIDE || name == "to"), "something outside: {beside:?}");
    assert_eq!(fs::read(scratch.path().join(BESIDE)).expect("the file is there"), b"untouched");
    match result {
        Ok(unpacked) => {
            let (mut files, mut bytes) = (0, 0);
            count(&to, &mut files, &mut bytes);
            assert_eq!((files, bytes), (unpacked.files, unpacked.bytes));
            assert!(bytes <= LIMITS.bytes && files <= LIMITS.entries, "{files} files, {bytes} bytes");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!to.exists(), "left behind after {error}");
        }
    }
});

/// Regular files and folders, and nothing else.
fn count(folder: &Path, files: &mut u64, bytes: &mut u64) {
    for entry in fs::read_dir(folder).expect("a folder that was made can be listed").flatten() {
        let kind = entry.file_type().expect("its kind is known");
        if kind.is_dir() {
            count(&entry.path(), files, bytes);
        } else {
            assert!(kind.is_file(), "{} is neither a file nor a folder", entry.path().display());
            *files += 1;
            *bytes += entry.metadata().expect("a file that was made").len();
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// Every block that could be a tar header with the checksum that it should have.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}
