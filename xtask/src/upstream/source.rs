//! Where a tree comes from, as `upstream.toml` says it.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Where a tree comes from. Each kind is obtained by one file of [`crate::sources`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A folder inside a published crate.
    Crate {
        name: String,
        version: String,
        /// The llama.cpp tree inside the crate; without it, the one that is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdir: Option<String>,
    },
    /// A folder inside a source distribution of a Python package.
    Pypi {
        name: String,
        version: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdir: Option<String>,
    },
    /// A commit of a Git repository.
    Git {
        /// Whatever the user's git takes; a folder relative to the checkout, too.
        url: String,
        /// A branch, a tag or a commit.
        rev: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdir: Option<String>,
    },
    /// An archive: tar, plain or in gzip, xz or zstd, or zip.
    Archive {
        /// Where it is downloaded from (http, https) …
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// … or where it is, relative to the checkout.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
        /// Digest of the archive, not of the tree, in hexadecimal. Demanded of a download.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subdir: Option<String>,
    },
    /// A folder on this machine.
    Path {
        /// Relative to the checkout.
        dir: PathBuf,
    },
}

impl Source {
    /// Whether a pin of it is accepted with the tree's digest only. The content of a folder or a file on this machine is the
    /// user's own, and a downloaded archive has a digest itself.
    pub fn needs_digest(&self) -> bool {
        !matches!(self, Self::Path { .. } | Self::Archive { .. })
    }

    /// The folder of the tree inside what is obtained, where it is named.
    pub fn subdir(&self) -> Option<&str> {
        match self {
            Self::Crate { subdir, .. }
            | Self::Pypi { subdir, .. }
            | Self::Git { subdir, .. }
            | Self::Archive { subdir, .. } => subdir.as_deref(),
            Self::Path { .. } => None,
        }
    }

    /// Checks what the form alone does not say.
    ///
    /// # Errors
    /// A value is empty or starts with a `-`, so that a program would take it for an option; a folder leads out; a
    /// digest is malformed; an archive has two places or none.
    pub fn check(&self) -> Result<()> {
        let plain = |field: &str, text: &str| match text {
            "" => bail!("`{field}` is empty"),
            text if text.starts_with('-') || text.contains(char::is_control) => {
                bail!("`{field}` cannot be `{}`", text.escape_debug())
            }
            _ => Ok(()),
        };
        match self {
            Self::Crate { name, version, .. } | Self::Pypi { name, version, .. } => {
                check_word("name", name)?;
                check_word("version", version)?;
            }
            Self::Git { url, rev, .. } => {
                plain("url", url)?;
                check_rev(rev)?;
            }
            Self::Archive { url, file, sha256, .. } => {
                match (url, file) {
                    (Some(url), None) => plain("url", url)?,
                    (None, Some(_)) => {}
                    (Some(_), Some(_)) => bail!("an archive is either at a `url` or in a `file`, and here are both"),
                    (None, None) => bail!("an archive needs a `url` or a `file`"),
                }
                if let Some(sha256) = sha256 {
                    check_sha256(sha256)?;
                }
            }
            Self::Path { .. } => {}
        }
        if let Some(subdir) = self.subdir()
            && !Path::new(subdir).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            bail!("`subdir` must be a folder inside, and `{subdir}` leads out");
        }
        Ok(())
    }

    /// One line for `upstream.toml`.
    pub fn to_toml(&self) -> String {
        let Ok(toml::Value::Table(table)) = toml::Value::try_from(self) else { return String::new() };
        // The kind first: the table itself is sorted by name.
        let (kind, rest): (Vec<_>, Vec<_>) = table.iter().partition(|(key, _)| *key == "kind");
        let pairs = kind.into_iter().chain(rest).map(|(key, value)| format!("{key} = {value}"));
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crate { name, version, .. } => write!(f, "crate {name} {version}"),
            Self::Pypi { name, version, .. } => write!(f, "the source distribution {name} {version}"),
            Self::Git { url, rev, .. } => write!(f, "{rev} of {}", without_password(url)),
            Self::Archive { url: Some(url), .. } => write!(f, "archive {}", without_password(url)),
            Self::Archive { file, .. } => write!(f, "archive {}", file.as_deref().unwrap_or(Path::new("")).display()),
            Self::Path { dir } => write!(f, "folder {}", dir.display()),
        }
    }
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            let (name, _) = user.split_once(':').unwrap_or_default();
            format!("{scheme}://{name}:***{}", rest.get(user.len()..).unwrap_or_default())
        }
        _ => url.to_owned(),
    }
}

