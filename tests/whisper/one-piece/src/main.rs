//! Calls both, so that neither is left out. It does not come to be run: the linker finds ggml twice.

fn main() {
    // SAFETY: nothing before it.
    unsafe { llama_otel_sys::llama_backend_init() };
    println!("{}", whisper_rs::print_system_info());
}
