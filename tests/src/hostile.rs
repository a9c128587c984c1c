//! Model files with hostile texts in them, and what must hold of every string that is exported all the same.

use std::path::Path;

use otlp_receiver::Telemetry;
use serde_json::Value as Json;
use tiny_gguf::GgufWriter;

/// Control characters, an escape sequence, invalid and cut UTF-8, quotes, braces.
pub const HOSTILE: &[u8] = b"a\nb\r\x00c\x1b[31m\xff\xfe\"quoted\" 'x' {\"j\":1} \xc3\xa9 \xe2\x82";

/// So many bytes of [`HOSTILE`], again and again.
pub fn hostile(n: usize) -> Vec<u8> {
    HOSTILE.iter().copied().cycle().take(n).collect()
}

/// Every string of what was exported, keys and names included.
fn strings<'j>(json: &'j Json, found: &mut Vec<&'j str>) {
    match json {
        Json::String(text) => found.push(text),
        Json::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Json::Object(map) => map.iter().for_each(|(key, value)| {
            found.push(key);
            strings(value, found);
        }),
        _ => {}
    }
}

/// Every exported string has at most 256 bytes and no control character. Valid UTF-8 they are: the receiver refuses a request
/// that is not.
///
/// # Panics
/// One is longer, or has a control character.
pub fn check_strings(telemetry: &Telemetry) {
    let json = serde_json::to_value(telemetry).expect("telemetry is JSON");
    let mut found = Vec::new();
    strings(&json, &mut found);
    assert!(found.len() > 100, "only {} strings were exported", found.len());
    for text in found {
        assert!(text.len() <= 256, "{} bytes: {text:?}", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// Writes a model whose file has `to` for each text `from`, which is as long, and says where they are.
///
/// # Panics
/// The model cannot be written; the texts are not of the same length; the file has no such text.
pub fn write_with(path: &Path, gguf: &GgufWriter, from: &str, to: &[u8]) -> Vec<usize> {
    assert_eq!(from.len(), to.len());
    let mut bytes = gguf.to_bytes().expect("a model");
    let mut places = Vec::new();
    let mut at = 0;
    // behind what was found, so that a text of ten million equal letters is not compared with itself at each of them
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to);
            places.push(at);
            at += from.len();
        } else {
            at += 1;
        }
    }
    assert!(!places.is_empty(), "{} is not in the file", &from[..from.len().min(40)]);
    std::fs::write(path, bytes).expect("the model is written");
    places
}
