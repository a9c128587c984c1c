//! Patches that the package itself brings and that its build script puts into a copy of llama.cpp, as llama-cpp-sys-4 does. Their
//! lines of context must stand together there, and ours may stand between them. So the exported llama.cpp has them already, and
//! our lines are planned on the text that is compiled; of the patches, the exported copies have our lines in their context, by
//! which the build script sees that they are applied.
//!
//! The reader is our own: line numbers in such patches need not be right, which libraries refuse, and the build script ignores.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::files::{read, write};

/// Where the package has them.
const FOLDER: &str = "patches";
/// How the list of those that are applied whatever the features are begins in the build script, and how it ends.
const LIST: (&str, &str) = ("let always_active = [", "];");
/// In the place of a file's name: there is none.
const NO_FILE: &str = "/dev/null";

/// The patches of one package, in the order in which they apply.
pub struct OwnPatches(Vec<OwnPatch>);

struct OwnPatch {
    /// Its file, in the folder.
    name: String,
    files: Vec<FilePatch>,
}

/// What a patch changes in one file.
struct FilePatch {
    /// What stands before, in git's words.
    preamble: String,
    /// Names of the file before and after, as they stand in the patch.
    names: [String; 2],
    /// The file, relative to llama.cpp.
    path: PathBuf,
    hunks: Vec<Hunk>,
}

struct Hunk {
    /// First lines before and after.
    starts: [usize; 2],
    /// What stands behind the numbers.
    hint: String,
    lines: Vec<(Kind, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Context,
    Removed,
    Added,
}

impl Kind {
    fn of(mark: char) -> Option<Self> {
        match mark {
            ' ' => Some(Self::Context),
            '-' => Some(Self::Removed),
            '+' => Some(Self::Added),
            _ => None,
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Context => ' ',
            Self::Removed => '-',
            Self::Added => '+',
        }
    }
}

impl OwnPatches {
    /// Reads those that the build script of the package in `dir` always applies; most packages have none.
    ///
    /// # Errors
    /// One that the build script lists is not there or not a unified diff.
    pub fn read(dir: &Path) -> Result<Self> {
        let script = fs::read_to_string(dir.join("build.rs")).unwrap_or_default();
        let list = script.split_once(LIST.0).and_then(|(_, rest)| rest.split_once(LIST.1)).map_or("", |(list, _)| list);
        let mut patches = Vec::new();
        for name in list.split(',').map(|item| item.trim().trim_matches('"')).filter(|name| !name.is_empty()) {
            let path = dir.join(FOLDER).join(name);
            let files = parse(&read(&path)?).with_context(|| format!("{} is not a patch", path.display()))?;
            patches.push(OwnPatch { name: name.to_owned(), files });
        }
        Ok(Self(patches))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts them into the llama.cpp in `tree`.
    ///
    /// # Errors
    /// One does not fit, or a file cannot be read or written.
    pub fn apply(&self, tree: &Path) -> Result<()> {
        self.0.iter().try_for_each(|patch| {
            patch.files.iter().try_for_each(|file| file.apply(tree)).with_context(|| format!("{FOLDER}/{}", patch.name))
        })
    }

    /// Writes them into the package in `package`, whose llama.cpp is `tree`, to which they were applied, with our lines.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self, tree: &Path, package: &Path) -> Result<()> {
        for patch in &self.0 {
            let mut text = String::new();
            for file in &patch.files {
                let before = read(&tree.join(&file.path))?;
                let after = read(&package.join("llama.cpp").join(&file.path))?;
                let file = file.with_inserted(&before, &after).with_context(|| format!("{FOLDER}/{}", patch.name))?;
                text.push_str(&file.to_text());
            }
            write(&package.join(FOLDER).join(&patch.name), text)?;
        }
        Ok(())
    }
}

impl FilePatch {
    fn apply(&self, tree: &Path) -> Result<()> {
        let path = tree.join(&self.path);
        let [old, new] = &self.names;
        if new == NO_FILE {
            return fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()));
        }
        let before = if old == NO_FILE { String::new() } else { read(&path)? };
        write(&path, self.applied(&before)?)
    }

    fn applied(&self, text: &str) -> Result<String> {
        let lines: Vec<_> = text.split('\n').collect();
        let mut out: Vec<&str> = Vec::with_capacity(lines.len());
        let mut done = 0;
        for hunk in &self.hunks {
            let old = hunk.side(Kind::Removed);
            let at = self.find(&lines, &old, done)?;
            out.extend(&lines[done..at]);
            out.extend(hunk.side(Kind::Added));
            done = at + old.len();
        }
        out.extend(&lines[done..]);
        Ok(out.join("\n"))
    }

    /// The same with the lines of ours in its context that `after` has beyond `before`.
    fn with_inserted(&self, before: &str, after: &str) -> Result<Self> {
        let lines: Vec<_> = before.split('\n').collect();
        let inserted = inserted(&lines, after)
            .with_context(|| format!("patching did more to {} than insert lines", self.path.display()))?;
        let mut done = 0;
        let mut hunks = Vec::new();
        for hunk in &self.hunks {
            let new = hunk.side(Kind::Added);
            let mut at = self.find(&lines, &new, done)?;
            let first = at;
            done = at + new.len();
            let mut with = Vec::new();
            for (kind, line) in &hunk.lines {
                if *kind != Kind::Removed {
                    // what stands before the first line is no part of it
                    let ours = inserted.get(at).filter(|_| at > first).into_iter().flatten();
                    with.extend(ours.map(|line| (Kind::Context, (*line).to_owned())));
                    at += 1;
                }
                with.push((*kind, line.clone()));
            }
            hunks.push(Hunk { starts: hunk.starts, hint: hunk.hint.clone(), lines: with });
        }
        Ok(Self { preamble: self.preamble.clone(), names: self.names.clone(), path: self.path.clone(), hunks })
    }

    fn find(&self, lines: &[&str], wanted: &[&str], from: usize) -> Result<usize> {
        (from..=lines.len().saturating_sub(wanted.len())).find(|&at| lines[at..].starts_with(wanted)).with_context(
            || {
                let first = wanted.first().copied().unwrap_or_default().trim();
                format!("{} does not have the lines that begin with `{first}`", self.path.display())
            },
        )
    }

    fn to_text(&self) -> String {
        let [old, new] = &self.names;
        let mut text = format!("{}--- {old}\n+++ {new}\n", self.preamble);
        for hunk in &self.hunks {
            let count =
                |other: Kind| hunk.lines.iter().filter(|(kind, _)| [Kind::Context, other].contains(kind)).count();
            let [from, to] = hunk.starts;
            let (old, new) = (count(Kind::Removed), count(Kind::Added));
            text.push_str(&format!("@@ -{from},{old} +{to},{new} @@{}\n", hunk.hint));
            text.extend(hunk.lines.iter().map(|(kind, line)| format!("{}{line}\n", kind.mark())));
        }
        text
    }
}

