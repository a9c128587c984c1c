//! `bench-faulty FAULT`: an OTLP receiver with that fault, for a program whose decoding is measured meanwhile.
//!
//! Prints its base URL over HTTP. Ends with its input.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use otlp_receiver::{Behaviour, Receiver};

const FAULTS: [(&str, Behaviour); 7] = [
    ("slow", Behaviour::Slow(Duration::from_secs(2))),
    ("too-many-requests", Behaviour::Refuse { status: 429, retry_after: Some(Duration::from_secs(1)) }),
    ("unavailable", Behaviour::Refuse { status: 503, retry_after: None }),
    ("silent", Behaviour::Silent),
    ("trickle", Behaviour::Trickle),
    ("close", Behaviour::Close),
    ("garbage", Behaviour::Garbage),
];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, behaviour)) = FAULTS.into_iter().find(|(fault, _)| *fault == name) else {
        eprintln!("usage: bench-faulty {}", FAULTS.map(|(fault, _)| fault).join("|"));
        return ExitCode::from(2);
    };
    match serve(behaviour) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-faulty: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(behaviour: Behaviour) -> Result<(), Box<dyn std::error::Error>> {
    let receiver = Receiver::start()?.unrecorded();
    receiver.set_behaviour(behaviour);
    println!("{}", receiver.http_endpoint());
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    receiver.stop();
    Ok(())
}
