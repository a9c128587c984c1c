//! The user's Python: found, and asked for virtual environments and for packages through the user's
//! own pip configuration, so that mirrors, proxies and offline folders work.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{cache::Slot, context::Context, install::install_command};

/// A Python 3 that answers.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
    leading: &'static [&'static str],
    /// As Python gives it, `3.11.7`.
    pub version: String,
}

impl Python {
    /// The first Python 3.8 or newer of: `$PYTHON`, `python3`, `python`, `py -3`.
    pub fn find() -> Option<Self> {
        let named = env::var_os("PYTHON").filter(|name| !name.is_empty());
        let candidates = [
            (named, &[] as &[&str]),
            (Some("python3".into()), &[]),
            (Some("python".into()), &[]),
            (Some("py".into()), &["-3"]),
        ];
        candidates.into_iter().find_map(|(name, leading)| Self::try_new(&name?, leading))
    }

    /// [`find`](Self::find), or what to install.
    ///
    /// # Errors
    /// There is no Python 3.8 or newer.
    pub fn required(purpose: &str) -> Result<Self> {
        Self::find().with_context(|| {
            let command = install_command(&["python3"]);
            format!("{purpose} needs Python 3.8 or newer, and none was found on the PATH\nhelp: {command}")
        })
    }

    fn try_new(name: &OsStr, leading: &'static [&'static str]) -> Option<Self> {
        let program = which::which(name).ok()?;
        let mut python = Self { program, leading, version: String::new() };
        let version = python.ask("import sys; print('%d.%d.%d' % sys.version_info[:3])").ok()?;
        let (major, minor) =
            version.split_once('.').and_then(|(major, rest)| Some((major, rest.split_once('.')?.0)))?;
        let recent = major.parse::<u32>().ok()? == 3 && minor.parse::<u32>().ok()? >= 8;
        python.version = version;
        recent.then_some(python)
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.program
    }

    /// A command that starts it with its own leading arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.leading).env_remove("PYTHONHOME").stdin(Stdio::null());
        command
    }

    /// Whether it can make virtual environments (Debian splits that off).
    pub fn has_venv(&self) -> bool {
        self.ask("import venv, ensurepip").is_ok()
    }

    /// Standard output of a small program.
    ///
    /// # Errors
    /// It fails, or Python does not start.
    pub fn ask(&self, program: &str) -> Result<String> {
        let output = checked(self.command().args(["-c", program]))?;
        Ok(output.trim().to_owned())
    }

    /// Makes a virtual environment in `dir` and returns its Python.
    ///
    /// # Errors
    /// Python has no `venv` module, or making it fails.
    pub fn make_venv(&self, dir: &Path) -> Result<Self> {
        if !self.has_venv() {
            let command = install_command(&["python3"]);
            bail!(
                "Python {} at {} has no `venv` module, which installing anything for llama-otel needs\nhelp: {command}",
                self.version,
                self.program.display()
            );
        }
        checked(self.command().args(["-m", "venv"]).arg(dir))?;
        let program = dir.join(if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" });
        Ok(Self { program, leading: &[], version: self.version.clone() })
    }

    /// A Python that has pip: this one, else that of a virtual environment in the cache.
    ///
    /// # Errors
    /// Those of [`make_venv`](Self::make_venv); the cache cannot be written.
    pub fn with_pip(&self, context: &Context) -> Result<Self> {
        if self.ask("import pip").is_ok() {
            return Ok(self.clone());
        }
        let dir = context.cache.join("tools").join(format!("pip-{}", self.version));
        let slot = Slot::lock(&dir, &context.ui)?;
        let program = dir.join(if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" });
        let inside = Self { program, leading: &[], version: self.version.clone() };
        if inside.ask("import pip").is_err() {
            slot.replace(|new| self.make_venv(new))?;
        }
        Ok(inside)
    }

    /// A command that starts pip and waits for its arguments.
    pub fn pip_command(&self) -> Command {
        let mut command = self.command();
        command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
        command
    }

    /// `pip ARGS`, quietly; what pip prints becomes part of the error.
    ///
    /// # Errors
    /// pip fails, with [`NoPackages`].
    pub fn pip<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, temp: Option<&Path>) -> Result<()> {
        let mut command = self.pip_command();
        command.args(args);
        if let Some(temp) = temp {
            command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, temp)));
        }
        checked(&mut command).context(NoPackages)?;
        Ok(())
    }
}

/// In an error, by `downcast_ref`: that pip did not bring what it was asked for.
#[derive(Debug)]
pub struct NoPackages;

impl fmt::Display for NoPackages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pip could not install what is needed")
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It does not start, or fails: then with the last lines that it printed.
pub fn checked(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!("`{shown}` failed ({})\n{}", output.status, last_lines(&text, 15));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let mut words = vec![OsString::from(command.get_program())];
    words.extend(command.get_args().map(OsString::from));
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// The last `count` lines of `text` that are not empty, indented.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(count);
    lines.iter().skip(start).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
