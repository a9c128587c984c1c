//! Safe wrappers around the few llama.cpp calls that the program makes. Each value frees what it
//! owns, and the lifetimes give the order: context, model, backend.

use std::ffi::{CString, c_char, c_void};
use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use llama_otel_sys as sys;

/// A token of the model's vocabulary.
pub type Token = sys::llama_token;

/// Why llama.cpp refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: the model could not be loaded: {reason}")]
    Model { path: String, reason: String },
    #[error("the context could not be created: {reason}")]
    Context { reason: String },
    #[error("the prompt could not be tokenised: {reason}")]
    Tokenize { reason: String },
    #[error("llama_decode returned {ret}: {}", meaning(*ret))]
    Decode { ret: i32 },
    #[error("llama.cpp has no logits for the last token")]
    NoLogits,
}

/// What `llama_decode`'s return values mean, from llama.h.
fn meaning(ret: i32) -> &'static str {
    match ret {
        1 => "no room left in the context (a larger --n-ctx helps)",
        2 => "aborted",
        -1 => "the batch is invalid",
        -2 => "out of memory",
        _ => "the computation failed",
    }
}

/// The first error that llama.cpp logged: its functions only return null, and of the several
/// lines about one failure the first says the most.
static FIRST_ERROR: Mutex<String> = Mutex::new(String::new());

fn logged_error() -> String {
    let text = FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
    match text.as_str() {
        "" => "llama.cpp gave no reason".to_owned(),
        text => text.to_owned(),
    }
}

