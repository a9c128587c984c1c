// A shared library that uses telemetry, as a server's plug-in would; loaded and closed by host.cpp.

#include <cstdint>

extern "C" {
void llama_otel_lifecycle_start(void);
void llama_otel_lifecycle_decode(int64_t i);

// records ten decodes
__attribute__((visibility("default"))) void llama_otel_plugin(void) {
    llama_otel_lifecycle_start();
    for (int64_t i = 0; i < 10; i++) {
        llama_otel_lifecycle_decode(i);
    }
}
}
