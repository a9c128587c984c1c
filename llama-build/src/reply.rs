//! Reads CMake's file API: which libraries were built, in which order they link, and what they
//! need from the system. Nothing is found by looking for files with the right name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

mod link_line;
mod objects;

use self::link_line::{LinkLine, link_name};
use self::objects::{Codemodel, Index, Response, Target, Toolchains};
use crate::error::{Error, at};
use crate::manifest::{Compiler, LibKind, SystemLib};

const PROBE: &str = "llama-otel-probe";

/// What CMake says about a finished build.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    /// In link order: a library comes before those that it needs. Shared libraries that others
    /// load without being on the link line are at the end.
    pub libs: Vec<Artifact>,
    /// Backends that ggml looks for when a program runs.
    pub modules: Vec<Artifact>,
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
    /// Its files; of a DLL the import library too.
    pub files: Vec<PathBuf>,
    /// Other names of the first file, in the same folder: those by which it is linked and loaded.
    pub aliases: Vec<OsString>,
    pub kind: LibKind,
}

impl Artifact {
    fn is_called(&self, path: &Path) -> bool {
        let mut aliases = self.aliases.iter().filter_map(|alias| Some(self.files.first()?.with_file_name(alias)));
        self.files.iter().any(|file| file == path) || aliases.any(|alias| alias == path)
    }

    /// The name of the file that a linker is given.
    pub fn file_name(&self) -> &OsStr {
        let shortest = self.aliases.iter().map(OsString::as_os_str).min_by_key(|name| name.len());
        let import = self.files.iter().find(|file| file.extension().is_some_and(|extension| extension == "lib"));
        let file = import.or(self.files.first()).and_then(|file| file.file_name());
        shortest.or(file).unwrap_or_default()
    }
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
        let mut targets = BTreeMap::new();
        let mut probe = None;
        for reference in &configuration.targets {
            let target: Target = self.json(&self.reply_dir().join(&reference.json_file))?;
            if reference.name == PROBE {
                probe = Some(reference.id.as_str());
            }
            targets.insert(reference.id.as_str(), target);
        }
        let probe = probe.ok_or_else(|| self.odd("there is no probe program"))?;
        let mut built = Vec::new();
        let mut modules = Vec::new();
        for id in needed_by(probe, &targets) {
            match targets.get(id).and_then(|target| self.artifact(target)) {
                Some(artifact) if artifact.kind == LibKind::Module => modules.push(artifact),
                Some(artifact) => built.push(artifact),
                None => {}
            }
        }
        modules.sort_by(|one, other| one.name.cmp(&other.name));
        let link = targets.get(probe).and_then(|target| target.link.as_ref());
        let link = link.ok_or_else(|| self.odd("the probe program has no link line"))?;
        let line = LinkLine::sort(link, built, self.build_dir, &cxx.implicit.link_directories);
        if !line.libs.iter().any(|lib| lib.name == "llama") {
            return Err(self.odd("the link line has no library `llama`"));
        }
        Ok(Reply {
            libs: line.libs,
            modules,
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

    fn artifact(&self, target: &Target) -> Option<Artifact> {
        let kind = match target.kind.as_str() {
            "STATIC_LIBRARY" => LibKind::Static,
            "SHARED_LIBRARY" => LibKind::Dylib,
            "MODULE_LIBRARY" => LibKind::Module,
            _ => return None,
        };
        let mut files: Vec<PathBuf> = target
            .artifacts
            .iter()
            .map(|artifact| self.build_dir.join(&artifact.path))
            // Debug information of another compiler is no part of a build.
            .filter(|file| file.extension().is_none_or(|extension| extension != "pdb"))
            .collect();
        let first = files.first_mut()?;
        // Named here by one of its links, and by itself on link lines.
        if let Ok(real) = first.canonicalize()
            && let Some(name) = real.file_name()
        {
            first.set_file_name(name);
        }
        let name = link_name(target.name_on_disk.as_deref()?);
        Some(Artifact { name, aliases: aliases(first), files, kind })
    }

    fn odd(&self, what: &str) -> Error {
        Error::Reply { what: what.to_owned(), build_dir: self.build_dir.to_path_buf() }
    }
}

/// The targets that `root` needs, itself left out, directly or through others: nothing else is built.
fn needed_by<'t>(root: &'t str, targets: &'t BTreeMap<&'t str, Target>) -> Vec<&'t str> {
    let mut found = Vec::new();
    let mut pending = vec![root];
    while let Some(id) = pending.pop() {
        let dependencies = targets.get(id).into_iter().flat_map(|target| &target.dependencies);
        for dependency in dependencies.map(|dependency| dependency.id.as_str()) {
            if dependency != root && !found.contains(&dependency) {
                found.push(dependency);
                pending.push(dependency);
            }
        }
    }
    found
}

/// The names of links to `file` in its own folder. CMake makes them for a versioned library, and its
/// file API does not name them.
fn aliases(file: &Path) -> Vec<OsString> {
    let (Some(dir), Ok(real)) = (file.parent(), file.canonicalize()) else {
        return Vec::new();
    };
    let mut names: Vec<OsString> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .filter(|entry| entry.path().canonicalize().is_ok_and(|target| target == real))
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    names
}

/// The C++ library that the compiler links by itself, if it has a name (MSVC's has none).
fn cxx_stdlib(implicit: &[String]) -> Option<String> {
    ["stdc++", "c++"].iter().find(|name| implicit.iter().any(|lib| lib == *name)).map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::objects::Dependency;
    use super::*;

    #[test]
    fn only_what_the_probe_needs_is_part_of_a_build() {
        let target = |ids: &[&str]| Target {
            kind: "STATIC_LIBRARY".into(),
            name_on_disk: None,
            artifacts: Vec::new(),
            link: None,
            dependencies: ids.iter().map(|id| Dependency { id: id.to_string() }).collect(),
        };
        let targets = BTreeMap::from([
            ("probe", target(&["llama"])),
            ("llama", target(&["ggml", "base"])),
            ("ggml", target(&["base", "module"])),
            ("base", target(&[])),
            ("module", target(&["base"])),
            ("mtmd", target(&["llama"])),
        ]);
        let mut needed = needed_by("probe", &targets);
        needed.sort();
        assert_eq!(needed, ["base", "ggml", "llama", "module"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_other_names_of_a_library_are_links_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("libllama.so.0.6.0");
        fs::write(&real, "").unwrap();
        fs::write(dir.path().join("libother.so.1"), "").unwrap();
        for (link, target) in
            [("libllama.so.0", "libllama.so.0.6.0"), ("libllama.so", "libllama.so.0"), ("libother.so", "libother.so.1")]
        {
            std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        }
        assert_eq!(aliases(&real), ["libllama.so", "libllama.so.0"]);
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