/// # Safety
/// llama.cpp passes a string that lives during the call, and the pointer given to `llama_log_set`:
/// null unless verbose.
unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, verbose: *mut c_void) {
    // SAFETY: as above.
    let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy();
    if level == sys::GGML_LOG_LEVEL_ERROR {
        let mut first = FIRST_ERROR.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_empty() {
            text.trim().clone_into(&mut first);
        }
    }
    if !verbose.is_null() {
        // A closed stderr must not stop an inference.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// llama.cpp, initialised.
pub struct Backend(());

impl Backend {
    pub fn init(verbose: bool) -> Backend {
        let mark = if verbose { NonNull::<c_void>::dangling().as_ptr() } else { ptr::null_mut() };
        // SAFETY: the callback only compares the pointer to null; initialising needs nothing.
        unsafe {
            sys::llama_log_set(Some(on_log), mark);
            if let Some(dir) = sys::BACKENDS_DIR.and_then(|dir| CString::new(dir).ok()) {
                sys::ggml_backend_load_all_from_path(dir.as_ptr());
            }
            sys::llama_backend_init();
        }
        Backend(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: models borrow the backend, so none is left.
        unsafe { sys::llama_backend_free() };
    }
}

/// A loaded model.
pub struct Model<'b> {
    model: NonNull<sys::llama_model>,
    vocab: *const sys::llama_vocab,
    backend: PhantomData<&'b Backend>,
}

impl<'b> Model<'b> {
    /// Loads a model, onto `device` alone if one is named.
    pub fn load(
        _backend: &'b Backend,
        path: &Path,
        device: Option<sys::ggml_backend_dev_t>,
    ) -> Result<Model<'b>, Error> {
        let failed = |reason: String| Error::Model { path: path.display().to_string(), reason };
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| failed("its name contains a zero byte".into()))?;
        // A list that ends with null.
        let mut devices = [device.unwrap_or(ptr::null_mut()), ptr::null_mut()];
        // SAFETY: the name is a C string, the parameters are upstream's defaults but for the devices,
        // and those are read during the call.
        let model = unsafe {
            let mut params = sys::llama_model_default_params();
            if device.is_some() {
                params.devices = devices.as_mut_ptr();
                // More than any model has.
                params.n_gpu_layers = 999;
            }
            sys::llama_model_load_from_file(name.as_ptr(), params)
        };
        let Some(model) = NonNull::new(model) else {
            // The system's word is plainer than llama.cpp's.
            let reason = match std::fs::File::open(path) {
                Err(error) => error.to_string(),
                Ok(_) => logged_error(),
            };
            return Err(failed(reason));
        };
        // SAFETY: the model is alive, and its vocabulary is part of it.
        let vocab = unsafe { sys::llama_model_get_vocab(model.as_ptr()) };
        Ok(Model { model, vocab, backend: PhantomData })
    }

    pub fn n_params(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_params(self.model.as_ptr()) }
    }

    /// The size of all tensors in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.model.as_ptr()) }
    }

    pub fn n_vocab(&self) -> usize {
        // SAFETY: the vocabulary is alive.
        let n_vocab = unsafe { sys::llama_vocab_n_tokens(self.vocab) };
        usize::try_from(n_vocab).unwrap_or(0)
    }

    /// Whether the model has no texts for its tokens; asking for one would abort.
    fn has_no_vocab(&self) -> bool {
        // SAFETY: the vocabulary is alive.
        let kind = unsafe { sys::llama_vocab_type(self.vocab) };
        kind == sys::LLAMA_VOCAB_TYPE_NONE
    }

    /// The tokens of a text, with the special ones that the model wants at the start (BOS). A
    /// model without a vocabulary gets the bytes of the text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<Token>, Error> {
        let failed = |reason: &str| Error::Tokenize { reason: reason.to_owned() };
        if self.has_no_vocab() {
            let n_vocab = self.n_vocab().max(1);
            let token = |byte: u8| Token::try_from(usize::from(byte) % n_vocab).unwrap_or(0);
            return Ok(text.bytes().map(token).collect());
        }
        let length = i32::try_from(text.len()).map_err(|_| failed("it is too long"))?;
        let call = |tokens: &mut Vec<Token>| {
            let capacity = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            // SAFETY: text and tokens are given with their lengths.
            unsafe {
                let text = text.as_ptr().cast();
                let into = tokens.as_mut_ptr();
                sys::llama_tokenize(self.vocab, text, length, into, capacity, true, true)
            }
        };
        // A negative result is the number needed.
        let needed = call(&mut Vec::new());
        let mut tokens = vec![0; usize::try_from(needed.unsigned_abs()).unwrap_or(0)];
        let written = usize::try_from(call(&mut tokens)).map_err(|_| failed("it has too many tokens"))?;
        tokens.truncate(written);
        if tokens.is_empty() {
            return Err(failed("it is empty, and the model starts with no token of its own"));
        }
        Ok(tokens)
    }

    /// The bytes of a token; a character may be spread over several.
    pub fn piece(&self, token: Token) -> Vec<u8> {
        if self.has_no_vocab() {
            return Vec::new();
        }
        let call = |bytes: &mut [u8]| {
            let capacity = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            // SAFETY: the buffer is given with its length.
            unsafe {
                let into = bytes.as_mut_ptr().cast();
                sys::llama_token_to_piece(self.vocab, token, into, capacity, 0, false)
            }
        };
        let mut bytes = vec![0; 32];
        let mut written = call(&mut bytes);
        if written < 0 {
            bytes.resize(usize::try_from(written.unsigned_abs()).unwrap_or(0), 0);
            written = call(&mut bytes);
        }
        bytes.truncate(usize::try_from(written).unwrap_or(0));
        bytes
    }

    /// Whether the token ends a generation.
    pub fn is_end(&self, token: Token) -> bool {
        // SAFETY: the vocabulary is alive; it checks the token itself.
        unsafe { sys::llama_vocab_is_eog(self.vocab, token) }
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // SAFETY: contexts borrow the model, so none is left.
        unsafe { sys::llama_model_free(self.model.as_ptr()) };
    }
}

/// The state of one conversation.
pub struct Context<'m> {
    context: NonNull<sys::llama_context>,
    n_vocab: usize,
    model: PhantomData<&'m Model<'m>>,
}

