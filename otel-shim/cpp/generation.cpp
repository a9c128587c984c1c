// Generations: one span for each sequence's life from its first prompt token to its end. What begins, continues and ends
// one is said in docs/generations.md; this file follows it. What is done to sequences between batches is in sequence.cpp.

#include "generation.h"
#include "propagation.h"

#include <algorithm>
#include <limits>

namespace {

constexpr int32_t MAX_DRAFT = 64; // tokens that a sequence may verify in one batch

const char * operation_of(const llama_otel_generation & g) noexcept { return g.embeddings ? "embeddings" : "text_completion"; }

// tokens that were sampled: one from the prompt's output, one from each token that was evaluated and kept behind it
int64_t n_output(const llama_otel_generation & g) noexcept { return g.prompt_done && !g.embeddings ? 1 + g.n_continued : 0; }

double seconds(int64_t from_ns, int64_t to_ns) noexcept { return (double) (to_ns - from_ns) * 1e-9; }

} // namespace

llama_otel_sequences::llama_otel_sequences(const void * context, int64_t context_id, std::string_view model, std::atomic<int64_t> & longest) :
    context(context), context_id(context_id), model(model.substr(0, LLAMA_OTEL_MAX_STRING)), longest(longest) {
    served.reserve(16);
}

//
// batches
//

// whether the tokens of the batch at hand were generated: each of them has an output, from which the next one is sampled
bool llama_otel_sequences::continues(const llama_otel_sequence & seq) const noexcept {
    if (embeddings || seq.n_outputs != seq.n_tokens || seq.n_tokens > MAX_DRAFT) {
        return false;
    }
    return seq.open ? seq.generation.prompt_done && !seq.cut : seq.continues;
}

llama_otel_batch_kind llama_otel_sequences::begin_batch(const llama_otel_batch_view & batch, const llama_otel_span_record * span, int64_t now_ns) noexcept {
    served.clear();
    busy       = true;
    embeddings = batch.embeddings;

    const bool all_outputs = batch.n_outputs >= batch.n_tokens;

    for (int64_t i = 0; i < batch.n_tokens; i++) {
        const bool    output = all_outputs || (batch.output ? batch.output[i] != 0 : i == batch.n_tokens - 1);
        const int32_t n      = batch.seq_id && batch.n_seq_id ? batch.n_seq_id[i] : 1;
        for (int32_t j = 0; j < n; j++) {
            const int32_t id = batch.seq_id && batch.n_seq_id ? batch.seq_id[i][j] : batch.all_seq_id;
            llama_otel_sequence * seq = at(id);
            if (!seq) {
                continue;
            }
            if (std::find(served.begin(), served.end(), id) == served.end()) {
                try {
                    served.push_back(id);
                } catch (...) {
                    continue;
                }
                seq->n_tokens  = 0;
                seq->n_outputs = 0;
            }
            const int32_t next = seq->n_tokens == 0 ? seq->last + 1 : seq->pos_max + 1;
            const int32_t pos  = batch.pos ? batch.pos[i] : batch.pos_step ? batch.first_pos + (int32_t) i * batch.pos_step : next;
            seq->pos_min = seq->n_tokens == 0 ? pos : std::min(seq->pos_min, pos);
            seq->pos_max = seq->n_tokens == 0 ? pos : std::max(seq->pos_max, pos);
            seq->n_tokens++;
            seq->n_outputs += output;
        }
    }

    llama_otel_batch_kind kind = { 0, (int64_t) served.size(), !served.empty() };

    for (const int32_t id : served) {
        llama_otel_sequence & seq = *sequences[id];
        if (seq.pos_min < seq.last) {
            empty(seq, id, "cleared"); // what was there has gone while telemetry was off
        }
        seq.decode  = continues(seq);
        kind.decode = kind.decode && seq.decode;

        const bool goes_on = seq.open && (seq.decode || (!seq.cut && seq.generation.n_continued + seq.generation.n_removed == 0));
        if (seq.open && !goes_on) {
            end(seq, id, "next_prompt"); // what was taken back made room for the new prompt
        }
        if (!seq.open) {
            begin(seq, id, span, now_ns);
        } else if (seq.n_taken_back > 0) {
            seq.generation.n_continued -= seq.n_taken_back;
            seq.generation.n_removed   += seq.n_taken_back;
        }
        seq.n_taken_back = 0;
    }

    if (kind.decode) {
        kind.n_decode = batch.n_tokens;
    } else if (kind.n_seqs > 1) {
        for (int64_t i = 0; i < batch.n_tokens; i++) {
            bool decode = batch.seq_id && batch.n_seq_id && batch.n_seq_id[i] > 0;
            for (int32_t j = 0; decode && j < batch.n_seq_id[i]; j++) {
                const llama_otel_sequence * seq = existing(batch.seq_id[i][j]);
                decode = seq && seq->decode;
            }
            kind.n_decode += decode;
        }
    }
    return kind;
}

