//! `cargo xtask package`: one self-contained crate out of three of this workspace and a patched tree, ready for `cargo publish`:
//! nothing in it is looked for outside of it, but crates of the registry and the tools of a build. Beside it lies its bill of
//! materials.
//!
//! A registry takes no dependency on a folder, so the crates that are published nowhere become modules: `otel-shim` of the
//! library, `llama-build` of the build script. The folders are as in the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use patcher::tree::sha256;
use serde::Serialize;
use unpack::{Limits, unpack};

use self::{
    manifest::{About, Crates},
    tree::PatchedTree,
};
use crate::{
    Format,
    cache::Slot,
    context::Context,
    files::{copy, list, write},
    progress::Unit,
    python::checked,
    resolved,
    sources::cargo_program,
    tools::{self, Tools},
};

mod dependencies;
mod fold;
mod manifest;
mod parts;
mod sbom;
mod selection;
mod sources;
mod tree;
mod verify;

/// What a folder that this verb made says of itself.
const MANIFEST: &str = "package.json";
/// The folder of the package with the patches that made its llama.cpp.
const PATCHES: &str = "patches";
/// What registries take at most, in bytes.
const LIMIT: u64 = 10 << 20;

/// What cargo packs, beside `Cargo.toml` and `Cargo.lock`.
const INCLUDE: [&str; 12] = [
    "/LICENSE-*",
    "/NOTICE",
    "/README.md",
    "/VENDORED.json",
    "/build/**",
    "/docs/**",
    "/llama-build/**",
    "/llama.cpp/**",
    "/otel-shim/**",
    "/patches/**",
    "/sbom.cdx.json",
    "/src/**",
];

