//! `bench-faulty FAULT`: an OTLP receiver with that fault, for a program whose decoding is measured meanwhile.
//!
//! Prints its base URL over HTTP. Ends with its input.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::Duration,
};

use otlp_receiver::{Behaviour, Receiver};

/// How long the one that comes and goes is well, and how long not.
const TURN: Duration = Duration::from_millis(500);

const FAULTS: [(&str, Behaviour); 9] = [
    ("slow", Behaviour::Slow(Duration::from_secs(2))),
    ("too-many-requests", Behaviour::Refuse { status: 429, retry_after: Some(Duration::from_secs(1)) }),
    ("internal-error", Behaviour::Refuse { status: 500, retry_after: None }),
    ("unavailable", Behaviour::Refuse { status: 503, retry_after: None }),
    ("silent", Behaviour::Silent),
    ("trickle", Behaviour::Trickle),
    ("close", Behaviour::Close),
    ("garbage", Behaviour::Garbage),
    (RETURNING, Behaviour::Close),
];

/// Closes its connections and takes what is sent, in turns.
const RETURNING: &str = "returning";

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, behaviour)) = FAULTS.into_iter().find(|(fault, _)| *fault == name) else {
        eprintln!("usage: bench-faulty {}", FAULTS.map(|(fault, _)| fault).join("|"));
        return ExitCode::from(2);
    };
    match serve(behaviour, name == RETURNING) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-faulty: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(behaviour: Behaviour, returns: bool) -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::start()?.unrecorded();
    receiver.set_behaviour(behaviour);
    println!("{}", receiver.http_endpoint());
    io::stdout().flush()?;
    thread::scope(|scope| {
        let ended = scope.spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
        if returns {
            for turn in [Behaviour::Accept, behaviour].into_iter().cycle().take_while(|_| !ended.is_finished()) {
                thread::sleep(TURN);
                receiver.set_behaviour(turn);
            }
        }
        ended.join().map_err(|_| "the input could not be read")
    })??;
    receiver.stop();
    Ok(())
}
