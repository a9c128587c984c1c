//! The demo program as a process: started, followed by its JSON lines, ended in bounded time.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest silence: a big model on a slow disk, or one token on a slow machine.
const SILENCE: Duration = Duration::from_secs(600);

/// The longest time from the last line to the exit; the last export happens in it.
const FAREWELL: Duration = Duration::from_secs(60);

/// How many lines of the program's standard error are kept for a failure.
const STDERR_LINES: usize = 20;

/// One line of the demo program's standard output.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Loaded {},
    Prompt {
        n_tokens: u64,
    },
    Token {
        index: u64,
        #[serde(default)]
        piece: String,
    },
    Done {
        #[serde(default)]
        text: String,
        perf: Option<Perf>,
    },
}

/// llama.cpp's own accounting; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Perf {
    pub t_p_eval_ms: f64,
    pub t_eval_ms: f64,
    pub t_load_ms: f64,
}

/// How the program ended, and what it said of itself.
#[derive(Debug)]
pub struct Ending {
    pub status: ExitStatus,
    pub prompt_tokens: Option<u64>,
    /// Tokens generated.
    pub tokens: u64,
    pub text: Option<String>,
    pub perf: Option<Perf>,
    pub stderr_tail: Vec<String>,
}

/// Runs the command to its end and hands each event to `on_event`.
///
/// # Errors
/// It cannot be started, says nothing for ten minutes, or does not exit after its last line; in
/// the latter two cases it is killed.
pub fn run(mut command: Command, on_event: impl FnMut(&Event)) -> Result<Ending> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("cannot start the demo program {program}"))?;
    follow(Guard(child), on_event, SILENCE, FAREWELL)
}

/// Kills the program if we leave early.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(mut child: Guard, mut on_event: impl FnMut(&Event), silence: Duration, farewell: Duration) -> Result<Ending> {
    let (Some(stdout), Some(stderr)) = (child.0.stdout.take(), child.0.stderr.take()) else {
        bail!("the demo program has no output to follow");
    };
    let (lines, incoming) = mpsc::channel();
    thread::spawn(move || {
        for line in lines_of(stdout) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    // Its own channel: the pipe may outlive the program in one of its children.
    let (last_words, stderr_tail) = mpsc::channel();
    thread::spawn(move || {
        let mut tail = VecDeque::new();
        for line in lines_of(stderr) {
            if tail.len() == STDERR_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        let _ = last_words.send(Vec::from(tail));
    });

    let (mut prompt_tokens, mut tokens, mut text, mut perf) = (None, 0, None, None);
    loop {
        let line = match incoming.recv_timeout(silence) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!(
                "the demo program said nothing for {} s and was stopped\n\
                 help: try a smaller model, or more --threads",
                silence.as_secs()
            ),
        };
        // Other lines are not ours: a library may print what it likes.
        let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
        on_event(&event);
        match event {
            Event::Loaded {} => {}
            Event::Prompt { n_tokens } => prompt_tokens = Some(n_tokens),
            Event::Token { .. } => tokens += 1,
            Event::Done { text: it, perf: figures } => (text, perf) = (Some(it), figures),
        }
    }
    let status = wait(&mut child.0, farewell)?;
    let stderr_tail = stderr_tail.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    Ok(Ending { status, prompt_tokens, tokens, text, perf, stderr_tail })
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the demo program")? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            bail!(
                "the demo program did not exit within {} s of its last line and was stopped\n\
                 help: its last export may hang; does the OTLP endpoint answer?",
                limit.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn lines_of(pipe: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(pipe).split(b'\n').map_while(std::result::Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Guard {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Guard(command.spawn().unwrap())
    }

    #[test]
    fn events_are_followed_and_other_lines_skipped() {
        let script = r#"
            echo '{"event":"loaded","n_params":5,"size":10,"n_vocab":3}'; echo noise
            echo '{"event":"prompt","n_tokens":6}'
            echo '{"event":"token","index":0,"id":7,"piece":" Par"}'
            echo '{"event":"token","index":1,"id":8,"piece":"is"}'
            echo '{"event":"later"}'
            echo '{"event":"done","text":" Paris","perf":{"n_p_eval":6,"n_eval":1,"t_p_eval_ms":1.5,"t_eval_ms":2,"t_load_ms":3},"n_decoded":2}'
            echo 'a warning' >&2; exit 4"#;
        let mut pieces = String::new();
        let limit = Duration::from_secs(20);
        let collect = |event: &Event| {
            if let Event::Token { piece, .. } = event {
                pieces += piece;
            }
        };
        let ending = follow(shell(script), collect, limit, limit).unwrap();
        assert_eq!((ending.status.code(), ending.prompt_tokens, ending.tokens), (Some(4), Some(6), 2));
        assert_eq!((pieces.as_str(), ending.text.as_deref()), (" Paris", Some(" Paris")));
        let perf = Perf { t_p_eval_ms: 1.5, t_eval_ms: 2.0, t_load_ms: 3.0 };
        assert_eq!((ending.perf, ending.stderr_tail), (Some(perf), vec!["a warning".to_owned()]));
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let short = Duration::from_millis(200);
        let error = follow(shell("exec sleep 60"), |_| {}, short, short).unwrap_err().to_string();
        assert!(error.contains("said nothing"), "{error}");
        let script = "exec >&- 2>&-; exec sleep 60";
        let error = follow(shell(script), |_| {}, short * 20, short).unwrap_err().to_string();
        assert!(error.contains("did not exit"), "{error}");
    }
}
