//! One block for each line on standard input, so that this program and one with another backend can take turns.
//!
//! `block WORK` is answered with nanoseconds per operation, after `ready` in the first line. Ends with the input.

use std::io::{self, BufRead as _, Write as _};

use serde_json::{Value, json};

use crate::{compare, work};

/// # Errors
/// Telemetry is not on; there is no such work; standard output cannot be written to.
pub fn run() -> Result<Value, String> {
    work::start()?;
    let all = work::all();
    say("ready")?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let name = line.strip_prefix("block ").ok_or_else(|| format!("{line}: no such order"))?;
        let work = all.iter().find(|work| work.name == name).ok_or_else(|| format!("{name}: no such work"))?;
        say(&compare::block(work).to_string())?;
    }
    Ok(json!({ "dropped": work::dropped() }))
}

fn say(line: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}
