//! Archives as ordinary programs make them, in every form: the same folder comes out of each.

mod archives;

use std::{
    fs::{self, File},
    io::Cursor,
    path::Path,
    process::Command,
};

use archives::{Entry, gzip, tar, zip};
use unpack::{Format, Limits, Unpacked};

fn unpacked(archive: Vec<u8>, check: impl Fn(&Path)) -> Unpacked {
    let outer = tempfile::tempdir().unwrap();
    let to = outer.path().join("to");
    let unpacked = unpack::unpack(Cursor::new(archive), &to, &Limits::default()).unwrap();
    check(&to);
    unpacked
}

#[test]
fn files_folders_and_links_inside() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let named = format!("{long}\0");
    let common = [
        Entry::dir("./"),
        Entry::dir("a/"),
        Entry::file("a/one", b"1"),
        Entry { mode: 0o755, ..Entry::file("run.sh", b"#!") },
        Entry::link("b/two", "../a/one"),
        Entry::link("dir", "a"),
        Entry::link("nowhere", "a/none"),
    ];
    let extra = [
        Entry::hard_link("hard", "./a/one"),
        Entry { kind: b'L', ..Entry::file("././@LongLink", named.as_bytes()) },
        Entry::file("short", b"long"),
        Entry { kind: b'x', ..Entry::file("pax", b"12 path=p/q\n") },
        Entry::file("short", b"pax"),
    ];
    let check = |to: &Path| {
        let read = |name: &str| fs::read(to.join(name)).unwrap();
        assert_eq!((read("a/one"), read("b/two"), read("run.sh")), (b"1".to_vec(), b"1".to_vec(), b"#!".to_vec()));
        assert!(fs::symlink_metadata(to.join("b/two")).unwrap().is_file());
        assert!(!to.join("dir").exists() && fs::symlink_metadata(to.join("nowhere")).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o111;
            assert!(mode("run.sh") & 0o100 != 0 && mode("a/one") == 0);
        }
    };
    for (archive, format) in [(zip(&common), Format::Zip), (gzip(&tar(&common)), Format::TarGz)] {
        let unpacked = unpacked(archive, check);
        assert_eq!((unpacked.format, unpacked.files, unpacked.bytes, unpacked.comment), (format, 3, 4, None));
        assert_eq!(unpacked.left_out, ["dir", "nowhere"]);
    }
    let all = [&common[..], &extra].concat();
    unpacked(tar(&all), |to| {
        check(to);
        for (name, content) in [("hard", "1"), (long.as_str(), "long"), ("p/q", "pax")] {
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), content);
        }
    });
}

/// The programs of this machine, where it has them.
#[test]
fn archives_of_other_programs() {
    let outer = tempfile::tempdir().unwrap();
    let from = outer.path().join("llama.cpp-b1234");
    fs::create_dir_all(from.join("src")).unwrap();
    fs::write(from.join("CMakeLists.txt"), "project()\n".repeat(1000)).unwrap();
    fs::write(from.join("src/\u{fc}.cpp"), "int x;\n").unwrap();
    fs::write(from.join("empty"), "").unwrap();
    let programs: [(&[&str], &str, Format); 6] = [
        (&["tar", "-cf", "a.tar", "llama.cpp-b1234"], "a.tar", Format::Tar),
        (&["tar", "-czf", "a.tgz", "llama.cpp-b1234"], "a.tgz", Format::TarGz),
        (&["tar", "--format=pax", "-cJf", "a.tar.xz", "llama.cpp-b1234"], "a.tar.xz", Format::TarXz),
        (&["tar", "--zstd", "-cf", "a.tar.zst", "llama.cpp-b1234"], "a.tar.zst", Format::TarZst),
        (&["zip", "-qr", "a.zip", "llama.cpp-b1234"], "a.zip", Format::Zip),
        (&["python3", "-m", "zipfile", "-c", "b.zip", "llama.cpp-b1234"], "b.zip", Format::Zip),
    ];
    let mut made = 0;
    for (command, archive, format) in programs {
        let (program, arguments) = command.split_first().unwrap();
        let is_made = Command::new(program).args(arguments).current_dir(outer.path()).output();
        if !is_made.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIP: this machine's {program} cannot make {archive}");
            continue;
        }
        made += 1;
        let to = outer.path().join("to");
        let file = File::open(outer.path().join(archive)).unwrap();
        let unpacked = unpack::unpack(file, &to, &Limits::default()).unwrap();
        assert_eq!((unpacked.format, unpacked.files, unpacked.bytes), (format, 3, 10_007), "{archive}");
        let root = to.join("llama.cpp-b1234");
        assert_eq!(fs::read_to_string(root.join("src/\u{fc}.cpp")).unwrap(), "int x;\n", "{archive}");
        assert_eq!(fs::read(root.join("CMakeLists.txt")).unwrap(), fs::read(from.join("CMakeLists.txt")).unwrap());
        fs::remove_dir_all(&to).unwrap();
    }
    assert!(made > 0 || cfg!(not(unix)), "not one archive could be made");
}

/// What `git archive` writes, and so most hosts of repositories: the commit is the archive's comment.
#[test]
fn the_comment_of_git_archive_is_the_commit() {
    let outer = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(outer.path()).args(arguments).output();
        let output = output.expect("git is needed to get this project");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    fs::write(outer.path().join("file"), "x").unwrap();
    git(&["add", "."]);
    git(&["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "x"]);
    let commit = git(&["rev-parse", "HEAD"]);
    for form in ["tar", "tar.gz", "zip"] {
        let name = format!("../{}.{form}", outer.path().file_name().unwrap().to_str().unwrap());
        git(&["archive", "--prefix=llama.cpp/", "-o", &name, "HEAD"]);
        let path = outer.path().join(&name);
        let archive = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let unpacked = unpacked(archive, |to| assert_eq!(fs::read(to.join("llama.cpp/file")).unwrap(), b"x"));
        assert_eq!(unpacked.comment.as_deref(), Some(commit.as_str()), "{form}");
    }
}
