//! Reads CMake's file API: which libraries were built, in which order they link, and what they
//! need from the system. Nothing is found by looking for files with the right name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, at};
use crate::manifest::{Compiler, LibKind, SystemLib, SystemLibKind};

const PROBE: &str = "llama-otel-probe";

/// What CMake says about a finished build.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    /// In link order: a library comes before those that it needs.
    pub libs: Vec<Artifact>,
    pub system_libs: Vec<SystemLib>,
    pub link_args: Vec<String>,
    pub cxx_stdlib: Option<String>,
    pub compiler: Compiler,
    pub versions: Versions,
}

/// A library in the CMake build tree.
#[derive(Debug, PartialEq)]
pub(crate) struct Artifact {
    pub name: String,
    pub path: PathBuf,
    pub kind: LibKind,
}

/// Written by `probe.cmake`; empty where the tree has no such version.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Versions {
    pub llama_version: String,
    pub ggml_version: String,
    pub build_number: String,
    pub build_commit: String,
}

pub(crate) fn read(build_dir: &Path) -> Result<Reply, Error> {
    Reader { build_dir }.read()
}

struct Reader<'a> {
    build_dir: &'a Path,
}

#[derive(Deserialize)]
struct Index {
    reply: BTreeMap<String, BTreeMap<String, Query>>,
}

#[derive(Deserialize)]
struct Query {
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    kind: Option<String>,
    #[serde(rename = "jsonFile")]
    json_file: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Codemodel {
    configurations: Vec<ConfigurationObject>,
}

#[derive(Deserialize)]
struct ConfigurationObject {
    targets: Vec<TargetReference>,
}

#[derive(Deserialize)]
struct TargetReference {
    name: String,
    #[serde(rename = "jsonFile")]
    json_file: String,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "nameOnDisk")]
    name_on_disk: Option<String>,
    #[serde(default)]
    artifacts: Vec<ArtifactPath>,
    link: Option<Link>,
}

#[derive(Deserialize)]
struct ArtifactPath {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "commandFragments", default)]
    fragments: Vec<Fragment>,
}

#[derive(Deserialize)]
struct Fragment {
    fragment: String,
    role: String,
}

#[derive(Deserialize)]
struct Toolchains {
    toolchains: Vec<Toolchain>,
}

#[derive(Deserialize)]
struct Toolchain {
    language: String,
    compiler: ToolchainCompiler,
}

#[derive(Deserialize)]
struct ToolchainCompiler {
    path: Option<String>,
    id: Option<String>,
    version: Option<String>,
    #[serde(default)]
    implicit: Implicit,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Implicit {
    link_directories: Vec<PathBuf>,
    link_libraries: Vec<String>,
}

impl Reader<'_> {
    fn read(&self) -> Result<Reply, Error> {
        let responses = self.responses()?;
        let codemodel: Codemodel = self.object(&responses, "codemodel")?;
        let toolchains: Toolchains = self.object(&responses, "toolchains")?;
        let cxx = toolchains
            .toolchains
            .into_iter()
            .find(|toolchain| toolchain.language == "CXX")
            .ok_or_else(|| self.odd("no C++ toolchain"))?
            .compiler;

        let configuration = codemodel.configurations.first().ok_or_else(|| self.odd("no configuration"))?;
        let mut built = Vec::new();
        let mut probe = None;
        for reference in &configuration.targets {
            let target: Target = self.json(&self.reply_dir().join(&reference.json_file))?;
            if reference.name == PROBE {
                probe = target.link;
            } else if let Some(artifact) = self.artifact(target) {
                built.push(artifact);
            }
        }
        let link = probe.ok_or_else(|| self.odd("the probe program has no link line"))?;
        let line = LinkLine::sort(&link, built, self.build_dir, &cxx.implicit.link_directories);
        if !line.libs.iter().any(|lib| lib.name == "llama") {
            return Err(self.odd("the link line has no library `llama`"));
        }
        Ok(Reply {
            libs: line.libs,
            system_libs: line.system_libs,
            link_args: line.link_args,
            cxx_stdlib: cxx_stdlib(&cxx.implicit.link_libraries),
            compiler: Compiler {
                path: cxx.path.unwrap_or_default(),
                id: cxx.id.unwrap_or_default(),
                version: cxx.version.unwrap_or_default(),
            },
            versions: self.json(&self.build_dir.join("llama-otel/versions.json"))?,
        })
    }

    fn reply_dir(&self) -> PathBuf {
        self.build_dir.join(".cmake/api/v1/reply")
    }

