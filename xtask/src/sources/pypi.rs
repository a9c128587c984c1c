//! Trees inside source distributions of Python packages, such as those of llama-cpp-python: full trees, with server,
//! tools and tests.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::{Fetched, archive};
use crate::{context::Context, progress::Unit, python::Python};

/// Answers in the place of the package's build backend.
const NO_BUILD: &str = include_str!("no_build.py");

/// A source distribution, through the user's own pip: index, mirrors, proxies, certificates and offline folders are
/// honoured because pip itself runs. Nothing of the package is built or run: see [`NO_BUILD`].
///
/// # Errors
/// There is no Python; pip cannot get it; it cannot be unpacked.
pub fn fetch(context: &Context, name: &str, version: &str, scratch: &Path) -> Result<Fetched> {
    let python = Python::required("downloading from the Python package index")?.with_pip(context)?;
    let (hooks, download) = (scratch.join("hooks"), scratch.join("download"));
    for dir in [&hooks, &download] {
        fs::create_dir(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    }
    fs::write(hooks.join("sitecustomize.py"), NO_BUILD)?;
    let path = env::var_os("PYTHONPATH").filter(|path| !path.is_empty());
    let path = env::join_paths([hooks].into_iter().chain(path.iter().flat_map(env::split_paths)))?;

    let requirement = format!("{name}=={version}");
    let phase = context.ui.phase(format!("download {requirement}"), Unit::Unknown);
    let mut command = python.pip_command();
    command.args(["download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", name, "--dest"]);
    command.arg(&download).arg(&requirement).env("PYTHONPATH", path);
    // What has no build backend of its own gets one: the old way would run its setup.py. Pips that know no other way
    // than this ignore the variable, where they would refuse the option.
    command.env("PIP_USE_PEP517", "1");
    crate::python::checked(&mut command).with_context(|| {
        format!(
            "pip could not download the source of {requirement}\nhelp: check the network or your pip configuration (index, \
             proxy, PIP_NO_INDEX and PIP_FIND_LINKS); or give a folder or an archive with that tree: --from DIR, --archive FILE"
        )
    })?;
    phase.finish("");
    let mut files = fs::read_dir(&download)?;
    let (Some(sdist), None) = (files.next(), files.next()) else {
        bail!("pip downloaded something else than one file for {requirement}");
    };
    archive::unpacked(context, &sdist?.path(), scratch)
}