/// A digest is 64 lower-case hexadecimal digits.
///
/// # Errors
/// It is not.
pub fn check_sha256(text: &str) -> Result<()> {
    if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        bail!("sha256 must be 64 lower-case hexadecimal digits");
    }
    Ok(())
}

/// Names and versions of packages end up in other programs' files and command lines.
fn check_word(field: &str, text: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '!');
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
        bail!("`{field}` cannot be `{}`: one exact name and version, without ranges", text.escape_debug());
    }
    Ok(())
}

/// What git allows in the name of a branch or tag, and nothing that means more than a name in a refspec.
fn check_rev(rev: &str) -> Result<()> {
    let special = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if rev.is_empty()
        || rev.starts_with(['-', '+', '/'])
        || rev.contains(special)
        || rev.contains("..")
        || rev.contains("@{")
    {
        bail!("`rev` cannot be `{}`: a branch, a tag or a commit", rev.escape_debug());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Source> {
        #[derive(Deserialize)]
        struct Pin {
            source: Source,
        }
        let pin: Pin = toml::from_str(&format!("source = {text}"))?;
        pin.source.check()?;
        Ok(pin.source)
    }

    #[test]
    fn every_kind_is_read_and_written_back() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, shown) in [
            (r#"{ kind = "crate", name = "n", subdir = "s", version = "1.2.3" }"#, "crate n 1.2.3"),
            (r#"{ kind = "pypi", name = "n", version = "1" }"#, "the source distribution n 1"),
            (r#"{ kind = "git", rev = "b1", url = "https://h/x.git" }"#, "b1 of https://h/x.git"),
            (r#"{ kind = "git", rev = "feature/a.b", url = "git@h:x" }"#, "feature/a.b of git@h:x"),
            (
                &format!(r#"{{ kind = "archive", sha256 = "{digest}", url = "https://h/x.zip" }}"#),
                "archive https://h/x.zip",
            ),
            (r#"{ kind = "archive", file = "x.tgz" }"#, "archive x.tgz"),
            (r#"{ kind = "path", dir = "../fork" }"#, "folder ../fork"),
        ] {
            let source = checked(text).unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(source.to_toml(), text);
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (url, shown) in [
            ("https://me:secret@h/x@y.git", "https://me:***@h/x@y.git"),
            ("https://h/a:b@c", "https://h/a:b@c"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("git@h:x", "git@h:x"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, error) in [
            (r#"{ kind = "cvs", dir = "x" }"#, "unknown variant `cvs`"),
            (r#"{ kind = "git", kind = "path", url = "x", rev = "y" }"#, "duplicate key"),
            (r#"{ kind = "git", url = "x", rev = "y", dir = "z" }"#, "unknown field `dir`"),
            (r#"{ kind = "path", dir = "x", url = "z" }"#, "unknown field `url`"),
            (r#"{ kind = "git", url = "x" }"#, "missing field `rev`"),
            (r#"{ kind = "git", url = "x", rev = "" }"#, "`rev` cannot be ``"),
            (r#"{ kind = "git", url = "x", rev = "--upload-pack=evil" }"#, "`rev` cannot be `--upload-pack=evil`"),
            (r#"{ kind = "git", url = "x", rev = "a:refs/heads/b" }"#, "a branch, a tag or a commit"),
            (r#"{ kind = "git", url = "--upload-pack=evil", rev = "a" }"#, "`url` cannot be"),
            (r#"{ kind = "git", url = "x", rev = "a", subdir = "../b" }"#, "leads out"),
            (r#"{ kind = "git", url = "x", rev = "a", subdir = "/b" }"#, "leads out"),
            (r#"{ kind = "archive" }"#, "needs a `url` or a `file`"),
            (r#"{ kind = "archive", url = "x", file = "y" }"#, "here are both"),
            (r#"{ kind = "archive", url = "x", sha256 = "ABC" }"#, "64 lower-case hexadecimal digits"),
            (r#"{ kind = "pypi", name = "n", version = ">=1" }"#, "without ranges"),
            (r#"{ kind = "pypi", name = "n @ https://h", version = "1" }"#, "without ranges"),
            (r#"{ kind = "crate", name = "n\"", version = "1" }"#, "without ranges"),
        ] {
            let found = format!("{:#}", checked(text).unwrap_err());
            assert!(found.contains(error), "{text}: {found}");
        }
    }
}
