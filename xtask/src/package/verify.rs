//! Tries the packaged crate as its users do: cargo's own checks before publishing, and a program outside of the workspace that is
//! built on the unpacked archive, offline, and whose telemetry arrives.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use otlp_receiver::Receiver;
use patcher::tree::sha256;
use unpack::{Limits, unpack};

use super::Packaged;
use crate::{
    cache::Slot,
    context::Context,
    files::{keep_times, read, update},
    model::{self, Name},
    program::{build_whole, keep},
    progress::Unit,
    python::checked,
    sources::cargo_program,
    tools::Tools,
};

/// Variables with which the build script would not take the tree of the crate.
const ELSEWHERE: [&str; 3] = ["LLAMA_OTEL_PREBUILT", "LLAMA_OTEL_TREE", "LLAMA_OTEL_CMAKE_DEFINES"];
/// How many tokens the program decodes.
const N_PREDICT: usize = 12;

/// Where the crate is tried: outside of the checkout, whose workspace cargo would find around a folder in it.
fn place(context: &Context) -> PathBuf {
    context.cache.join("package")
}

fn target(context: &Context) -> PathBuf {
    place(context).join("target")
}

/// Builds the program of `tests/package` on the unpacked archive, without the network, with `defines` as further CMake entries.
///
/// # Errors
/// The archive cannot be unpacked, lacks something, or its build changes its own sources; the program cannot be built.
pub fn program(context: &Context, tools: &Tools, packaged: &Packaged, defines: &[(String, String)]) -> Result<Tried> {
    let place = place(context);
    let target = place.join("unpacked");
    let slot = Slot::lock(&target, &context.ui)?;
    let file = fs::File::open(packaged.archive()).with_context(|| format!("cannot read {}", packaged.archive))?;
    let name = format!("{}-{}", packaged.name, packaged.version);
    slot.replace(|new| {
        let scratch = tempfile::tempdir_in(new).context("cannot make a temporary folder")?;
        unpack(file, &scratch.path().join("crate"), &Limits::default())?;
        fs::rename(scratch.path().join("crate").join(&name), new.join(&packaged.name))
            .with_context(|| format!("{} holds no folder {name}", packaged.archive))?;
        drop(scratch);
        keep_times(&target, new)
    })?;
    let unpacked = target.join(&packaged.name);
    // Its Cargo.lock is complete, and every crate of it can be had without the network.
    checked(cargo(tools, &unpacked).args(["metadata", "--locked", "--offline", "--format-version=1"])).map(drop)?;
    let digest = || patcher::tree::digest(&unpacked).with_context(|| format!("cannot read {}", unpacked.display()));
    let before = digest()?;

    let (from, program) = (context.root.join("tests/package"), place.join("program"));
    update(&program.join("src/main.rs"), &read(&from.join("src/main.rs"))?)?;
    let dependency =
        format!("\n[dependencies]\n{} = {{ path = {:?} }}\n", packaged.name, unpacked.display().to_string());
    update(&program.join("Cargo.toml"), &(read(&from.join("Cargo.toml"))? + &dependency))?;
    update(&program.join("Cargo.lock"), &read(&unpacked.join("Cargo.lock"))?)?;
    let mut command = cargo(tools, &program);
    command.args(["build", "--offline", "--message-format", "json-render-diagnostics", "--target-dir"]);
    command.arg(self::target(context)).env("CARGO_PROFILE_DEV_DEBUG", "0");
    let defines: Vec<_> = defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
    command.env("LLAMA_OTEL_CMAKE_DEFINES", defines.join(" "));
    let built = build_whole(context, command, "the program of tests/package")?;
    if digest()? != before {
        bail!("building {name} changed its own sources in {}", unpacked.display());
    }
    let is_its =
        |id: &str| id.contains(&format!("/{}#", packaged.name)) || id.contains(&format!("#{}@", packaged.name));
    let out_dir = built.out_dirs.into_iter().find(|(id, _)| is_its(id)).map(|(_, dir)| dir);
    // Another checkout may try its own crate at the same place.
    let program = keep(context, &built.program, &context.target_dir().join("llama-otel/package-program"))?;
    Ok(Tried { program, prebuilt: out_dir.context("cargo names no folder of the build script")?.join("llama") })
}

/// `cargo publish --dry-run`: cargo packs the folder, builds what it packed, and would upload it. llama.cpp itself is not compiled
/// once more: the build script takes what it made of the same archive for the program.
///
/// # Errors
/// It fails, with what cargo printed; what it packed is not the archive.
pub fn publish(context: &Context, tools: &Tools, packaged: &Packaged, tried: &Tried) -> Result<()> {
    // Where the crates of the registry were compiled for the program.
    let target = target(context);
    let mut command = cargo(tools, &packaged.folder());
    command.args(["publish", "--dry-run", "--allow-dirty", "--target-dir"]).arg(&target);
    command.env("LLAMA_OTEL_PREBUILT", &tried.prebuilt).env("CARGO_PROFILE_DEV_DEBUG", "0");
    // Where cargo leaves what it would upload, from 1.90 on and before.
    let archives = ["package/tmp-crate", "package"].map(|folder| target.join(folder).join(&packaged.archive));
    for archive in &archives {
        match fs::remove_file(archive) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", archive.display()));
            }
            _ => {}
        }
    }
    let phase = context.ui.phase("cargo publish --dry-run", Unit::Unknown);
    checked(&mut command).context("the crate could not be published")?;
    phase.finish("");
    let bytes = archives.iter().find_map(|archive| fs::read(archive).ok());
    let bytes = bytes.with_context(|| format!("cargo publish left no archive in {}", target.display()))?;
    if sha256(&bytes) != packaged.sha256 {
        bail!("cargo publish packs another archive than the one that was tried: {}", sha256(&bytes));
    }
    Ok(())
}

/// What became of the program on the crate.
pub struct Tried {
    /// The program.
    pub program: PathBuf,
    /// llama.cpp as the crate's build script made it.
    prebuilt: PathBuf,
}

/// Runs the program against a receiver in this process.
///
/// # Errors
/// It fails, or its spans do not arrive.
pub fn run(context: &Context, program: &Path) -> Result<()> {
    let model = model::ensure(context, Name::Tiny)?;
    let receiver = Receiver::start().context("cannot listen on the loopback")?;
    let mut command = Command::new(program);
    command.arg(model).arg(N_PREDICT.to_string()).stdin(Stdio::null());
    checked(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()))?;
    let found = receiver.stop().spans_named("llama_decode").len();
    if found != N_PREDICT {
        bail!("the program decoded {N_PREDICT} times, and {found} spans llama_decode arrived");
    }
    context.ui.say(format_args!("the program on the unpacked crate delivered its {found} spans llama_decode"));
    Ok(())
}

fn cargo(tools: &Tools, dir: &Path) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(dir).stdin(Stdio::null()).envs(tools.env());
    for name in ELSEWHERE {
        command.env_remove(name);
    }
    command
}
