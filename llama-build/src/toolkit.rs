//! Whether this machine has what a backend needs, found out before anything is compiled, and the
//! one command that installs what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::backend::{Backend, Backends, Need};
use crate::error::{Error, at};

const PROJECT: &str = include_str!("toolkit.cmake");

/// What this machine has for one backend.
#[derive(Clone, Debug, Serialize)]
pub struct Toolkit {
    /// The backend.
    pub backend: Backend,
    /// What is there: what it is, and where or in which form it was found.
    pub found: Vec<(&'static str, String)>,
    /// What is not there.
    pub missing: Vec<&'static str>,
    /// The command or the step that gets what is missing; `None` if nothing is.
    pub install: Option<String>,
}

impl Toolkit {
    /// Whether the backend can be built here.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether one need, such as `vulkan.headers`, is all that is missing.
    pub fn lacks_only(&self, id: &str) -> bool {
        let need = self.backend.needs().iter().find(|need| need.id == id);
        need.is_some_and(|need| self.missing == [need.what])
    }
}

/// Asks CMake what this machine has for each of `backends`, with the cache entries of the build
/// that is meant (`CMAKE_PREFIX_PATH`, `CUDAToolkit_ROOT`, …). `dir` is a folder for CMake's files;
/// a second call with the same one is quicker.
///
/// # Errors
/// CMake or the C++ compiler does not run, or `dir` cannot be written.
pub fn toolkits(
    cmake: &Path,
    ninja: Option<&Path>,
    defines: &[(String, String)],
    backends: &Backends,
    dir: &Path,
) -> Result<Vec<Toolkit>, Error> {
    let asked: Vec<Backend> = backends.iter().filter(|backend| !backend.needs().is_empty()).collect();
    let answers = if asked.is_empty() { Vec::new() } else { ask(cmake, ninja, defines, &asked, dir)? };
    Ok(backends.iter().map(|backend| judge(backend, &answers)).collect())
}

/// As [`toolkits`], and an error for the first backend that cannot be built.
pub(crate) fn check(
    cmake: &Path,
    ninja: Option<&Path>,
    defines: &[(String, String)],
    backends: &Backends,
    dir: &Path,
) -> Result<(), Error> {
    for toolkit in toolkits(cmake, ninja, defines, backends, dir)? {
        if let Some(install) = toolkit.install {
            return Err(Error::ToolkitMissing {
                backend: toolkit.backend,
                missing: toolkit.missing.join(", "),
                install,
            });
        }
    }
    Ok(())
}

/// A line of CMake's answer.
struct Answer {
    id: String,
    found: bool,
    detail: String,
}

fn ask(
    cmake: &Path,
    ninja: Option<&Path>,
    defines: &[(String, String)],
    backends: &[Backend],
    dir: &Path,
) -> Result<Vec<Answer>, Error> {
    let (source, build) = (dir.join("source"), dir.join("build"));
    fs::create_dir_all(&source).map_err(at("create", &source))?;
    let lists = source.join("CMakeLists.txt");
    if !fs::read(&lists).is_ok_and(|old| old == PROJECT.as_bytes()) {
        fs::write(&lists, PROJECT).map_err(at("write", &lists))?;
    }
    // What was found under other entries, or before something was installed, would stay.
    let cache = build.join("CMakeCache.txt");
    match fs::remove_file(&cache) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at("remove", &cache)(error)),
        _ => {}
    }
    let mut command = Command::new(cmake);
    command.arg("-S").arg(&source).arg("-B").arg(&build).arg("--no-warn-unused-cli").stdin(Stdio::null());
    if let Some(ninja) = ninja {
        command.args(["-G", "Ninja"]).arg(format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()));
    }
    for backend in backends {
        let entries = backend.defines(std::env::consts::OS).filter(|(name, _)| name.starts_with("GGML_"));
        command.args(entries.map(|(name, value)| format!("-D{name}={value}")));
    }
    command.args(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
    command.arg(format!("-DLLAMA_OTEL_BACKENDS={}", names.join(";")));
    let output = command.output().map_err(at("start", cmake))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(|l| format!("  | {l}")).collect();
        return Err(Error::Step {
            step: "looking for the backends' toolkits",
            status: output.status.to_string(),
            command: format!("{} -S {} -B {}", cmake.display(), source.display(), build.display()),
            lines: lines.join("\n"),
            log: build.join("CMakeFiles"),
        });
    }
    let path = build.join("answer.txt");
    let text = fs::read_to_string(&path).map_err(at("read", &path))?;
    Ok(text.lines().filter_map(answer).collect())
}

