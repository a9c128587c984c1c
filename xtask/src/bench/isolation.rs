//! Decoding while the receiver is at fault, against decoding while it is well: two processes of the same program, which
//! take turns block by block, each with a receiver of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    cores::Cores,
    decoding::{Behind, Programs, block, in_turns},
    programs::{self, Dialogue, Sink},
    row::{Row, median},
    statistics::{estimate, ratio_rows},
    tiny,
};
use crate::{context::Context, progress::Unit};

/// Goal: this much of the time of a decode whose spans arrive.
const RATIO: f64 = 1.01;
/// Tokens of a block; the context holds a few more.
const BLOCK: u64 = 250;
/// Both decode for this long before anything is measured: the fault is met, the queue is full, what fails is tried again.
const SETTLE: Duration = Duration::from_millis(2500);

/// What is wrong, by the name of the row.
enum Fault {
    /// Nobody listens.
    Absent,
    /// TLS is asked of a receiver that speaks none.
    Tls,
    /// A fault of `bench-faulty`.
    Receiver(&'static str),
}

const FAULTS: [(&str, Fault); 13] = [
    ("absent", Fault::Absent),
    ("tls", Fault::Tls),
    ("slow", Fault::Receiver("slow")),
    ("too_many_requests", Fault::Receiver("too-many-requests")),
    ("internal_error", Fault::Receiver("internal-error")),
    ("unavailable", Fault::Receiver("unavailable")),
    ("silent", Fault::Receiver("silent")),
    ("trickle", Fault::Receiver("trickle")),
    ("close", Fault::Receiver("close")),
    ("garbage", Fault::Receiver("garbage")),
    ("returning", Fault::Receiver("returning")),
    ("moving", Fault::Receiver("moving")),
    ("not_trusted", Fault::Receiver("not-trusted")),
];

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub behind: Behind,
    /// Times that both processes are started anew for each fault: where memory lies in one moves its figures by a percent
    #[arg(long, default_value_t = Args::default().sessions, value_name = "N")]
    pub sessions: usize,
    /// Sessions of a fault at most: it gets more of them until its interval lies on one side of the goal
    #[arg(long, default_value_t = Args::default().most_sessions, value_name = "N")]
    pub most_sessions: usize,
    /// Blocks of each process in a session
    #[arg(long, default_value_t = Args::default().rounds, value_name = "N")]
    pub rounds: usize,
}

impl Default for Args {
    fn default() -> Self {
        Self { behind: Behind::default(), sessions: 7, most_sessions: 21, rounds: 60 }
    }
}

/// Measures.
///
/// # Errors
/// The programs cannot be built or run.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let programs = Programs::build(context, args.behind)?;
    let faulty = programs::faulty(context)?;
    let model = tiny::model(context)?;
    let cores = Cores::part();
    let sink = Sink::start(&programs.sink)?;
    let phase = context.ui.phase("one-layer model, the receiver at fault", Unit::Steps);
    let (mut rows, mut sessions) = (Vec::new(), 0);
    for (done, (name, fault)) in FAULTS.iter().enumerate() {
        let mut ratios = Vec::with_capacity(args.sessions);
        while ratios.len() < args.sessions || ratios.len() < args.most_sessions && estimate(&ratios).undecided(RATIO) {
            let session = ratios.len();
            phase
                .set((done * args.sessions + session.min(args.sessions)) as u64, (FAULTS.len() * args.sessions) as u64);
            // Held until the session ends: it is the receiver.
            let (_receiver, endpoint) = begin(fault, &faulty, &sink)?;
            // Whichever process starts first has the same luck as often.
            let endpoints = [sink.endpoint.as_str(), endpoint.as_str()];
            ratios.push(ratio(&programs.patched, &model, &cores, endpoints, session % 2, args.rounds)?);
        }
        sessions += ratios.len();
        rows.extend(ratio_rows(&format!("isolation.{name}"), &ratios, Some(RATIO)));
    }
    phase.finish(format_args!("{sessions} sessions of {} blocks", args.rounds));
    Ok(rows)
}

/// The receiver with the fault, if there is one, and its URL.
fn begin(fault: &Fault, faulty: &Path, sink: &Sink) -> Result<(Option<Dialogue>, String)> {
    Ok(match fault {
        Fault::Absent => (None, programs::nobody()?),
        Fault::Tls => (None, sink.endpoint.replacen("http:", "https:", 1)),
        Fault::Receiver(name) => {
            let mut receiver = Dialogue::start(faulty, &[name], &[])?;
            let endpoint = receiver.line()?;
            (Some(receiver), endpoint)
        }
    })
}

/// CPU time of a decode in the process of the second endpoint against that in the process of the first: the median of the ratios
/// of two blocks that follow each other, upon which what else the machine does falls alike.
fn ratio(
    program: &Path,
    model: &Path,
    cores: &Cores,
    endpoints: [&str; 2],
    first: usize,
    rounds: usize,
) -> Result<f64> {
    let model = model.to_str().context("the model's path is not UTF-8")?;
    let start = |which: usize| {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoints[which]),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("LLAMA_OTEL_DETAIL", "decode"),
            // one line for each signal and process, all meant
            ("OTEL_LOG_LEVEL", "none"),
        ];
        Dialogue::start(program, &[model], &variables)
    };
    // by turn; the figures are put back in the order of the endpoints
    let mut processes = [start(first)?, start(1 - first)?];
    for process in &mut processes {
        process.ask("run 1")?;
        cores.give(process);
    }
    let settled = Instant::now();
    while settled.elapsed() < SETTLE {
        for process in &mut processes {
            process.ask(&format!("run {BLOCK}"))?;
        }
    }
    let times = in_turns(2, rounds, |_, which| Ok(block(&mut processes[which], None, "run", BLOCK)?.cpu))?;
    let ratios: Vec<_> = times[1 - first].iter().zip(&times[first]).map(|(at_fault, well)| at_fault / well).collect();
    Ok(median(&ratios))
}