impl<'m> Context<'m> {
    pub fn new(model: &'m Model<'_>, n_ctx: u32, threads: i32) -> Result<Context<'m>, Error> {
        // SAFETY: the model is alive and the parameters are upstream's defaults but for numbers.
        let context = unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = n_ctx;
            // A prompt that fits into the context goes in by one call.
            params.n_batch = n_ctx;
            params.n_ubatch = params.n_ubatch.min(n_ctx);
            params.n_threads = threads;
            params.n_threads_batch = threads;
            params.no_perf = false;
            sys::llama_init_from_model(model.model.as_ptr(), params)
        };
        let context = NonNull::new(context).ok_or_else(|| Error::Context { reason: logged_error() })?;
        Ok(Context { context, n_vocab: model.n_vocab(), model: PhantomData })
    }

    /// Decodes tokens after those already there; the last one's logits are computed.
    pub fn decode(&mut self, tokens: &[Token]) -> Result<(), Error> {
        let n_tokens = i32::try_from(tokens.len()).map_err(|_| Error::Decode { ret: -1 })?;
        // SAFETY: the batch points to the tokens, which llama.cpp only reads during the call.
        let ret = unsafe {
            let batch = sys::llama_batch_get_one(tokens.as_ptr().cast_mut(), n_tokens);
            sys::llama_decode(self.context.as_ptr(), batch)
        };
        match ret {
            0 => Ok(()),
            ret => Err(Error::Decode { ret }),
        }
    }

    /// The logits of the last token, one for each token of the vocabulary.
    pub fn logits(&mut self) -> Result<&[f32], Error> {
        // SAFETY: the row is valid until the next call that takes the context mutably.
        unsafe {
            let row = sys::llama_get_logits_ith(self.context.as_ptr(), -1);
            match row.is_null() {
                true => Err(Error::NoLogits),
                false => Ok(std::slice::from_raw_parts(row, self.n_vocab)),
            }
        }
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        // SAFETY: the context is alive and owns its memory.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context.as_ptr()), true) };
    }

    /// From now on every computation is aborted.
    pub fn abort_always(&mut self) {
        unsafe extern "C" fn always(_: *mut c_void) -> bool {
            true
        }
        // SAFETY: the callback uses no data.
        unsafe {
            sys::llama_set_abort_callback(self.context.as_ptr(), Some(always), ptr::null_mut());
        }
    }

    /// llama.cpp's own counters since the context was created.
    pub fn perf(&mut self) -> sys::llama_perf_context_data {
        // SAFETY: the context is alive. The counters are complete only after synchronising.
        unsafe {
            sys::llama_synchronize(self.context.as_ptr());
            sys::llama_perf_context(self.context.as_ptr())
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: nothing else has the pointer.
        unsafe { sys::llama_free(self.context.as_ptr()) };
    }
}

/// How the next token is chosen.
pub struct Sampler(NonNull<sys::llama_sampler>);

impl Sampler {
    /// The most probable token.
    pub fn greedy() -> Option<Sampler> {
        // SAFETY: the chain takes over the sampler.
        Sampler::chain(|chain| unsafe {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_greedy());
        })
    }

    /// By chance: `top_p` (if any), then the temperature.
    pub fn random(temp: f32, top_p: Option<f32>, seed: u32) -> Option<Sampler> {
        // SAFETY: the chain takes over the samplers.
        Sampler::chain(|chain| unsafe {
            if let Some(top_p) = top_p {
                sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_top_p(top_p, 1));
            }
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_temp(temp));
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_dist(seed));
        })
    }

    fn chain(add: impl FnOnce(*mut sys::llama_sampler)) -> Option<Sampler> {
        // SAFETY: the parameters are upstream's defaults.
        let chain = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        let chain = NonNull::new(chain)?;
        add(chain.as_ptr());
        Some(Sampler(chain))
    }

    /// Chooses from the last token's logits, and remembers the choice. Call after a
    /// [`decode`](Context::decode) that succeeded: llama.cpp aborts if there are no logits.
    pub fn sample(&mut self, context: &mut Context) -> Token {
        // SAFETY: both are alive.
        unsafe { sys::llama_sampler_sample(self.0.as_ptr(), context.context.as_ptr(), -1) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: nothing else has the pointer.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) };
    }
}
