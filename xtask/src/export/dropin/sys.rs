//! The packages around llama.cpp whose place can be taken, and the crates over them that programs use.

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use semver::Version;

use crate::{
    context::Context,
    drift,
    upstream::{Source, Upstream},
};

/// A `-sys` package with a llama.cpp inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sys {
    /// Below llama-cpp-2
    #[value(name = "llama-cpp-sys-2")]
    Two,
    /// Below llama-cpp-4
    #[value(name = "llama-cpp-sys-4")]
    Four,
}

impl Sys {
    /// The package's name in the registry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Two => "llama-cpp-sys-2",
            Self::Four => "llama-cpp-sys-4",
        }
    }

    /// The crate that stands on it, which programs depend on.
    pub fn binding(self) -> &'static str {
        match self {
            Self::Two => "llama-cpp-2",
            Self::Four => "llama-cpp-4",
        }
    }

    /// The package of that name, if its place can be taken.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|sys| sys.name() == name)
    }

    /// The names of all of them, for a message.
    pub fn names() -> String {
        Self::value_variants().iter().map(|sys| sys.name()).collect::<Vec<_>>().join(" or ")
    }

    /// The version to take where nothing else says one: that of the default pin, else the newest that the sweep lists.
    ///
    /// # Errors
    /// `upstream.toml` cannot be read, or names no version of the package.
    pub fn default_version(self, context: &Context) -> Result<Version> {
        let upstream = Upstream::read(context)?;
        let pinned = match &upstream.pin(&upstream.default)?.source {
            Source::Crate { name, version, .. } if name == self.name() => Some(version.clone()),
            _ => None,
        };
        let Some(version) = pinned.map_or_else(|| drift::newest_listed(context, self.name()), |it| Ok(Some(it)))?
        else {
            bail!(
                "upstream.toml names no version of {}\nhelp: name one with --version, or the program with --program",
                self.name()
            );
        };
        version.parse().with_context(|| format!("upstream.toml: `{version}` is no version"))
    }
}
