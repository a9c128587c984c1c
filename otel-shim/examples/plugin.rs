//! A shared library that uses telemetry, as a server's plug-in would; loaded and closed by `examples/lifecycle.rs`.

// the symbols of the crate's C++ library
use otel_shim as _;

unsafe extern "C" {
    safe fn llama_otel_lifecycle_start();
    safe fn llama_otel_lifecycle_decode(i: i64);
}

/// Records ten decodes.
#[unsafe(no_mangle)]
pub extern "C" fn llama_otel_plugin() {
    llama_otel_lifecycle_start();
    (0..10).for_each(|i| llama_otel_lifecycle_decode(i));
}
