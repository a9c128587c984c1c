//! A throw-away checkout with a cache of its own, and the xtask program run in it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Removed when dropped.
pub struct Checkout {
    dir: TempDir,
}

impl Checkout {
    /// A checkout with an `upstream.toml` whose only pin, `a`, is the folder `fork`.
    pub fn new() -> Self {
        let checkout = Self { dir: tempfile::tempdir().unwrap() };
        checkout.upstream(r#"{ kind = "path", dir = "fork" }"#, None);
        checkout
    }

    /// Writes an `upstream.toml` whose only pin is `a`.
    pub fn upstream(&self, source: &str, sha256: Option<&str>) {
        let sha256 = sha256.map(|sha256| format!("sha256 = \"{sha256}\"\n")).unwrap_or_default();
        let text = format!("default = \"a\"\n[pin.a]\nsource = {source}\n{sha256}");
        fs::write(self.path().join("upstream.toml"), text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A folder in the checkout, made if it is not there.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub fn vendor(&self, pin: &str) -> PathBuf {
        self.path().join("vendor").join(pin)
    }

    /// The sorted names in a folder; none if it is not there.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(dir)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The program, told to work here.
    pub fn xtask<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("--checkout").arg(self.path()).args(args).env("LLAMA_OTEL_CACHE", self.path().join("cache"));
        command
    }
}

/// Standard output of a run that must succeed.
pub fn success(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that must fail, with an error of ours.
pub fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{command:?} did not fail as it should\n{stderr}");
    assert!(stderr.contains("error:") && !stderr.contains("panicked"), "{stderr}");
    stderr
}
