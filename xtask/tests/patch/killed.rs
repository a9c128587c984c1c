//! Killed at any moment, out of space, without the right to write, two at once: the target is as before or complete.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    checkout::{Checkout, success},
    fork::{Files, checkout_with_points, files, files_but, run, write_fork, write_points},
};

const RUNS: u32 = 200;
/// So many files that a run takes a while, and so few that 200 runs do not.
const EXTRA: usize = 60;

fn quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn patch(checkout: &Checkout, fork: &Path) -> Command {
    let mut command = checkout.xtask(["patch", "--from"]);
    command.arg(fork);
    command
}

fn out(checkout: &Checkout, fork: &Path, target: &Path) -> Command {
    let mut command = patch(checkout, fork);
    command.arg("--out").arg(target);
    command
}

/// The trees that two versions of the points give, and how long it takes.
fn two_versions(checkout: &Checkout, fork: &Path, target: &Path) -> ([Files; 2], Duration) {
    let started = Instant::now();
    let both = ["one", "two"].map(|version| {
        write_points(checkout, version);
        success(&mut out(checkout, fork, target));
        files(target)
    });
    assert_ne!(both[0], both[1]);
    (both, started.elapsed() / 2)
}

/// Somewhat random, from the clock: how often a moment is hit does not matter to what must be true at all of them.
fn random(below: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mixed = u64::from(nanos).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    below.mul_f64(mixed as f64 / f64::from(u32::MAX))
}

/// The folder that is being filled beside `target`, once its stamp is in it.
fn is_about_to_swap(target: &Path) -> bool {
    let name = format!(".{}.new-", target.file_name().unwrap().to_str().unwrap());
    let entries = fs::read_dir(target.parent().unwrap()).unwrap().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().starts_with(&name))
        .any(|e| e.path().join("PATCHED.json").exists())
}

#[test]
fn a_target_beside_the_tree_survives_200_kills() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, EXTRA);
    let place = checkout.dir("place");
    let target = place.join("patched");
    let (versions, whole) = two_versions(&checkout, &fork, &target);
    let (mut killed, mut old, mut new) = (0, 0, 0);
    let mut present = 1;
    for run in 0..RUNS {
        let next = 1 - present;
        write_points(&checkout, ["one", "two"][next]);
        let mut child = quiet(&mut out(&checkout, &fork, &target));
        if run % 2 == 0 {
            thread::sleep(random(whole));
        } else {
            // The short moment that matters, aimed at.
            while !is_about_to_swap(&target) && child.try_wait().unwrap().is_none() {}
            thread::sleep(random(Duration::from_millis(4)));
        }
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let found = files(&target);
        match versions.iter().position(|version| *version == found) {
            Some(version) if version == present => old += 1,
            Some(version) => {
                new += 1;
                present = version;
            }
            None => panic!("run {run}: neither the one tree nor the other"),
        }
    }
    eprintln!("{killed} of {RUNS} runs killed: {old} trees as before, {new} complete");
    assert!(killed > RUNS / 3 && old > 0 && new > 0, "{killed} killed, {old} as before, {new} complete");
    success(&mut out(&checkout, &fork, &target));
    let mut names: Vec<_> = fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".patched.lock", "patched"]);
}

#[test]
fn a_tree_that_is_patched_in_place_survives_200_kills() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let before = files(&fork);
    let in_place = || {
        let mut command = patch(&checkout, &fork);
        command.arg("--in-place");
        command
    };
    let revert = || {
        let mut command = patch(&checkout, &fork);
        command.arg("--revert");
        command
    };
    let started = Instant::now();
    let versions = ["one", "two"].map(|version| {
        write_points(&checkout, version);
        success(&mut in_place());
        files(&fork)
    });
    let whole = started.elapsed() / 2;
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    let (mut killed, mut between) = (0, 0);
    // follows the machine, which is not always as fast as it was when it was measured
    let mut limit = whole;
    for run in 0..RUNS {
        let version = run as usize / 2 % 2;
        write_points(&checkout, ["one", "two"][version]);
        let mut child = quiet(&mut if run % 3 == 2 { revert() } else { in_place() });
        thread::sleep(limit / 4 + random(limit));
        child.kill().unwrap();
        let was_killed = !child.wait().unwrap().success();
        killed += u32::from(was_killed);
        limit = (if was_killed { limit * 21 / 20 } else { limit * 9 / 10 }).max(Duration::from_micros(200));
        // Each file by itself is one of the three, never half of one.
        let found = files_but(&fork, |path| path == "PATCHED.json" || path.ends_with(".tmp"));
        for (path, bytes) in &found {
            let known = [&before, &versions[0], &versions[1]].iter().any(|files| files.get(path) == Some(bytes));
            assert!(known, "run {run}: {path}");
        }
        assert!(before.keys().all(|path| found.contains_key(path)), "run {run}: a file is gone");
        let is_one_of_them =
            [&before, &versions[0], &versions[1]].iter().any(|files| **files == files_but(&fork, |_| false));
        between += u32::from(!is_one_of_them);
        // A later run takes it for what it is, in either direction.
        if run % 10 == 9 {
            success(&mut in_place());
            assert_eq!(names(&files(&fork)), names(&versions[version]), "run {run}");
            assert_eq!(files(&fork), versions[version], "run {run}");
        } else if run % 10 == 4 {
            success(&mut revert());
            assert_eq!(files(&fork), before, "run {run}");
        }
    }
    eprintln!("{killed} of {RUNS} runs killed, {between} of them between two files or with a leftover");
    assert!(killed > RUNS / 4, "{killed} killed");
    success(&mut revert());
    assert_eq!(files(&fork), before);
}

