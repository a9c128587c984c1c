//! What `LLAMA_OTEL_DETAIL=op` costs, device by device: processes that take turns, a block of tokens each, with the times of
//! operations and without. A device that cannot be had here is left out, with a line that says why.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use llama_build::{Backend, Backends, Telemetry};

use super::{
    decoding::{self, in_turns},
    programs::{self, Dialogue, Sink},
    row::{Row, median},
    statistics::ratio_rows,
};
use crate::{
    backends,
    build::{self, Request},
    context::Context,
    model::{self, Name},
    progress::Unit,
    tools,
};

/// Command line of the subject.
#[derive(clap::Args)]
pub struct Args {
    /// Blocks of each way of decoding
    #[arg(long, default_value_t = 60, value_name = "N")]
    rounds: usize,
    /// Only the generated model, not gemma3-270m
    #[arg(long)]
    tiny: bool,
}

/// How a device is used.
struct Device {
    name: &'static str,
    /// What must be compiled in; `None`: the processor.
    backend: Option<Backend>,
    /// As the program is told it.
    argument: &'static str,
    /// The command of a block: single tokens, or prompts, where a library for matrices is asked.
    command: &'static str,
    /// Tokens of a block of the generated model, and of gemma3-270m.
    tokens: [u64; 2],
}

const DEVICES: [Device; 4] = [
    Device { name: "cpu", backend: None, argument: "none", command: "run", tokens: [200, 4] },
    Device { name: "blas", backend: Some(Backend::Blas), argument: "none", command: "prompt", tokens: [1280, 64] },
    Device { name: "vulkan", backend: Some(Backend::Vulkan), argument: "Vulkan0", command: "run", tokens: [10, 1] },
    Device { name: "rpc", backend: Some(Backend::Rpc), argument: "RPC0", command: "run", tokens: [50, 4] },
];

/// A process that decodes, and the server that computes for it where there is one.
struct Process {
    dialogue: Dialogue,
    // dropped after the client
    _server: Option<Dialogue>,
}

/// One way of decoding: the process, and the level of detail that it is set to.
type Way = (usize, &'static str);

/// Measures.
///
/// # Errors
/// The programs cannot be built or run; the models cannot be had.
pub fn rows(context: &Context, args: &Args) -> Result<Vec<Row>> {
    let wanted: Backends = DEVICES.iter().filter_map(|device| device.backend).collect();
    let tools = tools::ensure(context)?;
    let complete = backends::complete(context, &wanted, false)?;
    let built = build::ensure(context, &tools, &Request::of(complete.clone(), Some(Telemetry::Rust)))?;
    let program = programs::decode_as(context, &tools, &built, Some(Telemetry::Rust), "decode-backends")?;
    let sink = Sink::start(&programs::sink(context)?)?;
    let mut models = vec![("tiny", model::ensure(context, Name::Tiny)?)];
    if !args.tiny {
        models.push(("gemma3_270m", model::ensure(context, Name::Gemma3_270m)?));
    }
    let run = Run { context, program, endpoint: &sink.endpoint, rounds: args.rounds };
    let mut rows = Vec::new();
    for device in &DEVICES {
        if let Some(backend) = device.backend.filter(|backend| !complete.contains(*backend)) {
            eprintln!("skipped: {backend}: its toolkit is not here (`cargo xtask doctor` says what gets it)");
            continue;
        }
        for (which, (name, model)) in models.iter().enumerate() {
            match run.device(device, name, model, device.tokens[which]) {
                Ok(measured) => rows.extend(measured),
                // No driver, no device: the rest can be measured all the same.
                Err(error) if device.backend == Some(Backend::Vulkan) => {
                    eprintln!("skipped: {}: {error:#}", device.name)
                }
                Err(error) => return Err(error.context(format!("{} could not be measured", device.name))),
            }
        }
    }
    Ok(rows)
}

struct Run<'a> {
    context: &'a Context,
    program: PathBuf,
    endpoint: &'a str,
    rounds: usize,
}

