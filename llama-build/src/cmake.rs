//! Runs CMake: what it is told, and the two steps configure and compile.
//!
//! CMake is started directly and not through the crate `cmake`, which belongs in a build script:
//! it panics on every failure, prints for cargo, takes its settings from cargo's environment, and
//! does not hand its output on. `xtask` needs an error and a progress bar, and both callers must
//! get the same libraries for the same key.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::error::{Error, at};
use crate::options::Options;
use crate::toolchain::Tools;
use crate::tree::Tree;

const PROBE: &str = include_str!("probe.cmake");
const PROBE_SOURCE: &str = "#include \"llama.h\"\nint main() { return llama_max_devices() == 0; }\n";
const QUERY: &str = r#"{"requests":[{"kind":"codemodel","version":2},{"kind":"toolchains","version":1}]}"#;

/// Written after a successful configuration; CMake's cache is not trusted without it.
const FINGERPRINT: &str = "llama-otel/configured.json";

/// How many of the last lines an error shows if none of them says `error`.
const TAIL: usize = 20;
/// How many lines with `error` in them an error shows.
const ERRORS: usize = 12;

/// Never built: they need more than a compiler, or the network. Names that a tree does not have
/// are ignored by CMake.
const PARTS_LEFT_OUT: &[&str] = &[
    "LLAMA_BUILD_APP",
    "LLAMA_BUILD_COMMON",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_MTMD",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_TOOLS",
    "LLAMA_BUILD_UI",
    "LLAMA_BUILD_WEBUI",
    "LLAMA_CURL",
    "LLAMA_LLGUIDANCE",
    "LLAMA_OPENSSL",
    "LLAMA_USE_PREBUILT_UI",
    "LLAMA_USE_SYSTEM_GGML",
    "GGML_BUILD_EXAMPLES",
    "GGML_BUILD_TESTS",
    "GGML_OPENMP_FETCH",
];

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
    pub fn new(options: &Options, tree: &Tree, tools: &Tools, dir: &Path) -> Plan {
        let build_dir = dir.join("cmake");
        let defines = defines(options, tree);
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
        Plan {
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
        }
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

fn defines(options: &Options, tree: &Tree) -> Vec<(String, String)> {
    let on = |yes: bool| if yes { "ON" } else { "OFF" };
    let mut chosen: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match chosen.iter_mut().find(|(n, _)| n == name) {
        Some(entry) => entry.1 = value.to_owned(),
        None => chosen.push((name.to_owned(), value.to_owned())),
    };
    set("CMAKE_BUILD_TYPE", options.build_type.name());
    set("CMAKE_INSTALL_LIBDIR", "lib");
    // The libraries may end up in a shared object, a Rust cdylib for one.
    set("CMAKE_POSITION_INDEPENDENT_CODE", "ON");
    if cfg!(windows) {
        // Rust's own choice, in debug builds too.
        set("CMAKE_MSVC_RUNTIME_LIBRARY", "MultiThreadedDLL");
    }
    set("BUILD_SHARED_LIBS", on(options.shared));
    set("FETCHCONTENT_FULLY_DISCONNECTED", "ON");
    // Built for this very processor, llama.cpp crashes on some (AMX with gcc 12).
    set("GGML_NATIVE", "OFF");
    for part in PARTS_LEFT_OUT {
        set(part, "OFF");
    }
    for (switch, yes) in options.backend.switches() {
        set(switch, on(yes));
    }
    if tree.patched {
        for (name, value) in options.telemetry.defines() {
            set(name, value);
        }
    }
    if !tree.is_git_clone() {
        let (number, commit) = tree.stamp().unwrap_or((0, "unknown".into()));
        set("LLAMA_BUILD_NUMBER", &number.to_string());
        set("LLAMA_BUILD_COMMIT", &commit);
        // With git, ggml would overwrite the commit by nothing.
        set("GIT_EXE", "");
    }
    for (name, value) in &options.defines {
        set(name, value);
    }
    chosen
}

/// Keeps the modification time, and so everything that depends on it, if nothing changed.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content).map_err(at("write", path))
}

/// Runs the steps of one build and hands on what they print.
pub(crate) struct Run<'a> {
    cmake: PathBuf,
    ceiling: PathBuf,
    log_path: PathBuf,
    log: File,
    on_line: &'a mut dyn FnMut(&str),
}

