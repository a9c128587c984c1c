// The table through which the runtime reaches the Rust backend: the only C++ file that sees cxx.

#include "otel-backend.h"
#include "otel-registry.h"
#include "otel-shim/src/lib.rs.h"

namespace rust_backend = llama_otel::shim;

// cxx knows no `const void *`
static void take_entries(const void * entries, size_t size) { rust_backend::entries((const char *) entries, size); }

extern "C" const llama_otel_backend * llama_otel_backend_rust(void) {
    static const llama_otel_backend table = {
        LLAMA_OTEL_ABI_VERSION,
        LLAMA_OTEL_REGISTRY_FINGERPRINT,
        rust_backend::start,
        rust_backend::span,
        rust_backend::metric,
        rust_backend::event,
        take_entries,
        rust_backend::flush,
        rust_backend::shutdown,
        rust_backend::attach,
        rust_backend::set_detail,
        rust_backend::set_export,
        rust_backend::is_active,
        rust_backend::dropped,
    };
    return &table;
}
