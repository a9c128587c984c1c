//! What the command line of `vendor` asks for: a pin of `upstream.toml`, or a source that is given ad hoc.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::upstream::{Pin, Source, Upstream, check_name};

/// Where a tree comes from that `upstream.toml` does not name.
#[derive(clap::Args, Debug, Default)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("source").args(["from", "git", "archive", "pypi", "krate"])))]
pub struct AdHoc {
    /// Take the tree from a folder, such as your own fork
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Take it from a Git repository, with --rev
    #[arg(long, value_name = "URL", requires = "rev")]
    git: Option<String>,
    /// The branch, tag or commit of --git
    #[arg(long, value_name = "REV", requires = "git")]
    rev: Option<String>,
    /// Take it from an archive (.tar, .tar.gz, .tar.xz, .tar.zst, .zip); a download needs --sha256
    #[arg(long, value_name = "FILE_OR_URL")]
    archive: Option<String>,
    /// What the archive's SHA-256 must be
    #[arg(long, value_name = "HEX", requires = "archive")]
    sha256: Option<String>,
    /// Take it from the source distribution of a Python package, such as llama-cpp-python==0.3.36
    #[arg(long, value_name = "NAME==VERSION")]
    pypi: Option<String>,
    /// Take it from a published crate, such as llama-cpp-sys-2=0.1.161
    #[arg(long = "crate", value_name = "NAME=VERSION")]
    krate: Option<String>,
    /// The folder of the tree inside what --git, --archive, --pypi or --crate gives, if there are several
    #[arg(long, value_name = "DIR", conflicts_with = "from", requires = "source")]
    subdir: Option<String>,
}

/// A pin by name, and whether `upstream.toml` has it as it is here.
pub struct Wanted {
    pub name: String,
    pub pin: Pin,
    pub is_ad_hoc: bool,
}

/// The pin of that name, or the one that the command line makes.
///
/// # Errors
/// There is no such pin; what the command line says is malformed.
pub fn wanted(upstream: &Upstream, name: Option<&str>, ad_hoc: &AdHoc) -> Result<Wanted> {
    let Some(source) = ad_hoc.source()? else {
        let name = name.unwrap_or(&upstream.default);
        return Ok(Wanted { name: name.to_owned(), pin: upstream.pin(name)?.clone(), is_ad_hoc: false });
    };
    source.check()?;
    let name = name.map_or_else(|| own_name(&source), str::to_owned);
    check_name(&name).context("name the pin: cargo xtask vendor NAME --from DIR (or --git, --archive …)")?;
    // A named pin stays what upstream.toml says it is, wherever its tree comes from.
    let sha256 = upstream.pins.get(&name).and_then(|pin| pin.sha256.clone());
    Ok(Wanted { name, pin: Pin { source, sha256 }, is_ad_hoc: true })
}

impl AdHoc {
    fn source(&self) -> Result<Option<Source>> {
        let subdir = self.subdir.clone();
        Ok(Some(if let Some(dir) = &self.from {
            Source::Path { dir: dir.canonicalize().with_context(|| format!("there is no folder {}", dir.display()))? }
        } else if let (Some(url), Some(rev)) = (&self.git, &self.rev) {
            let url = match Path::new(url).canonicalize() {
                Ok(dir) if dir.is_dir() => dir.display().to_string(),
                _ => url.clone(),
            };
            Source::Git { url, rev: rev.clone(), subdir }
        } else if let Some(place) = &self.archive {
            let sha256 = self.sha256.clone();
            match place.contains("://") {
                true => Source::Archive { url: Some(place.clone()), file: None, sha256, subdir },
                false => {
                    let file = Path::new(place).canonicalize().with_context(|| format!("there is no file {place}"))?;
                    Source::Archive { url: None, file: Some(file), sha256, subdir }
                }
            }
        } else if let Some(requirement) = &self.pypi {
            let (name, version) = split(requirement, &["=="], "llama-cpp-python==0.3.36")?;
            Source::Pypi { name, version, subdir }
        } else if let Some(requirement) = &self.krate {
            let (name, version) = split(requirement, &["==", "=", "@"], "llama-cpp-sys-2=0.1.161")?;
            Source::Crate { name, version, subdir }
        } else {
            return Ok(None);
        }))
    }
}

/// A package's name and version, parted by the first of `marks` that is there.
fn split(text: &str, marks: &[&str], example: &str) -> Result<(String, String)> {
    match marks.iter().find_map(|mark| text.split_once(mark)) {
        Some((name, version)) => Ok((name.trim().to_owned(), version.trim().to_owned())),
        None => bail!("`{text}` names no version\nhelp: one exact version, as in {example}"),
    }
}

/// What a source is called where nobody names it.
fn own_name(source: &Source) -> String {
    let last = |text: &str| {
        let text = text.split(['?', '#']).next().unwrap_or_default().trim_end_matches(['/', '\\']);
        text.rsplit(['/', '\\', ':']).next().unwrap_or_default().to_owned()
    };
    let name = match source {
        Source::Path { dir } => {
            return dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        }
        Source::Crate { name, version, .. } | Source::Pypi { name, version, .. } => format!("{name}-{version}"),
        Source::Git { url, rev, .. } => format!("{}-{rev}", last(url).trim_end_matches(".git")),
        Source::Archive { url, file, .. } => {
            let name = url.as_deref().map(last).or_else(|| file.as_ref()?.file_name()?.to_str().map(str::to_owned));
            let name = name.unwrap_or_default();
            let ends = [".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.zst", ".tar", ".zip"];
            ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name).to_owned()
        }
    };
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_names_of_their_own() {
        let git = |url: &str, rev: &str| own_name(&Source::Git { url: url.into(), rev: rev.into(), subdir: None });
        assert_eq!(git("https://host/ggml-org/llama.cpp.git", "b1234"), "llama.cpp-b1234");
        assert_eq!(git("git@host:llama.cpp", "feature/x"), "llama.cpp-feature-x");
        let archive =
            |url: &str| own_name(&Source::Archive { url: Some(url.into()), file: None, sha256: None, subdir: None });
        assert_eq!(archive("https://host/archive/refs/tags/b1234.tar.gz?x=y"), "b1234");
        assert_eq!(archive("https://host/llama.cpp.zip"), "llama.cpp");
    }

    #[test]
    fn packages_have_exact_versions() {
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(split("a==1", &["=="], "").unwrap(), pair("a", "1"));
        assert_eq!(split("a=1", &["==", "=", "@"], "").unwrap(), pair("a", "1"));
        assert_eq!(split("a@1", &["==", "=", "@"], "").unwrap(), pair("a", "1"));
        assert!(split("a", &["=="], "b==2").unwrap_err().to_string().contains("as in b==2"));
    }
}
