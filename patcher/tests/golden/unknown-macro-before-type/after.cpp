#include <cstddef>
#define GGML_CALL
typedef void * buffer_t;
GGML_CALL buffer_t alloc_buffer(size_t size) {
    LLAMA_OTEL_SPAN(size);
    return size ? (buffer_t) 1 : nullptr;
}
static GGML_CALL bool is_host(int n) {
    return n;
}
