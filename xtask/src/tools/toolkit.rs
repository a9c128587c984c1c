//! What GPU backends need and a machine may lack, brought into the cache on request: NVIDIA's CUDA
//! toolkit as PyPI wheels, and Vulkan's headers out of a newer Debian. No root, nothing outside the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use llama_build::{Backend, Backends, Toolkit};

use crate::{
    cache::Slot,
    context::Context,
    progress::Unit,
    python::{Python, checked},
    tools,
};

/// CUDA 13's wheels, a complete toolkit but for static cuBLAS and the driver. The versions belong together.
const CUDA_WHEELS: [&str; 6] = [
    "nvidia-cuda-nvcc==13.5.37",
    "nvidia-cuda-crt==13.5.37",
    "nvidia-nvvm==13.5.37",
    "nvidia-cuda-runtime==13.5.37",
    "nvidia-cuda-cccl==13.3.5.0.6",
    "nvidia-cublas==13.10.0.20",
];
const CUDA_DIR: &str = "cuda-13.5.37";
const CUDA_ROOT: &str = "nvidia/cu13";

/// What llama.cpp links of the driver's library. Every one says that there is no device.
const DRIVER_STUB: &str = "\
#define STUB(name) int name(void) { return 100; }
STUB(cuInit) STUB(cuDriverGetVersion) STUB(cuDeviceGet) STUB(cuDeviceGetAttribute) STUB(cuGetErrorString)
STUB(cuMemAddressFree) STUB(cuMemAddressReserve) STUB(cuMemCreate) STUB(cuMemGetAllocationGranularity)
STUB(cuMemMap) STUB(cuMemRelease) STUB(cuMemSetAccess) STUB(cuMemUnmap)
";

/// The Debian release whose headers are new enough, and their package.
const VULKAN_SUITE: &str = "trixie";
const VULKAN_PACKAGE: &str = "libvulkan-dev";
const VULKAN_DIR: &str = "vulkan-headers-trixie";

/// Written last into each folder.
const READY: &str = "READY";

/// Gets the toolkits of `backends` into the cache, those for which this project knows a way.
///
/// # Errors
/// pip or apt-get fails, or this system has neither; the cache cannot be written.
pub fn provision(context: &Context, backends: &Backends) -> Result<()> {
    if backends.contains(Backend::Cuda) {
        ensure(context, CUDA_DIR, "CUDA toolkit (631 MB of PyPI wheels)", |dir| install_cuda(context, dir))
            .context("cannot install NVIDIA's CUDA toolkit from PyPI")?;
    }
    if backends.contains(Backend::Vulkan) {
        ensure(context, VULKAN_DIR, "Vulkan headers", unpack_vulkan_headers)
            .context("cannot get newer Vulkan headers\nhelp: install LunarG's Vulkan SDK and set VULKAN_SDK")?;
    }
    Ok(())
}

/// The CMake cache entries for what earlier runs put into the cache; removing its folder undoes that.
pub fn provisioned(context: &Context, backends: &Backends) -> Vec<(String, String)> {
    let mut defines = Vec::new();
    let mut define = |name: &str, path: PathBuf| defines.push((name.to_owned(), path.display().to_string()));
    let cuda = context.cache.join("tools").join(CUDA_DIR);
    if backends.contains(Backend::Cuda) && cuda.join(READY).is_file() {
        let root = cuda.join(CUDA_ROOT);
        define("CMAKE_CUDA_COMPILER", root.join("bin/nvcc"));
        define("CUDAToolkit_ROOT", root);
    }
    let vulkan = context.cache.join("tools").join(VULKAN_DIR);
    if backends.contains(Backend::Vulkan) && vulkan.join(READY).is_file() {
        define("Vulkan_INCLUDE_DIR", vulkan.join("usr/include"));
    }
    defines
}

/// What this machine and the cache have for `backends`.
///
/// # Errors
/// A tool is missing and cannot be installed; CMake does not run.
pub fn examine(context: &Context, backends: &Backends) -> Result<Vec<Toolkit>> {
    let tools = tools::ensure(context)?;
    let defines = provisioned(context, backends);
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    Ok(llama_build::toolkits(&tools.cmake.path, Some(&tools.ninja.path), &defines, backends, dir.path())?)
}

fn ensure(context: &Context, name: &str, what: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let dir = context.cache.join("tools").join(name);
    let slot = Slot::lock(&dir, &context.ui)?;
    if dir.join(READY).is_file() {
        return Ok(());
    }
    let phase = context.ui.phase(format!("install {what}"), Unit::Unknown);
    slot.replace(|new| {
        fill(new)?;
        fs::write(new.join(READY), "").with_context(|| format!("cannot write {}", new.display()))
    })?;
    phase.finish("");
    Ok(())
}

