#pragma once

// Parents that the program gave: to a thread, a context, or a sequence (llama-otel.h), and what its own tracing says.

#include "runtime.h"

// What comes with a parent besides its ids. Counted references: a span that is open keeps what its trace began with.
struct llama_otel_origin;

void llama_otel_keep(const llama_otel_origin * origin) noexcept;    // null: nothing
void llama_otel_release(const llama_otel_origin * origin) noexcept; // null: nothing

// releases it at the end of the block
struct llama_otel_kept_origin {
    const llama_otel_origin * origin;
    bool                      kept;

    llama_otel_kept_origin(const llama_otel_origin * origin, bool kept) noexcept : origin(origin), kept(kept) {}
    ~llama_otel_kept_origin() {
        if (kept && origin) {
            llama_otel_release(origin);
        }
    }
    llama_otel_kept_origin(const llama_otel_kept_origin &) = delete;
    llama_otel_kept_origin & operator=(const llama_otel_kept_origin &) = delete;
};

// At the end of a span: the trace state, and of the baggage what was asked for if the span is a direct child of the parent.
void llama_otel_put_origin(llama_otel_buffer<llama_otel_span_record> & data, const llama_otel_origin * origin, bool direct_child) noexcept;

// whether a context or a sequence has a parent of its own
bool llama_otel_any_context_parent() noexcept;

// The parent of a span that llama.cpp opens on this thread for that sequence (-1: none in particular) of that context
// (null: not known); span_id 0: it has none. The origin in it is kept for the caller, who releases it.
llama_otel_parent llama_otel_given_parent(const void * context, int32_t seq) noexcept;

// the only sequence of a batch, -1 if it has several
int32_t llama_otel_only_sequence(const llama_otel_batch_view & batch) noexcept;

// a context that no longer exists
void llama_otel_forget_parents(const void * context) noexcept;

// what a backend is given (otel-backend.h)
void *   llama_otel_make_parent(const char * traceparent, const char * tracestate, const char * baggage, bool remote, uint32_t * result) noexcept;
void *   llama_otel_swap_parent(void * parent) noexcept;
void     llama_otel_free_parent(void * parent) noexcept;
uint32_t llama_otel_set_parent(const void * context, int32_t seq, void * parent) noexcept;
