//! The link line of a program, as CMake has it, sorted by what each word is.

use std::path::{Path, PathBuf};

use super::Artifact;
use super::objects::Link;
use crate::manifest::{LibKind, SystemLib, SystemLibKind};

/// A link line, sorted by what each word is.
#[derive(Default)]
pub struct LinkLine {
    pub libs: Vec<Artifact>,
    pub system_libs: Vec<SystemLib>,
    pub link_args: Vec<String>,
}

impl LinkLine {
    pub fn sort(link: &Link, mut built: Vec<Artifact>, build_dir: &Path, implicit_dirs: &[PathBuf]) -> LinkLine {
        let mut line = LinkLine::default();
        let words: Vec<String> = link
            .fragments
            .iter()
            .filter(|fragment| fragment.role == "libraries")
            .flat_map(|fragment| split_words(&fragment.fragment))
            .collect();
        let mut order = Vec::new();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let file = build_dir.join(word);
            let position = built.iter().position(|lib| lib.is_called(&file));
            if let Some(position) = position {
                // A library named twice (a cycle) belongs where it is named last.
                order.retain(|&earlier| earlier != position);
                order.push(position);
            } else if word.starts_with("-Wl,-rpath") {
                // Folders of this build tree, which goes; the manifest names those that stay.
            } else if word == "-framework" {
                line.add_system(words.next().map(|name| SystemLib {
                    name: name.to_owned(),
                    kind: SystemLibKind::Framework,
                    dir: None,
                }));
            } else if word == "-pthread" {
                line.add_system(Some(named("pthread")));
            } else if let Some(name) = word.strip_prefix("-l") {
                line.add_system(Some(named(name)));
            } else if let Some(lib) = system_file(Path::new(word), implicit_dirs) {
                line.add_system(Some(lib));
            } else if says_nothing(word, implicit_dirs) {
                // Left out: cargo's own link line does it.
            } else if !line.link_args.iter().any(|arg| arg == word) {
                line.link_args.push(word.to_owned());
            }
        }
        let mut numbered: Vec<_> = built.drain(..).enumerate().collect();
        for wanted in order {
            if let Some(at) = numbered.iter().position(|(number, _)| *number == wanted) {
                line.libs.push(numbered.swap_remove(at).1);
            }
        }
        // An archive that is not on the line went into another library.
        line.libs.extend(numbered.into_iter().map(|(_, lib)| lib).filter(|lib| lib.kind == LibKind::Dylib));
        line
    }

    fn add_system(&mut self, lib: Option<SystemLib>) {
        if let Some(lib) = lib
            && !self.system_libs.contains(&lib)
        {
            self.system_libs.push(lib);
        }
    }
}

/// A folder where the compiler looks by itself, or brackets around libraries that are linked only as needed.
fn says_nothing(word: &str, implicit_dirs: &[PathBuf]) -> bool {
    word.strip_prefix("-L").is_some_and(|dir| implicit_dirs.iter().any(|known| known == Path::new(dir)))
        || ["-Wl,--push-state,--as-needed", "-Wl,--pop-state"].contains(&word)
}

fn named(name: &str) -> SystemLib {
    SystemLib { name: name.to_owned(), kind: SystemLibKind::Dylib, dir: None }
}

