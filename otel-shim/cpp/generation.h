#pragma once

// The sequences of one context, and the generation that each of them is in: docs/generations.md says what that is.
// Not thread-safe, as the context is not: llama.cpp is called for one context by one thread at a time. Only the end of telemetry
// comes from elsewhere, and takes the context's slot for it (context.h).

#include "runtime.h"

#include <atomic>
#include <memory>
#include <vector>

// what a batch is, once its sequences are known
struct llama_otel_batch_kind {
    int64_t n_decode; // tokens that continue a generation, the others are prompt
    int64_t n_seqs;
    bool    decode;   // there are no others
};

struct llama_otel_generation {
    uint64_t trace_id_hi;
    uint64_t trace_id_lo;
    uint64_t span_id;
    uint64_t parent_span_id;
    bool     exported;
    bool     remote_parent;
    bool     embeddings;
    bool     prompt_done;   // the last prompt token had an output
    bool     copied;        // continues a copied sequence: the prompt was evaluated for another one
    bool     first_measured;

    int64_t start_ns; // of the first batch
    int64_t first_ns; // end of the batch that gave the first token, 0: none has
    int64_t last_ns;  // end of the last batch

    int32_t first_pos;
    int32_t prompt_last; // position of the last prompt token

    int64_t n_cached;
    int64_t n_input;     // prompt tokens that were evaluated
    int64_t n_continued; // tokens that were evaluated after the prompt and not taken back
    int64_t n_removed;   // those that were taken back
    int64_t n_batches;

    const char * error; // the last batch failed with this

    const struct llama_otel_origin * origin; // what came with the parent, kept; null: nothing did

    llama_otel_link links[LLAMA_OTEL_MAX_LINKS];
    uint32_t        n_links;
    uint32_t        n_links_dropped;
};

struct llama_otel_sequence {
    int32_t last      = -1;    // its highest position, -1: empty
    bool    open      = false; // `generation` is under way
    bool    cut       = false; // taken back into the prompt: what comes next is another generation
    bool    continues = false; // a copy of one whose prompt is done: what comes next is generated

    // the last batch
    int32_t n_tokens  = 0;
    int32_t n_outputs = 0;
    int32_t pos_min   = 0;
    int32_t pos_max   = 0;
    bool    decode    = false;

    int64_t n_taken_back = 0; // since the last batch; whose they are shows the next one

    llama_otel_generation generation;
};

class llama_otel_sequences {
public:
    // `longest` is kept at the number of positions that the longest sequence takes
    llama_otel_sequences(const void * context, int64_t context_id, std::string_view model, std::atomic<int64_t> & longest);

    // A batch that is about to be evaluated, and how that ended (null: well, else the error's type). `span` is its own.
    llama_otel_batch_kind begin_batch(const llama_otel_batch_view & batch, const llama_otel_span_record * span, int64_t now_ns) noexcept;
    void end_batch(const char * error, const llama_otel_span_record & span, int64_t now_ns) noexcept;
    // the devices have finished what was last submitted
    void evaluated(int64_t now_ns) noexcept;

    // An encoder has taken a batch: what it makes of it is the prompt of the generation that begins next.
    void encoded(int64_t n_tokens, const llama_otel_span_record * span, int64_t now_ns) noexcept;

    // generations that the last batch served
    template <typename F> void for_each_served(F f) const {
        for (const int32_t id : served) {
            if (sequences[id]->open && sequences[id]->generation.exported) {
                f(sequences[id]->generation);
            }
        }
    }

    // what llama_memory_* does; ranges are half open, a negative bound is none
    void clear(const char * finish) noexcept;
    // generations end, sequences stay
    void end_all(const char * finish) noexcept;
    void remove(int32_t seq, int32_t p0, int32_t p1) noexcept;
    void copy(int32_t from, int32_t to, int32_t p0, int32_t p1) noexcept;
    void keep(int32_t seq) noexcept;
    void shift(int32_t seq, int32_t p0, int32_t p1, int32_t delta) noexcept;
    void divide(int32_t seq, int32_t p0, int32_t p1, int32_t divisor) noexcept;
    // its content came from a saved state and ends at `last`; of all of them if `seq` is negative
    void replaced(int32_t seq, int32_t last) noexcept;

private:
    llama_otel_sequence * at(int32_t id) noexcept;       // null: out of bounds or of memory
    llama_otel_sequence * existing(int32_t id) noexcept; // null: never seen
    template <typename F> void for_each(int32_t id, F f) noexcept;
    template <typename F> void move(int32_t seq, int32_t p0, int32_t p1, F moved) noexcept;

    bool continues(const llama_otel_sequence & seq) const noexcept;
    void begin(llama_otel_sequence & seq, int32_t id, const llama_otel_span_record * span, int64_t now_ns) noexcept;
    void end(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept;
    void settle(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept;
    void empty(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept;
    void take_back(llama_otel_sequence & seq, int32_t id, int32_t p0, int32_t p1) noexcept;
    void measure_first(llama_otel_generation & generation) noexcept;
    void update_longest() noexcept;

    const void * context;
    int64_t      context_id;
    std::string  model;
    std::atomic<int64_t> & longest;
    bool         embeddings = false;

    int64_t         n_encoded = 0; // tokens of the last batch through the encoder, until a generation begins
    int64_t         encode_start_ns;
    llama_otel_link encode_span;   // span_id 0: not exported

    std::vector<std::unique_ptr<llama_otel_sequence>> sequences;
    std::vector<int32_t> served;         // sequences of the last batch
    bool                 busy = false;   // which has not ended
};

// What the generation of this sequence becomes a child of: asked when it begins, inside the batch that begins it. The
// origin in it is kept for the caller.
llama_otel_parent llama_otel_parent_for(const void * context, int32_t seq, const llama_otel_span_record * batch) noexcept;
