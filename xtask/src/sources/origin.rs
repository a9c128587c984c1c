//! What a tree's content is: the commit, the build number, the package that it came in; found where each kind of source
//! has it.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

/// What is known; each part may be missing. The names are those that `llama-build` reads in `VENDORED.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// llama.cpp's build number, the `1234` of a tag `b1234`.
    pub build_number: Option<u64>,
    /// The commit, in full where it is known in full; with `-dirty` where uncommitted changes came along.
    pub build_commit: Option<String>,
    /// `git describe`, or the tag of the commit.
    pub describe: Option<String>,
    /// The package around the tree, by its own metadata.
    pub package: Option<String>,
    /// The commit that this package was made from: of its own repository, not of llama.cpp's.
    pub package_commit: Option<String>,
}

/// `.cargo_vcs_info.json`, which cargo puts into what it packages.
#[derive(Deserialize)]
struct VcsInfo {
    git: GitInfo,
}

#[derive(Deserialize)]
struct GitInfo {
    sha1: String,
}

impl Origin {
    /// What is known here, and of the rest what is known there.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            build_number: self.build_number.or(other.build_number),
            build_commit: self.build_commit.or(other.build_commit),
            describe: self.describe.or(other.describe),
            package: self.package.or(other.package),
            package_commit: self.package_commit.or(other.package_commit),
        }
    }

    /// Out of a tag, a folder's or an archive's name: `b1234`, `llama.cpp-b1234`, `llama.cpp-<commit>`.
    pub fn of_name(name: &str) -> Self {
        let words: Vec<_> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        Self {
            build_number: words.iter().find_map(|word| build_number(word)),
            build_commit: words.iter().find(|word| is_full_commit(word)).map(|word| (*word).to_owned()),
            ..Self::default()
        }
    }

    /// Out of an archive's comment, where `git archive` puts the commit.
    pub fn of_comment(comment: &str) -> Self {
        let commit = Some(comment.trim()).filter(|word| is_full_commit(word));
        Self { build_commit: commit.map(str::to_owned), ..Self::default() }
    }

    /// Out of the files that packaging leaves in the folders from `root` down to, and without, the tree.
    pub fn of_package(root: &Path, tree: &Path) -> Self {
        let mut origin = Self::default();
        for dir in tree.ancestors().skip(1).take_while(|dir| dir.starts_with(root)) {
            let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
            if let Some(text) = read("PKG-INFO") {
                origin = origin.or(Self { package: package_of(&text), ..Self::default() });
            }
            if let Some(info) =
                read(".cargo_vcs_info.json").and_then(|text| serde_json::from_str::<VcsInfo>(&text).ok())
            {
                origin = origin.or(Self { package_commit: Some(info.git.sha1), ..Self::default() });
            }
        }
        origin
    }

    /// Out of the tree itself: of build information that was generated before it was packed, or written into CMake's files
    /// by a fork. Upstream's own files say 0 and "unknown", which is not known.
    pub fn of_tree(dir: &Path) -> Self {
        let files = [
            "common/build-info.cpp",
            "build-info.h",
            "common/build-info.h",
            "cmake/build-info.cmake",
            "CMakeLists.txt",
        ];
        files.iter().filter_map(|file| fs::read_to_string(dir.join(file)).ok()).fold(Self::default(), |origin, text| {
            let number =
                value_of(&text, "BUILD_NUMBER").and_then(|value| value.parse().ok()).filter(|number| *number > 0);
            let commit = value_of(&text, "COMMIT").filter(|value| is_commit(value)).map(str::to_owned);
            origin.or(Self { build_number: number, build_commit: commit, ..Self::default() })
        })
    }
}

