//! What a machine without Apple's SDK can find out about the metal backend: the whole tree configures for arm64 macOS,
//! the link line names the frameworks, the shaders would be embedded, and every C++ file compiles, with zig as the
//! compiler. The two Objective-C files, the link and any run belong to a Mac.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use llama_build::{Backend, Link, Options, SystemLibKind, Telemetry};

use super::{Outcome, Place};
use crate::{
    cache::Slot,
    context::Context,
    patch,
    progress::{Unit, ninja_step},
    python::Python,
    tools::{self, Tools},
};

const ZIG_WHEEL: &str = "ziglang==0.17.1";
const ZIG_DIR: &str = "zig-0.17.1";
const TARGET: &str = "aarch64-macos.13.0";
const FRAMEWORKS: [&str; 3] = ["Foundation", "Metal", "MetalKit"];
/// Under the cache: what is compiled.
const DIR: &str = "build/metal-by-zig";
/// In there: the key of the last build that passed.
const PASSED: &str = "passed";
/// Nothing of it is run. zig would check for undefined behaviour where nothing is optimised.
const FLAGS: &str = "-O0 -DNDEBUG -fno-sanitize=undefined";
/// What needs Foundation's headers, which only Apple's SDK has.
const OBJECTIVE_C: [&str; 2] = ["ggml-metal-context.m", "ggml-metal-device.m"];

/// Runs the checks.
///
/// # Errors
/// zig cannot be installed, or the tree cannot be had.
pub fn check_from_elsewhere(context: &Context, place: Place) -> Result<Outcome> {
    let tools = tools::ensure(context)?;
    let options = options(patch::ensure(context, None)?, &tools, &install_zig(context)?);
    check(context, &tools, &options, place)
}

/// Runs the checks unless the same tree has passed them before, with the same options, compilers and CMake.
///
/// # Errors
/// As [`check_from_elsewhere`].
pub fn check_once(context: &Context) -> Result<Checked> {
    let tools = tools::ensure(context)?;
    let options = options(patch::ensure(context, None)?, &tools, &install_zig(context)?);
    let (key, passed) = (llama_build::key(&options)?, context.cache.join(DIR).join(PASSED));
    if fs::read_to_string(&passed).is_ok_and(|last| last == key) {
        return Ok(Checked::Before);
    }
    let outcome = check(context, &tools, &options, Place::Here)?;
    if outcome.compiles == Some(true) {
        fs::write(&passed, key).with_context(|| format!("cannot write {}", passed.display()))?;
    }
    Ok(Checked::Now(outcome))
}

/// What [`check_once`] did.
pub enum Checked {
    /// It passed in an earlier run.
    Before,
    /// What came of it.
    Now(Outcome),
}

fn check(context: &Context, tools: &Tools, options: &Options, place: Place) -> Result<Outcome> {
    let mut outcome = Outcome::untried(context, Backend::Metal.name(), place, String::new())?;
    let dir = context.cache.join(DIR);
    let link = match llama_build::configure(options, &dir, &mut |_| {}) {
        Ok(link) => link,
        Err(error) => {
            outcome.configures = Some(false);
            outcome.note = error.to_string().lines().next().unwrap_or_default().to_owned();
            return Ok(outcome);
        }
    };
    check_link(&link)?;
    outcome.configures = Some(true);
    let failed = compile(context, tools, &dir)?;
    let unexpected: Vec<_> = failed.iter().filter(|name| !OBJECTIVE_C.contains(&name.as_str())).cloned().collect();
    outcome.compiles = Some(unexpected.is_empty());
    outcome.note = match unexpected.is_empty() {
        true => format!(
            "from Linux with zig for {TARGET}: all C and C++ of the patched tree, not optimised, frameworks on the link \
             line, shaders embedded; not {}, not the link",
            OBJECTIVE_C.join(", ")
        ),
        false => format!("does not compile with zig for {TARGET}: {}", unexpected.join(", ")),
    };
    Ok(outcome)
}

fn options(tree: PathBuf, tools: &Tools, zig: &Path) -> Options {
    let mut options = Options::new(tree);
    options.backends = Backend::Metal.into();
    options.telemetry = Telemetry::Rust;
    options.cmake = Some(tools.cmake.path.clone());
    options.ninja = Some(tools.ninja.path.clone());
    let mut define = |name: &str, value: &str| options.defines.push((name.to_owned(), value.to_owned()));
    define("CMAKE_SYSTEM_NAME", "Darwin");
    define("CMAKE_SYSTEM_PROCESSOR", "arm64");
    define("CMAKE_OSX_DEPLOYMENT_TARGET", "");
    for (name, wrapper) in [
        ("CMAKE_C_COMPILER", "cc"),
        ("CMAKE_CXX_COMPILER", "c++"),
        ("CMAKE_OBJC_COMPILER", "cc"),
        ("CMAKE_ASM_COMPILER", "cc"),
        ("CMAKE_AR", "ar"),
        ("CMAKE_RANLIB", "ranlib"),
        // CMake insists on one for a Mac; static libraries have no use for it
        ("CMAKE_INSTALL_NAME_TOOL", "ar"),
    ] {
        define(name, &zig.join(wrapper).display().to_string());
    }
    // zig has no frameworks: their names reach the link line, and nothing is linked.
    for (name, framework) in ["FOUNDATION_LIBRARY", "METAL_FRAMEWORK", "METALKIT_FRAMEWORK"].iter().zip(FRAMEWORKS) {
        define(name, &format!("-framework {framework}"));
    }
    define("CMAKE_C_FLAGS_RELEASE", FLAGS);
    define("CMAKE_CXX_FLAGS_RELEASE", FLAGS);
    define("GGML_ACCELERATE", "OFF");
    define("GGML_OPENMP", "OFF");
    define("GGML_CPU_ARM_ARCH", "apple_m1");
    options
}

