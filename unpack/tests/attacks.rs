//! Archives that try to get out of their folder, to write a file twice or to fill the disk: each is refused with the
//! entry's name, and nothing of it stays. The archives are made byte by byte, as no ordinary program would.

mod archives;

use std::{fs, path::Path};

use archives::{Entry, gzip, tar, zip};
use unpack::{Error, Limits, Problem};

const SMALL: Limits = Limits { entries: 50, bytes: 100_000 };

/// Unpacks into `inner` of an empty folder, and looks at what stays in that folder.
fn refusal(archive: &[u8]) -> Error {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    let error = unpack::unpack(std::io::Cursor::new(archive), &inner, &SMALL).expect_err("it was unpacked");
    assert_eq!(names(outer.path()), [""; 0], "after: {error}");
    error
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The same entries as tar, as tar in gzip and as zip.
fn refused(entries: &[Entry], name: &str, problem: &Problem) {
    for archive in [tar(entries), gzip(&tar(entries)), zip(entries)] {
        match refusal(&archive) {
            Error::Entry { entry, problem: found } => assert_eq!((entry.as_str(), &found), (name, problem)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn names_that_lead_out() {
    let good = Entry::file("good.txt", b"1");
    for name in ["../evil", "a/../../evil", "a/b/..", ".."] {
        refused(&[good, Entry::file(name, b"x")], name, &Problem::LeadsOut);
    }
    for name in ["/tmp/evil", "//host/evil"] {
        refused(&[good, Entry::file(name, b"x")], name, &Problem::Absolute);
    }
    refused(&[good, Entry::file("C:/evil", b"x")], "C:/evil", &Problem::Name("it names a drive"));
    refused(&[good, Entry::file("c:evil", b"x")], "c:evil", &Problem::Name("it names a drive"));
    refused(&[good, Entry::dir("../evil/")], "../evil/", &Problem::LeadsOut);
    let other = &Problem::Name("it names another machine");
    refused(&[good, Entry::file(r"\\host\evil", b"x")], r"\\\\host\\evil", other);
    let slash = &Problem::Name("it has a \\, which separates folders on Windows");
    refused(&[good, Entry::file(r"..\evil", b"x")], r"..\\evil", slash);
}

#[test]
fn links_that_lead_out() {
    let out = |target: &str| Problem::LinkOut(target.to_owned());
    refused(&[Entry::link("a/l", "../../evil")], "a/l", &out("../../evil"));
    refused(&[Entry::link("l", "..")], "l", &out(".."));
    refused(&[Entry::link("l", "/etc/passwd")], "l", &Problem::LinkAbsolute("/etc/passwd".to_owned()));
    // The classic: a link to a folder outside, then a file in it.
    let through = [Entry::link("l", "/tmp"), Entry::file("l/evil", b"x")];
    refused(&through, "l/evil", &Problem::FileAndFolder);
    // One step at a time: neither link leads out by its own text.
    let chain = [Entry::dir("a/"), Entry::link("a/up", ".."), Entry::link("out", "a/up/../..")];
    refused(&chain, "out", &Problem::LinkChain("a/up/../..".to_owned()));
    let chain = [Entry::file("f", b"x"), Entry::link("a", "f"), Entry::link("b", "a")];
    refused(&chain, "b", &Problem::LinkChain("a".to_owned()));
    let chain = [Entry::file("d/f", b"x"), Entry::link("a", "d"), Entry::link("b", "a/f")];
    refused(&chain, "b", &Problem::LinkChain("a/f".to_owned()));
    refused(&[Entry::link("l", "l")], "l", &Problem::LinkChain("l".to_owned()));
}

#[test]
fn hard_links_to_anything_but_a_file_before_them() {
    let refused = |entries: &[Entry], problem: &Problem| match refusal(&tar(entries)) {
        Error::Entry { problem: found, .. } => assert_eq!(&found, problem),
        other => panic!("{other}"),
    };
    refused(&[Entry::hard_link("h", "../evil")], &Problem::LinkOut("../evil".to_owned()));
    refused(&[Entry::hard_link("h", "/etc/passwd")], &Problem::LinkAbsolute("/etc/passwd".to_owned()));
    refused(&[Entry::hard_link("h", "later"), Entry::file("later", b"x")], &Problem::HardLink("later".to_owned()));
    let to_link = [Entry::link("l", "f"), Entry::hard_link("h", "l")];
    refused(&to_link, &Problem::HardLink("l".to_owned()));
}

#[test]
fn the_same_name_twice() {
    refused(&[Entry::file("a", b"1"), Entry::file("a", b"2")], "a", &Problem::Twice);
    refused(&[Entry::file("d/a", b"1"), Entry::file("./d//a", b"2")], "./d//a", &Problem::Twice);
    refused(&[Entry::file("a", b"1"), Entry::link("a", "b")], "a", &Problem::Twice);
    refused(&[Entry::file("a", b"1"), Entry::file("A", b"2")], "A", &Problem::Case("a".to_owned()));
    refused(&[Entry::file("src/a", b"1"), Entry::file("Src/b", b"2")], "Src/b", &Problem::Case("src".to_owned()));
    refused(&[Entry::file("a", b"1"), Entry::file("a/b", b"2")], "a/b", &Problem::FileAndFolder);
    refused(&[Entry::file("a/b", b"1"), Entry::file("a", b"2")], "a", &Problem::FileAndFolder);
    refused(
        &[Entry::file("./", b"1")].map(|mut e| {
            e.name = ".";
            e
        }),
        ".",
        &Problem::FileAndFolder,
    );
}

#[test]
fn devices_pipes_and_what_else_there_is() {
    for (kind, what) in
        [(b'3', "a device"), (b'4', "a device"), (b'6', "a pipe"), (b'S', "a file with holes"), (b'V', "of type `V`")]
    {
        match refusal(&tar(&[Entry { kind, ..Entry::file("d", b"") }])) {
            Error::Entry { entry, problem: Problem::Kind(found) } => {
                assert_eq!((entry.as_str(), found.as_str()), ("d", what))
            }
            other => panic!("{other}"),
        }
    }
    match refusal(&zip(&[Entry { kind: b'3', ..Entry::file("d", b"") }])) {
        Error::Entry { problem: Problem::Kind(kind), .. } => assert_eq!(kind, "of the Unix kind 20000"),
        other => panic!("{other}"),
    }
    refused(&[Entry::file("a/NUL", b"")], "a/NUL", &Problem::Name("it is a device on Windows"));
}

#[test]
fn bombs() {
    let large = vec![0; 100_001];
    refused(&[Entry::file("zeros", &large)], "zeros", &Problem::TooLarge(SMALL.bytes));
    let half = vec![0; 60_000];
    refused(&[Entry::file("a", &half), Entry::file("b", &half)], "b", &Problem::TooLarge(SMALL.bytes));
    // What links stand for counts too.
    refused(&[Entry::file("a", &half), Entry::link("b", "a")], "b", &Problem::TooLarge(SMALL.bytes));
    let numbers: Vec<_> = (0..51).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = numbers.iter().map(|name| Entry::file(name, b"")).collect();
    for archive in [tar(&many), zip(&many)] {
        assert!(matches!(refusal(&archive), Error::TooManyEntries(50)));
    }
    // Nothing but what describes the next entry, without end; a header of a megabyte; zeros behind the end.
    let descriptions = vec![Entry { kind: b'x', ..Entry::file("x", b"12 path=abc\n") }; 60];
    assert!(matches!(refusal(&gzip(&tar(&descriptions))), Error::TooManyEntries(50)));
    let long = vec![b'a'; 1 << 20];
    let error = refusal(&gzip(&tar(&[Entry { kind: b'L', ..Entry::file("x", &long) }])));
    assert!(error.to_string().contains("a header in it is too long"), "{error}");
    let zeros = vec![0; 4 << 20];
    let error = refusal(&gzip(&[tar(&[Entry::file("a", b"1")]), zeros].concat()));
    assert!(error.to_string().contains("more than an archive may hold"), "{error}");
}

#[test]
fn two_readings_of_one_archive() {
    let size = [Entry { kind: b'x', ..Entry::file("x", b"12 size=512\n") }, Entry::file("a", b"1")];
    match refusal(&tar(&size)) {
        Error::Entry { entry, problem: Problem::TwoSizes } => assert_eq!(entry, "a"),
        other => panic!("{other}"),
    }
    let sparse = [Entry { kind: b'x', ..Entry::file("x", b"22 GNU.sparse.major=1\n") }, Entry::file("a", b"1")];
    assert!(refusal(&tar(&sparse)).to_string().contains("a file with holes"));
    assert!(refusal(&tar(&[Entry { kind: b'L', ..Entry::file("x", b"a\0") }])).to_string().contains("is announced"));
    let mut listed_twice = zip(&[Entry::file("a", b"1")]);
    let count = listed_twice.len() - 12;
    listed_twice[count] = 2;
    assert!(matches!(refusal(&listed_twice), Error::Damaged(_)));
    assert!(matches!(refusal(b"#!/bin/sh\n"), Error::UnknownForm));
    assert!(matches!(refusal(b""), Error::UnknownForm));
}

#[test]
fn damage_is_seen_wherever_it_is() {
    let content: Vec<u8> = (0..5000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let entries = [Entry::file("a", &content), Entry::file("b", b"2")];
    for whole in [gzip(&tar(&entries)), zip(&entries)] {
        for cut in [30, whole.len() / 2, whole.len() - 1] {
            refusal(&whole[..cut]);
        }
        for place in [whole.len() / 3, whole.len() / 2] {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            refusal(&flipped);
        }
    }
    let whole = tar(&entries);
    assert!(matches!(refusal(&whole[..700]), Error::Damaged(_)));
}

#[test]
fn a_folder_that_is_there_is_not_touched() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("mine"), "1").unwrap();
    let archive = std::io::Cursor::new(tar(&[Entry::file("a", b"1")]));
    let error = unpack::unpack(archive, outer.path(), &SMALL).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(names(outer.path()), ["mine"]);
}