fn answer(line: &str) -> Option<Answer> {
    let mut words = line.splitn(3, '\t');
    let (id, found, detail) = (words.next()?, words.next()?, words.next()?);
    Some(Answer { id: id.to_owned(), found: found == "ON", detail: detail.trim().to_owned() })
}

fn judge(backend: Backend, answers: &[Answer]) -> Toolkit {
    let mut found = Vec::new();
    let mut missing: Vec<&Need> = Vec::new();
    // There, but too old: the package manager has no other.
    let mut is_old = false;
    for need in backend.needs() {
        match answers.iter().find(|answer| answer.id == need.id) {
            Some(answer) if answer.found => found.push((need.what, answer.detail.clone())),
            answer => {
                is_old |= answer.is_some_and(|answer| !answer.detail.is_empty());
                missing.push(need);
            }
        }
    }
    let manager = package_manager().filter(|_| !is_old);
    let install = (!missing.is_empty()).then(|| install(manager, &missing));
    Toolkit { backend, found, missing: missing.iter().map(|need| need.what).collect(), install }
}

/// The package manager of this machine, by the name of its program.
pub fn package_manager() -> Option<&'static str> {
    ["apt-get", "brew", "dnf", "winget"].into_iter().find(|name| is_on_path(name))
}

fn is_on_path(name: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|dir| dir.join(&file)).any(|path: PathBuf| path.is_file())
}

/// One command for all that a package manager has; else what to do instead.
fn install(manager: Option<&str>, missing: &[&Need]) -> String {
    let packages = |manager: &str| -> Option<String> {
        let mut names: Vec<&str> = Vec::new();
        for need in missing {
            let list = need.package(manager);
            if list.is_empty() {
                return None;
            }
            for name in list.split(' ') {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Some(names.join(" "))
    };
    let command = manager.and_then(|manager| {
        let root = if matches!(manager, "apt-get" | "dnf") { "sudo " } else { "" };
        Some(format!("{root}{manager} install {}", packages(manager)?))
    });
    command.unwrap_or_else(|| {
        let mut steps: Vec<&str> = Vec::new();
        for need in missing {
            if !steps.contains(&need.otherwise) {
                steps.push(need.otherwise);
            }
        }
        steps.join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Vec<Answer> {
        text.lines().filter_map(answer).collect()
    }

    #[test]
    fn what_is_missing_comes_with_one_command() {
        let needs: Vec<&Need> = Backend::Vulkan.needs().iter().collect();
        assert_eq!(install(Some("apt-get"), &needs), "sudo apt-get install libvulkan-dev glslc spirv-headers");
        assert_eq!(install(Some("winget"), &needs), "winget install KhronosGroup.VulkanSDK");
        assert!(install(None, &needs).contains("VULKAN_SDK"));
        let cuda: Vec<&Need> = Backend::Cuda.needs().iter().collect();
        let text = install(Some("apt-get"), &cuda);
        assert!(text.contains("--provision"), "{text}");
        assert_eq!(text.matches("--provision").count(), 1, "said once: {text}");
    }

    #[test]
    fn an_answer_is_judged_need_by_need() {
        let all = answers(
            "vulkan.loader\tON\t/usr/lib/libvulkan.so\nvulkan.headers\tOFF\t\nvulkan.glslc\tON\t/usr/bin/glslc\n\
             vulkan.spirv-headers\tON\t/usr/share/cmake/SPIRV-Headers\n",
        );
        let toolkit = judge(Backend::Vulkan, &all);
        assert_eq!(toolkit.found.len(), 3);
        assert_eq!(toolkit.missing.len(), 1);
        assert!(toolkit.missing[0].contains("LayerSettingEXT"));
        assert!(!toolkit.is_complete());
        assert!(toolkit.install.is_some());
        let old = judge(Backend::Vulkan, &answers("vulkan.headers\tOFF\t/usr/include"));
        assert!(old.install.unwrap().contains("--provision"), "another package of the same age does not help");
        assert!(judge(Backend::Rpc, &[]).is_complete());
        assert_eq!(judge(Backend::Blas, &[]).missing.len(), 3, "no answer is no");
    }
}
