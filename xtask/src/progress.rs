//! What the user sees while a verb works: bars on a terminal, plain lines elsewhere, nothing with
//! `--quiet`. All of it goes to standard error; standard output belongs to results.

use std::{
    fmt::Display,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize, Stream::Stderr};

/// How messages and progress are shown.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    quiet: bool,
    bars: bool,
}

/// What a bar counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a download or a copy.
    Bytes,
    /// Files, compile steps, tokens.
    Steps,
    /// Nothing that can be counted: a spinner.
    Unknown,
}

impl Ui {
    /// `quiet` silences messages and progress; bars need a terminal.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, bars: !quiet && stderr().is_terminal() }
    }

    /// Whether only results and errors are wanted.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// One line for the user.
    pub fn say(&self, line: impl Display) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// One line that even `--quiet` shows.
    pub fn warn(&self, line: impl Display) {
        eprintln!("{} {line}", "warning:".if_supports_color(Stderr, |text| text.yellow()));
    }

    /// Starts a piece of work that takes time; it is over when [`Phase::finish`] is called or the value dropped.
    pub fn phase(&self, label: impl Into<String>, unit: Unit) -> Phase {
        let label = label.into();
        let bar = self.bars.then(|| bar(&label, unit));
        if bar.is_none() {
            self.say(format_args!("{label} ..."));
        }
        Phase { ui: *self, label, started: Instant::now(), bar }
    }
}

/// A piece of work under way.
pub struct Phase {
    ui: Ui,
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Phase {
    /// Sets how much is done, of how much.
    pub fn set(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done.min(total));
        }
    }

    /// Shows a word about what is being done now.
    pub fn note(&self, note: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(note.into());
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the work and says how long it took, with `note` if it is not empty.
    pub fn finish(mut self, note: impl Display) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let note = note.to_string();
        let separator = if note.is_empty() { "" } else { ": " };
        self.ui.say(format_args!("{}{separator}{note} ({:.1} s)", self.label, self.elapsed().as_secs_f64()));
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: &str, unit: Unit) -> ProgressBar {
    let (bar, template) = match unit {
        Unit::Bytes => {
            (ProgressBar::new(0), "{prefix:<28} {bar:32.cyan} {bytes:>10}/{total_bytes} {bytes_per_sec} {wide_msg}")
        }
        Unit::Steps => (ProgressBar::new(0), "{prefix:<28} {bar:32.cyan} {pos:>5}/{len} {elapsed} {wide_msg}"),
        Unit::Unknown => (ProgressBar::new_spinner(), "{prefix:<28} {spinner} {elapsed} {wide_msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// `(done, total)` of a line of ninja's output, `[12/345] Building CXX object …`.
pub fn ninja_step(line: &str) -> Option<(u64, u64)> {
    let (step, _) = line.strip_prefix('[')?.split_once(']')?;
    let (done, total) = step.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// Prints an error with its causes, one a line.
pub fn print_error(error: &anyhow::Error) {
    eprintln!("{} {error}", "error:".if_supports_color(Stderr, |text| text.red()));
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninja_steps_are_read() {
        assert_eq!(ninja_step("[12/345] Building CXX object src/llama.cpp.o"), Some((12, 345)));
        assert_eq!(ninja_step("[  1/  9] Linking"), Some((1, 9)));
    }

    #[test]
    fn other_lines_are_not_steps() {
        for line in ["-- Configuring done", "[x/3] a", "[1/2", "[12] a", ""] {
            assert_eq!(ninja_step(line), None, "{line}");
        }
    }
}
