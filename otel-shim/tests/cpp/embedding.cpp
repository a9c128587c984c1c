// What a patched llama.cpp would do for two contexts, in small: called by examples/embedding.rs.

#include "otel.h"

namespace {

// a batch of one token for each of the sequences
void decode(const void * context, const int32_t * seqs, int32_t n_seqs, bool ubatch) {
    int32_t pos[8]        = {};
    int32_t n_seq_id[8]   = { 1, 1, 1, 1, 1, 1, 1, 1 };
    const int32_t * ids[8] = {};
    for (int32_t i = 0; i < n_seqs; i++) {
        ids[i] = &seqs[i];
    }
    LLAMA_OTEL_SPAN("llama_decode");
    if (llama_otel_on()) {
        llama_otel_batch_view view = {};
        view.n_tokens  = n_seqs;
        view.n_outputs = n_seqs;
        view.pos       = pos;
        view.n_seq_id  = n_seq_id;
        view.seq_id    = ids;
        llama_otel_batch(context, view);
    }
    LLAMA_OTEL_ADD_ATTRIBUTE("context", context ? (const char *) context : "");
    if (ubatch) {
        LLAMA_OTEL_SPAN("llama_ubatch");
    }
}

} // namespace

extern "C" {

void llama_otel_embedding_start() { llama_otel_start(); }

// `context` is a C string, whose address stands for the context
void llama_otel_embedding_create(const char * context) {
    LLAMA_OTEL_SPAN("llama_init_from_model");
    if (llama_otel_on()) {
        llama_otel_new_context(context, nullptr, "tiny", 64);
    }
}

void llama_otel_embedding_decode(const char * context, const int32_t * seqs, int32_t n_seqs, bool ubatch) { decode(context, seqs, n_seqs, ubatch); }

void llama_otel_embedding_sample() { LLAMA_OTEL_SPAN("llama_sample_token"); }

void llama_otel_embedding_free(const char * context) {
    LLAMA_OTEL_SPAN("llama_free");
    if (llama_otel_on()) {
        llama_otel_context_destroyed(context, 0, 0);
    }
}

}
