//! Generates from a prompt, or provokes a decode error.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::args::{Args, Fault};
use crate::devices;
use crate::engine::{self, Backend, Context, Model, Sampler, Token};
use crate::output::{Event, Output, Perf, Summary, Utf8Stream};

/// Why the program did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Device(#[from] devices::Error),
    #[error("the prompt has {n_tokens} tokens, and the context holds {n_ctx} (--n-ctx)")]
    PromptTooLong { n_tokens: usize, n_ctx: u32 },
    #[error("the sampler could not be created")]
    Sampler,
    #[error("the provoked error did not happen")]
    NoFault,
    #[error("the script: {0}")]
    Script(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Output(_) => 1,
            Failure::Device(_) => 2,
            Failure::Engine(engine::Error::Model { .. }) => 3,
            _ => 4,
        }
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let mut output = Output::new(args.json);
    let result = with_model(args, &mut output);
    if let Err(Failure::Engine(engine::Error::Decode { ret })) = &result {
        output.event(&Event::DecodeError { ret: *ret })?;
    }
    result
}

fn with_model(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let backend = Backend::init(args.verbose);
    if let Some(script) = &args.act {
        let model = args.model.as_deref().unwrap_or(Path::new("")).to_string_lossy();
        return crate::act::run(script, &model, &mut io::stdout()).map_err(Failure::Script);
    }
    if let Some(endpoint) = &args.rpc_serve {
        return Ok(devices::serve(&backend, endpoint, args.device.as_deref().unwrap_or("CPU"), args.threads)?);
    }
    if let Some(endpoint) = &args.rpc {
        devices::add_server(&backend, endpoint)?;
    }
    output.event(&Event::Devices { devices: devices::all(&backend) })?;
    let device = args.device.as_deref().map(|name| devices::by_name(&backend, name)).transpose()?;
    let model = Model::load(&backend, args.model.as_deref().unwrap_or(Path::new("")), device)?;
    output.event(&Event::Loaded { n_params: model.n_params(), size: model.size(), n_vocab: model.n_vocab() })?;
    let mut context = Context::new(&model, args.n_ctx, args.threads)?;
    let prompt = model.tokenize(&args.prompt)?;
    let n_tokens = prompt.len();
    output.event(&Event::Prompt { n_tokens })?;
    if n_tokens > args.n_ctx as usize {
        return Err(Failure::PromptTooLong { n_tokens, n_ctx: args.n_ctx });
    }
    if let Some(fault) = args.fault {
        return provoke(fault, args, &model, &mut context, &prompt);
    }

    let mut rounds = Rounds::new(args, &model)?;
    for round in 0..args.repeat {
        if round > 0 {
            context.clear();
        }
        // Only the first round is shown: the others are for measuring.
        let shown = (round == 0).then_some(&mut *output);
        rounds.generate(&mut context, &prompt, shown)?;
    }
    let summary = rounds.finish(&mut context);
    output.event(&Event::Done(summary))?;
    thread::sleep(Duration::from_millis(args.sleep_ms));
    Ok(())
}

/// What is gathered while generating.
struct Rounds<'a> {
    args: &'a Args,
    model: &'a Model<'a>,
    sampler: Sampler,
    logits: Option<Sha256>,
    text: String,
    n_generated: u64,
    n_decoded: u64,
    decode_s: Vec<f64>,
}

impl<'a> Rounds<'a> {
    fn new(args: &'a Args, model: &'a Model<'a>) -> Result<Rounds<'a>, Failure> {
        let sampler = match args.temp {
            Some(temp) => Sampler::random(temp, args.top_p, args.seed),
            None => Sampler::greedy(),
        };
        Ok(Rounds {
            args,
            model,
            sampler: sampler.ok_or(Failure::Sampler)?,
            logits: args.logits.then(Sha256::new),
            text: String::new(),
            n_generated: 0,
            n_decoded: 0,
            decode_s: Vec::new(),
        })
    }

    fn generate(
        &mut self,
        context: &mut Context,
        prompt: &[Token],
        mut shown: Option<&mut Output>,
    ) -> Result<(), Failure> {
        self.text.clear();
        let mut stream = Utf8Stream::default();
        context.decode(prompt)?;
        let start = Instant::now();
        for index in 0..self.args.n_predict {
            if let Some(hash) = &mut self.logits {
                for value in context.logits()? {
                    hash.update(value.to_le_bytes());
                }
            }
            let id = self.sampler.sample(context);
            self.n_generated += 1;
            if self.model.is_end(id) && !self.args.ignore_eos {
                break;
            }
            let piece = stream.push(&self.model.piece(id));
            self.text.push_str(&piece);
            if let Some(output) = &mut shown {
                output.event(&Event::Token { index, id, piece: &piece })?;
            }
            if index + 1 < self.args.n_predict {
                context.decode(&[id])?;
                self.n_decoded += 1;
            }
        }
        self.decode_s.push(start.elapsed().as_secs_f64());
        self.text.push_str(&stream.finish());
        Ok(())
    }

    fn finish(self, context: &mut Context) -> Summary {
        let perf = context.perf();
        Summary {
            text: self.text,
            perf: Perf {
                n_p_eval: perf.n_p_eval,
                n_eval: perf.n_eval,
                n_reused: perf.n_reused,
                t_p_eval_ms: perf.t_p_eval_ms,
                t_eval_ms: perf.t_eval_ms,
                t_load_ms: perf.t_load_ms,
            },
            n_generated: self.n_generated,
            n_decoded: self.n_decoded,
            decode_s: self.decode_s,
            logits_sha256: self.logits.map(|hash| hex::encode(hash.finalize())),
        }
    }
}

/// Provokes a decode error through llama.cpp's own code.
fn provoke(fault: Fault, args: &Args, model: &Model, context: &mut Context, prompt: &[Token]) -> Result<(), Failure> {
    match fault {
        // Upstream rounds the size of the context up, so it takes more than --n-ctx tokens.
        Fault::NoSlot => (0..=args.n_ctx + 256).try_for_each(|_| context.decode(prompt))?,
        Fault::InvalidBatch => {
            context.decode(&[Token::try_from(model.n_vocab()).unwrap_or(Token::MAX)])?;
        }
        Fault::Abort => {
            context.abort_always();
            context.decode(prompt)?;
        }
    }
    Err(Failure::NoFault)
}
