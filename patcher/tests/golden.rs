//! One folder of `golden/` is one case: `point.toml` is planned on a tree that holds nothing but `before.*`
//! (under the name `case.*`), and gives `after.*` or `error.txt`. `UPDATE_GOLDEN=1` writes what comes out;
//! look at the difference before you commit it.
//!
//! The results are compiled as well: a line in a place that only looks right is found by the compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use patcher::{PatchError, PointSet, Tree, strip_file};

const CASES_AT_LEAST: usize = 40;

struct Case {
    dir: PathBuf,
    name: String,
    /// `before.cpp`, `before.h`, …
    before: PathBuf,
}

impl Case {
    fn all() -> Vec<Case> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut cases = Vec::new();
        for entry in std::fs::read_dir(root).unwrap() {
            let dir = entry.unwrap().path();
            if !dir.is_dir() {
                continue;
            }
            let name = dir.file_name().unwrap().to_string_lossy().into_owned();
            let before = std::fs::read_dir(&dir)
                .unwrap()
                .map(|e| e.unwrap().path())
                .find(|p| p.file_stem().is_some_and(|s| s == "before"));
            cases.push(Case { before: before.unwrap_or_else(|| panic!("{name} has no before.*")), name, dir });
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn extension(&self) -> String {
        self.before.extension().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn after(&self) -> PathBuf {
        self.dir.join(format!("after.{}", self.extension()))
    }

    fn error(&self) -> PathBuf {
        self.dir.join("error.txt")
    }

    /// The patched file, or the error text.
    fn run(&self) -> Result<Vec<u8>, String> {
        let points = std::fs::read_to_string(self.dir.join("point.toml")).unwrap();
        let points = PointSet::parse([("point.toml", points)]).map_err(|e| e.to_string())?;
        let path = format!("case.{}", self.extension());
        let before = std::fs::read(&self.before).unwrap();
        let tree = Tree::from_files(self.name.clone(), [(path.clone(), before.clone())]);
        let (_, applied) = patcher::patch(&tree, &points, Vec::new()).map_err(|e| match e {
            PatchError::Plan(errors) => errors.to_string(),
            other => panic!("{}: {other}", self.name),
        })?;
        let after = applied.files.get(Path::new(&path)).cloned().unwrap_or(before.clone());
        assert_eq!(strip_file(&after).unwrap(), before, "{}: strip does not give back upstream's bytes", self.name);
        Ok(after)
    }
}

#[test]
fn every_case_gives_what_its_folder_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = Case::all();
    for case in &cases {
        let (wanted, other, found) = match case.run() {
            Ok(after) => (case.after(), case.error(), after),
            Err(error) => (case.error(), case.after(), format!("{error}\n").into_bytes()),
        };
        if update {
            let _ = std::fs::remove_file(&other);
            std::fs::write(&wanted, &found).unwrap();
        } else if other.exists() || std::fs::read(&wanted).ok().as_ref() != Some(&found) {
            wrong.push(format!("{}:\n{}", case.name, String::from_utf8_lossy(&found)));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ (UPDATE_GOLDEN=1 accepts them):\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= CASES_AT_LEAST, "{} cases", cases.len());
}

#[test]
fn every_patched_case_compiles() {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("skipped: no C++ compiler; set CXX");
        return;
    }
    let stub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub");
    let mut compiled = 0;
    let mut failures = Vec::new();
    for case in Case::all().iter().filter(|c| c.after().exists() && matches!(c.extension().as_str(), "cpp" | "h")) {
        for file in [&case.before, &case.after()] {
            let output = Command::new(&compiler)
                .args(["-std=c++17", "-fsyntax-only", "-x", "c++", "-include", "common/otel/otel.h", "-I"])
                .arg(&stub)
                .arg(file)
                .output()
                .unwrap();
            if !output.status.success() {
                failures.push(format!("{}\n{}", file.display(), String::from_utf8_lossy(&output.stderr)));
            }
        }
        compiled += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compiled > CASES_AT_LEAST, "only {compiled} cases were compiled");
}