/// A library given by its path (OpenMP's, CUDA's), or a `.lib` of Windows. The folder is left out
/// where the compiler looks by itself.
fn system_file(path: &Path, implicit_dirs: &[PathBuf]) -> Option<SystemLib> {
    let file = path.file_name()?.to_str()?;
    let mut extension = path.extension()?.to_str()?;
    // `libprotobuf.so.32`, as CMake names what it has followed a link to; a linker finds only the one without a number.
    if let Some((_, version)) = file.split_once(".so.")
        && version.chars().all(|c| c.is_ascii_digit() || c == '.')
        && path.with_file_name(format!("lib{}.so", link_name(file))).exists()
    {
        extension = "so";
    }
    if extension == "framework" {
        return Some(SystemLib {
            name: path.file_stem()?.to_str()?.to_owned(),
            kind: SystemLibKind::Framework,
            dir: None,
        });
    }
    if !["a", "so", "dylib", "lib", "tbd"].contains(&extension) {
        return None;
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let implicit = dir.is_none_or(|dir| implicit_dirs.iter().any(|known| known == dir));
    let kind = match extension {
        "a" if !implicit => SystemLibKind::Static,
        _ => SystemLibKind::Dylib,
    };
    Some(SystemLib { name: link_name(file), kind, dir: dir.filter(|_| !implicit).map(|dir| dir.display().to_string()) })
}

/// `libggml-base.a` → `ggml-base`, `ggml.lib` → `ggml`, `libggml.so.0` → `ggml`.
pub fn link_name(file: &str) -> String {
    let stem = match file.find(".so") {
        Some(at) => &file[..at],
        None => file.rsplit_once('.').map_or(file, |(stem, _)| stem),
    };
    let windows = file.ends_with(".lib");
    stem.strip_prefix("lib").filter(|_| !windows).unwrap_or(stem).to_owned()
}

/// Splits at blanks outside double quotes, as CMake quotes paths in fragments.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::objects::Fragment;
    use super::*;

    fn artifact(name: &str, path: &str) -> Artifact {
        Artifact {
            name: name.into(),
            files: vec![Path::new("/b").join(path)],
            aliases: Vec::new(),
            kind: LibKind::Static,
        }
    }

    fn libraries(fragments: &[&str]) -> Link {
        let fragment = |text: &&str| Fragment { fragment: text.to_string(), role: "libraries".into() };
        Link { fragments: fragments.iter().map(fragment).collect() }
    }

    #[test]
    fn a_linux_link_line_is_sorted() {
        let link = libraries(&[
            "src/libllama.a",
            "ggml/src/libggml.a",
            "ggml/src/libggml-base.a",
            "ggml/src/libggml-cpu.a",
            "-ldl",
            "ggml/src/libggml-base.a",
            "-lm",
            "-lm",
            "/usr/lib/gcc/x/12/libgomp.so",
            "\"/opt/with blank/libcudart.so\"",
            "-Wl,--as-needed",
        ]);
        let built = vec![
            artifact("ggml-base", "ggml/src/libggml-base.a"),
            artifact("unused", "vendor/libunused.a"),
            artifact("llama", "src/libllama.a"),
            artifact("ggml", "ggml/src/libggml.a"),
            artifact("ggml-cpu", "ggml/src/libggml-cpu.a"),
        ];
        let line = LinkLine::sort(&link, built, Path::new("/b"), &["/usr/lib/gcc/x/12".into()]);
        let names: Vec<_> = line.libs.iter().map(|lib| lib.name.as_str()).collect();
        assert_eq!(names, ["llama", "ggml", "ggml-cpu", "ggml-base"]);
        let cudart =
            SystemLib { name: "cudart".into(), kind: SystemLibKind::Dylib, dir: Some("/opt/with blank".into()) };
        assert_eq!(line.system_libs, [named("dl"), named("m"), named("gomp"), cudart]);
        assert_eq!(line.link_args, ["-Wl,--as-needed"]);
    }

    #[test]
    fn shared_libraries_that_others_load_come_last() {
        let link = libraries(&["-Wl,-rpath,/b/bin:", "bin/libllama.so.0.6.0", "bin/libggml.so.0"]);
        let shared = |name: &str, file: &str| Artifact {
            name: name.into(),
            files: vec![Path::new("/b/bin").join(file)],
            aliases: vec![format!("lib{name}.so").into(), format!("lib{name}.so.0").into()],
            kind: LibKind::Dylib,
        };
        let built = vec![
            shared("llama-otel", "libllama-otel.so"),
            shared("ggml", "libggml.so.0"),
            shared("llama", "libllama.so.0.6.0"),
            artifact("inside-another", "common/libinside.a"),
        ];
        let line = LinkLine::sort(&link, built, Path::new("/b"), &[]);
        let names: Vec<_> = line.libs.iter().map(|lib| lib.name.as_str()).collect();
        assert_eq!(names, ["llama", "ggml", "llama-otel"]);
        assert_eq!(line.libs[0].file_name(), "libllama.so");
        assert!(line.link_args.is_empty(), "{:?}", line.link_args);
    }

    #[test]
    fn a_versioned_library_is_linked_by_the_link_to_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("libabsl_base.so"), "").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (linked, bare) = (at("libabsl_base.so.20220623.0.0"), at("libother.so.1"));
        let search = format!("-L{}", dir.path().display());
        let link = libraries(&[&linked, &bare, &search, "-Wl,--push-state,--as-needed", "-latomic", "-Wl,--pop-state"]);
        let line = LinkLine::sort(&link, Vec::new(), Path::new("/b"), &[dir.path().into()]);
        assert_eq!(line.system_libs, [named("absl_base"), named("atomic")]);
        assert_eq!(line.link_args, [bare]);
    }

    #[test]
    fn frameworks_come_in_both_spellings() {
        let link = libraries(&["-framework Metal", "/S/Frameworks/Accelerate.framework"]);
        let line = LinkLine::sort(&link, Vec::new(), Path::new("/b"), &[]);
        let names: Vec<_> = line.system_libs.iter().map(|lib| lib.name.as_str()).collect();
        assert_eq!(names, ["Metal", "Accelerate"]);
        assert!(line.system_libs.iter().all(|lib| lib.kind == SystemLibKind::Framework));
        assert!(line.link_args.is_empty());
    }

    #[test]
    fn link_names_of_three_systems() {
        for (file, name) in [
            ("libggml-base.a", "ggml-base"),
            ("libllama.so.0.6", "llama"),
            ("libc++.dylib", "c++"),
            ("llama.lib", "llama"),
            ("libomp.lib", "libomp"),
        ] {
            assert_eq!(link_name(file), name, "{file}");
        }
    }
}