/// The user's documents that the package's readme refers to.
const DOCUMENTS: [&str; 4] = ["configuration.md", "embedding.md", "generations.md", "telemetry.md"];

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Where the crate goes: a new or an empty folder, or one that this verb made [default: target/llama-otel/package]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The pin whose patched tree goes in [default: that of upstream.toml]
    #[arg(long, value_name = "NAME")]
    pin: Option<String>,
    /// Also try it: `cargo publish --dry-run`, then build a program on the unpacked crate, offline, and run it
    #[arg(long)]
    verify: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What was made; also what `package.json` holds and `--format json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Packaged {
    /// Name of the crate.
    pub name: String,
    pub version: String,
    /// SPDX expression.
    pub license: String,
    /// The pin that it has the tree of.
    pub pin: String,
    /// This program and its version.
    pub tool: &'static str,
    /// The archive, as a file of the folder.
    #[serde(rename = "crate")]
    pub archive: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
    /// Files in it.
    pub files: usize,
    /// The bill of materials, as a file of the folder.
    pub sbom: String,
    /// The folder; not in the file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl Packaged {
    /// Where the crate lies unpacked.
    fn folder(&self) -> PathBuf {
        self.path.clone().unwrap_or_default().join(&self.name)
    }

    /// Where its archive is.
    fn archive(&self) -> PathBuf {
        self.path.clone().unwrap_or_default().join(&self.archive)
    }
}

/// Runs the verb.
///
/// # Errors
/// There is no patched tree, or it is not the one that patching gives; something cannot be read, resolved or written; with
/// `--verify`, the crate does not do what it is for.
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let target = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => context.target_dir().join("llama-otel/package"),
    };
    let packaged = make(context, args.pin.as_deref(), &target)?;
    if args.verify {
        try_out(context, &tools::ensure(context)?, &packaged, &[])?;
    }
    match args.format {
        Format::Text => println!("{}", packaged.archive().display()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&packaged)?),
    }
    context.ui.say(format_args!(
        "{} {}: {:.1} MB, {} files, {}; to publish it: cargo publish --manifest-path {}",
        packaged.name,
        packaged.version,
        packaged.bytes as f64 / 1e6,
        packaged.files,
        packaged.license,
        context.shown(&packaged.folder().join("Cargo.toml"))
    ));
    Ok(ExitCode::SUCCESS)
}

/// Tries the crate: a program is built on it and run, and it is published but for the upload. Says where the program is. `defines`
/// are further CMake entries of that build, without blanks.
///
/// # Errors
/// Those of [`run`] with `--verify`.
pub fn try_out(context: &Context, tools: &Tools, packaged: &Packaged, defines: &[(String, String)]) -> Result<PathBuf> {
    let tried = verify::program(context, tools, packaged, defines)?;
    verify::run(context, &tried.program)?;
    verify::publish(context, tools, packaged, &tried)?;
    Ok(tried.program)
}

/// Makes the crate in the folder `target`, with the tree of a pin (the default one if `None`).
///
/// # Errors
/// Those of [`run`]; the folder is as before then.
pub fn make(context: &Context, pin: Option<&str>, target: &Path) -> Result<Packaged> {
    let tree = tree::open(context, pin)?;
    let slot = Slot::lock(target, &context.ui)?;
    let is_foreign =
        !target.join(MANIFEST).is_file() && fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    if is_foreign {
        bail!(
            "{} is a folder that this program did not make\nhelp: name an empty or a new one with --out",
            target.display()
        );
    }
    let phase = context.ui.phase("package llama-otel-sys", Unit::Unknown);
    // Elsewhere first: cargo looks at the folders around a package, for a workspace and for a repository.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut packaged = fill(context, &tree, scratch.path())?;
    slot.replace(|new| {
        for part in [&packaged.name, &packaged.archive, &packaged.sbom] {
            copy(&scratch.path().join(part), &new.join(part))?;
        }
        let mut text = serde_json::to_vec_pretty(&packaged)?;
        text.push(b'\n');
        write(&new.join(MANIFEST), text)
    })?;
    phase.finish("");
    if packaged.bytes > LIMIT {
        context.ui.warn(format_args!("{} has {} bytes, and registries take {LIMIT}", packaged.archive, packaged.bytes));
    }
    packaged.path = Some(target.to_owned());
    Ok(packaged)
}

/// Writes the crate's folder, its archive and its bill of materials into `scratch`.
fn fill(context: &Context, tree: &PatchedTree, scratch: &Path) -> Result<Packaged> {
    let [sys, shim, build] = resolved::crates(&context.root, ["llama-otel-sys", "otel-shim", "llama-build"])?;
    let crates = Crates { sys, shim, build };
    let folder = scratch.join(&crates.sys.name);
    for path in &tree.chosen {
        copy(&tree.dir.join(path), &folder.join("llama.cpp").join(path))?;
    }
    for patch in &tree.patches {
        write(&folder.join(PATCHES).join(&patch.name), &patch.mail)?;
    }
    sources::write_all(&crates, &folder)?;

    let parts = parts::contained(&tree.dir, &tree.chosen)?;
    let own = crates.sys.license.as_deref().context("llama-otel-sys names no licence")?;
    let license = parts::expression(own, &parts);
    let vendored = &tree.vendored;
    let version = manifest::version(&crates.sys, vendored.llama_version.as_deref(), &vendored.pin)?;
    let text = manifest::manifest(&crates, &About { version: &version, license: &license, include: &INCLUDE })?;
    write(&folder.join("Cargo.toml"), text)?;
    // What the workspace was tested with; cargo drops what the package does not need.
    copy(&context.root.join("Cargo.lock"), &folder.join("Cargo.lock"))?;
    let graph = dependencies::resolve(&folder)?;

    let version = version.to_string();
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&context.root.join(licence), &folder.join(licence))?;
    }
    for document in DOCUMENTS {
        copy(&context.root.join("docs").join(document), &folder.join("docs").join(document))?;
    }
    let mut stamp = serde_json::to_vec_pretty(&tree.stamp())?;
    stamp.push(b'\n');
    write(&folder.join("VENDORED.json"), stamp)?;
    write(&folder.join("NOTICE"), parts::notice(&crates.sys.name, own, &parts))?;
    write(&folder.join("README.md"), sources::readme(tree, &version))?;
    let contents =
        sbom::Contents { version: &version, license: &license, crates: &crates, tree, parts: &parts, graph: &graph };
    let bill = sbom::write(&contents)?;
    write(&folder.join(sbom::FILE), &bill)?;

    let (archive, files) = pack(&folder, scratch)?;
    let stem = format!("{}-{version}", crates.sys.name);
    let sbom = format!("{stem}.cdx.json");
    write(&scratch.join(&sbom), &bill)?;
    let bytes = fs::read(scratch.join(&archive)).with_context(|| format!("cannot read {archive}"))?;
    Ok(Packaged {
        name: crates.sys.name,
        version,
        license,
        pin: vendored.pin.clone(),
        tool: concat!("llama-otel ", env!("CARGO_PKG_VERSION")),
        archive,
        bytes: bytes.len() as u64,
        sha256: sha256(&bytes),
        files,
        sbom,
        path: None,
    })
}

/// Lets cargo pack the folder, and sees that nothing of it was left out. Returns the archive, a file in `scratch`, and how many
/// files it has.
fn pack(folder: &Path, scratch: &Path) -> Result<(String, usize)> {
    let built = scratch.join("cargo");
    let mut command = Command::new(cargo_program());
    command.current_dir(folder).stdin(Stdio::null());
    command.args(["package", "--no-verify", "--allow-dirty", "--quiet", "--target-dir"]);
    checked(command.arg(&built))?;
    let made = built.join("package");
    let entries = fs::read_dir(&made).with_context(|| format!("cannot read {}", made.display()))?;
    let path = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "crate"))
        .with_context(|| format!("cargo package left no archive in {}", made.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    copy(&path, &scratch.join(&name))?;

    let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let unpacked = scratch.join("unpacked");
    let files = unpack(file, &unpacked, &Limits::default())?.files;
    let inside = unpacked.join(path.file_stem().unwrap_or_default());
    for file in list(folder) {
        let file = file?;
        let relative = file.strip_prefix(folder).unwrap_or(&file);
        // cargo writes its own form of the manifest.
        let is_same =
            relative == Path::new("Cargo.toml") || fs::read(inside.join(relative)).ok() == fs::read(&file).ok();
        if !is_same {
            bail!("cargo did not pack {}\nhelp: mend INCLUDE in xtask/src/package.rs", relative.display());
        }
    }
    Ok((name, usize::try_from(files)?))
}
