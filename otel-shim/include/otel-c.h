#pragma once

// What a C file of ggml needs: plain functions, and macros that C and C++ understand. Included by otel.h; in C, instead of the rest of it.
//
//   LLAMA_OTEL_LOG(level, text)   a line of the log, before the program's callback gets it; kept if it is an error
//   LLAMA_OTEL_OPS(wanted)        from here on this function times the operations of a graph, if `wanted`
//   LLAMA_OTEL_OP(op)             this one begins, and the one before it has ended
//   LLAMA_OTEL_OPS_END()          the last one has ended; what each kind of operation took is recorded

#include "llama-otel.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

// nanoseconds of the clock of the records
LLAMA_OTEL_API int64_t llama_otel_now_ns(void) LLAMA_OTEL_NOEXCEPT;

// an error that llama.cpp or ggml logs, without the line's end or with it
LLAMA_OTEL_API void llama_otel_log_error(const char * text) LLAMA_OTEL_NOEXCEPT;

// whether the CPU backend shall time its operations: at detail OP, unless the scheduler's callback does it
LLAMA_OTEL_API bool llama_otel_ops_wanted(void) LLAMA_OTEL_NOEXCEPT;

// `n` operations of one kind in one graph and the nanoseconds that they took; both strings must live as long as the process
LLAMA_OTEL_API void llama_otel_op(const char * op, const char * device, uint32_t n, int64_t ns) LLAMA_OTEL_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#define LLAMA_OTEL_MAX_OPS 128 // kinds of operations; ggml has fewer

// The operations of one graph, on the stack of the thread that computes it.
struct llama_otel_ops {
    bool    on;
    int     current; // -1: none yet
    int64_t since;
    struct {
        int64_t  ns;
        uint32_t n;
    } of[LLAMA_OTEL_MAX_OPS];
};

static inline void llama_otel_ops_begin(struct llama_otel_ops * ops, bool wanted) {
    ops->on = wanted && llama_otel_ops_wanted();
    if (ops->on) {
        memset(ops->of, 0, sizeof(ops->of));
        ops->current = -1;
        ops->since   = 0;
    }
}

// one reading of the clock: the end of one operation is the beginning of the next
static inline void llama_otel_ops_next(struct llama_otel_ops * ops, int op) {
    const int64_t now = llama_otel_now_ns();
    if (ops->current >= 0 && ops->current < LLAMA_OTEL_MAX_OPS) {
        ops->of[ops->current].ns += now - ops->since;
        ops->of[ops->current].n++;
    }
    ops->current = op;
    ops->since   = now;
}

// tensors that are only another view of their data are nodes of the graph, but no work
#define LLAMA_OTEL_IS_WORK(op) \
    ((op) != GGML_OP_NONE && (op) != GGML_OP_VIEW && (op) != GGML_OP_RESHAPE && (op) != GGML_OP_PERMUTE && (op) != GGML_OP_TRANSPOSE)

#define LLAMA_OTEL_LOG(level, text)               \
    do {                                          \
        if ((level) == GGML_LOG_LEVEL_ERROR) {    \
            llama_otel_log_error(text);           \
        }                                         \
    } while (0)

#define LLAMA_OTEL_OPS(wanted)       \
    struct llama_otel_ops otel_ops_; \
    llama_otel_ops_begin(&otel_ops_, (wanted))

#define LLAMA_OTEL_OP(op)                                    \
    do {                                                     \
        if (otel_ops_.on && LLAMA_OTEL_IS_WORK(op)) {        \
            llama_otel_ops_next(&otel_ops_, (int) (op));     \
        }                                                    \
    } while (0)

#define LLAMA_OTEL_OPS_END()                                                                                             \
    do {                                                                                                                 \
        if (otel_ops_.on) {                                                                                              \
            llama_otel_ops_next(&otel_ops_, -1);                                                                         \
            for (int otel_op_ = 0; otel_op_ < LLAMA_OTEL_MAX_OPS; otel_op_++) {                                          \
                if (otel_ops_.of[otel_op_].n > 0) {                                                                      \
                    llama_otel_op(ggml_op_name((enum ggml_op) otel_op_), "CPU", otel_ops_.of[otel_op_].n, otel_ops_.of[otel_op_].ns); \
                }                                                                                                        \
            }                                                                                                            \
        }                                                                                                                \
    } while (0)
