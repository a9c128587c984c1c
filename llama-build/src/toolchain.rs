//! The programs that a build needs, looked for before anything is built: cmake, a build tool and
//! a C++ compiler, with the versions that go into the cache key.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backend::Backend;
use crate::error::Error;
use crate::options::Options;

const HELP_CMAKE: &str = "`cargo xtask` provisions it by itself; otherwise install CMake 3.20 or newer \
    (`apt-get install cmake`, `brew install cmake`, `pip install cmake`) or set CMAKE";
const HELP_COMPILER: &str = "install a C++17 compiler (`apt-get install g++`, `xcode-select --install`, \
    or the Visual Studio build tools), or set CC and CXX";
const HELP_BUILD_TOOL: &str = "`cargo xtask` provisions ninja by itself; otherwise install it \
    (`apt-get install ninja-build`, `brew install ninja`, `pip install ninja`)";

/// The oldest CMake with everything asked of it: deferred calls (3.19), file API toolchains (3.20).
const OLDEST_CMAKE: (u32, u32) = (3, 20);

/// Variables that CMake and compilers read, and that CMake then keeps in its cache.
pub const COMPILER_VARIABLES: &[&str] = &[
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "ASMFLAGS",
    "LDFLAGS",
    "CMAKE_TOOLCHAIN_FILE",
    "MACOSX_DEPLOYMENT_TARGET",
    "SDKROOT",
];

/// The tools found.
pub(crate) struct Tools {
    pub cmake: PathBuf,
    pub cmake_version: String,
    /// `None`: CMake's default generator.
    pub ninja: Option<PathBuf>,
    /// What the compilers say of themselves, one line each.
    pub compilers: Vec<String>,
    /// Those of [`COMPILER_VARIABLES`] that are set.
    pub environment: Vec<(String, String)>,
}

pub(crate) fn find(options: &Options) -> Result<Tools, Error> {
    let cmake = options.cmake.clone().unwrap_or_else(|| "cmake".into());
    let cmake_version = cmake_version(&cmake)?;
    Ok(Tools {
        cmake_version,
        cmake,
        ninja: ninja(options)?,
        compilers: compilers(options)?,
        environment: COMPILER_VARIABLES
            .iter()
            .filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?)))
            .collect(),
    })
}

fn cmake_version(cmake: &Path) -> Result<String, Error> {
    let Some(output) = output_of(cmake, "--version") else {
        return Err(Error::ToolMissing { tool: "cmake", tried: cmake.display().to_string(), help: HELP_CMAKE });
    };
    let unusable = |reason: String| Error::ToolUnusable { program: cmake.to_path_buf(), reason, help: HELP_CMAKE };
    let version = output
        .lines()
        .find_map(|line| line.strip_prefix("cmake version "))
        .ok_or_else(|| unusable(format!("`--version` answered `{}`", output.trim())))?;
    if !is_new_enough(version) {
        let (major, minor) = OLDEST_CMAKE;
        return Err(unusable(format!("it is version {version}, and {major}.{minor} is needed")));
    }
    Ok(version.trim().to_owned())
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST_CMAKE,
        _ => false,
    }
}

fn ninja(options: &Options) -> Result<Option<PathBuf>, Error> {
    if let Some(ninja) = &options.ninja {
        return match output_of(ninja, "--version") {
            Some(_) => Ok(Some(ninja.clone())),
            None => {
                Err(Error::ToolMissing { tool: "ninja", tried: ninja.display().to_string(), help: HELP_BUILD_TOOL })
            }
        };
    }
    if output_of("ninja".as_ref(), "--version").is_some() {
        return Ok(Some("ninja".into()));
    }
    // Without ninja, CMake's default generator needs make, except on Windows (Visual Studio).
    if cfg!(unix) && output_of("make".as_ref(), "--version").is_none() {
        return Err(Error::ToolMissing { tool: "a build tool", tried: "ninja, make".into(), help: HELP_BUILD_TOOL });
    }
    Ok(None)
}

/// The compilers as CMake will choose them: its cache entry, the environment, the usual names.
/// `cl` cannot be asked and is found by CMake itself, so on Windows none is not an error.
fn compilers(options: &Options) -> Result<Vec<String>, Error> {
    let chosen = |define: &str, variable: &str| {
        let defined = options.defines.iter().rev().find(|(name, _)| name == define);
        defined.map(|(_, value)| value.clone()).or_else(|| std::env::var(variable).ok())
    };
    let languages =
        [("CMAKE_C_COMPILER", "CC", ["cc", "gcc", "clang"]), ("CMAKE_CXX_COMPILER", "CXX", ["c++", "g++", "clang++"])];
    let mut found = Vec::new();
    for (define, variable, usual) in languages {
        let candidates: Vec<String> = match chosen(define, variable) {
            Some(one) => vec![one],
            None => usual.iter().map(|name| name.to_string()).collect(),
        };
        match candidates.iter().find_map(|command| first_line_of(command)) {
            Some(line) => found.push(line),
            None if cfg!(windows) => found.push("found by CMake".into()),
            None => {
                return Err(Error::ToolMissing {
                    tool: "a C++17 compiler",
                    tried: candidates.join(", "),
                    help: HELP_COMPILER,
                });
            }
        }
    }
    if let Some(line) = backend_compiler(options) {
        found.push(line);
    }
    Ok(found)
}

/// The compiler of a GPU's code, which decides about the libraries as much as the others do. Where
/// it is not found here, the toolkit's own check says so.
fn backend_compiler(options: &Options) -> Option<String> {
    if !options.backends.contains(Backend::Cuda) {
        return None;
    }
    let defined = options.defines.iter().rev().find(|(name, _)| name == "CMAKE_CUDA_COMPILER");
    let nvcc = defined.map(|(_, value)| value.clone()).or_else(|| std::env::var("CUDACXX").ok());
    let output = output_of(Path::new(nvcc.as_deref().unwrap_or("nvcc")), "--version")?;
    output.lines().rev().find(|line| !line.is_empty()).map(str::to_owned)
}

/// `command` may carry a launcher and flags, as `CC` does: `ccache gcc -m64`.
fn first_line_of(command: &str) -> Option<String> {
    let whole = Path::new(command);
    let output = output_of(whole, "--version").or_else(|| {
        let mut words = command.split_whitespace();
        let output = Command::new(words.next()?).args(words).arg("--version").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    output.lines().next().map(str::to_owned)
}

fn output_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for (version, enough) in
            [("3.20.0", true), ("3.9.6", false), ("3.19.8", false), ("4.0.1-rc2", true), ("", false)]
        {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }

    #[test]
    fn a_missing_cmake_names_the_commands_that_help() {
        let mut options = Options::new("unused");
        options.cmake = Some("no-such-cmake".into());
        let text = find(&options).err().unwrap().to_string();
        assert!(text.contains("cmake was not found (tried no-such-cmake)"), "{text}");
        assert!(text.contains("apt-get install cmake"), "{text}");
    }

    #[test]
    fn a_missing_compiler_names_the_commands_that_help() {
        let mut options = Options::new("unused");
        options.defines = vec![("CMAKE_CXX_COMPILER".into(), "no-such-c++".into())];
        if cfg!(windows) {
            return;
        }
        let text = compilers(&options).unwrap_err().to_string();
        assert!(text.contains("tried no-such-c++"), "{text}");
        assert!(text.contains("apt-get install g++"), "{text}");
    }
}
