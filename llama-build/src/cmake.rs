//! Runs CMake: what it is told, and the two steps configure and compile.
//!
//! CMake is started directly and not through the crate `cmake`, which belongs in a build script:
//! it panics on every failure, prints for cargo, takes its settings from cargo's environment, and
//! does not hand its output on. `xtask` needs an error and a progress bar, and both callers must
//! get the same libraries for the same key.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::error::{Error, at};
use crate::options::Options;
use crate::toolchain::Tools;
use crate::tree::Tree;

mod defines;
mod run;

use self::defines::defines;
pub(crate) use self::run::Run;

const PROBE: &str = include_str!("probe.cmake");
const PROBE_SOURCE: &str = "#include \"llama.h\"\nint main() { return llama_max_devices() == 0; }\n";
const QUERY: &str = r#"{"requests":[{"kind":"codemodel","version":2},{"kind":"toolchains","version":1}]}"#;

/// Written after a successful configuration; CMake's cache is not trusted without it.
const FINGERPRINT: &str = "llama-otel/configured.json";

/// The two CMake steps of one build.
pub(crate) struct Plan {
    pub build_dir: PathBuf,
    /// The cache entries, without those that only say where things are.
    pub defines: Vec<(String, String)>,
    configuration: Configuration,
    build_type: &'static str,
    jobs: usize,
}

/// What a configuration depends on. If any of it differs from last time, CMake's cache is
/// dropped: it would keep entries that are no longer asked for, and the first compiler for ever.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Configuration {
    arguments: Vec<String>,
    cmake_version: String,
    compilers: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Plan {
    pub fn new(options: &Options, tree: &Tree, tools: &Tools, dir: &Path) -> Result<Plan, Error> {
        let build_dir = dir.join("cmake");
        let defines = defines(options, tree)?;
        let mut arguments = vec![
            "-S".to_owned(),
            tree.root.display().to_string(),
            "-B".to_owned(),
            build_dir.display().to_string(),
            "--no-warn-unused-cli".to_owned(),
        ];
        if let Some(ninja) = &tools.ninja {
            arguments.extend(["-G".to_owned(), "Ninja".to_owned()]);
            if ninja.components().count() > 1 {
                arguments.push(format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()));
            }
        }
        let probe = build_dir.join("llama-otel/probe.cmake");
        arguments.push(format!("-DCMAKE_PROJECT_INCLUDE={}", probe.display()));
        arguments.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        Ok(Plan {
            build_dir,
            defines,
            configuration: Configuration {
                arguments,
                cmake_version: tools.cmake_version.clone(),
                compilers: tools.compilers.clone(),
                environment: tools.environment.clone(),
            },
            build_type: options.build_type.name(),
            jobs: options.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, std::num::NonZero::get)),
        })
    }

    pub fn configure(&self, run: &mut Run) -> Result<(), Error> {
        let fingerprint = self.build_dir.join(FINGERPRINT);
        let last: Option<Configuration> =
            fs::read(&fingerprint).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if last.as_ref() != Some(&self.configuration) {
            self.forget_configuration(&fingerprint)?;
        }
        self.write_inputs()?;
        run.step("configuring llama.cpp", &self.configuration.arguments)?;
        let text = serde_json::to_vec_pretty(&self.configuration).unwrap_or_default();
        write_if_changed(&fingerprint, &text)
    }

    pub fn compile(&self, run: &mut Run) -> Result<(), Error> {
        let build_dir = self.build_dir.display().to_string();
        let jobs = self.jobs.to_string();
        let arguments = ["--build", &build_dir, "--target", "llama", "--config", self.build_type, "--parallel", &jobs]
            .map(str::to_owned);
        run.step("compiling llama.cpp", &arguments)
    }

    /// Removes CMake's decisions but not the objects: the build tool keeps those whose command
    /// line stays the same.
    fn forget_configuration(&self, fingerprint: &Path) -> Result<(), Error> {
        for file in [fingerprint, &self.build_dir.join("CMakeCache.txt")] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at("remove", file)(error));
                }
                _ => {}
            }
        }
        let checks = self.build_dir.join("CMakeFiles");
        match fs::remove_dir_all(&checks) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at("remove", &checks)(error)),
            _ => Ok(()),
        }
    }

    fn write_inputs(&self) -> Result<(), Error> {
        let inputs = [
            ("llama-otel/probe.cmake", PROBE),
            ("llama-otel/probe.cpp", PROBE_SOURCE),
            (".cmake/api/v1/query/client-llama-otel/query.json", QUERY),
        ];
        for (path, text) in inputs {
            let path = self.build_dir.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(at("create", parent))?;
            }
            write_if_changed(&path, text.as_bytes())?;
        }
        Ok(())
    }
}

/// Keeps the modification time, and so everything that depends on it, if nothing changed.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content).map_err(at("write", path))
}
