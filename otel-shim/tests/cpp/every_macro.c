// What a C file of ggml uses. Compiled with telemetry on and off; never run.

enum ggml_op { GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_PERMUTE, GGML_OP_TRANSPOSE, GGML_OP_ADD };
enum ggml_log_level { GGML_LOG_LEVEL_ERROR = 4 };
const char * ggml_op_name(enum ggml_op op);

#include "otel.h"

int compute(const enum ggml_op * ops, int n, int thread, enum ggml_log_level level, const char * text) {
    LLAMA_OTEL_LOG(level, text);
    LLAMA_OTEL_OPS(thread == 0);
    for (int i = 0; i < n; i++) {
        LLAMA_OTEL_OP(ops[i]);
    }
    LLAMA_OTEL_OPS_END();
    return ops[0] + n + thread + (int) level + text[0];
}