void llama_otel_sequences::end_batch(const char * error, const llama_otel_span_record & span, int64_t now_ns) noexcept {
    busy = false;
    for (const int32_t id : served) {
        llama_otel_sequence &   seq = *sequences[id];
        llama_otel_generation & g   = seq.generation;
        if (!seq.open) {
            continue;
        }
        g.error   = error;
        g.last_ns = now_ns;
        g.n_batches++;
        if (span.flags & LLAMA_OTEL_FLAG_EXPORT) {
            if (g.n_links < LLAMA_OTEL_MAX_LINKS) {
                g.links[g.n_links++] = { span.trace_id_hi, span.trace_id_lo, span.span_id };
            } else {
                g.n_links_dropped++;
            }
        }
        if (error) {
            continue; // none of its tokens are counted: the caller repeats them, or the generation ends in this error
        }
        seq.last = std::max(seq.last, seq.pos_max);
        if (seq.decode) {
            g.n_continued += seq.n_tokens;
            measure_first(g);
        } else {
            g.n_input    += seq.n_tokens;
            g.prompt_last = seq.pos_max;
            if (seq.n_outputs > 0) {
                g.prompt_done = true;
                g.first_ns    = now_ns;
            }
        }
    }
    update_longest();
}

void llama_otel_sequences::evaluated(int64_t now_ns) noexcept {
    if (busy) {
        return; // llama.cpp also waits before it computes, when it needs larger buffers
    }
    for (const int32_t id : served) {
        llama_otel_sequence & seq = *sequences[id];
        if (seq.open && !seq.generation.error) {
            seq.generation.last_ns = now_ns;
            if (!seq.decode && seq.generation.first_ns != 0) {
                seq.generation.first_ns = now_ns;
            }
        }
    }
    served.clear(); // the time until the next batch is the program's
}

void llama_otel_sequences::encoded(int64_t n_tokens, const llama_otel_span_record * span, int64_t now_ns) noexcept {
    n_encoded       = n_tokens;
    encode_start_ns = now_ns;
    encode_span     = {};
    if (span && (span->flags & LLAMA_OTEL_FLAG_EXPORT)) {
        encode_span = { span->trace_id_hi, span->trace_id_lo, span->span_id };
    }
}

//
// generations
//

void llama_otel_sequences::begin(llama_otel_sequence & seq, int32_t id, const llama_otel_span_record * span, int64_t now_ns) noexcept {
    llama_otel_generation & g = seq.generation;

    g.embeddings      = embeddings;
    g.copied          = seq.decode;
    g.prompt_done     = seq.decode;
    g.first_measured  = seq.decode; // the token was the other sequence's
    g.start_ns        = now_ns;
    g.first_ns        = 0;
    g.last_ns         = now_ns;
    g.first_pos       = seq.pos_min;
    g.prompt_last     = seq.pos_min - 1;
    g.n_cached        = std::max(seq.pos_min, 0);
    g.n_input         = 0;
    g.n_continued     = 0;
    g.n_removed       = 0;
    g.n_batches       = 0;
    g.error           = nullptr;
    g.origin          = nullptr;
    g.n_links         = 0;
    g.n_links_dropped = 0;
    g.exported        = llama_otel_ctl.detail.load(std::memory_order_relaxed) >= LLAMA_OTEL_DETAIL_REQUEST;

    if (g.exported) {
        const llama_otel_parent parent = llama_otel_parent_for(context, id, span);
        g.trace_id_hi    = parent.span_id ? parent.trace_id_hi : llama_otel_next_id();
        g.trace_id_lo    = parent.span_id ? parent.trace_id_lo : llama_otel_next_id();
        g.parent_span_id = parent.span_id;
        g.remote_parent  = parent.span_id && parent.remote;
        g.origin         = parent.origin;
        g.exported       = parent.span_id && llama_otel_ctl.parent_based.load(std::memory_order_relaxed) ? parent.sampled : llama_otel_is_sampled(g.trace_id_lo);
        g.span_id        = llama_otel_next_id();
    }
    if (n_encoded > 0) {
        g.start_ns = encode_start_ns;
        g.n_input  = n_encoded;
        if (g.exported && encode_span.span_id != 0) {
            g.links[g.n_links++] = encode_span;
        }
        n_encoded = 0;
    }
    seq.open      = true;
    seq.cut       = false;
    seq.continues = false;
}

