//! Strings from a program or a model file, made fit for export: valid UTF-8, no control characters, at most 256 bytes.

/// Longest exported string, bytes.
pub const MAX_BYTES: usize = 256;

/// Invalid bytes become U+FFFD, control characters a space; a character cut at the end is left out.
pub fn clean(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().min(MAX_BYTES));
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        let cut_at_the_end = chunks.peek().is_none() && bytes.len() >= MAX_BYTES;
        let replacement = (!chunk.invalid().is_empty() && !cut_at_the_end).then_some(char::REPLACEMENT_CHARACTER);
        for c in chunk.valid().chars().map(|c| if c.is_control() { ' ' } else { c }).chain(replacement) {
            if out.len() + c.len_utf8() > MAX_BYTES {
                return out;
            }
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn keeps_ordinary_text() {
        assert_eq!(clean("Gemma 3 270M – ünïcode".as_bytes()), "Gemma 3 270M – ünïcode");
    }

    #[test]
    fn replaces_what_is_not_text() {
        assert_eq!(clean(b"a\nb\0c\x1b[31m\xff!"), "a b c [31m\u{fffd}!");
    }

    #[test]
    fn cuts_between_characters() {
        let long = "é".repeat(200);
        assert_eq!(clean(&long.as_bytes()[..256]), "é".repeat(128));
        let odd = format!("a{long}");
        assert_eq!(clean(&odd.as_bytes()[..256]), format!("a{}", "é".repeat(127)));
        assert!(clean(&[0xff; 1000]).len() <= 256);
    }
}
