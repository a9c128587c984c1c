// The table through which the runtime reaches the Rust backend: the only C++ file that sees cxx.

#include "otel-backend.h"
#include "otel-registry.h"
#include "otel-shim/src/lib.rs.h"

namespace rust_backend = llama_otel::shim;

extern "C" const llama_otel_backend * llama_otel_backend_rust(void) {
    static const llama_otel_backend table = {
        LLAMA_OTEL_ABI_VERSION,
        LLAMA_OTEL_REGISTRY_FINGERPRINT,
        rust_backend::start,
        rust_backend::span,
        rust_backend::metric,
        rust_backend::flush,
        rust_backend::shutdown,
    };
    return &table;
}