fn install_cuda(context: &Context, dir: &Path) -> Result<()> {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        bail!("NVIDIA's wheels hold a toolkit for Linux only\nhelp: install the CUDA Toolkit from NVIDIA's site");
    }
    let python = Python::required("installing the CUDA toolkit")?.with_pip(context)?;
    let options = ["install", "--quiet", "--only-binary=:all:", "--no-deps", "--no-compile", "--target"];
    let dir_text = dir.display().to_string();
    python.pip(options.into_iter().chain([dir_text.as_str()]).chain(CUDA_WHEELS), Some(dir))?;
    complete_cuda(&dir.join(CUDA_ROOT))
}

/// The wheels lack what a developer's package has beside the libraries: the names that a linker looks for.
fn complete_cuda(root: &Path) -> Result<()> {
    let lib = root.join("lib");
    link(Path::new("lib"), &root.join("lib64"))?;
    for name in ["libcublas.so", "libcublasLt.so", "libcudart.so"] {
        link(Path::new(&format!("{name}.13")), &lib.join(name))?;
    }
    let stubs = lib.join("stubs");
    fs::create_dir_all(&stubs).with_context(|| format!("cannot make the folder {}", stubs.display()))?;
    let source = stubs.join("driver.c");
    fs::write(&source, DRIVER_STUB).with_context(|| format!("cannot write {}", source.display()))?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]).arg(stubs.join("libcuda.so")).arg(&source);
    checked(&mut command)?;
    Ok(())
}

#[cfg(unix)]
fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::symlink_metadata(link).is_ok() {
        return Ok(());
    }
    std::os::unix::fs::symlink(target, link).with_context(|| format!("cannot write {}", link.display()))
}

#[cfg(not(unix))]
fn link(_: &Path, link: &Path) -> Result<()> {
    bail!("{} would be a link, which this system does not have", link.display())
}

/// Through the machine's own apt sources with another suite's name, and with a state of its own: nothing is installed.
fn unpack_vulkan_headers(dir: &Path) -> Result<()> {
    let is_debian =
        fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"));
    if !is_debian {
        bail!("this is not Debian, whose packages they come from");
    }
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(COMPONENT)|$(SIGNED_BY)|$(REPO_URI)", "Created-By: Packages"]);
    let targets = checked(&mut command)?;
    let source = debian_source(&targets).context("apt-get names no Debian archive")?;
    let state = dir.join("apt");
    for folder in ["lists/partial", "archives/partial"] {
        let folder = state.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let list = state.join("sources.list");
    fs::write(&list, source).with_context(|| format!("cannot write {}", list.display()))?;
    let apt = |verb: &[&str]| {
        let mut command = Command::new("apt-get");
        let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        for option in [
            option("Dir::Etc::SourceList", list.clone()),
            option("Dir::State::Lists", state.join("lists")),
            option("Dir::Cache", state.clone()),
            "Dir::Etc::SourceParts=-".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        checked(command.args(verb).current_dir(&state)).map(drop)
    };
    apt(&["--quiet", "update"])?;
    apt(&["--quiet", "download", VULKAN_PACKAGE])?;
    let files = fs::read_dir(&state).with_context(|| format!("cannot list {}", state.display()))?;
    let package = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no {VULKAN_PACKAGE}"))?;
    checked(Command::new("dpkg-deb").arg("-x").arg(&package).arg(dir))?;
    fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))
}

/// A line of sources.list for the newer suite in the first archive with a component `main`.
fn debian_source(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.splitn(3, '|');
        let (component, key, uri) = (words.next()?, words.next()?, words.next()?);
        let is_debian = component == "main" && uri.trim_end_matches('/').ends_with("/debian");
        // apt prints a field that is not set as it stands.
        let options =
            if key.is_empty() || key.starts_with('$') { String::new() } else { format!("[signed-by={key}] ") };
        is_debian.then(|| format!("deb {options}{uri} {VULKAN_SUITE} main\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_suite_is_asked_of_the_same_archive() {
        let targets = "main|$(SIGNED_BY)|http://mirror.example/debian-security/\n\
                       contrib||http://mirror.example/debian/\nmain|/k.gpg|http://mirror.example/debian/\n";
        assert_eq!(
            debian_source(targets).as_deref(),
            Some("deb [signed-by=/k.gpg] http://mirror.example/debian/ trixie main\n")
        );
        assert_eq!(debian_source("main||http://mirror.example/ubuntu/\n"), None);
    }

    #[test]
    fn nothing_is_used_that_is_not_complete() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context { root: dir.path().into(), cache: dir.path().into(), ui: crate::progress::Ui::new(true) };
        let backends: Backends = "cuda,vulkan".parse().unwrap();
        let vulkan = dir.path().join("tools").join(VULKAN_DIR);
        fs::create_dir_all(&vulkan).unwrap();
        assert!(provisioned(&context, &backends).is_empty());
        fs::write(vulkan.join(READY), "").unwrap();
        let defines = provisioned(&context, &backends);
        assert_eq!(defines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["Vulkan_INCLUDE_DIR"]);
        assert!(provisioned(&context, &Backend::Rpc.into()).is_empty());
    }
}