impl Run<'_> {
    fn device(&self, device: &Device, model_name: &str, model: &Path, tokens: u64) -> Result<Vec<Row>> {
        let has_server = device.backend == Some(Backend::Rpc);
        // the one that times nothing, the one whose operations are timed where that costs the least, and the one that has each
        // operation computed alone
        let mut processes = vec![self.start(device, model, None, has_server.then_some("request"))?];
        let mut ways: Vec<Way> = vec![(0, "request")];
        if has_server {
            processes.push(self.start(device, model, None, Some("op"))?);
            ways.push((1, "op"));
        } else {
            ways.push((0, "op"));
        }
        processes.push(self.start(device, model, Some("true"), has_server.then_some("request"))?);
        ways.push((processes.len() - 1, "op"));

        let what = format!("{}, {model_name}", device.name);
        let phase = self.context.ui.phase(what, Unit::Steps);
        for way in &ways {
            block(&mut processes, *way, device.command, tokens)?; // pipelines are compiled, memory is touched
        }
        let times = in_turns(ways.len(), self.rounds, |round, which| {
            phase.set(round as u64, self.rounds as u64);
            block(&mut processes, ways[which], device.command, tokens)
        })?;
        phase.finish(format_args!("{} blocks of {tokens} tokens, each way", self.rounds));

        let base = format!("ops.{}.{model_name}", device.name);
        let mut rows = vec![Row::new(format!("{base}.request"), median(&times[0]) * 1e-3, "us")];
        for (name, times_of_way) in [("op", &times[1]), ("op_callback", &times[2])] {
            let ratios: Vec<f64> = times_of_way.iter().zip(&times[0]).map(|(with, without)| with / without).collect();
            rows.extend(ratio_rows(&format!("{base}.{name}"), &ratios, None));
        }
        Ok(rows)
    }

    fn start(&self, device: &Device, model: &Path, callback: Option<&str>, server: Option<&str>) -> Result<Process> {
        let cache = backends::shader_cache(self.context);
        let cache = cache.to_str().context("the cache's path is not UTF-8")?;
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint),
            // what it says once of the level of detail is known here
            ("OTEL_LOG_LEVEL", "none"),
            // a driver in software is a device of the kind CPU, which ggml leaves out unless it is named
            ("GGML_VK_VISIBLE_DEVICES", "0"),
            (backends::SHADER_CACHE, cache),
        ];
        let (server, address) = match server {
            None => (None, None),
            Some(detail) => {
                let (server, address) = self.serve(&variables, detail)?;
                (Some(server), Some(format!("rpc={address}")))
            }
        };
        variables.extend(callback.map(|value| ("LLAMA_OTEL_OP_CALLBACK", value)));
        let device = format!("device={}", device.argument);
        let mut args = vec![model.to_str().context("the model's path is not UTF-8")?, &device];
        args.extend(address.as_deref());
        Ok(Process { dialogue: Dialogue::start(&self.program, &args, &variables)?, _server: server })
    }

    /// A server that listens, and its address.
    fn serve(&self, variables: &[(&str, &str)], detail: &str) -> Result<(Dialogue, String)> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let address = programs::nobody()?.replacen("http://", "", 1);
        let variables = [variables, &[("LLAMA_OTEL_DETAIL", detail)]].concat();
        let server = Dialogue::start(&self.program, &[&format!("serve={address}")], &variables)?;
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            if started.elapsed() > PATIENCE {
                bail!("the RPC server does not listen at {address}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok((server, address))
    }
}

/// Nanoseconds on the clock for each token of a block.
fn block(processes: &mut [Process], (process, detail): Way, command: &str, tokens: u64) -> Result<f64> {
    Ok(decoding::block(&mut processes[process].dialogue, Some(detail), command, tokens)?.wall)
}
