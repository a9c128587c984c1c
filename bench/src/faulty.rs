//! `bench-faulty FAULT`: an OTLP receiver with that fault, for a program whose decoding is measured meanwhile.
//!
//! Prints its base URL over HTTP. Ends with its input.

use std::{
    error::Error,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use otlp_receiver::{Behaviour, Receiver};

// the one that the tests have
#[path = "../../otel-shim/tests/tls_server/mod.rs"]
mod tls_server;

use tls_server::{TlsServer, certified};

/// How long the one that comes and goes is well, and how long not; how long the one that moves stays.
const TURN: Duration = Duration::from_millis(500);

/// What is wrong.
#[derive(Clone, Copy)]
enum Fault {
    Behaves(Behaviour),
    /// Closes its connections and takes what is sent, in turns.
    ComesAndGoes,
    /// Is at the one and at the other address of `localhost`, in turns.
    Moves,
    /// Shows a certificate that nobody trusts.
    NotTrusted,
}

const FAULTS: [(&str, Fault); 11] = [
    ("slow", Fault::Behaves(Behaviour::Slow(Duration::from_secs(2)))),
    ("too-many-requests", refuses(429, Some(Duration::from_secs(1)))),
    ("internal-error", refuses(500, None)),
    ("unavailable", refuses(503, None)),
    ("silent", Fault::Behaves(Behaviour::Silent)),
    ("trickle", Fault::Behaves(Behaviour::Trickle)),
    ("close", Fault::Behaves(Behaviour::Close)),
    ("garbage", Fault::Behaves(Behaviour::Garbage)),
    ("returning", Fault::ComesAndGoes),
    ("moving", Fault::Moves),
    ("not-trusted", Fault::NotTrusted),
];

const fn refuses(status: u16, retry_after: Option<Duration>) -> Fault {
    Fault::Behaves(Behaviour::Refuse { status, retry_after })
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, fault)) = FAULTS.into_iter().find(|(fault, _)| *fault == name) else {
        eprintln!("usage: bench-faulty {}", FAULTS.map(|(fault, _)| fault).join("|"));
        return ExitCode::from(2);
    };
    let served = match fault {
        Fault::Behaves(behaviour) => behaves(behaviour),
        Fault::ComesAndGoes => comes_and_goes(),
        Fault::Moves => moves(),
        Fault::NotTrusted => not_trusted(),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-faulty: {message}");
            ExitCode::FAILURE
        }
    }
}

type Served = Result<(), Box<dyn Error>>;

/// Says where it is, and has `turn` called every half second until the input ends.
fn serve(url: &str, mut turn: impl FnMut() -> Served) -> Served {
    println!("{url}");
    io::stdout().flush()?;
    let (end, ended) = mpsc::channel();
    thread::spawn(move || end.send(io::copy(&mut io::stdin(), &mut io::sink())));
    loop {
        match ended.recv_timeout(TURN) {
            Err(RecvTimeoutError::Timeout) => turn()?,
            read => {
                read??;
                return Ok(());
            }
        }
    }
}

fn behaves(behaviour: Behaviour) -> Served {
    let receiver = Receiver::start()?.unrecorded();
    receiver.set_behaviour(behaviour);
    serve(&receiver.http_endpoint(), || Ok(()))
}

fn comes_and_goes() -> Served {
    let receiver = Receiver::start()?.unrecorded();
    let mut turns = [Behaviour::Close, Behaviour::Accept].into_iter().cycle();
    serve(&receiver.http_endpoint(), || {
        receiver.set_behaviour(turns.next().unwrap_or(Behaviour::Accept));
        Ok(())
    })
}

fn moves() -> Served {
    let first = Receiver::start_on("[::1]:0".parse()?, "[::1]:0".parse()?)
        .map_err(|error| format!("`localhost` needs a second address to move to: {error}"))?;
    let (grpc, http) = first.addresses();
    let there = move |address: SocketAddr| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
    let mut addresses = [(there(grpc), there(http)), (grpc, http)].into_iter().cycle();
    let mut receiver = Some(first.unrecorded());
    serve(&format!("http://localhost:{}", http.port()), || {
        receiver = None; // the old one is gone before the new one is there
        let (grpc, http) = addresses.next().ok_or("two addresses in turn")?;
        // where a connection of another program has the port just then, it is nowhere for a turn
        receiver = Receiver::start_on(grpc, http).ok().map(Receiver::unrecorded);
        Ok(())
    })
}

fn not_trusted() -> Served {
    let receiver = Receiver::start()?.unrecorded();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let to = receiver.addresses().1;
    let server = runtime.block_on(TlsServer::start(&certified(), "http/1.1", to, None));
    serve(&format!("https://localhost:{}", server.address.port()), || Ok(()))
}
