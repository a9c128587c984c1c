//! `cargo xtask demo`: runs the demo program on a model, receives its telemetry, and shows it.
//! Vendoring, patching and building are done by the caller; nothing here knows how.

mod child;
mod facts;
#[cfg(test)]
mod fixture;
mod json;
mod quantity;
mod report_html;
mod report_text;
mod rows;

use crate::context::Context;
use crate::progress::Unit;
use anyhow::{Context as _, Result, bail};
use child::{Ending, Event};
use facts::Facts;
use otlp_receiver::{Receiver, Telemetry};
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub struct Args {
    /// Model to load (GGUF); without it, a tiny model with random weights
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Text to continue
    #[arg(long, default_value = "The capital of France is")]
    pub prompt: String,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub n_predict: u32,
    /// Threads to compute with
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Send the telemetry to this OTLP endpoint instead of showing it here
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// How the telemetry is printed
    #[arg(long, value_enum, default_value_t = crate::Format::Text)]
    pub format: crate::Format,
    /// Where the page goes (target/llama-otel/report.html if not given)
    #[arg(long, value_name = "PATH")]
    pub report: Option<PathBuf>,
    /// How much is recorded: off, metrics, request, decode, op
    #[arg(long, value_name = "LEVEL", default_value = "decode",
          value_parser = ["off", "metrics", "request", "decode", "op"])]
    pub detail: String,
    /// Print every span, also the hundredth of its kind
    #[arg(long)]
    pub all: bool,
}

/// What the demo runs.
pub struct Built {
    /// The demo program, linked with the patched llama.cpp.
    pub demo_exe: PathBuf,
    /// The model where the user names none.
    pub default_model: PathBuf,
}

/// Where the telemetry goes.
enum Destination {
    Here(Receiver),
    Endpoint(String),
}

/// Runs the demo program and shows what it recorded.
///
/// The exit code is the demo program's: 0, 2 for wrong usage, 3 if the model could not be loaded,
/// 4 if a context or a decode failed.
///
/// # Errors
/// The program cannot be started or hangs, the receiver cannot listen, the page cannot be
/// written, or options contradict each other.
pub fn run(context: &Context, args: &Args, built: &Built) -> Result<ExitCode> {
    let destination = match &args.endpoint {
        Some(_) if args.format == crate::Format::Json => bail!(
            "--format json prints the telemetry, but with --endpoint it goes elsewhere\n\
             help: give one of the two"
        ),
        Some(_) if args.report.is_some() => bail!(
            "--report shows the telemetry, but with --endpoint it goes elsewhere\n\
             help: give one of the two"
        ),
        Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => bail!(
            "--endpoint {url}: not an http:// or https:// URL\n\
             help: a collector on this machine is http://127.0.0.1:4318"
        ),
        Some(url) => Destination::Endpoint(url.clone()),
        None => Destination::Here(Receiver::start()?),
    };
    let model = args.model.as_ref().unwrap_or(&built.default_model);
    let command = demo_command(built, args, model, &destination);
    let ending = follow(context, args, command)?;
    if !ending.status.success() {
        for line in &ending.stderr_tail {
            context.ui.warn(format_args!("demo: {}", quantity::printable(line)));
        }
    }
    match destination {
        Destination::Endpoint(url) => print_summary(&ending, &url)?,
        Destination::Here(receiver) => {
            show(context, args, &ending, &receiver.stop())?;
        }
    }
    if !ending.status.success() {
        context.ui.warn(format_args!("the demo program failed: {}", ending.status));
    }
    Ok(exit_code(&ending))
}

fn demo_command(built: &Built, args: &Args, model: &Path, destination: &Destination) -> Command {
    let mut command = Command::new(&built.demo_exe);
    command.arg("--json").arg("--model").arg(model);
    command.arg("--prompt").arg(&args.prompt);
    command.arg("--n-predict").arg(args.n_predict.to_string());
    if let Some(threads) = args.threads {
        command.arg("--threads").arg(threads.to_string());
    }
    let (endpoint, protocol) = match destination {
        Destination::Here(receiver) => {
            // A sampler, a proxy or another endpoint from the user's shell would only hide spans.
            for name in own_otel_variables() {
                command.env_remove(name);
            }
            command.env("NO_PROXY", "127.0.0.1");
            (receiver.http_endpoint(), "http/protobuf".into())
        }
        Destination::Endpoint(url) => (url.clone(), protocol_for(url)),
    };
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command.env("OTEL_SERVICE_NAME", "llama-otel-demo");
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "200");
    command.env("LLAMA_OTEL_DETAIL", &args.detail);
    command
}

