//! `upstream.toml`: which llama.cpp trees may be vendored, where each comes from and what it must be.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::context::Context;

/// Name of the file, in the root of the checkout.
pub const FILE: &str = "upstream.toml";

/// The file's content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The pin that is meant where none is named.
    pub default: String,
    /// Pins by name.
    #[serde(rename = "pin")]
    pub pins: BTreeMap<String, Pin>,
    /// The trees of the drift sweep, which reads them itself.
    #[serde(default, rename = "sweep")]
    _sweep: IgnoredAny,
}

/// One tree that may be vendored.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Where it comes from.
    pub source: Source,
    /// What it must be: the tree's digest, in hexadecimal.
    pub sha256: Option<String>,
}

/// Where a tree comes from. Each kind is obtained by one function in [`crate::sources`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A folder inside a published crate.
    Crate {
        name: String,
        version: String,
        /// The llama.cpp tree inside the crate; empty if the crate itself is one.
        #[serde(default)]
        subdir: String,
    },
    /// A folder on this machine.
    Path {
        /// Relative to the checkout.
        dir: PathBuf,
    },
}

impl Source {
    /// Whether a tree may be taken without a digest to check it against.
    pub fn needs_digest(&self) -> bool {
        !matches!(self, Self::Path { .. })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crate { name, version, .. } => write!(f, "crate {name} {version}"),
            Self::Path { dir } => write!(f, "folder {}", dir.display()),
        }
    }
}

impl Upstream {
    /// Reads and checks the file of the checkout.
    ///
    /// # Errors
    /// It cannot be read, is not of the documented form, or a name or digest in it is malformed.
    pub fn read(context: &Context) -> Result<Self> {
        let path = context.root.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let upstream: Self = toml::from_str(text)?;
        for (name, pin) in &upstream.pins {
            check_name(name)?;
            if let Some(sha256) = &pin.sha256
                && (sha256.len() != 64 || !sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
            {
                bail!("pin `{name}`: sha256 must be 64 lower-case hexadecimal digits");
            }
        }
        upstream.pin(&upstream.default)?;
        Ok(upstream)
    }

    /// The pin of that name.
    ///
    /// # Errors
    /// There is none; the error lists those that there are.
    pub fn pin(&self, name: &str) -> Result<&Pin> {
        self.pins.get(name).with_context(|| {
            let known = self.pins.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("{FILE} has no pin `{name}`\nhelp: it has: {known}; a folder of yours is taken with --from DIR")
        })
    }
}

/// A pin's name becomes a folder's name on every system.
///
/// # Errors
/// It has characters other than letters, digits, `-`, `_`, `.`, `+`, or does not start with a letter or digit.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        bail!("`{name}` cannot name a pin: letters, digits and - _ . + only, starting with a letter or digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn pin(source: &str, sha256: &str) -> Result<Upstream> {
        Upstream::parse(&format!("default = \"a\"\n[pin.a]\nsource = {source}\nsha256 = \"{sha256}\"\n"))
    }

    #[test]
    fn every_kind_is_read() {
        let upstream = pin(r#"{ kind = "crate", name = "n", version = "1.2.3", subdir = "s" }"#, DIGEST).unwrap();
        let source = &upstream.pin("a").unwrap().source;
        assert_eq!(source.to_string(), "crate n 1.2.3");
        assert!(source.needs_digest());
        let upstream = pin(r#"{ kind = "path", dir = "../fork" }"#, DIGEST).unwrap();
        assert_eq!(upstream.pin("a").unwrap().source, Source::Path { dir: "../fork".into() });
    }

    #[test]
    fn the_sweep_is_left_to_its_reader_and_other_sections_are_refused() {
        let pin = "default = \"a\"\n[pin.a]\nsource = { kind = \"path\", dir = \"x\" }\n";
        assert!(Upstream::parse(&format!("{pin}[sweep]\ncompiled = []\n")).is_ok());
        assert!(Upstream::parse(&format!("{pin}[swept]\ncompiled = []\n")).is_err());
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let error = format!("{:#}", pin(r#"{ kind = "cvs", dir = "x" }"#, DIGEST).unwrap_err());
        assert!(error.contains("`cvs`") && error.contains("`crate`") && error.contains("`path`"), "{error}");
    }

    #[test]
    fn a_malformed_digest_is_refused() {
        for digest in ["", "12", &DIGEST.to_uppercase()] {
            assert!(pin(r#"{ kind = "path", dir = "x" }"#, digest).is_err(), "{digest}");
        }
    }

    #[test]
    fn an_unknown_pin_lists_the_known_ones() {
        let upstream = pin(r#"{ kind = "path", dir = "x" }"#, DIGEST).unwrap();
        assert!(upstream.pin("b").unwrap_err().to_string().contains("it has: a;"));
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        for name in ["", "..", ".x", "a/b", r"a\b", "a b", "-a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("llama-cpp-sys-2-0.1.161+x").unwrap();
    }
}
