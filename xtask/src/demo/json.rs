//! The telemetry as one JSON document, for scripts.

use otlp_receiver::Telemetry;
use std::io::{self, Write};

/// Writes the document and a newline.
///
/// # Errors
/// Those of the writer.
pub fn write(mut out: impl Write, telemetry: &Telemetry) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, telemetry)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use otlp_receiver::Telemetry;

    #[test]
    fn the_document_reads_back_as_the_same_telemetry() {
        let telemetry = fixture::run("model");
        let mut out = Vec::new();
        super::write(&mut out, &telemetry).unwrap();
        let back: Telemetry = serde_json::from_slice(&out).unwrap();
        assert!(back == telemetry, "the telemetry differs");
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
