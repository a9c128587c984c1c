//! `bench-decode MODEL [greedy] [device=NAME] [rpc=HOST:PORT]`: decodes on one thread, in blocks that `cargo xtask bench` asks
//! for. Linked with the patched llama.cpp and with upstream's own, so that blocks of both can alternate.
//! `bench-decode serve=HOST:PORT`: an RPC server instead.
//!
//! Commands, a line each, answered by one line of JSON: `run N` (N tokens from an empty context; with `greedy` each is
//! sampled from the one before) · `prompt N` (prompts of 64 tokens, each into an empty context, N tokens in all) ·
//! `detail off|metrics|request|decode|op` · `stats` · `flush`. Ends with the input.

mod cpu_time;
mod devices;

use std::ffi::{CString, c_char, c_void};
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::ptr;
use std::time::Instant;

use cpu_time::thread_cpu_ns;
use llama_otel_sys as sys;
use serde_json::{Value, json};

const N_CTX: u32 = 512;
/// Any token of every model.
const FIRST: sys::llama_token = 2;
/// Tokens of a prompt.
const PROMPT: u64 = 64;

struct Engine {
    context: *mut sys::llama_context,
    /// Null: the same token again and again.
    sampler: *mut sys::llama_sampler,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-decode: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let path =
        args.next().ok_or("usage: bench-decode MODEL [greedy] [device=NAME] [rpc=HOST:PORT] | serve=HOST:PORT")?;
    if let Some(endpoint) = path.strip_prefix("serve=") {
        return devices::serve(endpoint);
    }
    let rest: Vec<_> = args.collect();
    let value = |key: &str| rest.iter().find_map(|arg| arg.strip_prefix(key)?.strip_prefix('='));
    let engine = Engine::new(&path, rest.iter().any(|arg| arg == "greedy"), value("device"), value("rpc"))?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let answer = match line.split_once(' ') {
            Some(("run", n)) => engine.block(n.parse().map_err(|_| format!("{n}: not a number"))?)?,
            Some(("prompt", n)) => engine.prompts(n.parse().map_err(|_| format!("{n}: not a number"))?)?,
            Some(("detail", name)) => detail(name)?,
            None if line == "stats" => stats(),
            None if line == "flush" => flush(),
            _ => return Err(format!("{line}: no such command")),
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

unsafe extern "C" fn silent(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

impl Engine {
    fn new(path: &str, greedy: bool, device: Option<&str>, rpc: Option<&str>) -> Result<Self, String> {
        let name = CString::new(path).map_err(|_| "the model's name contains a zero byte")?;
        // SAFETY: every pointer is one that llama.cpp gave, checked for null; nothing is freed before the process ends.
        unsafe {
            sys::llama_log_set(Some(silent), ptr::null_mut());
            sys::llama_backend_init();
            rpc.map_or(Ok(()), devices::add_server)?;
            let mut list = device.map_or(Ok([ptr::null_mut(); 2]), devices::list)?;
            let mut params = sys::llama_model_default_params();
            if device.is_some() {
                params.devices = list.as_mut_ptr();
            }
            let model = sys::llama_model_load_from_file(name.as_ptr(), params);
            if model.is_null() {
                return Err(format!("{path}: the model could not be loaded"));
            }
            let mut params = sys::llama_context_default_params();
            params.n_ctx = N_CTX;
            params.n_batch = N_CTX;
            params.n_threads = 1;
            params.n_threads_batch = 1;
            let context = sys::llama_init_from_model(model, params);
            if context.is_null() {
                return Err("the context could not be created".to_owned());
            }
            let mut sampler = ptr::null_mut();
            if greedy {
                sampler = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
                sys::llama_sampler_chain_add(sampler, sys::llama_sampler_init_greedy());
            }
            Ok(Engine { context, sampler })
        }
    }

    /// Wall and thread time of `n` tokens.
    fn block(&self, n: u64) -> Result<Value, String> {
        // SAFETY: the context is alive and owns its memory.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context), true) };
        let mut token = FIRST;
        self.decode(&mut token)?;
        let (wall, cpu) = (Instant::now(), thread_cpu_ns());
        for _ in 0..n {
            self.decode(&mut token)?;
        }
        let (wall, cpu) = (wall.elapsed().as_nanos(), thread_cpu_ns() - cpu);
        Ok(json!({ "wall_ns": wall as u64, "cpu_ns": cpu }))
    }

    /// Wall and thread time of prompts with `n` tokens in all.
    fn prompts(&self, n: u64) -> Result<Value, String> {
        let mut tokens: Vec<sys::llama_token> = (0..PROMPT as i32).map(|i| FIRST + i % 50).collect();
        let (wall, cpu) = (Instant::now(), thread_cpu_ns());
        for _ in 0..n.div_ceil(PROMPT) {
            // SAFETY: the context is alive and owns its memory; the batch points to tokens that are only read during the call.
            let ret = unsafe {
                sys::llama_memory_clear(sys::llama_get_memory(self.context), true);
                let ret = sys::llama_decode(self.context, sys::llama_batch_get_one(tokens.as_mut_ptr(), PROMPT as i32));
                sys::llama_synchronize(self.context);
                ret
            };
            if ret != 0 {
                return Err(format!("llama_decode returned {ret}"));
            }
        }
        let (wall, cpu) = (wall.elapsed().as_nanos(), thread_cpu_ns() - cpu);
        Ok(json!({ "wall_ns": wall as u64, "cpu_ns": cpu }))
    }

    fn decode(&self, token: &mut sys::llama_token) -> Result<(), String> {
        // SAFETY: the batch points to one token, which is only read during the call; the logits exist after it.
        unsafe {
            let ret = sys::llama_decode(self.context, sys::llama_batch_get_one(token, 1));
            if ret != 0 {
                return Err(format!("llama_decode returned {ret}"));
            }
            if self.sampler.is_null() {
                std::hint::black_box(sys::llama_get_logits_ith(self.context, -1));
            } else {
                *token = sys::llama_sampler_sample(self.sampler, self.context, -1);
            }
        }
        Ok(())
    }
}

#[cfg(any(feature = "telemetry-rust", feature = "telemetry-cpp"))]
fn detail(name: &str) -> Result<Value, String> {
    sys::otel::set_detail(name.parse().map_err(|()| format!("{name}: no such level of detail"))?);
    Ok(json!({ "active": sys::otel::is_active() }))
}

#[cfg(not(any(feature = "telemetry-rust", feature = "telemetry-cpp")))]
fn detail(_: &str) -> Result<Value, String> {
    Ok(json!({ "active": false }))
}

#[cfg(any(feature = "telemetry-rust", feature = "telemetry-cpp"))]
fn flush() -> Value {
    json!({ "delivered": sys::otel::flush(std::time::Duration::from_secs(10)) })
}

#[cfg(not(any(feature = "telemetry-rust", feature = "telemetry-cpp")))]
fn flush() -> Value {
    json!({ "delivered": true })
}

#[cfg(any(feature = "telemetry-rust", feature = "telemetry-cpp"))]
fn dropped() -> serde_json::Map<String, Value> {
    sys::otel::dropped().iter().map(|(signal, reason, n)| (format!("{signal}.{reason}"), json!(n))).collect()
}

#[cfg(not(any(feature = "telemetry-rust", feature = "telemetry-cpp")))]
fn dropped() -> serde_json::Map<String, Value> {
    serde_json::Map::new()
}

fn stats() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    json!({ "resident_kib": resident, "dropped": dropped() })
}
