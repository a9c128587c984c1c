//! CMake, ninja and libclang: taken from the machine where they are, else installed as PyPI wheels
//! into a virtual environment in the cache. No root, nothing outside the cache.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    cache::Slot,
    context::Context,
    install::install_command,
    progress::Unit,
    python::{Python, checked},
};

/// As `llama-build` asks for.
const CMAKE_MINIMUM: (u32, u32) = (3, 20);
const READY: &str = "TOOLS.json";

/// One of the tools that a build needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Cmake,
    Ninja,
    Libclang,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cmake, Self::Ninja, Self::Libclang];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cmake => "cmake",
            Self::Ninja => "ninja",
            Self::Libclang => "libclang",
        }
    }

    /// What it is for.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Cmake => "configures llama.cpp",
            Self::Ninja => "runs the compiler",
            Self::Libclang => "reads llama.h for the bindings",
        }
    }

    /// Version of the PyPI wheel (of the same name) that is installed where the machine has none.
    fn wheel_version(self) -> &'static str {
        match self {
            Self::Cmake => "4.4.5",
            Self::Ninja => "1.13.2",
            Self::Libclang => "18.1.1",
        }
    }
}

/// A tool that can be used.
#[derive(Clone, Debug, Serialize)]
pub struct Tool {
    /// The program; for libclang the folder of the library.
    pub path: PathBuf,
    /// As it names itself, or empty if it does not.
    pub version: String,
    /// Whether it comes from the cache, not from the machine.
    pub provisioned: bool,
}

/// The tools for building llama.cpp and its bindings.
#[derive(Clone, Debug)]
pub struct Tools {
    pub cmake: Tool,
    pub ninja: Tool,
    pub libclang: Tool,
}

impl Tools {
    /// The environment that hands them on to cargo, build scripts and CMake.
    pub fn env(&self) -> Vec<(&'static str, OsString)> {
        let mut env = vec![
            ("CMAKE", self.cmake.path.clone().into()),
            ("LLAMA_OTEL_NINJA", self.ninja.path.clone().into()),
            ("LIBCLANG_PATH", self.libclang.path.clone().into()),
        ];
        if let Some(args) = bindgen_args(&self.libclang) {
            env.push(("BINDGEN_EXTRA_CLANG_ARGS", args));
        }
        env
    }
}

/// The tool as the machine has it, if it has one that is good enough.
pub fn find(kind: Kind) -> Option<Tool> {
    match kind {
        Kind::Cmake => find_program("CMAKE", &["cmake"]).filter(|tool| is_recent_cmake(&tool.version)),
        Kind::Ninja => find_program("LLAMA_OTEL_NINJA", &["ninja", "ninja-build"]),
        Kind::Libclang => find_libclang(),
    }
}

/// Finds all tools, installing those that the machine lacks.
///
/// # Errors
/// A tool is missing and cannot be installed; the error names the command that helps.
pub fn ensure(context: &Context) -> Result<Tools> {
    let found = Kind::ALL.map(find);
    let missing: Vec<_> =
        Kind::ALL.into_iter().zip(&found).filter(|(_, tool)| tool.is_none()).map(|(kind, _)| kind).collect();
    let installed = if missing.is_empty() { Wheels::default() } else { provision(context, &missing)? };
    let mut tools = Kind::ALL.into_iter().zip(found).map(|(kind, tool)| {
        tool.or_else(|| installed.tool(kind)).with_context(|| format!("{} was installed but is not there", kind.name()))
    });
    let mut next = || tools.next().context("a tool is not listed")?;
    Ok(Tools { cmake: next()?, ninja: next()?, libclang: next()? })
}

/// The tool as an earlier run installed it into the cache, for the same set of missing tools.
pub fn find_provisioned(context: &Context, kind: Kind) -> Option<Tool> {
    let missing: Vec<_> = Kind::ALL.into_iter().filter(|&kind| find(kind).is_none()).collect();
    Wheels::read(&wheels_dir(context, &missing))?.tool(kind)
}

/// What one virtual environment of the cache holds; written last, so its presence means that it is complete.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Wheels {
    #[serde(skip)]
    root: PathBuf,
    tools: Vec<Wheel>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wheel {
    kind: Kind,
    /// Relative to the virtual environment, which is renamed after it was filled.
    path: PathBuf,
    version: String,
}

