//! CMake, ninja and libclang: taken from the machine where they are, else installed as PyPI wheels
//! into a virtual environment in the cache. No root, nothing outside the cache.

mod libclang;
pub mod otelcpp;
pub mod toolkit;
mod wheels;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::wheels::Wheels;
use crate::{context::Context, python::checked};

/// As `llama-build` asks for.
const CMAKE_MINIMUM: (u32, u32) = (3, 20);

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
        if let Some(args) = libclang::bindgen_args(&self.libclang) {
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
        Kind::Libclang => libclang::find(),
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
    let installed = if missing.is_empty() { Wheels::default() } else { wheels::provision(context, &missing)? };
    let mut tools = Kind::ALL.into_iter().zip(found).map(|(kind, tool)| {
        tool.or_else(|| installed.tool(kind)).with_context(|| format!("{} was installed but is not there", kind.name()))
    });
    let mut next = || tools.next().context("a tool is not listed")?;
    Ok(Tools { cmake: next()?, ninja: next()?, libclang: next()? })
}

/// All tools as they are here, on the machine or in the cache; `None` if one is missing.
pub fn find_all(context: &Context) -> Option<Tools> {
    let mut tools = Kind::ALL.into_iter().map(|kind| find(kind).or_else(|| find_provisioned(context, kind)));
    let mut next = || tools.next().flatten();
    Some(Tools { cmake: next()?, ninja: next()?, libclang: next()? })
}

/// The tool as an earlier run installed it into the cache, for the same set of missing tools.
pub fn find_provisioned(context: &Context, kind: Kind) -> Option<Tool> {
    let missing: Vec<_> = Kind::ALL.into_iter().filter(|&kind| find(kind).is_none()).collect();
    Wheels::read(&wheels::dir_of(context, &missing))?.tool(kind)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_compilers_and_tools_print() {
        let cases = [
            ("cmake version 3.25.1\n\nCMake suite", "3.25.1"),
            ("1.13.2.git.kitware.jobserver-pipe-1\n", "1.13.2.git.kitware.jobserver-pipe-1"),
            ("c++ (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0-14+deb12u1"),
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
            ("Apple clang version 15.0.0 (clang-1500.3.9.4)", "15.0.0"),
        ];
        for (text, version) in cases {
            assert_eq!(version_in(text).as_deref(), Some(version), "{text}");
        }
        assert_eq!(version_in("no numbers here"), None);
    }

    #[test]
    fn an_old_cmake_is_not_good_enough() {
        let cases = [("3.20.0", true), ("4.0.1-rc2", true), ("3.19.8", false), ("3.9.6", false), ("", false)];
        for (version, recent) in cases {
            assert_eq!(is_recent_cmake(version), recent, "{version}");
        }
    }
}
