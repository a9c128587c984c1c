//! `manifest.json`: what a finished build consists of and how to link it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backend::Backends;
use crate::cmake::Plan;
use crate::error::Error;
use crate::options::{BuildType, Options, Telemetry};
use crate::publish::INCLUDE_DIR;
use crate::reply::{Artifact, Reply};
use crate::toolchain::Tools;
use crate::tree::Tree;

/// The manifest's name in the folder that was built into.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The layout of the manifest; another number is not understood.
const FORMAT: u32 = 2;

/// What a finished build consists of and how to link it. Relative paths start at the folder that
/// holds the manifest, so that it can be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout of this file.
    pub format: u32,
    /// The content key: see [`key`](crate::key()).
    pub key: String,
    /// The tree that was built, as an absolute path.
    pub tree: String,
    /// The pin that the tree was vendored under, if it was.
    pub pin: Option<String>,
    /// Where llama.cpp computes.
    pub backends: Backends,
    /// Whether the backends are [`modules`](Self::modules).
    pub dynamic_backends: bool,
    /// What stands behind the telemetry macros.
    pub telemetry: Telemetry,
    /// Optimisation and debug information.
    pub build_type: BuildType,
    /// llama.cpp's version, for example `0.6.0-dev`; `None` for trees older than versions.
    pub llama_version: Option<String>,
    /// ggml's version, for example `0.26.0`; `None` for trees older than versions.
    pub ggml_version: Option<String>,
    /// The stamped build number; 0 where it is not known.
    pub build_number: u64,
    /// The stamped commit, or the pin of a tree that comes from a package.
    pub build_commit: String,
    /// Folders for the compiler's `-I`, relative.
    pub include_dirs: Vec<String>,
    /// The libraries in link order: each comes before those that it needs.
    pub libs: Vec<Lib>,
    /// Backends that are not linked: ggml loads them from the folder that the program names, or from
    /// the program's own. Relative.
    pub modules: Vec<String>,
    /// Libraries of the system, to be linked after [`libs`](Self::libs).
    pub system_libs: Vec<SystemLib>,
    /// Words of the link line that are no libraries.
    pub link_args: Vec<String>,
    /// The C++ standard library to link (`stdc++`, `c++`), if it has a name.
    pub cxx_stdlib: Option<String>,
    /// The CMake cache entries that were set.
    pub cmake_options: Vec<(String, String)>,
    /// CMake's version.
    pub cmake_version: String,
    /// The C++ compiler.
    pub compiler: Compiler,
}

/// A library that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lib {
    /// The name for the linker's `-l`.
    pub name: String,
    /// The file, relative.
    pub path: String,
    /// Static or shared.
    pub kind: LibKind,
}

/// How a library of this build links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LibKind {
    /// An archive.
    Static,
    /// A shared library.
    Dylib,
    /// A shared library that is loaded by name and never linked.
    Module,
}

/// A library of the system that the built ones need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemLib {
    /// The name for the linker's `-l` or `-framework`.
    pub name: String,
    /// How it links.
    pub kind: SystemLibKind,
    /// The folder that it is in, if the compiler does not look there by itself.
    pub dir: Option<String>,
}

/// How a library of the system links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemLibKind {
    /// By name, shared where there is a choice.
    Dylib,
    /// An archive.
    Static,
    /// A framework of Apple's systems.
    Framework,
}

/// The C++ compiler as CMake describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// The program.
    pub path: String,
    /// CMake's name for it: `GNU`, `Clang`, `AppleClang`, `MSVC`.
    pub id: String,
    /// Its version.
    pub version: String,
}

impl Manifest {
    /// Folders outside this build whose shared libraries a program needs when it starts, CUDA's for
    /// one: for the linker's `-rpath`. Folders of stubs, which stand for a driver, are left out.
    pub fn runtime_dirs(&self) -> Vec<&str> {
        let mut dirs: Vec<&str> = Vec::new();
        for lib in self.system_libs.iter().filter(|lib| lib.kind == SystemLibKind::Dylib) {
            let dir = lib.dir.as_deref().filter(|dir| Path::new(dir).file_name().is_some_and(|name| name != "stubs"));
            dirs.extend(dir.filter(|dir| !dirs.contains(dir)));
        }
        dirs
    }

