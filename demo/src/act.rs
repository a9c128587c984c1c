//! Acts out a script of single llama.cpp calls, for tests that need more than a generation: one command a line (or between
//! semicolons), one JSON object of what came of it. Words are `key=value`; what is left out has llama.cpp's default.
//!
//! ```text
//! load path=FILE mmap=0 cancel=0.5    a model; cancel: the progress callback says no from that share on
//! context n_ctx=64 n_batch= n_ubatch= n_seq=1 unified=0 swa_full=1 embeddings=0 threads=1 count_ops=0
//! decode c=0 seq=0 n=5                tokens after those that the sequence has; the ids are made up
//! batch c=0 tokens=0:3,1:2            so many tokens of several sequences in one batch
//! invalid c=0                         a token that the model does not have
//! clear c=0 · rm c=0 seq=0 p0=0 p1=-1 · cp c=0 src=0 dst=1 p0= p1= · keep c=0 seq=0 · add c=0 seq=0 p0= p1= delta=
//! abort c=0 after=2                   the abort callback says yes from that question on; after=-1: never
//! state c=0                           size of the state
//! perf c=0                            llama.cpp's own counters
//! ops c=0                             operations that a callback of the context counted, by name
//! adapter path=FILE                   a LoRA adapter, freed with the model
//! parent c=0 traceparent=00-…-01      by W3C header, of the context; without c of this thread, without traceparent of nobody
//! deadline ms=10 · sleep ms=20 · detail level=off · flush · free c=0 · unload
//! ```

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::io::Write;
use std::ptr;
use std::time::Duration;

use llama_otel_sys as sys;
use serde_json::{Value, json};

/// Calls of the abort callback that are answered with no; negative: all.
struct Patience(i64);

struct Actor {
    context: *mut sys::llama_context,
    patience: Box<Patience>,
    #[expect(clippy::box_collection, reason = "llama.cpp has its address")]
    ops: Box<BTreeMap<String, u64>>,
    /// The next position of each sequence.
    next: BTreeMap<i32, i32>,
}

/// Runs the script; an error says which command is wrong.
pub fn run(script: &str, model: &str, output: &mut impl Write) -> Result<(), String> {
    let mut stage = Stage { model: ptr::null_mut(), contexts: Vec::new(), default_path: model.to_owned() };
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: BTreeMap<&str, &str> = rest.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let result = stage.act(command, &Words(words)).map_err(|error| format!("`{line}`: {error}"))?;
        let mut event = json!({ "event": "act", "command": command });
        if let (Some(event), Value::Object(result)) = (event.as_object_mut(), result) {
            event.extend(result);
        }
        writeln!(output, "{event}").map_err(|error| error.to_string())?;
    }
    stage.leave();
    Ok(())
}

struct Words<'a>(BTreeMap<&'a str, &'a str>);

impl Words<'_> {
    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T, String> {
        match self.0.get(key).filter(|value| !value.is_empty()) {
            Some(value) => value.parse().map_err(|_| format!("{key}={value} is no number that fits")),
            None => Ok(default),
        }
    }

    fn path(&self, default: &str) -> Result<CString, String> {
        CString::new(*self.0.get("path").unwrap_or(&default)).map_err(|_| "a path with a zero byte".into())
    }
}

struct Stage {
    model: *mut sys::llama_model,
    contexts: Vec<Option<Actor>>,
    default_path: String,
}

unsafe extern "C" fn progress(share: f32, limit: *mut c_void) -> bool {
    // SAFETY: `limit` is the f32 that `load` keeps while it loads.
    share < unsafe { *limit.cast::<f32>() }
}

unsafe extern "C" fn abort(patience: *mut c_void) -> bool {
    // SAFETY: it lives as long as its context, which is used by one thread.
    let patience = unsafe { &mut *patience.cast::<Patience>() };
    if patience.0 > 0 {
        patience.0 -= 1;
    }
    patience.0 == 0
}

unsafe extern "C" fn count(tensor: *mut sys::ggml_tensor, ask: bool, ops: *mut c_void) -> bool {
    if ask {
        // SAFETY: ggml gives a tensor, and the map lives as long as its context.
        let (name, ops) =
            unsafe { (CStr::from_ptr(sys::ggml_op_name((*tensor).op)), &mut *ops.cast::<BTreeMap<String, u64>>()) };
        *ops.entry(name.to_string_lossy().into_owned()).or_default() += 1;
    }
    false
}

impl Stage {
    fn actor(&mut self, words: &Words) -> Result<&mut Actor, String> {
        let index: usize = words.number("c", 0)?;
        self.contexts.get_mut(index).and_then(Option::as_mut).ok_or_else(|| format!("there is no context {index}"))
    }

