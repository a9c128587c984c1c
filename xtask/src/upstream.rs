//! `upstream.toml`: which llama.cpp trees may be vendored, where each comes from and what it must be.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, de::IgnoredAny};

use crate::context::Context;

mod source;

pub use self::source::{Source, check_sha256};

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
    /// Libraries that may be compiled along, by name.
    #[serde(default, rename = "library")]
    pub libraries: BTreeMap<String, Pin>,
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
            let checked = pin.source.check().and_then(|()| pin.sha256.as_deref().map_or(Ok(()), check_sha256));
            checked.with_context(|| format!("pin `{name}`"))?;
        }
        for (name, pin) in &upstream.libraries {
            let checked = pin.source.check().and_then(|()| pin.sha256.as_deref().map_or(Ok(()), check_sha256));
            checked.with_context(|| format!("library `{name}`"))?;
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
            format!("{FILE} has no pin `{name}`\nhelp: it has: {known}; a tree of yours is taken with --from DIR, --git or --archive")
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
    fn the_sweep_is_left_to_its_reader_and_other_sections_are_refused() {
        let pin = "default = \"a\"\n[pin.a]\nsource = { kind = \"path\", dir = \"x\" }\n";
        assert!(Upstream::parse(&format!("{pin}[sweep]\ncompiled = []\n")).is_ok());
        assert!(Upstream::parse(&format!("{pin}[swept]\ncompiled = []\n")).is_err());
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let error = format!("{:#}", pin(r#"{ kind = "cvs", dir = "x" }"#, DIGEST).unwrap_err());
        for kind in ["`cvs`", "`crate`", "`pypi`", "`git`", "`archive`", "`path`"] {
            assert!(error.contains(kind), "{error}");
        }
    }

    #[test]
    fn a_source_that_is_wrong_names_its_pin() {
        let error = format!("{:#}", pin(r#"{ kind = "archive" }"#, DIGEST).unwrap_err());
        assert!(error.contains("pin `a`: an archive needs a `url` or a `file`"), "{error}");
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
