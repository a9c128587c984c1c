//! Runs the steps of a build: what they print is logged and handed on, and of a failed one the lines that say why are kept.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::error::{Error, at};
use crate::toolchain::Tools;
use crate::tree::Tree;

/// How many of the last lines an error shows if none of them says `error`.
const TAIL: usize = 20;
/// How many lines with `error` in them an error shows.
const ERRORS: usize = 12;

/// The `PATH` with ninja's folder: projects inside llama.cpp's, such as the one that makes Vulkan's
/// shaders, look for it anew.
fn search_path(tools: &Tools) -> Option<OsString> {
    let dir = tools.ninja.as_ref()?.parent().filter(|dir| !dir.as_os_str().is_empty())?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::env::split_paths(&path).chain([dir.to_path_buf()])).ok()
}

/// Runs the steps of one build and hands on what they print.
pub(crate) struct Run<'a> {
    cmake: PathBuf,
    search_path: Option<OsString>,
    ceiling: PathBuf,
    log_path: PathBuf,
    log: File,
    on_line: &'a mut dyn FnMut(&str),
}

impl<'a> Run<'a> {
    pub fn start(tools: &Tools, tree: &Tree, dir: &Path, on_line: &'a mut dyn FnMut(&str)) -> Result<Run<'a>, Error> {
        let log_path = dir.join("build.log");
        Ok(Run {
            cmake: tools.cmake.clone(),
            search_path: search_path(tools),
            ceiling: tree.root.parent().unwrap_or(&tree.root).to_path_buf(),
            log: File::create(&log_path).map_err(at("create", &log_path))?,
            log_path,
            on_line,
        })
    }

    pub(super) fn step(&mut self, step: &'static str, arguments: &[String]) -> Result<(), Error> {
        let mut command = Command::new(&self.cmake);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // llama.cpp asks git for a commit. A tree inside another checkout, this project's
            // for one, must not get that one's.
            .env("GIT_CEILING_DIRECTORIES", &self.ceiling)
            .env("NINJA_STATUS", "[%f/%t] ")
            // Cargo's flags for a job server that the build tool cannot reach.
            .env_remove("MAKEFLAGS")
            .env_remove("CARGO_MAKEFLAGS");
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        let mut child = command.spawn().map_err(at("start", &self.cmake))?;
        let (sender, lines) = mpsc::channel();
        let readers = [
            child.stdout.take().map(|out| forward(out, sender.clone())),
            child.stderr.take().map(|out| forward(out, sender)),
        ];
        let mut reason = Reason::default();
        for line in lines {
            // The log is for people: a full disk shows up elsewhere.
            let _ = writeln!(self.log, "{line}");
            reason.see(&line);
            (self.on_line)(&line);
        }
        for reader in readers.into_iter().flatten() {
            let _ = reader.join();
        }
        let status = child.wait().map_err(at("wait for", &self.cmake))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Step {
            step,
            status: status.to_string(),
            command: format!("{} {}", self.cmake.display(), arguments.join(" ")),
            lines: reason.text(),
            log: self.log_path.clone(),
        })
    }
}

/// Sends every line of a stream on, whatever its bytes.
fn forward(stream: impl Read + Send + 'static, to: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// Picks the lines that say why a step failed.
#[derive(Default)]
struct Reason {
    errors: Vec<String>,
    tail: VecDeque<String>,
    /// CMake puts the text of an error on the lines after its heading.
    follow: usize,
}

impl Reason {
    fn see(&mut self, line: &str) {
        let heading = line.starts_with("CMake Error");
        let is_error = heading || line.contains("error:") || line.contains("undefined reference");
        if heading {
            self.follow = 6;
        }
        if (is_error || self.follow > 0) && self.errors.len() < ERRORS && !line.is_empty() {
            self.errors.push(line.to_owned());
        }
        self.follow = self.follow.saturating_sub(usize::from(!heading));
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn text(self) -> String {
        let lines = if self.errors.is_empty() { self.tail.into() } else { self.errors };
        lines.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_the_lines_that_say_why() {
        let mut reason = Reason::default();
        for line in ["[1/9] a.cpp", "x.cpp:3:1: error: no", "[2/9] b.cpp", "ninja: stopped"] {
            reason.see(line);
        }
        assert_eq!(reason.text(), "  | x.cpp:3:1: error: no");

        let mut reason = Reason::default();
        for line in ["CMake Error at CMakeLists.txt:3 (project):", "  No C++ compiler", "", "after"] {
            reason.see(line);
        }
        assert!(reason.text().contains("No C++ compiler"));

        let mut reason = Reason::default();
        (0..30).for_each(|n| reason.see(&format!("line {n}")));
        assert_eq!(reason.text().lines().count(), TAIL);
    }
}