    fn act(&mut self, command: &str, words: &Words) -> Result<Value, String> {
        match command {
            "load" => self.load(words),
            "context" => self.context(words),
            "adapter" => {
                let path = words.path("")?;
                // SAFETY: the model is alive; it frees its adapters.
                let adapter = unsafe { sys::llama_adapter_lora_init(self.model, path.as_ptr()) };
                Ok(json!({ "ok": !adapter.is_null() }))
            }
            "sleep" => {
                std::thread::sleep(Duration::from_millis(words.number("ms", 0)?));
                Ok(json!({}))
            }
            "free" => {
                let index: usize = words.number("c", 0)?;
                let actor = self.contexts.get_mut(index).and_then(Option::take);
                // SAFETY: nobody else has the pointer.
                actor.map(|actor| unsafe { sys::llama_free(actor.context) }).ok_or("there is no such context")?;
                Ok(json!({}))
            }
            "unload" => {
                self.leave();
                Ok(json!({}))
            }
            "deadline" | "detail" | "flush" | "parent" => {
                let context = if words.0.contains_key("c") { Some(self.actor(words)?.context) } else { None };
                telemetry(command, context, words)
            }
            _ => self.on_context(command, words),
        }
    }

    fn load(&mut self, words: &Words) -> Result<Value, String> {
        self.leave();
        let path = words.path(&self.default_path)?;
        let mut limit: f32 = words.number("cancel", 2.0)?;
        // SAFETY: the parameters are upstream's defaults but for what is set; `limit` outlives the call.
        unsafe {
            let mut params = sys::llama_model_default_params();
            if words.number("mmap", 1)? == 0 {
                params.load_mode = sys::LLAMA_LOAD_MODE_NONE;
            }
            params.progress_callback = Some(progress);
            params.progress_callback_user_data = (&raw mut limit).cast();
            self.model = sys::llama_model_load_from_file(path.as_ptr(), params);
        }
        Ok(json!({ "ok": !self.model.is_null() }))
    }

    fn context(&mut self, words: &Words) -> Result<Value, String> {
        let mut ops = Box::new(BTreeMap::new());
        // SAFETY: the model is alive or null, which is refused; the parameters are upstream's defaults but for what is set.
        let context = unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = words.number("n_ctx", 64)?;
            params.n_batch = words.number("n_batch", params.n_ctx)?;
            params.n_ubatch = words.number("n_ubatch", params.n_batch.min(512))?;
            params.n_seq_max = words.number("n_seq", 1)?;
            params.kv_unified = words.number("unified", 0)? != 0;
            params.swa_full = words.number("swa_full", 1)? != 0;
            params.embeddings = words.number("embeddings", 0)? != 0;
            params.n_threads = words.number("threads", 1)?;
            params.n_threads_batch = params.n_threads;
            params.no_perf = false;
            if words.number("count_ops", 0)? != 0 {
                params.cb_eval = Some(count);
                params.cb_eval_user_data = (&raw mut *ops).cast();
            }
            sys::llama_init_from_model(self.model, params)
        };
        let ok = !context.is_null();
        let patience = Box::new(Patience(-1));
        self.contexts.push(ok.then(|| Actor { context, patience, ops, next: BTreeMap::new() }));
        Ok(json!({ "ok": ok, "c": self.contexts.len() - 1 }))
    }

    fn on_context(&mut self, command: &str, words: &Words) -> Result<Value, String> {
        let actor = self.actor(words)?;
        let context = actor.context;
        let (seq, p0, p1): (i32, i32, i32) =
            (words.number("seq", 0)?, words.number("p0", -1)?, words.number("p1", -1)?);
        // SAFETY: the context is alive, and llama.cpp checks the numbers.
        unsafe {
            let memory = sys::llama_get_memory(context);
            match command {
                "decode" => return Ok(json!({ "ret": actor.decode(&[(seq, words.number("n", 1)?)], 1) })),
                "batch" => {
                    let tokens = words.0.get("tokens").copied().unwrap_or_default();
                    let parts: Option<Vec<(i32, i32)>> = tokens
                        .split(',')
                        .map(|part| part.split_once(':').and_then(|(s, n)| Some((s.parse().ok()?, n.parse().ok()?))))
                        .collect();
                    let parts = parts.ok_or("tokens=SEQ:N,SEQ:N")?;
                    return Ok(json!({ "ret": actor.decode(&parts, 1) }));
                }
                "invalid" => return Ok(json!({ "ret": actor.decode(&[(seq, 1)], 1_234_567) })),
                "clear" => {
                    sys::llama_memory_clear(memory, true);
                    actor.next.clear();
                }
                "rm" => {
                    let ok = sys::llama_memory_seq_rm(memory, seq, p0, p1);
                    actor.next.insert(seq, sys::llama_memory_seq_pos_max(memory, seq) + 1);
                    return Ok(json!({ "ok": ok }));
                }
                "cp" => {
                    let dst = words.number("dst", 1)?;
                    sys::llama_memory_seq_cp(memory, words.number("src", 0)?, dst, p0, p1);
                    actor.next.insert(dst, sys::llama_memory_seq_pos_max(memory, dst) + 1);
                }
                "keep" => sys::llama_memory_seq_keep(memory, seq),
                "add" => {
                    sys::llama_memory_seq_add(memory, seq, p0, p1, words.number("delta", 0)?);
                    actor.next.insert(seq, sys::llama_memory_seq_pos_max(memory, seq) + 1);
                }
                "abort" => {
                    actor.patience.0 = words.number("after", 0)?;
                    sys::llama_set_abort_callback(context, Some(abort), (&raw mut *actor.patience).cast());
                }
                "state" => return Ok(json!({ "size": sys::llama_state_get_size(context) })),
                "perf" => {
                    let perf = sys::llama_perf_context(context);
                    return Ok(json!({
                        "n_p_eval": perf.n_p_eval, "n_eval": perf.n_eval, "n_reused": perf.n_reused,
                        "t_p_eval_ms": perf.t_p_eval_ms, "t_eval_ms": perf.t_eval_ms,
                    }));
                }
                "ops" => return Ok(json!({ "ops": *actor.ops })),
                _ => return Err("no such command".into()),
            }
        }
        Ok(json!({}))
    }

    /// Frees everything.
    fn leave(&mut self) {
        // SAFETY: contexts first; nobody else has the pointers.
        unsafe {
            for actor in self.contexts.drain(..).flatten() {
                sys::llama_free(actor.context);
            }
            if !self.model.is_null() {
                sys::llama_model_free(std::mem::replace(&mut self.model, ptr::null_mut()));
            }
        }
    }
}

