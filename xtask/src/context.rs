//! Where a verb works: the folders of the checkout and of the cache, and how it talks to the user.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::progress::Ui;

/// Passed to every verb.
pub struct Context {
    /// Root of the checkout: the folder of `upstream.toml`.
    pub root: PathBuf,
    /// Root of the cache, outside the checkout.
    pub cache: PathBuf,
    /// Messages and progress.
    pub ui: Ui,
}

impl Context {
    /// Finds the checkout and the cache. `checkout` replaces the one this program was built from.
    ///
    /// # Errors
    /// The checkout does not exist, or the system names no cache folder.
    pub fn new(checkout: Option<PathBuf>, quiet: bool) -> Result<Self> {
        let root = checkout.unwrap_or_else(own_checkout);
        let root = root.canonicalize().with_context(|| format!("no checkout at {}", root.display()))?;
        Ok(Self { root: simplified(root), cache: cache_root()?, ui: Ui::new(quiet) })
    }

    /// Folder of one vendored pin: `src`, `VENDORED.json`, `patched`.
    pub fn vendor_dir(&self, pin: &str) -> PathBuf {
        self.root.join("vendor").join(pin)
    }

    /// Pristine tree of a vendored pin.
    pub fn vendor_src(&self, pin: &str) -> PathBuf {
        self.vendor_dir(pin).join("src")
    }

    /// Cargo's target folder.
    pub fn target_dir(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => env::current_dir().unwrap_or_default().join(dir),
            None => self.root.join("target"),
        }
    }

    /// `path` as the user would type it: relative to the checkout where it lies inside.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The checkout that `cargo run` started this program from, else the one it was compiled in.
fn own_checkout() -> PathBuf {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest_dir = PathBuf::from(manifest_dir);
    manifest_dir.parent().map(Path::to_path_buf).unwrap_or(manifest_dir)
}

fn cache_root() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("LLAMA_OTEL_CACHE").filter(|dir| !dir.is_empty()) {
        return std::path::absolute(&dir).context("LLAMA_OTEL_CACHE is not a usable path");
    }
    let base = directories::BaseDirs::new().context(
        "this system names no cache folder for the user\nhelp: set LLAMA_OTEL_CACHE to a folder with 2 GB of space",
    )?;
    Ok(base.cache_dir().join("llama-otel"))
}

/// Windows' `\\?\` form, which `canonicalize` returns, is refused by CMake and compilers.
fn simplified(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix(r"\\?\")) {
        Some(plain) if !plain.starts_with("UNC") => PathBuf::from(plain),
        _ => path,
    }
}