impl Hunk {
    /// Its lines before (`Removed`) or after (`Added`).
    fn side(&self, kind: Kind) -> Vec<&str> {
        let lines = self.lines.iter().filter(|(it, _)| [Kind::Context, kind].contains(it));
        lines.map(|(_, line)| line.as_str()).collect()
    }
}

/// The lines that `after` has before each line of `before`; `None` if one of these is missing.
fn inserted<'a>(before: &[&str], after: &'a str) -> Option<Vec<Vec<&'a str>>> {
    let mut rest = after.split('\n');
    before
        .iter()
        .map(|line| {
            let mut ours = Vec::new();
            loop {
                match rest.next()? {
                    next if next == *line => return Some(ours),
                    next => ours.push(next),
                }
            }
        })
        .collect()
}

fn parse(text: &str) -> Result<Vec<FilePatch>> {
    let mut files: Vec<FilePatch> = Vec::new();
    let mut lines = text.split('\n').peekable();
    let mut preamble = String::new();
    while let Some(line) = lines.next() {
        if let (Some(old), Some(new)) =
            (line.strip_prefix("--- "), lines.peek().and_then(|next| next.strip_prefix("+++ ")))
        {
            let name = if new == NO_FILE { old } else { new };
            let (names, path) = ([old, new].map(str::to_owned), inner_path(name)?);
            files.push(FilePatch { preamble: std::mem::take(&mut preamble), names, path, hunks: Vec::new() });
            lines.next();
        } else if let Some(rest) = line.strip_prefix("@@ -") {
            let file = files.last_mut().with_context(|| format!("`{line}` stands before a file's name"))?;
            let (starts, counts, hint) = header(rest).with_context(|| format!("`{line}` is not the head of a hunk"))?;
            let mut left = counts;
            let mut hunk = Hunk { starts, hint: hint.to_owned(), lines: Vec::new() };
            while left != [0, 0] {
                let line = lines.next().unwrap_or_default();
                let kind = line.chars().next().and_then(Kind::of);
                let kind = kind.with_context(|| format!("`{line}` is no line of a hunk of {}", file.path.display()))?;
                for (left, other) in left.iter_mut().zip([Kind::Removed, Kind::Added]) {
                    if [Kind::Context, other].contains(&kind) {
                        *left = left.checked_sub(1).context("a hunk has more lines than its head says")?;
                    }
                }
                hunk.lines.push((kind, line[1..].to_owned()));
            }
            file.hunks.push(hunk);
        } else {
            preamble.extend([line, "\n"]);
        }
    }
    if files.is_empty() {
        bail!("no file is named in it");
    }
    Ok(files)
}

