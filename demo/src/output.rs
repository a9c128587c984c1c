//! What the program prints: one JSON object a line, or the text as it comes.

use std::io::{self, Stdout, Write};

use serde::Serialize;

/// One line of the JSON output.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The devices that the backends have.
    Devices { devices: Vec<Device> },
    /// The model is loaded; `size` in bytes.
    Loaded { n_params: u64, size: u64, n_vocab: usize },
    /// The prompt is tokenised.
    Prompt { n_tokens: usize },
    /// A token was chosen. `piece` is the text that became complete with it.
    Token { index: u32, id: i32, piece: &'a str },
    /// `llama_decode` failed.
    DecodeError { ret: i32 },
    /// Everything went well.
    Done(Summary),
}

/// Something that computes; `memory` in bytes.
#[derive(Debug, Serialize)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub kind: &'static str,
    pub memory: u64,
}

/// The end of a successful run.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The text of the last round.
    pub text: String,
    /// llama.cpp's own counters, over all rounds.
    pub perf: Perf,
    /// Tokens chosen, over all rounds.
    pub n_generated: u64,
    /// Tokens decoded one by one after a prompt, over all rounds: the last one chosen in a round
    /// is not decoded.
    pub n_decoded: u64,
    /// Wall-clock seconds of each round's generation, without its prompt.
    pub decode_s: Vec<f64>,
    /// SHA-256 over the bytes of every row of logits that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logits_sha256: Option<String>,
}

/// `llama_perf_context`.
#[derive(Debug, Serialize)]
pub struct Perf {
    pub n_p_eval: i32,
    pub n_eval: i32,
    pub n_reused: i32,
    pub t_p_eval_ms: f64,
    pub t_eval_ms: f64,
    pub t_load_ms: f64,
}

/// Where events go.
pub struct Output {
    json: bool,
    stdout: Stdout,
}

impl Output {
    pub fn new(json: bool) -> Output {
        Output { json, stdout: io::stdout() }
    }

    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut out = self.stdout.lock();
        match event {
            event if self.json => {
                serde_json::to_writer(&mut out, event)?;
                writeln!(out)
            }
            Event::Token { piece, .. } => {
                out.write_all(piece.as_bytes())?;
                out.flush()
            }
            Event::Done(_) => writeln!(out),
            _ => Ok(()),
        }
    }
}

/// Turns the bytes of tokens into text: a character may be spread over several tokens, and a
/// model may well produce bytes that are none.
#[derive(Default)]
pub struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The text that is complete with these bytes. What can never become a character is replaced.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            kept += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = kept + invalid.len() == self.pending.len();
            if invalid.is_empty() || (is_last && is_unfinished(invalid)) {
                continue;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            kept += invalid.len();
        }
        self.pending.drain(..kept);
        text
    }

    /// What is left at the end.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could complete this to a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[&[u8]]) -> (Vec<String>, String) {
        let mut stream = Utf8Stream::default();
        let pieces = bytes.iter().map(|bytes| stream.push(bytes)).collect();
        (pieces, stream.finish())
    }

    #[test]
    fn a_character_over_several_tokens_appears_once() {
        let (texts, rest) = pieces(&[b"a", b"\xe2", b"\x82", b"\xac", b"b"]);
        assert_eq!(texts, ["a", "", "", "€", "b"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_at_once() {
        let (texts, rest) = pieces(&[b"\xff", b"x\x80y", b"\xe2A", b"\xf0\x9f"]);
        assert_eq!(texts, ["\u{fffd}", "x\u{fffd}y", "\u{fffd}A", ""]);
        assert_eq!(rest, "\u{fffd}");
    }

    #[test]
    fn pieces_and_rest_are_the_lossy_text() {
        let bytes: Vec<u8> = (0..=255u8).chain("ä€😀".bytes()).chain([0xf0, 0x9f]).collect();
        for size in 1..6 {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            let (texts, rest) = pieces(&chunks);
            assert_eq!(texts.concat() + &rest, String::from_utf8_lossy(&bytes), "{size}");
        }
    }

    #[test]
    fn events_are_the_documented_lines() {
        let line = |event| serde_json::to_string(&event).unwrap();
        let token = Event::Token { index: 3, id: 7, piece: "x" };
        assert_eq!(line(token), r#"{"event":"token","index":3,"id":7,"piece":"x"}"#);
        assert_eq!(line(Event::DecodeError { ret: -1 }), r#"{"event":"decode_error","ret":-1}"#);
    }
}
