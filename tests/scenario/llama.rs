//! The calls that the scenarios make, with what they own freed in llama.cpp's own order.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;

use llama_otel_sys as sys;

pub type Token = sys::llama_token;

/// A path as llama.cpp takes it.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without a zero byte")
}

unsafe extern "C" fn quiet(_: sys::ggml_log_level, _: *const std::ffi::c_char, _: *mut c_void) {}

/// llama.cpp, initialised; freeing it delivers what was recorded.
pub struct Backend(());

impl Backend {
    pub fn init() -> Backend {
        // SAFETY: the callback uses no data; initialising needs nothing.
        unsafe {
            sys::llama_log_set(Some(quiet), ptr::null_mut());
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

pub struct Model<'b> {
    pub raw: *mut sys::llama_model,
    backend: PhantomData<&'b Backend>,
}

// SAFETY: llama.cpp's models are not changed by the contexts that use them.
unsafe impl Sync for Model<'_> {}

impl<'b> Model<'b> {
    /// # Panics
    /// It cannot be loaded.
    pub fn load(backend: &'b Backend, path: &Path) -> Model<'b> {
        // SAFETY: the path is a C string; the parameters are upstream's defaults.
        let raw = unsafe { sys::llama_model_load_from_file(c_path(path).as_ptr(), sys::llama_model_default_params()) };
        Model::owned(backend, raw)
    }

    /// # Panics
    /// `raw` is null.
    pub fn owned(_: &'b Backend, raw: *mut sys::llama_model) -> Model<'b> {
        assert!(!raw.is_null(), "the model could not be loaded");
        Model { raw, backend: PhantomData }
    }

    pub fn n_params(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_params(self.raw) }
    }

    /// Size of all tensors in bytes.
    pub fn size(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.raw) }
    }

    pub fn n_vocab(&self) -> i32 {
        // SAFETY: the model is alive, and its vocabulary with it.
        unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(self.raw)) }
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // SAFETY: contexts borrow the model, so none is left.
        unsafe { sys::llama_model_free(self.raw) };
    }
}

/// One entry of a batch: its position, its sequences, and whether its output is wanted.
pub struct Entry<'a> {
    pub pos: i32,
    pub seqs: &'a [i32],
    pub output: bool,
}

pub struct Context<'m> {
    pub raw: *mut sys::llama_context,
    model: PhantomData<&'m Model<'m>>,
}