impl Actor {
    /// One batch of so many tokens of these sequences; the last of each has an output. The return code.
    fn decode(&mut self, parts: &[(i32, i32)], first_id: i32) -> i32 {
        let n: i32 = parts.iter().map(|(_, n)| *n).sum();
        // SAFETY: the batch has room for n tokens of one sequence each.
        let ret = unsafe {
            let mut batch = sys::llama_batch_init(n.max(1), 0, 1);
            batch.n_tokens = n;
            let mut row = 0;
            for &(seq, n) in parts {
                let start = self.next.get(&seq).copied().unwrap_or(0);
                for i in 0..n {
                    *batch.token.add(row) = first_id + (start + i) % 100;
                    *batch.pos.add(row) = start + i;
                    *batch.n_seq_id.add(row) = 1;
                    **batch.seq_id.add(row) = seq;
                    *batch.logits.add(row) = i8::from(i == n - 1);
                    row += 1;
                }
            }
            let ret = sys::llama_decode(self.context, batch);
            sys::llama_synchronize(self.context);
            sys::llama_batch_free(batch);
            ret
        };
        if ret == 0 {
            for &(seq, n) in parts {
                *self.next.entry(seq).or_default() += n;
            }
        }
        ret
    }
}

/// What the script asks of telemetry; without a context, for this thread.
#[cfg(any(feature = "telemetry-rust", feature = "telemetry-cpp"))]
fn telemetry(command: &str, context: Option<*mut sys::llama_context>, words: &Words) -> Result<Value, String> {
    match command {
        "parent" => {
            let traceparent = words.0.get("traceparent").copied().unwrap_or_default().to_owned();
            let headers = sys::otel::Headers { traceparent, ..Default::default() };
            let result = match context {
                Some(context) => sys::otel::set_context_traceparent(context, None, &headers),
                None => sys::otel::set_traceparent(&headers),
            };
            result.map(|()| json!({})).map_err(|error| error.to_string())
        }
        "deadline" => {
            let ms: u64 = words.number("ms", 0)?;
            sys::otel::set_deadline((ms > 0).then(|| Duration::from_millis(ms)));
            Ok(json!({}))
        }
        "detail" => {
            let level = words.0.get("level").copied().unwrap_or_default();
            sys::otel::set_detail(level.parse().map_err(|()| format!("level={level}: no such level"))?);
            Ok(json!({}))
        }
        _ => Ok(json!({ "delivered": sys::otel::flush(Duration::from_secs(10)) })),
    }
}

#[cfg(not(any(feature = "telemetry-rust", feature = "telemetry-cpp")))]
fn telemetry(_: &str, _: Option<*mut sys::llama_context>, _: &Words) -> Result<Value, String> {
    Ok(json!({}))
}