impl Wheels {
    fn read(root: &Path) -> Option<Self> {
        let mut wheels: Self = serde_json::from_slice(&fs::read(root.join(READY)).ok()?).ok()?;
        wheels.root = root.to_path_buf();
        wheels.tools.iter().all(|wheel| root.join(&wheel.path).exists()).then_some(wheels)
    }

    fn tool(&self, kind: Kind) -> Option<Tool> {
        let wheel = self.tools.iter().find(|wheel| wheel.kind == kind)?;
        Some(Tool { path: self.root.join(&wheel.path), version: wheel.version.clone(), provisioned: true })
    }
}

fn provision(context: &Context, missing: &[Kind]) -> Result<Wheels> {
    let dir = wheels_dir(context, missing);
    let slot = Slot::lock(&dir, &context.ui)?;
    if let Some(wheels) = Wheels::read(&dir) {
        return Ok(wheels);
    }
    let names = missing.iter().map(|kind| kind.name()).collect::<Vec<_>>();
    let list = names.join(", ");
    context.ui.say(format_args!("{list}: not on this machine; installing from PyPI into {}", dir.display()));
    let phase = context.ui.phase(format!("install {list}"), Unit::Unknown);
    slot.replace(|new| install(new, missing))
        .with_context(|| format!("cannot install {list}\nhelp: install them yourself: {}", install_command(&names)))?;
    phase.finish("");
    Wheels::read(&dir).with_context(|| format!("{} is not complete", dir.display()))
}

/// Named after what it holds: another version is another folder, and the old one stays usable.
fn wheels_dir(context: &Context, missing: &[Kind]) -> PathBuf {
    let names: Vec<_> = missing.iter().map(|kind| format!("{}-{}", kind.name(), kind.wheel_version())).collect();
    context.cache.join("tools").join(names.join("+"))
}

fn install(dir: &Path, missing: &[Kind]) -> Result<()> {
    let wheels = missing.iter().map(|kind| format!("{}=={}", kind.name(), kind.wheel_version()));
    let python = Python::required("installing build tools")?;
    let inside = python.make_venv(dir)?;
    let options = ["install", "--quiet", "--only-binary=:all:", "--no-deps"].map(String::from);
    inside.pip(options.into_iter().chain(wheels), None)?;
    let places =
        inside.ask("import sysconfig; [print(sysconfig.get_path(p)) for p in ('platlib', 'purelib', 'scripts')]")?;
    let places: Vec<_> = places.lines().map(PathBuf::from).collect();
    let mut tools = Vec::new();
    for &kind in missing {
        let path = places
            .iter()
            .flat_map(|place| in_wheel(kind).iter().map(|inside| place.join(inside)))
            .find(|path| path.is_file())
            .with_context(|| {
                format!("the wheel {} {} has no {} inside", kind.name(), kind.wheel_version(), kind.name())
            })?;
        let version = match kind {
            Kind::Libclang => kind.wheel_version().to_owned(),
            Kind::Cmake | Kind::Ninja => {
                version_of(&path).with_context(|| format!("{} does not run here", path.display()))?
            }
        };
        let path = if kind == Kind::Libclang { path.parent().unwrap_or(&path).to_path_buf() } else { path };
        let path = relative(&path, dir)?;
        tools.push(Wheel { kind, path, version });
    }
    let json = serde_json::to_vec_pretty(&Wheels { root: PathBuf::new(), tools })?;
    fs::write(dir.join(READY), json).with_context(|| format!("cannot write {}", dir.join(READY).display()))
}

/// Python may name its own folder by another path to the same place (a symbolic link, `/var` on macOS).
fn relative(path: &Path, dir: &Path) -> Result<PathBuf> {
    if let Ok(relative) = path.strip_prefix(dir) {
        return Ok(relative.to_path_buf());
    }
    let (path, dir) = (path.canonicalize()?, dir.canonicalize()?);
    let relative =
        path.strip_prefix(&dir).with_context(|| format!("{} is not inside {}", path.display(), dir.display()))?;
    Ok(relative.to_path_buf())
}

/// Where a wheel keeps the real file, newest layout first. The scripts beside it carry the path of the
/// virtual environment and break when it is renamed.
fn in_wheel(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Cmake => &["cmake/data/bin/cmake", "cmake/data/bin/cmake.exe", "cmake/data/CMake.app/Contents/bin/cmake"],
        Kind::Ninja => &["ninja/data/bin/ninja", "ninja/data/bin/ninja.exe", "ninja", "ninja.exe"],
        Kind::Libclang => &["clang/native/libclang.so", "clang/native/libclang.dylib", "clang/native/libclang.dll"],
    }
}