impl<'m> Context<'m> {
    /// A context of `n_ctx` cells for `n_seqs` sequences and batches of up to 64 tokens, one thread.
    ///
    /// # Panics
    /// It cannot be created.
    pub fn new(model: &'m Model<'_>, n_ctx: u32, n_seqs: u32) -> Context<'m> {
        Context::with(model, n_ctx, n_seqs, |_| {})
    }

    /// The same, with other parameters changed.
    ///
    /// # Panics
    /// It cannot be created.
    pub fn with(
        model: &'m Model<'_>,
        n_ctx: u32,
        n_seqs: u32,
        change: impl FnOnce(&mut sys::llama_context_params),
    ) -> Context<'m> {
        // SAFETY: the model is alive; the parameters are upstream's defaults but for what is changed.
        let raw = unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = n_ctx;
            params.n_seq_max = n_seqs;
            params.n_batch = 64;
            params.n_ubatch = 32;
            params.n_threads = 1;
            params.n_threads_batch = 1;
            params.no_perf = false;
            change(&mut params);
            sys::llama_init_from_model(model.raw, params)
        };
        assert!(!raw.is_null(), "the context could not be created");
        Context { raw, model: PhantomData }
    }

    /// A batch; the return value of `llama_decode`.
    pub fn try_decode(&mut self, entries: &[Entry]) -> i32 {
        self.batch(entries, |context, batch| {
            // SAFETY: both are alive.
            unsafe { sys::llama_decode(context, batch) }
        })
    }

    /// The return value of `llama_encode`.
    pub fn try_encode(&mut self, entries: &[Entry]) -> i32 {
        self.batch(entries, |context, batch| {
            // SAFETY: both are alive.
            unsafe { sys::llama_encode(context, batch) }
        })
    }

    fn batch(&mut self, entries: &[Entry], run: impl FnOnce(*mut sys::llama_context, sys::llama_batch) -> i32) -> i32 {
        let most = entries.iter().map(|entry| entry.seqs.len()).max().unwrap_or(1);
        // SAFETY: the batch is made for as many tokens and sequences as are written to it.
        unsafe {
            let mut batch = sys::llama_batch_init(entries.len() as i32, 0, most as i32);
            batch.n_tokens = entries.len() as i32;
            for (i, entry) in entries.iter().enumerate() {
                *batch.token.add(i) = 3 + (entry.pos * 7 + i as i32) % 97;
                *batch.pos.add(i) = entry.pos;
                *batch.n_seq_id.add(i) = entry.seqs.len() as i32;
                for (j, seq) in entry.seqs.iter().enumerate() {
                    *(*batch.seq_id.add(i)).add(j) = *seq;
                }
                *batch.logits.add(i) = entry.output.into();
            }
            let status = run(self.raw, batch);
            sys::llama_batch_free(batch);
            status
        }
    }

    /// # Panics
    /// The batch fails.
    pub fn decode(&mut self, entries: &[Entry]) {
        assert_eq!(self.try_decode(entries), 0, "llama_decode");
        self.synchronize();
    }

    /// `n` tokens of one sequence from position `pos` on, with the output of the last.
    pub fn prompt(&mut self, seq: i32, pos: i32, n: i32) {
        self.tokens(seq, pos, n, |i| i == n - 1);
    }

    /// The same without any output: more of the prompt is to come.
    pub fn chunk(&mut self, seq: i32, pos: i32, n: i32) {
        self.tokens(seq, pos, n, |_| false);
    }

    /// The same with all outputs: drafts that are verified.
    pub fn drafts(&mut self, seq: i32, pos: i32, n: i32) {
        self.tokens(seq, pos, n, |_| true);
    }

    /// `n` tokens, one in each batch.
    pub fn generate(&mut self, seq: i32, pos: i32, n: i32) {
        for i in 0..n {
            self.prompt(seq, pos + i, 1);
        }
    }

    fn tokens(&mut self, seq: i32, pos: i32, n: i32, output: impl Fn(i32) -> bool) {
        let seqs = [seq];
        let entries: Vec<_> = (0..n).map(|i| Entry { pos: pos + i, seqs: &seqs, output: output(i) }).collect();
        self.decode(&entries);
    }

    pub fn synchronize(&mut self) {
        // SAFETY: the context is alive.
        unsafe { sys::llama_synchronize(self.raw) };
    }

    pub fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: the context is alive and owns its memory.
        unsafe { sys::llama_get_memory(self.raw) }
    }

    pub fn clear(&mut self) {
        // SAFETY: the memory is the context's.
        unsafe { sys::llama_memory_clear(self.memory(), true) };
    }

    /// Whether it was removed: a recurrent state does not give up a part.
    pub fn remove(&mut self, seq: i32, p0: i32, p1: i32) -> bool {
        // SAFETY: as above.
        unsafe { sys::llama_memory_seq_rm(self.memory(), seq, p0, p1) }
    }

    pub fn copy(&mut self, from: i32, to: i32) {
        // SAFETY: as above.
        unsafe { sys::llama_memory_seq_cp(self.memory(), from, to, -1, -1) };
    }

    pub fn keep(&mut self, seq: i32) {
        // SAFETY: as above.
        unsafe { sys::llama_memory_seq_keep(self.memory(), seq) };
    }

    pub fn shift(&mut self, seq: i32, p0: i32, p1: i32, delta: i32) {
        // SAFETY: as above.
        unsafe { sys::llama_memory_seq_add(self.memory(), seq, p0, p1, delta) };
    }

    /// Aborts every computation once `*left` has been counted down to 0; null ends that.
    pub fn abort_after(&mut self, left: *mut i32) {
        unsafe extern "C" fn count_down(left: *mut c_void) -> bool {
            // SAFETY: the caller keeps the counter alive while the callback is set.
            let left = unsafe { &mut *left.cast::<i32>() };
            *left -= 1;
            *left < 0
        }
        let callback: sys::ggml_abort_callback = if left.is_null() { None } else { Some(count_down) };
        // SAFETY: the context is alive.
        unsafe { sys::llama_set_abort_callback(self.raw, callback, left.cast()) };
    }

    /// (prompt tokens, single tokens, their time in seconds) as llama.cpp counts them; 0 is told as 1 there.
    pub fn perf(&mut self) -> (i32, i32, f64) {
        self.synchronize();
        // SAFETY: the context is alive.
        let perf = unsafe { sys::llama_perf_context(self.raw) };
        (perf.n_p_eval, perf.n_eval, (perf.t_p_eval_ms + perf.t_eval_ms) / 1e3)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: nothing else has the pointer.
        unsafe { sys::llama_free(self.raw) };
    }
}
