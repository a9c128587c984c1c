//! Tools that the machine lacks, as PyPI wheels in a virtual environment of the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Kind, Tool, version_of};
use crate::{cache::Slot, context::Context, install::install_command, progress::Unit, python::Python};

const READY: &str = "TOOLS.json";

/// What one virtual environment of the cache holds; written last, so its presence means that it is complete.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Wheels {
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
    pub fn read(root: &Path) -> Option<Self> {
        let mut wheels: Self = serde_json::from_slice(&fs::read(root.join(READY)).ok()?).ok()?;
        wheels.root = root.to_path_buf();
        wheels.tools.iter().all(|wheel| root.join(&wheel.path).exists()).then_some(wheels)
    }

    pub fn tool(&self, kind: Kind) -> Option<Tool> {
        let wheel = self.tools.iter().find(|wheel| wheel.kind == kind)?;
        Some(Tool { path: self.root.join(&wheel.path), version: wheel.version.clone(), provisioned: true })
    }
}

/// The virtual environment that holds the `missing` tools, made if it is not there.
///
/// # Errors
/// No Python with `venv`; pip cannot get a wheel; the cache cannot be written. The error names the command that helps.
pub fn provision(context: &Context, missing: &[Kind]) -> Result<Wheels> {
    let dir = dir_of(context, missing);
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
pub fn dir_of(context: &Context, missing: &[Kind]) -> PathBuf {
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