    pub(crate) fn new(
        key: String,
        options: &Options,
        tree: &Tree,
        plan: &Plan,
        tools: &Tools,
        reply: &Reply,
    ) -> Manifest {
        let known = |text: &String| (!text.is_empty()).then(|| text.clone());
        Manifest {
            format: FORMAT,
            key,
            tree: tree.root.display().to_string(),
            pin: tree.pin().map(str::to_owned),
            backends: options.backends.clone(),
            dynamic_backends: options.dynamic_backends,
            telemetry: if tree.patched { options.telemetry } else { Telemetry::Off },
            build_type: options.build_type,
            llama_version: known(&reply.versions.llama_version),
            ggml_version: known(&reply.versions.ggml_version),
            build_number: reply.versions.build_number.parse().unwrap_or(0),
            build_commit: reply.versions.build_commit.clone(),
            include_dirs: vec![INCLUDE_DIR.to_owned()],
            libs: reply.libs.iter().map(Lib::published).collect(),
            modules: reply.modules.iter().map(crate::publish::lib_path).collect(),
            system_libs: reply.system_libs.clone(),
            link_args: reply.link_args.clone(),
            cxx_stdlib: reply.cxx_stdlib.clone(),
            cmake_options: plan.defines.clone(),
            cmake_version: tools.cmake_version.clone(),
            compiler: reply.compiler.clone(),
        }
    }

    /// Reads the manifest in `dir`, where a finished [`build`](crate::build) left it.
    ///
    /// # Errors
    /// There is none, it is damaged or of another layout, or a library that it names is missing.
    pub fn read(dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join(MANIFEST_FILE);
        let unusable = |reason: String| Error::Manifest { path: path.clone(), reason };
        let bytes = fs::read(&path).map_err(|error| unusable(error.to_string()))?;
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        if head.format != FORMAT {
            let reason = format!("its format is {}, and {FORMAT} is understood", head.format);
            return Err(unusable(reason));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        match manifest.libs.iter().find(|lib| !dir.join(&lib.path).is_file()) {
            Some(lib) => Err(unusable(format!("{} is missing", lib.path))),
            None => Ok(manifest),
        }
    }
}

impl Lib {
    fn published(artifact: &Artifact) -> Lib {
        Lib { name: artifact.name.clone(), path: crate::publish::lib_path(artifact), kind: artifact.kind }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backend::Backend;

    pub fn example() -> Manifest {
        Manifest {
            format: FORMAT,
            key: "k".into(),
            tree: "/t".into(),
            pin: None,
            backends: Backend::Cpu.into(),
            dynamic_backends: false,
            telemetry: Telemetry::Rust,
            build_type: BuildType::Release,
            llama_version: Some("0.6.0-dev".into()),
            ggml_version: None,
            build_number: 0,
            build_commit: "unknown".into(),
            include_dirs: vec!["include".into()],
            libs: vec![Lib { name: "llama".into(), path: "lib/libllama.a".into(), kind: LibKind::Static }],
            modules: Vec::new(),
            system_libs: Vec::new(),
            link_args: Vec::new(),
            cxx_stdlib: Some("stdc++".into()),
            cmake_options: vec![("GGML_NATIVE".into(), "OFF".into())],
            cmake_version: "4.0".into(),
            compiler: Compiler { path: "/usr/bin/c++".into(), id: "GNU".into(), version: "12".into() },
        }
    }

    #[test]
    fn a_stub_is_linked_and_never_loaded() {
        let mut manifest = example();
        for (name, dir) in [("cudart", "/t/lib"), ("cublas", "/t/lib"), ("cuda", "/t/lib/stubs")] {
            let lib = SystemLib { name: name.into(), kind: SystemLibKind::Dylib, dir: Some(dir.into()) };
            manifest.system_libs.push(lib);
        }
        assert_eq!(manifest.runtime_dirs(), ["/t/lib"]);
    }

    #[test]
    fn reads_back_what_was_written_and_refuses_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MANIFEST_FILE);
        let reason = || Manifest::read(dir.path()).unwrap_err().to_string();
        assert!(reason().contains("cargo xtask build"), "{}", reason());

        let text = serde_json::to_string(&example()).unwrap();
        fs::write(&path, &text).unwrap();
        assert!(reason().contains("lib/libllama.a is missing"), "{}", reason());

        fs::create_dir(dir.path().join("lib")).unwrap();
        fs::write(dir.path().join("lib/libllama.a"), "").unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), example());

        fs::write(&path, text.replace("\"format\":2", "\"format\":9")).unwrap();
        assert!(reason().contains("its format is 9"), "{}", reason());
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(reason().contains("not a usable manifest"), "{}", reason());
    }
}
