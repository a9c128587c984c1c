//! `cargo xtask export verify`: whether a program that was built has an instrumented llama.cpp inside, by the mark that its
//! telemetry runtime leaves in the file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

/// How the mark begins (`LLAMA_OTEL_MARK_TEXT_` in otel-shim/cpp/otel.cpp); the version of the ABI follows.
const MARK: &[u8] = b"llama-otel: instrumented, ABI ";

/// Command line of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The program, or the shared library of it that has llama.cpp's telemetry (libllama-otel)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Runs the verb: prints the mark of each file.
///
/// # Errors
/// A file cannot be read, or has none.
pub fn run(args: &Args) -> Result<ExitCode> {
    for file in &args.files {
        println!("{}: {}", file.display(), mark(file)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The mark in that file.
///
/// # Errors
/// It cannot be read, or has none.
pub fn mark(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    match find(&bytes) {
        Some(mark) => Ok(mark),
        None => bail!(
            "{} has no instrumented llama.cpp inside\n\
             help: if it was built with the drop-in, look for cargo's warning that the patch was not used, and run \
             `cargo xtask export dropin --program` on its folder; if it uses shared libraries, name libllama-otel",
            file.display()
        ),
    }
}

fn find(bytes: &[u8]) -> Option<String> {
    memchr::memmem::find_iter(bytes, MARK).find_map(|at| {
        let text = bytes.get(at..)?.split(|&byte| byte == 0).next()?;
        let text = std::str::from_utf8(text).ok()?;
        // A program that looks for the mark, as this one does, has its beginning only.
        text.as_bytes().get(MARK.len())?.is_ascii_digit().then(|| text.trim_end_matches('.').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_more_than_its_beginning() {
        assert_eq!(find(b"\x7fELF llama-otel: instrumented, ABI \0 x"), None);
        let both = b"llama-otel: instrumented, ABI \0..llama-otel: instrumented, ABI 3, llama.cpp 0.4.1, abc.\0rest";
        assert_eq!(find(both).unwrap(), "llama-otel: instrumented, ABI 3, llama.cpp 0.4.1, abc");
        assert_eq!(find(b"nothing"), None);
    }
}
