//! Trees inside archives, of this machine or from the network.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest, Sha256};
use unpack::Limits;

use super::{Fetched, Origin};
use crate::{context::Context, install::install_command, progress::Unit, python::last_lines};

/// The largest download, in bytes.
const LARGEST: &str = "1073741824";

/// An archive that is downloaded by the user's own curl: proxies, certificates, credentials and `.curlrc` are honoured
/// because curl itself runs. `shown` is what messages call it.
///
/// # Errors
/// There is no curl; the server cannot be reached or does not have it; it is not the archive that `sha256` names, or no
/// digest is given; it cannot be unpacked.
pub fn download(context: &Context, url: &str, sha256: Option<&str>, shown: &str, scratch: &Path) -> Result<Fetched> {
    if !["https://", "http://"].iter().any(|scheme| url.to_lowercase().starts_with(scheme)) {
        bail!(
            "{shown}: only https and http are downloaded\nhelp: name a file of this machine by `file`, or by its path after --archive"
        );
    }
    // The server's name for it would be the better one, and is the server's choice.
    let name = url.split(['?', '#']).next().and_then(|url| url.rsplit('/').next()).filter(|name| !name.is_empty());
    let file = scratch.join("download");
    let phase = context.ui.phase(format!("download {}", name.unwrap_or(shown)), Unit::Unknown);
    let output = Command::new("curl")
        .args(["--fail", "--location", "--silent", "--show-error", "--retry", "3", "--connect-timeout", "30"])
        // What stands still for a minute does not come any more.
        .args(["--speed-limit", "1", "--speed-time", "60", "--max-filesize", LARGEST])
        .args(["--proto", "=https,http", "--proto-redir", "=https,http", "--output"])
        .arg(&file)
        .args(["--url", url])
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!(
                "cannot start curl, which downloads archives\nhelp: {}; or download it yourself: --archive FILE",
                install_command(&["curl"])
            )
        })?;
    if !output.status.success() {
        bail!(
            "curl could not download {shown}\n{}\nhelp: check the address, the network and your proxy (HTTPS_PROXY, .curlrc); \
             or download it yourself: --archive FILE",
            last_lines(&String::from_utf8_lossy(&output.stderr), 5)
        );
    }
    phase.finish("");
    let found = digest(&file)?;
    match sha256 {
        Some(expected) => check(shown, expected, &found)?,
        None => bail!(
            "{shown} comes from the network and nothing says what it must be\nhelp: if you trust it, pass --sha256 {found}, \
             or write sha256 = \"{found}\" into its `source` in upstream.toml"
        ),
    }
    let fetched = unpacked(context, &file, scratch).with_context(|| format!("{shown} cannot be vendored"))?;
    Ok(Fetched { origin: fetched.origin.or(Origin::of_name(name.unwrap_or_default())), ..fetched })
}

/// An archive of this machine.
///
/// # Errors
/// It cannot be read, is not the one that `sha256` names, or cannot be unpacked.
pub fn open(context: &Context, file: &Path, sha256: Option<&str>, scratch: &Path) -> Result<Fetched> {
    if !file.is_file() {
        bail!("there is no file {}", file.display());
    }
    if let Some(expected) = sha256 {
        check(&format!("archive {}", file.display()), expected, &digest(file)?)?;
    }
    let fetched = unpacked(context, file, scratch)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(Fetched { origin: fetched.origin.or(Origin::of_name(&name)), ..fetched })
}

/// Unpacks an archive into `scratch`.
///
/// # Errors
/// It cannot be read, or is refused by [`unpack::unpack`].
pub fn unpacked(context: &Context, file: &Path, scratch: &Path) -> Result<Fetched> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let phase = context.ui.phase(format!("unpack {name}"), Unit::Unknown);
    let dir = scratch.join("unpacked");
    let archive = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let unpacked = unpack::unpack(archive, &dir, &Limits::default())
        .with_context(|| format!("the archive {} is not unpacked", file.display()))?;
    phase.finish(format_args!("{} files", unpacked.files));
    let mut origin = Origin::of_comment(unpacked.comment.as_deref().unwrap_or_default());
    // Most archives have one folder at their top, which says more than the archive's own name.
    let tops: Vec<_> = std::fs::read_dir(&dir)?.flatten().collect();
    if let [top] = tops.as_slice() {
        origin = origin.or(Origin::of_name(&top.file_name().to_string_lossy()));
    }
    Ok(Fetched { dir, origin })
}

fn check(shown: &str, expected: &str, found: &str) -> Result<()> {
    if expected != found {
        bail!(
            "{shown} is not the one that was named\n  expected sha256  {expected}\n  found            {found}\n\
             help: if it is damaged, get it again; if it is right, give the new digest"
        );
    }
    Ok(())
}

fn digest(file: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    File::open(file)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hex::encode(hasher.finalize()))
}