impl<'a> Run<'a> {
    pub fn start(tools: &Tools, tree: &Tree, dir: &Path, on_line: &'a mut dyn FnMut(&str)) -> Result<Run<'a>, Error> {
        let log_path = dir.join("build.log");
        Ok(Run {
            cmake: tools.cmake.clone(),
            ceiling: tree.root.parent().unwrap_or(&tree.root).to_path_buf(),
            log: File::create(&log_path).map_err(at("create", &log_path))?,
            log_path,
            on_line,
        })
    }

    fn step(&mut self, step: &'static str, arguments: &[String]) -> Result<(), Error> {
        let mut command = Command::new(&self.cmake);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // llama.cpp asks git for a commit. A tree inside another checkout, this project's
            // for one, must not get that one's.
            .env("GIT_CEILING_DIRECTORIES", &self.ceiling)
            .env("NINJA_STATUS", "[%f/%t] ")
            // Cargo's flags for a job server that the build tool cannot reach.
            .env_remove("MAKEFLAGS")
            .env_remove("CARGO_MAKEFLAGS");
        let mut child = command.spawn().map_err(at("start", &self.cmake))?;
        let (sender, lines) = mpsc::channel();
        let readers = [
            child.stdout.take().map(|out| forward(out, sender.clone())),
            child.stderr.take().map(|out| forward(out, sender)),
        ];
        let mut reason = Reason::default();
        for line in lines {
            // The log is for people: a full disk shows up elsewhere.
            let _ = writeln!(self.log, "{line}");
            reason.see(&line);
            (self.on_line)(&line);
        }
        for reader in readers.into_iter().flatten() {
            let _ = reader.join();
        }
        let status = child.wait().map_err(at("wait for", &self.cmake))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Step {
            step,
            status: status.to_string(),
            command: format!("{} {}", self.cmake.display(), arguments.join(" ")),
            lines: reason.text(),
            log: self.log_path.clone(),
        })
    }
}

/// Sends every line of a stream on, whatever its bytes.
fn forward(stream: impl Read + Send + 'static, to: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Picks the lines that say why a step failed.
#[derive(Default)]
struct Reason {
    errors: Vec<String>,
    tail: VecDeque<String>,
    /// CMake puts the text of an error on the lines after its heading.
    follow: usize,
}

impl Reason {
    fn see(&mut self, line: &str) {
        let heading = line.starts_with("CMake Error");
        let is_error = heading || line.contains("error:") || line.contains("undefined reference");
        if heading {
            self.follow = 6;
        }
        if (is_error || self.follow > 0) && self.errors.len() < ERRORS && !line.is_empty() {
            self.errors.push(line.to_owned());
        }
        self.follow = self.follow.saturating_sub(usize::from(!heading));
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn text(self) -> String {
        let lines = if self.errors.is_empty() { self.tail.into() } else { self.errors };
        lines.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::fake_tree;

    fn define<'a>(defines: &'a [(String, String)], name: &str) -> Option<&'a str> {
        defines.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn defaults_are_portable_and_the_callers_entries_win() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        let tree = Tree::open(dir.path()).unwrap();
        let mut options = Options::new(dir.path());
        let defaults = defines(&options, &tree);
        assert_eq!(define(&defaults, "GGML_NATIVE"), Some("OFF"));
        assert_eq!(define(&defaults, "GGML_METAL"), Some("OFF"));
        assert_eq!(define(&defaults, "LLAMA_BUILD_COMMIT"), Some("unknown"));
        assert_eq!(define(&defaults, "LLAMA_OTEL"), None, "a pristine tree has no such option");

        options.defines = vec![("GGML_NATIVE".into(), "ON".into())];
        let chosen = defines(&options, &tree);
        assert_eq!(define(&chosen, "GGML_NATIVE"), Some("ON"));
        assert_eq!(chosen.iter().filter(|(name, _)| name == "GGML_NATIVE").count(), 1);
    }

    #[test]
    fn a_git_clone_keeps_its_own_commit() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        fs::create_dir(dir.path().join(".git")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let defines = defines(&Options::new(dir.path()), &tree);
        assert_eq!(define(&defines, "LLAMA_BUILD_COMMIT"), None);
    }

    #[test]
    fn a_failed_step_shows_the_lines_that_say_why() {
        let mut reason = Reason::default();
        for line in ["[1/9] a.cpp", "x.cpp:3:1: error: no", "[2/9] b.cpp", "ninja: stopped"] {
            reason.see(line);
        }
        assert_eq!(reason.text(), "  | x.cpp:3:1: error: no");

        let mut reason = Reason::default();
        for line in ["CMake Error at CMakeLists.txt:3 (project):", "  No C++ compiler", "", "after"] {
            reason.see(line);
        }
        assert!(reason.text().contains("No C++ compiler"));

        let mut reason = Reason::default();
        (0..30).for_each(|n| reason.see(&format!("line {n}")));
        assert_eq!(reason.text().lines().count(), TAIL);
    }
}