    /// The newest index has the name that sorts last, says the file API's manual.
    fn responses(&self) -> Result<Vec<Response>, Error> {
        let dir = self.reply_dir();
        let newest = fs::read_dir(&dir)
            .map_err(at("read", &dir))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("index-"))
            .max()
            .ok_or_else(|| self.odd("no index"))?;
        let mut index: Index = self.json(&dir.join(newest))?;
        index
            .reply
            .get_mut("client-llama-otel")
            .and_then(|client| client.remove("query.json"))
            .map(|query| query.responses)
            .ok_or_else(|| self.odd("no answer to the query"))
    }

    fn object<T: DeserializeOwned>(&self, responses: &[Response], kind: &str) -> Result<T, Error> {
        let answer = responses.iter().find(|r| r.kind.as_deref() == Some(kind));
        match answer.and_then(|response| response.json_file.as_ref()) {
            Some(file) => self.json(&self.reply_dir().join(file)),
            None => {
                let why = responses.iter().find_map(|r| r.error.as_deref()).unwrap_or("no answer");
                Err(self.odd(&format!("no {kind}: {why}")))
            }
        }
    }

    fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Error> {
        let bytes = fs::read(path).map_err(at("read", path))?;
        serde_json::from_slice(&bytes).map_err(|error| self.odd(&format!("{}: {error}", path.display())))
    }

    fn artifact(&self, target: Target) -> Option<Artifact> {
        let kind = match target.kind.as_str() {
            "STATIC_LIBRARY" => LibKind::Static,
            "SHARED_LIBRARY" => LibKind::Dylib,
            _ => return None,
        };
        Some(Artifact {
            name: link_name(&target.name_on_disk?),
            path: self.build_dir.join(&target.artifacts.into_iter().next()?.path),
            kind,
        })
    }

    fn odd(&self, what: &str) -> Error {
        Error::Reply { what: what.to_owned(), build_dir: self.build_dir.to_path_buf() }
    }
}

/// A link line, sorted by what each word is.
#[derive(Default)]
struct LinkLine {
    libs: Vec<Artifact>,
    system_libs: Vec<SystemLib>,
    link_args: Vec<String>,
}

impl LinkLine {
    fn sort(link: &Link, mut built: Vec<Artifact>, build_dir: &Path, implicit_dirs: &[PathBuf]) -> LinkLine {
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
            let position = built.iter().position(|lib| lib.path == build_dir.join(word));
            if let Some(position) = position {
                // A library named twice (a cycle) belongs where it is named last.
                order.retain(|&earlier| earlier != position);
                order.push(position);
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

fn named(name: &str) -> SystemLib {
    SystemLib { name: name.to_owned(), kind: SystemLibKind::Dylib, dir: None }
}

/// A library given by its path (OpenMP's, CUDA's), or a `.lib` of Windows. The folder is left out
/// where the compiler looks by itself.
fn system_file(path: &Path, implicit_dirs: &[PathBuf]) -> Option<SystemLib> {
    let file = path.file_name()?.to_str()?;
    let extension = path.extension()?.to_str()?;
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
fn link_name(file: &str) -> String {
    let stem = match file.find(".so") {
        Some(at) => &file[..at],
        None => file.rsplit_once('.').map_or(file, |(stem, _)| stem),
    };
    let windows = file.ends_with(".lib");
    stem.strip_prefix("lib").filter(|_| !windows).unwrap_or(stem).to_owned()
}

/// The C++ library that the compiler links by itself, if it has a name (MSVC's has none).
fn cxx_stdlib(implicit: &[String]) -> Option<String> {
    ["stdc++", "c++"].iter().find(|name| implicit.iter().any(|lib| lib == *name)).map(|name| name.to_string())
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
    use super::*;

    fn artifact(name: &str, path: &str) -> Artifact {
        Artifact { name: name.into(), path: Path::new("/b").join(path), kind: LibKind::Static }
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

    #[test]
    fn the_cxx_library_is_the_compilers() {
        let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(cxx_stdlib(&list(&["stdc++", "m", "gcc_s"])).as_deref(), Some("stdc++"));
        assert_eq!(cxx_stdlib(&list(&["c++", "System"])).as_deref(), Some("c++"));
        assert_eq!(cxx_stdlib(&[]), None);
    }

    #[test]
    fn a_folder_without_replies_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err());
        fs::create_dir_all(dir.path().join(".cmake/api/v1/reply")).unwrap();
        let text = read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("no index"), "{text}");
    }
}