/// The number of a tag of llama.cpp's.
fn build_number(word: &str) -> Option<u64> {
    let digits = word.strip_prefix('b').filter(|digits| digits.len() >= 3)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Whether it can be a commit, in full or shortened.
pub fn is_commit(word: &str) -> bool {
    (7..=64).contains(&word.len()) && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_full_commit(word: &str) -> bool {
    matches!(word.len(), 40 | 64) && is_commit(word)
}

fn package_of(pkg_info: &str) -> Option<String> {
    let field =
        |name: &str| pkg_info.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(name));
    Some(format!("{} {}", field("Name: ")?.trim(), field("Version: ")?.trim()))
}

/// What stands behind a name that ends so, in C (`int LLAMA_BUILD_NUMBER = 1;`, `#define BUILD_NUMBER 1`) and in CMake
/// (`set(BUILD_NUMBER 1)`).
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.lines().map(str::trim).find_map(|line| {
        let start = line.strip_prefix("set(").or_else(|| line.strip_prefix("#define ")).or_else(|| {
            let declared = line.strip_prefix("int ").or_else(|| line.strip_prefix("char const *"));
            declared.or_else(|| line.strip_prefix("const char * "))
        })?;
        let (word, rest) = start.split_at(start.find(|c| !is_word(c))?);
        let prefix = word.strip_suffix(name)?;
        let value = rest.trim_start_matches([' ', '=', '"']);
        let value = value.split(|c| !is_word(c)).next()?;
        matches!(prefix, "" | "LLAMA_" | "BUILD_" | "LLAMA_BUILD_").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn names_tell_numbers_and_commits() {
        for (name, number) in [
            ("b1234", Some(1234)),
            ("llama.cpp-b10200", Some(10200)),
            ("llama-b6097-bin-ubuntu-x64.zip", Some(6097)),
            ("llama.cpp-master", None),
            ("b12", None),
            ("build1234", None),
            ("llama_cpp_python-0.3.36.tar.gz", None),
        ] {
            assert_eq!(Origin::of_name(name), Origin { build_number: number, ..Origin::default() }, "{name}");
        }
        assert_eq!(Origin::of_name(&format!("llama.cpp-{COMMIT}")).build_commit.as_deref(), Some(COMMIT));
        assert_eq!(Origin::of_comment(&format!("{COMMIT}\n")).build_commit.as_deref(), Some(COMMIT));
        assert_eq!(Origin::of_comment("made by hand"), Origin::default());
    }

    #[test]
    fn generated_build_information_is_read_and_placeholders_are_not() {
        let known = Origin { build_number: Some(6097), build_commit: Some("9515c613".to_owned()), ..Origin::default() };
        for (file, text, origin) in [
            (
                "common/build-info.cpp",
                "int LLAMA_BUILD_NUMBER = 6097;\nchar const *LLAMA_COMMIT = \"9515c613\";\n",
                &known,
            ),
            ("build-info.h", "#define BUILD_NUMBER 6097\n#define BUILD_COMMIT \"9515c613\"\n", &known),
            ("cmake/build-info.cmake", "set(BUILD_NUMBER 6097)\nset(BUILD_COMMIT \"9515c613\")\n", &known),
            ("CMakeLists.txt", "  set(LLAMA_BUILD_NUMBER 6097)\n set(LLAMA_BUILD_COMMIT 9515c613)\n", &known),
            ("cmake/build-info.cmake", "set(BUILD_NUMBER 0)\nset(BUILD_COMMIT \"unknown\")\n", &Origin::default()),
            (
                "CMakeLists.txt",
                "set(LLAMA_BUILD_NUMBER ${BUILD_NUMBER})\nset(MY_COMMIT \"9515c613\")\n",
                &Origin::default(),
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("common")).unwrap();
            fs::create_dir_all(dir.path().join("cmake")).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(&Origin::of_tree(dir.path()), origin, "{file}");
        }
    }

    #[test]
    fn the_package_around_a_tree_is_not_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("p-1/vendor/llama.cpp");
        fs::create_dir_all(&tree).unwrap();
        fs::write(dir.path().join("p-1/PKG-INFO"), "Metadata-Version: 2.1\nName: p\nVersion: 1\n\nVersion: 2\n")
            .unwrap();
        fs::write(dir.path().join("p-1/.cargo_vcs_info.json"), format!("{{\"git\":{{\"sha1\":\"{COMMIT}\"}}}}"))
            .unwrap();
        // What lies in the tree is the tree's.
        fs::write(tree.join("PKG-INFO"), "Name: q\nVersion: 3\n\n").unwrap();
        let origin = Origin::of_package(dir.path(), &tree);
        assert_eq!((origin.package.as_deref(), origin.package_commit.as_deref()), (Some("p 1"), Some(COMMIT)));
        assert_eq!(origin.build_commit, None);
    }
}