void llama_otel_sequences::measure_first(llama_otel_generation & g) noexcept {
    if (!g.first_measured && g.first_ns != 0) {
        g.first_measured = true;
        llama_otel_measure(LLAMA_OTEL_METRIC_GEN_AI_SERVER_TIME_TO_FIRST_TOKEN, seconds(g.start_ns, g.first_ns), "gen_ai.operation.name", operation_of(g), "gen_ai.request.model", model);
    }
}

void llama_otel_sequences::end(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept {
    llama_otel_generation & g = seq.generation;
    seq.open = false;
    seq.cut  = false;

    const int64_t generated = n_output(g);
    const int64_t from_ns   = g.copied ? g.start_ns : g.first_ns; // of the tokens after the first
    const double  per_token = g.n_continued > 0 ? seconds(from_ns, g.last_ns) / (double) g.n_continued : 0.0;

    if (!g.embeddings) {
        measure_first(g);
    }
    if (g.n_continued > 0) {
        llama_otel_measure(LLAMA_OTEL_METRIC_GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN, per_token, "gen_ai.operation.name", operation_of(g), "gen_ai.request.model", model);
    }
    if (g.n_input + g.n_continued > 0) {
        llama_otel_measure(LLAMA_OTEL_METRIC_GEN_AI_CLIENT_TOKEN_USAGE, g.n_cached + g.n_input, "gen_ai.operation.name", operation_of(g), "gen_ai.request.model", model, "gen_ai.token.type", "input");
        if (generated > 0) {
            llama_otel_measure(LLAMA_OTEL_METRIC_GEN_AI_CLIENT_TOKEN_USAGE, generated, "gen_ai.operation.name", operation_of(g), "gen_ai.request.model", model, "gen_ai.token.type", "output");
        }
    }
    const llama_otel_kept_origin kept(g.origin, true);
    g.origin = nullptr;
    if (!g.exported) {
        return;
    }

    llama_otel_buffer<llama_otel_span_record> data;
    data.record = {};
    data.n_strings = 0;
    data.record.name           = "llama_generation";
    data.record.trace_id_hi    = g.trace_id_hi;
    data.record.trace_id_lo    = g.trace_id_lo;
    data.record.span_id        = g.span_id;
    data.record.parent_span_id = g.parent_span_id;
    data.record.start_ns       = g.start_ns;
    data.record.end_ns         = g.last_ns;
    data.record.metric         = LLAMA_OTEL_NO_METRIC;
    data.record.flags          = (uint8_t) (LLAMA_OTEL_FLAG_EXPORT | LLAMA_OTEL_FLAG_LOCAL_ROOT | (g.remote_parent ? LLAMA_OTEL_FLAG_REMOTE_PARENT : 0));

    data.put("llama.context.id", context_id);
    data.put("llama.sequence.id", id);
    data.put("gen_ai.operation.name", operation_of(g));
    data.put("gen_ai.provider.name", "llama.cpp");
    data.put("gen_ai.request.model", model);
    data.put("gen_ai.usage.input_tokens", g.n_cached + g.n_input);
    data.put("gen_ai.usage.cache_read.input_tokens", g.n_cached);
    data.put("gen_ai.usage.output_tokens", generated);
    data.put("llama.generation.n_removed", g.n_removed);
    data.put("llama.generation.n_batches", g.n_batches);
    if (g.first_ns != 0 && !g.embeddings) {
        data.put("llama.generation.time_to_first_token", seconds(g.start_ns, g.first_ns));
    }
    if (g.n_input > 0 && g.first_ns > g.start_ns) {
        data.put("llama.generation.prompt.throughput", (double) g.n_input / seconds(g.start_ns, g.first_ns));
    }
    if (per_token > 0.0) {
        data.put("llama.generation.time_per_output_token", per_token);
        data.put("llama.generation.decode.throughput", 1.0 / per_token);
    }
    data.put("llama.generation.finish", g.error ? "error" : finish);
    if (g.error) {
        data.put("error.type", g.error);
        data.record.flags |= LLAMA_OTEL_FLAG_ERROR;
        data.record.message = data.copy("the last batch of this sequence failed");
    }
    data.record.n_links_dropped = (uint16_t) std::min<uint32_t>(g.n_links_dropped, std::numeric_limits<uint16_t>::max());
    for (uint32_t i = 0; i < g.n_links; i++) {
        data.link(g.links[i]);
    }
    llama_otel_put_origin(data, kept.origin, true);
    llama_otel_submit_span(data);
}