fn find_program(variable: &str, names: &[&str]) -> Option<Tool> {
    let named = env::var_os(variable).filter(|name| !name.is_empty());
    let candidates = named.into_iter().chain(names.iter().map(OsString::from));
    candidates.filter_map(|name| which::which(name).ok()).find_map(|path| {
        let version = version_of(&path).ok()?;
        Some(Tool { path, version, provisioned: false })
    })
}

/// The first thing that looks like a version in what `PROGRAM --version` prints.
pub fn version_of(program: &Path) -> Result<String> {
    let text = checked(Command::new(program).arg("--version"))?;
    version_in(&text).with_context(|| format!("{} names no version", program.display()))
}

fn version_in(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || c == '(' || c == ')' || c == ',')
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

fn is_recent_cmake(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= CMAKE_MINIMUM)
}

fn find_libclang() -> Option<Tool> {
    let named = env::var_os("LIBCLANG_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let by_config =
        ["llvm-config", "llvm-config-18", "llvm-config-17", "llvm-config-16", "llvm-config-15", "llvm-config-14"]
            .into_iter()
            .filter_map(|name| which::which(name).ok())
            .filter_map(|program| checked(Command::new(program).arg("--libdir")).ok())
            .map(|dir| PathBuf::from(dir.trim()));
    named.into_iter().chain(by_config).chain(usual_libclang_dirs()).find_map(|dir| libclang_in(&dir))
}

fn usual_libclang_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for parent in ["/usr/lib", "/usr/lib64", "/opt/homebrew/opt", "/usr/local/opt"] {
        let mut versions: Vec<_> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm")))
            .collect();
        versions.sort_by_key(|path| std::cmp::Reverse(digits(&path.to_string_lossy())));
        dirs.extend(versions.iter().flat_map(|path| [path.join("lib"), path.join("lib64")]));
    }
    let arch = env::consts::ARCH;
    dirs.push(format!("/usr/lib/{arch}-linux-gnu").into());
    let fixed = [
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
        r"C:\Program Files\LLVM\bin",
        r"C:\Program Files\LLVM\lib",
    ];
    dirs.extend(fixed.map(PathBuf::from));
    dirs
}

fn digits(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// libclang in a folder, by the names that bindgen's loader accepts (`path` may also be the library itself).
fn libclang_in(path: &Path) -> Option<Tool> {
    let is_libclang = |name: &str| {
        let stem = name.strip_prefix("libclang").unwrap_or("?");
        let unix =
            stem.starts_with(".so") || (stem.starts_with('-') && stem.contains(".so") && !stem.starts_with("-cpp"));
        unix || stem == ".dylib" || stem == ".dll"
    };
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (dir, file) = if path.is_file() && is_libclang(&name_of(path)) {
        (path.parent()?.to_path_buf(), path.to_path_buf())
    } else {
        let mut files: Vec<_> = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| is_libclang(&name_of(file)) && file.is_file());
        files.sort();
        (path.to_path_buf(), files.pop()?)
    };
    let real = file.canonicalize().unwrap_or(file);
    let mut numbers = digits(&name_of(&real));
    if numbers.is_empty() {
        numbers = digits(&real.parent()?.to_string_lossy());
    }
    let version = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    Some(Tool { path: dir, version, provisioned: false })
}

/// Clang's own headers (`stdbool.h`) are neither in the wheel nor in Debian's `libclang1`; the compiler's serve as well.
fn bindgen_args(libclang: &Tool) -> Option<OsString> {
    if cfg!(windows) || has_clang_headers(&libclang.path) || which::which("clang").is_ok() {
        return None;
    }
    let compiler = ["cc", "gcc"].into_iter().find_map(|name| which::which(name).ok())?;
    let dir = checked(Command::new(compiler).arg("-print-file-name=include")).ok()?;
    let mut args = env::var_os("BINDGEN_EXTRA_CLANG_ARGS").unwrap_or_default();
    if !args.is_empty() {
        args.push(" ");
    }
    args.push(format!("-I{}", dir.trim()));
    Some(args)
}

fn has_clang_headers(libclang_dir: &Path) -> bool {
    let versions = [libclang_dir.join("clang"), libclang_dir.join("../lib/clang")];
    versions
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten())
        .any(|entry| entry.path().join("include/stddef.h").is_file())
}