/// What a program on a Mac would be linked with.
fn check_link(link: &Link) -> Result<()> {
    let frameworks: BTreeSet<_> = link
        .system_libs
        .iter()
        .filter(|lib| lib.kind == SystemLibKind::Framework)
        .map(|lib| lib.name.as_str())
        .collect();
    if let Some(missing) = FRAMEWORKS.iter().find(|name| !frameworks.contains(*name)) {
        bail!("the link line does not name the framework {missing}: {:?}", link.system_libs);
    }
    if !link.libs.iter().any(|name| name == "ggml-metal") {
        bail!("the link line has no library ggml-metal: {:?}", link.libs);
    }
    let embeds = link.cmake_options.iter().any(|(name, value)| name == "GGML_METAL_EMBED_LIBRARY" && value == "ON");
    if !embeds {
        bail!("the shader library would not be embedded");
    }
    Ok(())
}

/// Compiles everything that can be, and returns the names of the files that cannot.
fn compile(context: &Context, tools: &Tools, dir: &Path) -> Result<BTreeSet<String>> {
    let phase = context.ui.phase(format!("compile llama.cpp for {TARGET}"), Unit::Steps);
    let mut command = Command::new(&tools.ninja.path);
    command.arg("-C").arg(dir.join("cmake")).args(["-k", "0", "llama"]).env("NINJA_STATUS", "[%f/%t] ");
    let output = command.stdin(Stdio::null()).output().context("cannot start ninja")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let log = dir.join("build.log");
    fs::write(&log, text.as_bytes()).with_context(|| format!("cannot write {}", log.display()))?;
    if let Some((done, total)) = text.lines().filter_map(ninja_step).next_back() {
        phase.set(done, total);
    }
    phase.finish("");
    let failed = failed_files(&text);
    if output.status.success() || !failed.is_empty() {
        return Ok(failed);
    }
    bail!("ninja failed and names no file; its output is in {}", log.display())
}

/// The sources of the objects in ninja's lines `FAILED: … path/to/file.m.o`.
fn failed_files(text: &str) -> BTreeSet<String> {
    let objects = text.lines().filter(|line| line.starts_with("FAILED:")).flat_map(|line| line.split_whitespace());
    objects
        .filter_map(|word| Some(Path::new(word.strip_suffix(".o")?).file_name()?.to_string_lossy().into_owned()))
        .collect()
}

/// The folder of compilers under their usual names: CMake knows no compiler with a verb.
fn install_zig(context: &Context) -> Result<PathBuf> {
    let dir = context.cache.join("tools").join(ZIG_DIR);
    let bin = dir.join("compilers");
    let slot = Slot::lock(&dir, &context.ui)?;
    if !bin.is_dir() {
        let phase = context.ui.phase("install zig", Unit::Unknown);
        slot.replace(|new| {
            let python = Python::required("installing zig")?.with_pip(context)?;
            let target = new.display().to_string();
            let options = ["install", "--quiet", "--only-binary=:all:", "--no-deps", "--no-compile", "--target"];
            python.pip(options.into_iter().chain([target.as_str(), ZIG_WHEEL]), Some(new))?;
            fs::create_dir(new.join("compilers")).with_context(|| format!("cannot write into {target}"))
        })
        .context("cannot install zig from PyPI")?;
        phase.finish("");
    }
    for (name, words) in [
        ("cc", format!("cc -target {TARGET}")),
        ("c++", format!("c++ -target {TARGET}")),
        ("ar", "ar".to_owned()),
        ("ranlib", "ranlib".to_owned()),
    ] {
        write_program(&bin.join(name), &words)?;
    }
    Ok(bin)
}

/// A program that calls zig with these words first.
#[cfg(unix)]
fn write_program(path: &Path, words: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // The version is for ccache, which takes this file for the compiler. Asked for it, `zig cc` would leave an empty object where
    // it stands.
    let text = format!(
        "#!/bin/sh\n[ \"$*\" = --version ] && echo {ZIG_WHEEL} && exit\n\
         exec \"$(dirname \"$0\")/../ziglang/zig\" {words} \"$@\"\n"
    );
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

#[cfg(not(unix))]
fn write_program(_: &Path, _: &str) -> Result<()> {
    bail!("the metal backend is checked on Linux or built on macOS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninja_names_what_failed() {
        let text = "[1/9] Building CXX object a.cpp.o\n\
                    FAILED: [code=1] ggml/src/ggml-metal/CMakeFiles/ggml-metal.dir/ggml-metal-device.m.o \n\
                    zig cc -o ggml/x.cpp.o\nFAILED: src/llama.cpp.o\n";
        assert_eq!(failed_files(text).into_iter().collect::<Vec<_>>(), ["ggml-metal-device.m", "llama.cpp"]);
        assert!(failed_files("[9/9] Linking\n").is_empty());
    }
}
