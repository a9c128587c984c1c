//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Loads a model, generates text, and says what happened.
///
/// Telemetry is the library's: it follows the standard OTEL_* variables.
/// Exit codes: 0 done, 1 output closed, 2 usage, 3 model not loaded, 4 context or decode failed.
#[derive(Debug, Parser)]
#[command(name = "llama-otel-demo", version)]
pub struct Args {
    /// The model, a GGUF file
    #[arg(long, value_name = "FILE", required_unless_present = "rpc_serve")]
    pub model: Option<PathBuf>,
    /// The device that computes, such as CUDA0, Vulkan0 or RPC0 [default: what llama.cpp chooses]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Use the devices of the RPC server at HOST:PORT too
    #[arg(long, value_name = "HOST:PORT")]
    pub rpc: Option<String>,
    /// Serve a device (--device, else CPU) at HOST:PORT until standard input ends, instead of generating
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["model", "rpc"])]
    pub rpc_serve: Option<String>,
    /// The text to continue
    #[arg(long, default_value = "Hello")]
    pub prompt: String,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub n_predict: u32,
    /// Threads that compute
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub threads: i32,
    /// Tokens that the context holds
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub n_ctx: u32,
    /// Sampling temperature; greedy without
    #[arg(long, value_name = "T")]
    pub temp: Option<f32>,
    /// Keep only the most probable tokens up to this probability (with --temp)
    #[arg(long, value_name = "P", requires = "temp")]
    pub top_p: Option<f32>,
    /// Seed of the sampler (with --temp)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Go on after a token that ends the generation
    #[arg(long)]
    pub ignore_eos: bool,
    /// Generate this often from the same prompt, with an empty cache each time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Report a SHA-256 over every row of logits that was read
    #[arg(long)]
    pub logits: bool,
    /// Provoke one of llama.cpp's own decode errors instead of generating
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
    /// Act out a script of single calls instead of generating
    #[arg(long, value_name = "SCRIPT", hide = true)]
    pub act: Option<String>,
    /// Wait this long after generating, before anything is freed
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub sleep_ms: u64,
    /// Print one JSON object a line instead of the text
    #[arg(long)]
    pub json: bool,
    /// Print llama.cpp's log on stderr
    #[arg(long)]
    pub verbose: bool,
}

/// A decode error that the program can provoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The cache is full: `llama_decode` returns 1
    NoSlot,
    /// A token that the model does not have: -1
    InvalidBatch,
    /// The abort callback stops the computation: 2
    Abort,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        let args = Args::parse_from(["demo", "--model", "m.gguf", "--fault", "no-slot"]);
        assert_eq!(args.fault, Some(Fault::NoSlot));
        assert!(Args::try_parse_from(["demo"]).is_err(), "a model is needed");
        assert!(Args::try_parse_from(["demo", "--rpc-serve", "127.0.0.1:1"]).is_ok());
        assert!(Args::try_parse_from(["demo", "--model", "m", "--top-p", "0.9"]).is_err());
        assert!(Args::try_parse_from(["demo", "--model", "m", "--repeat", "0"]).is_err());
    }
}