#[test]
fn two_at_once_give_one_tree() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, EXTRA);
    let target = checkout.path().join("patched");
    for _ in 0..10 {
        let children: Vec<_> = (0..4).map(|_| quiet(&mut out(&checkout, &fork, &target))).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let found = files(&target);
        success(out(&checkout, &fork, &target).arg("--check"));
        fs::remove_dir_all(&target).unwrap();
        success(&mut out(&checkout, &fork, &target));
        assert_eq!(files(&target), found);
        fs::write(target.join("LICENSE"), "changed by hand").unwrap();
    }
    let before = files(&fork);
    for way in ["--in-place", "--revert"] {
        let children: Vec<_> = (0..4).map(|_| quiet(patch(&checkout, &fork).arg(way))).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
    }
    assert_eq!(files(&fork), before);
}

/// The command as a user without rights: root is not kept from writing by modes.
fn without_rights(command: &mut Command, dir: &Path) -> bool {
    if fs::metadata(dir).unwrap().uid() != 0 {
        return true;
    }
    command.uid(65534).gid(65534);
    let program = PathBuf::from(command.get_program());
    let can_run = Command::new(program).arg("--version").uid(65534).gid(65534).stdout(Stdio::null()).status();
    match can_run {
        Ok(status) if status.success() => true,
        other => {
            eprintln!("SKIP: another user cannot run the program: {other:?}");
            false
        }
    }
}

fn set_modes(dir: &Path, folder: u32, file: u32) {
    for entry in walkdir::WalkDir::new(dir).contents_first(true) {
        let entry = entry.unwrap();
        let mode = if entry.file_type().is_dir() { folder } else { file };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_place_without_the_right_to_write_is_left_as_it_is() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, 0);
    let place = checkout.dir("place");
    let target = place.join("patched");
    two_versions(&checkout, &fork, &target);
    set_modes(checkout.path(), 0o755, 0o644);
    let cache = checkout.dir("cache");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let _ = fs::remove_dir_all(cache.join("locks"));
    write_points(&checkout, "three");
    for (dir, mut command) in [(&place, out(&checkout, &fork, &target)), (&fork, patch(&checkout, &fork))] {
        if dir == &fork {
            command.arg("--in-place");
        }
        if !without_rights(&mut command, checkout.path()) {
            return;
        }
        set_modes(dir, 0o555, 0o444);
        let before = files(dir);
        let (code, _, said) = run(&mut command);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("error: cannot") && said.contains("ermission denied"), "{said}");
        assert_eq!(files(dir), before);
        set_modes(dir, 0o755, 0o644);
    }
}

/// A file system of that size, if this user may have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, bytes: usize) -> Option<Self> {
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&at).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(at)),
            Ok(output) => {
                eprintln!("SKIP: no file system of our own: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIP: no file system of our own: mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_tree_as_before() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, EXTRA);
    let place = checkout.dir("place");
    // Room for one tree and a half.
    let size: usize = EXTRA * 4096 * 3 / 2 + 20 * 4096;
    let Some(_disk) = SmallDisk::mount(place.clone(), size) else { return };
    let target = place.join("patched");
    success(&mut out(&checkout, &fork, &target));
    let before = files(&target);
    write_points(&checkout, "two");
    let (code, _, said) = run(&mut out(&checkout, &fork, &target));
    assert_eq!((code, said.contains("No space left on device")), (1, true), "{said}");
    assert_eq!(files(&target), before);

    let fork = place.join("fork");
    fs::remove_dir_all(&target).unwrap();
    write_fork(&fork, 0);
    let before = files(&fork);
    // What is left is less than what patching adds.
    let fill = fs::File::create(place.join("fill")).unwrap();
    while std::io::Write::write(&mut &fill, &[0; 1024]).is_ok() {}
    let (code, _, said) = run(patch(&checkout, &fork).arg("--in-place"));
    assert_eq!((code, said.contains("No space left on device")), (1, true), "{said}");
    assert_eq!(files(&fork), before);
    assert!(!fork.join("common").exists());
}

#[test]
fn a_write_that_fails_half_way_leaves_the_tree_as_before() {
    let checkout = checkout_with_points();
    let fork = checkout.dir("fork");
    write_fork(&fork, EXTRA);
    let target = checkout.path().join("patched");
    success(&mut out(&checkout, &fork, &target));
    let (beside, inside) = (files(&target), files(&fork));
    write_points(&checkout, "two");
    for (command, dir, before) in
        [(out(&checkout, &fork, &target), &target, &beside), (patch(&checkout, &fork), &fork, &inside)]
    {
        // No file may be larger than one block of 512 bytes: the second or third one is.
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]).arg(command.get_program());
        limited.args(command.get_args()).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        if dir == &fork {
            limited.arg("--in-place");
        }
        let (code, _, said) = run(&mut limited);
        assert_eq!((code, said.contains("File too large")), (1, true), "{said}");
        assert_eq!(&files(dir), before);
    }
}
