//! States that are saved and restored, to and from memory and files.

use llama_otel_sys as sys;
use serde_json::{Value, json};

use crate::Arguments;
use crate::llama::{Backend, Context, Model, c_path};

/// Context and sequence, each to memory and back and to a file and back. `sizes` is what the calls returned, or
/// `llama_state_get_size` where they return none; in the order of the calls.
pub fn state(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 2);
    context.prompt(0, 0, 12);
    let whole = c_path(&args.folder.join("whole.state"));
    let part = c_path(&args.folder.join("sequence.state"));
    let tokens = [1, 2, 3];
    let mut restored = [0; 8];
    let mut n_restored = 0;
    // SAFETY: buffers and token arrays are given with their lengths.
    let (size, seq_size, sizes) = unsafe {
        let size = sys::llama_state_get_size(context.raw);
        let mut bytes = vec![0u8; size];
        let saved = sys::llama_state_get_data(context.raw, bytes.as_mut_ptr(), bytes.len());
        let loaded = sys::llama_state_set_data(context.raw, bytes.as_ptr(), bytes.len());
        assert!(sys::llama_state_save_file(context.raw, whole.as_ptr(), tokens.as_ptr(), tokens.len()));
        assert!(sys::llama_state_load_file(
            context.raw,
            whole.as_ptr(),
            restored.as_mut_ptr(),
            restored.len(),
            &raw mut n_restored
        ));
        let seq_size = sys::llama_state_seq_get_size(context.raw, 0);
        let mut bytes = vec![0u8; seq_size];
        let seq_saved = sys::llama_state_seq_get_data(context.raw, bytes.as_mut_ptr(), bytes.len(), 0);
        let seq_loaded = sys::llama_state_seq_set_data(context.raw, bytes.as_ptr(), bytes.len(), 1);
        let header = 3 * size_of::<u32>() + size_of_val(&tokens);
        let in_file = sys::llama_state_seq_save_file(context.raw, part.as_ptr(), 0, tokens.as_ptr(), tokens.len());
        let from_file = sys::llama_state_seq_load_file(
            context.raw,
            part.as_ptr(),
            1,
            restored.as_mut_ptr(),
            restored.len(),
            &raw mut n_restored,
        );
        (size, seq_size, [saved, loaded, size, size, seq_saved, seq_loaded, in_file - header, from_file - header])
    };
    json!({ "size": size, "seq_size": seq_size, "sizes": sizes })
}

/// A file that is none, one that is missing, bytes that are no state.
pub fn errors(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let context = Context::new(&model, 256, 1);
    let other = args.folder.join("other.state");
    std::fs::write(&other, [0u8; 64]).expect("a folder that can be written to");
    let mut tokens = [0; 8];
    let mut n = 0;
    let mut load = |path: &std::ffi::CStr| {
        // SAFETY: the array is given with its length.
        unsafe { sys::llama_state_load_file(context.raw, path.as_ptr(), tokens.as_mut_ptr(), tokens.len(), &raw mut n) }
    };
    let loaded = [load(&c_path(&other)), load(&c_path(&args.folder.join("missing.state")))];
    let bytes = [7u8; 64];
    // SAFETY: the bytes are given with their length.
    let set = unsafe { sys::llama_state_set_data(context.raw, bytes.as_ptr(), bytes.len()) };
    json!({ "loaded": loaded, "set": set })
}

/// A generation that goes back to a saved state of itself and on from there: prompt of 6, 2 tokens, saved, 3 tokens, restored,
/// 1 token.
pub fn checkpoint(args: &Arguments) -> Value {
    let backend = Backend::init();
    let model = Model::load(&backend, &args.model);
    let mut context = Context::new(&model, 256, 1);
    context.prompt(0, 0, 6);
    context.generate(0, 6, 2);
    // SAFETY: the buffer is given with its length.
    unsafe {
        let mut bytes = vec![0u8; sys::llama_state_seq_get_size(context.raw, 0)];
        assert_ne!(sys::llama_state_seq_get_data(context.raw, bytes.as_mut_ptr(), bytes.len(), 0), 0);
        context.generate(0, 8, 3);
        assert_ne!(sys::llama_state_seq_set_data(context.raw, bytes.as_ptr(), bytes.len(), 0), 0);
    }
    context.generate(0, 8, 1);
    Value::Null
}