fn own_otel_variables() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        name.to_str().is_some_and(|name| name.starts_with("OTEL_") && name != "OTEL_RESOURCE_ATTRIBUTES")
    })
}

/// The user's own choice, else what the port stands for: 4317 is gRPC's.
fn protocol_for(url: &str) -> OsString {
    std::env::var_os("OTEL_EXPORTER_OTLP_PROTOCOL").unwrap_or_else(|| {
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        match authority.is_some_and(|authority| authority.ends_with(":4317")) {
            true => "grpc".into(),
            false => "http/protobuf".into(),
        }
    })
}

/// Runs the program to its end, showing how far it is.
fn follow(context: &Context, args: &Args, command: Command) -> Result<Ending> {
    let total = u64::from(args.n_predict);
    let mut loading = Some(context.ui.phase("load the model", Unit::Unknown));
    let mut generating = None;
    child::run(command, |event| match event {
        Event::Loaded { .. } => {
            if let Some(phase) = loading.take() {
                phase.finish("");
            }
            generating = Some(context.ui.phase(format!("generate {total} tokens"), Unit::Steps));
        }
        Event::Token { index, piece } => {
            if let Some(phase) = &generating {
                phase.set(index + 1, total);
                phase.note(quantity::printable(piece));
            }
        }
        Event::Done { .. } => {
            if let Some(phase) = generating.take() {
                phase.finish("");
            }
        }
        Event::Prompt { .. } => {}
    })
}

fn show(context: &Context, args: &Args, ending: &Ending, telemetry: &Telemetry) -> Result<()> {
    if telemetry.spans.is_empty() && telemetry.metrics.is_empty() && args.detail != "off" {
        context.ui.warn("no telemetry arrived: is the library built with LLAMA_OTEL=ON?");
    }
    let facts = Facts::of(telemetry);
    let mut stdout = io::stdout().lock();
    match args.format {
        crate::Format::Json => json::write(&mut stdout, telemetry)?,
        crate::Format::Text => {
            let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let options = report_text::Options { colour, all: args.all };
            let text = report_text::render(telemetry, &facts, options);
            stdout.write_all(text.as_bytes())?;
            if let Some(text) = &ending.text {
                writeln!(stdout, "\noutput  {}", quantity::printable(text))?;
            }
        }
    }
    let page = match &args.report {
        Some(path) => path.clone(),
        None => context.target_dir().join("llama-otel").join("report.html"),
    };
    write_page(&page, &report_html::render(telemetry, &facts)?)?;
    context.ui.say(format_args!("report: {}", context.shown(&page)));
    Ok(())
}

fn write_page(path: &Path, page: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    fs::write(path, page).with_context(|| format!("cannot write the report {}", path.display()))
}

fn print_summary(ending: &Ending, url: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "sent to {}", quantity::printable(url))?;
    if let Some(tokens) = ending.prompt_tokens {
        writeln!(stdout, "prompt  {tokens} tokens")?;
    }
    writeln!(stdout, "output  {} tokens", ending.tokens)?;
    if let Some(perf) = &ending.perf {
        let seconds = |milliseconds: f64| quantity::seconds(milliseconds / 1e3);
        writeln!(
            stdout,
            "times   load {}, prompt {}, generation {}",
            seconds(perf.t_load_ms),
            seconds(perf.t_p_eval_ms),
            seconds(perf.t_eval_ms)
        )?;
    }
    if let Some(text) = &ending.text {
        writeln!(stdout, "\n{}", quantity::printable(text))?;
    }
    Ok(())
}

/// The child's own code; 1 where a signal ended it.
fn exit_code(ending: &Ending) -> ExitCode {
    match ending.status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::protocol_for;

    #[test]
    fn port_4317_means_grpc() {
        if std::env::var_os("OTEL_EXPORTER_OTLP_PROTOCOL").is_none() {
            assert_eq!(protocol_for("http://127.0.0.1:4317"), "grpc");
            assert_eq!(protocol_for("http://127.0.0.1:4317/"), "grpc");
            assert_eq!(protocol_for("http://127.0.0.1:4318/x:4317"), "http/protobuf");
        }
    }
}