/// The numbers of a head, behind `@@ -`, and what follows them: (starts, counts, hint).
fn header(text: &str) -> Option<([usize; 2], [usize; 2], &str)> {
    let (numbers, hint) = text.split_once(" @@")?;
    let (old, new) = numbers.split_once(" +")?;
    let range = |text: &str| {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    let ((old, old_count), (new, new_count)) = (range(old)?, range(new)?);
    Some(([old, new], [old_count, new_count], hint))
}

/// `a/src/x.cpp` is `src/x.cpp` of the tree.
fn inner_path(name: &str) -> Result<PathBuf> {
    let name = name.split('\t').next().unwrap_or_default();
    let path: PathBuf = Path::new(name).components().skip(1).collect();
    let is_inner = path.components().all(|part| matches!(part, Component::Normal(_)));
    if path.as_os_str().is_empty() || !is_inner {
        bail!("`{name}` names no file of the tree");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "int f() {\n    a();\n    const int ret = g();\n    return ret;\n}\n";
    // the line numbers are wrong, as in those of llama-cpp-sys-4
    const PATCH: &str = "diff --git a/src/x.cpp b/src/x.cpp\nindex 1..2 100644\n--- a/src/x.cpp\n+++ b/src/x.cpp\n\
        @@ -90,3 +90,5 @@ int f() {\n     a();\n-    const int ret = g();\n+    begin();\n+    const int ret = h();\n+    end();\n     return ret;\n";
    const AFTER: &str = "int f() {\n    a();\n    begin();\n    const int ret = h();\n    end();\n    return ret;\n}\n";

    fn only(text: &str) -> FilePatch {
        let mut files = parse(text).unwrap();
        assert_eq!(files.len(), 1);
        files.remove(0)
    }

    #[test]
    fn a_patch_applies_where_its_lines_are() {
        let patch = only(PATCH);
        assert_eq!(patch.path, Path::new("src/x.cpp"));
        assert_eq!(patch.applied(BEFORE).unwrap(), AFTER);
        let error = patch.applied(AFTER).err().unwrap().to_string();
        assert!(error.contains("src/x.cpp") && error.contains("`a();`"), "{error}");
    }

    #[test]
    fn our_lines_become_context_and_those_beside_it_stay_out() {
        let with_ours = AFTER
            .replace("    a();", "LLAMA_OTEL_ONE();\n    a();")
            .replace("    end();", "    LLAMA_OTEL_TWO();\n    end();")
            .replace("    return ret;", "    return ret;\nLLAMA_OTEL_THREE();");
        let patch = only(PATCH).with_inserted(AFTER, &with_ours).unwrap().to_text();
        assert!(patch.contains("@@ -90,4 +90,6 @@ int f() {\n"), "{patch}");
        assert!(patch.contains("+    const int ret = h();\n     LLAMA_OTEL_TWO();\n+    end();\n"), "{patch}");
        assert!(!patch.contains("ONE") && !patch.contains("THREE"), "{patch}");
        // The build script looks for the lines after it, one behind the other.
        let new: Vec<_> = only(&patch).hunks[0].side(Kind::Added).into_iter().map(str::to_owned).collect();
        assert!(with_ours.contains(&new.join("\n")), "{new:?}");
        // And the line may be taken away again.
        assert_eq!(
            only(&patch).applied(&BEFORE.replace("ret = g();", "ret = g();\n    LLAMA_OTEL_TWO();")).unwrap(),
            AFTER.replace("    end();", "    LLAMA_OTEL_TWO();\n    end();")
        );
    }

    #[test]
    fn anything_but_insertions_is_noticed() {
        assert!(only(PATCH).with_inserted(AFTER, BEFORE).is_err());
    }

    #[test]
    fn what_is_no_patch_says_what_is_wrong() {
        for (text, reason) in [
            ("", "no file is named"),
            ("@@ -1,1 +1,1 @@\n a\n", "before a file's name"),
            ("--- a/x\n+++ b/x\n@@ -1,x +1 @@\n", "not the head of a hunk"),
            ("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n", "no line of a hunk of x"),
            ("--- a/x\n+++ b/x\n@@ -1,0 +1,1 @@\n a\n", "more lines than its head says"),
            ("--- a/../x\n+++ b/../x\n", "names no file of the tree"),
            ("--- /x\n+++ x\n", "names no file of the tree"),
        ] {
            let error = parse(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn those_that_the_build_script_always_applies_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OwnPatches::read(dir.path()).unwrap().is_empty());
        let script = "fn f() { let always_active = [\n \"1.patch\",\n ]; }";
        fs::write(dir.path().join("build.rs"), script).unwrap();
        assert!(OwnPatches::read(dir.path()).err().unwrap().to_string().contains("1.patch"));
        let [tree, package] = ["tree", "package"].map(|name| dir.path().join(name));
        for (file, text) in [
            (dir.path().join("patches/1.patch"), PATCH),
            (tree.join("src/x.cpp"), BEFORE),
            (package.join("patches/1.patch"), PATCH),
            (package.join("llama.cpp/src/x.cpp"), AFTER),
        ] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let patches = OwnPatches::read(dir.path()).unwrap();
        patches.apply(&tree).unwrap();
        assert_eq!(fs::read_to_string(tree.join("src/x.cpp")).unwrap(), AFTER);
        patches.write(&tree, &package).unwrap();
        let written = fs::read_to_string(package.join("patches/1.patch")).unwrap();
        assert_eq!(written, PATCH);
    }
}
