// Brings about what the points observe, with the calls that every llama.cpp since November 2024 has. Arguments: a small
// model, a path for a file that is none, a small encoder, a path for a state, and a small recurrent model. Prints the name of
// each span that it is handed.

#include "common/otel/otel.h"

#include "llama.h"

#include "ggml-backend-impl.h"

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

static void start(llama_otel_control * control) { control->detail = LLAMA_OTEL_DETAIL_OP; }

static void span(const llama_otel_span_record * record, size_t, const char *, size_t) { printf("span %s\n", record->name); }

static void metric(const llama_otel_metric_record *, size_t, const char *, size_t) {}

static void event(const llama_otel_event_record *, size_t, const char *, size_t) {}

static bool done(uint32_t) { return true; }

// by name: what the table has besides is not wanted here
static const llama_otel_backend * table() {
    static llama_otel_backend backend = {};
    backend.abi_version          = LLAMA_OTEL_ABI_VERSION;
    backend.registry_fingerprint = LLAMA_OTEL_REGISTRY_FINGERPRINT;
    backend.start                = start;
    backend.span                 = span;
    backend.metric               = metric;
    backend.event                = event;
    backend.flush                = done;
    backend.shutdown             = done;
    return &backend;
}

#define CHECK(condition)                                        \
    do {                                                        \
        if (!(condition)) {                                     \
            printf("line %d: %s\n", __LINE__, #condition);      \
            exit(1);                                            \
        }                                                       \
    } while (0)

static bool no(float, void *) { return false; }

static bool yes(void *) { return true; }

static void quiet(ggml_log_level, const char *, void *) {}

// The processor's backend is done when the call returns. While this is set it can be waited for, as that of a card can.
static bool can_be_waited_for = false;

static void wait(ggml_backend_t) {}

extern "C" ggml_status __real_ggml_backend_sched_graph_compute_async(ggml_backend_sched_t sched, ggml_cgraph * graph);

// in place of ggml's own, by the linker
extern "C" ggml_status __wrap_ggml_backend_sched_graph_compute_async(ggml_backend_sched_t sched, ggml_cgraph * graph) {
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); i++) {
        ggml_backend_sched_get_backend(sched, i)->iface.synchronize = can_be_waited_for ? wait : nullptr;
    }
    return __real_ggml_backend_sched_graph_compute_async(sched, graph);
}

// `n` tokens of sequence 0 from position `pos`, logits of the last if they are wanted
static int decode(llama_context * ctx, int n, int pos, bool logits = true) {
    llama_batch batch = llama_batch_init(n > 0 ? n : 1, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        batch.token[i]     = 1 + i % 3;
        batch.pos[i]       = pos + i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = logits && i == n - 1;
    }
    const int status = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return status;
}

// What is done to sequences has had three names: -1 for a bound is none.
#if HAS_MEMORY
#    define SEQ(what, ctx, ...) llama_memory_##what(llama_get_memory(ctx), __VA_ARGS__)
#    define CLEAR(ctx)          llama_memory_clear(llama_get_memory(ctx), true)
#elif HAS_KV_SELF
#    define SEQ(what, ctx, ...) llama_kv_self_##what(ctx, __VA_ARGS__)
#    define CLEAR(ctx)          llama_kv_self_clear(ctx)
#else
#    define SEQ(what, ctx, ...) llama_kv_cache_##what(ctx, __VA_ARGS__)
#    define CLEAR(ctx)          llama_kv_cache_clear(ctx)
#endif

static void sequences(llama_context * ctx) {
    SEQ(seq_cp,   ctx, 0, 1, -1, -1);
    SEQ(seq_rm,   ctx, 0, 40, -1);
    SEQ(seq_add,  ctx, 0, 20, -1, 2);
    SEQ(seq_div,  ctx, 0, 20, -1, 2);
    SEQ(seq_keep, ctx, 1);
    CLEAR(ctx);
}

#if HAS_DEFRAG
#    if HAS_KV_SELF
#        define KV(what, ctx)   llama_kv_self_##what(ctx)
#    else
#        define KV(what, ctx)   llama_kv_cache_##what(ctx)
#    endif
struct cells_of {
    int64_t context_id;
    double  used;
};

static void take_cells(void * to, const llama_otel_metric_record * record, size_t) {
    const auto * first = reinterpret_cast<const llama_otel_attr *>(record + 1); // llama.context.id
    auto *       cells = static_cast<cells_of *>(to);
    if (record->metric == LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_USAGE && first->value.i == cells->context_id) {
        cells->used = record->value;
    }
}

// in use, as the runtime tells it
static double cells(llama_context * ctx) {
    cells_of cells = { llama_otel_context_id(ctx), -1 };
    llama_otel_ctl.observe(take_cells, &cells);
    return cells.used;
}

// 40 tokens, of which 16 in the middle are removed; the holes are closed, and a token comes behind: cells have moved, and as
// many are in use as were decoded and not removed
static void defragment(llama_context * ctx) {
    CHECK(decode(ctx, 40, 0) == 0);
    CHECK(cells(ctx) == 40);
    SEQ(seq_rm, ctx, 0, 8, 24);
    KV(defrag, ctx);
    KV(update, ctx);
    CHECK(decode(ctx, 1, 40) == 0);
    CHECK(cells(ctx) == 40 - 16 + 1);
    CLEAR(ctx);
}
#endif

// each call once as it should be, once with too little room or the wrong file
static void states(llama_context * ctx, const char * file, const char * no_state, const char * no_folder) {
    const llama_token token = 1;
    llama_token tokens[4] = {};
    size_t      n         = 0;

    std::vector<uint8_t> whole(llama_state_get_size(ctx));
    CHECK(llama_state_get_data(ctx, whole.data(), whole.size()) > 0);
    CHECK(llama_state_get_data(ctx, whole.data(), 1) == 0);
    CHECK(llama_state_get_data(ctx, whole.data(), whole.size()) > 0);
    CHECK(llama_state_set_data(ctx, whole.data(), 1) == 0);
    CHECK(llama_state_set_data(ctx, whole.data(), whole.size()) > 0);
    CHECK(llama_state_save_file(ctx, file, &token, 1));
    CHECK(llama_state_load_file(ctx, file, tokens, 4, &n));
    CHECK(!llama_state_load_file(ctx, no_state, tokens, 4, &n));
    CHECK(!llama_state_load_file(ctx, no_folder, tokens, 4, &n));
    CHECK(!llama_state_save_file(ctx, no_folder, &token, 1));

    std::vector<uint8_t> part(llama_state_seq_get_size(ctx, 0));
    CHECK(llama_state_seq_get_data(ctx, part.data(), 1, 0) == 0);
    CHECK(llama_state_seq_get_data(ctx, part.data(), part.size(), 0) > 0);
    CHECK(llama_state_seq_set_data(ctx, part.data(), 1, 0) == 0);
    CHECK(llama_state_seq_set_data(ctx, part.data(), part.size(), 0) > 0);
    CHECK(llama_state_seq_save_file(ctx, file, 0, &token, 1) > 0);
    CHECK(llama_state_seq_load_file(ctx, file, 0, tokens, 4, &n) > 0);
    CHECK(llama_state_seq_load_file(ctx, no_state, 0, tokens, 4, &n) == 0);
    CHECK(llama_state_seq_load_file(ctx, no_folder, 0, tokens, 4, &n) == 0);
    CHECK(llama_state_seq_save_file(ctx, no_folder, 0, &token, 1) == 0);
}

[[maybe_unused]] static void encode(const char * path, llama_context_params cparams) {
    llama_model * model = llama_load_model_from_file(path, llama_model_default_params());
    CHECK(model);
    cparams.embeddings   = true;
    cparams.pooling_type = LLAMA_POOLING_TYPE_NONE; // one of early 2025 has room for no other
    llama_context * ctx = llama_new_context_with_model(model, cparams);
    CHECK(ctx);
    llama_batch batch = llama_batch_init(8, 0, 1);
    batch.n_tokens = 8;
    for (int i = 0; i < 8; i++) {
        batch.token[i]     = i;
        batch.pos[i]       = i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = true;
    }
    CHECK(llama_encode(ctx, batch) == 0);
    llama_synchronize(ctx);
    llama_set_abort_callback(ctx, yes, nullptr);
    llama_encode(ctx, batch); // an older one encodes to the end
    llama_batch_free(batch);
    llama_free(ctx);
    llama_free_model(model);
}

// a recurrent model's states are copied, kept and removed whole
[[maybe_unused]] static void recur(const char * path, const llama_context_params & cparams) {
    llama_model * model = llama_load_model_from_file(path, llama_model_default_params());
    CHECK(model);
    llama_context * ctx = llama_new_context_with_model(model, cparams);
    CHECK(ctx);
    CHECK(decode(ctx, 8, 0) == 0);
    SEQ(seq_cp,   ctx, 0, 1, -1, -1);
    SEQ(seq_keep, ctx, 1);
    SEQ(seq_rm,   ctx, 1, -1, -1);
    CLEAR(ctx);
    llama_free(ctx);
    llama_free_model(model);
}

#if HAS_BACKEND_SAMPLERS
static void sample_in_graph(llama_model * model, llama_context_params cparams) {
    llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    llama_sampler_seq_config config = { 0, chain };
    cparams.samplers   = &config;
    cparams.n_samplers = 1;
    llama_context * ctx = llama_init_from_model(model, cparams);
    CHECK(ctx);
    CHECK(decode(ctx, 8, 0) == 0);
    CHECK(llama_get_sampled_token_ith(ctx, -1) >= 0);
    llama_free(ctx);
    llama_sampler_free(chain);
}
#endif

#if HAS_SAMPLERS
static void sample(llama_context * ctx, std::vector<llama_sampler *> samplers) {
    llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    for (llama_sampler * sampler : samplers) {
        llama_sampler_chain_add(chain, sampler);
    }
    CHECK(llama_sampler_sample(chain, ctx, -1) >= 0);
    llama_sampler_free(chain);
}
#endif

// there is no room for so many cells
[[maybe_unused]] static void exhaust(llama_model * model, llama_context_params cparams) {
    const rlimit none = { 4ull << 30, RLIM_INFINITY };
    rlimit       old;
    CHECK(getrlimit(RLIMIT_AS, &old) == 0 && setrlimit(RLIMIT_AS, &none) == 0);
    cparams.n_ctx = 1u << 30;
    CHECK(!llama_new_context_with_model(model, cparams));
    CHECK(setrlimit(RLIMIT_AS, &old) == 0);
}

int main(int argc, char ** argv) {
    CHECK(argc == 6);
    CHECK(llama_otel_register(table()));
    llama_log_set(quiet, nullptr);
    llama_backend_init();

    llama_model_params mparams = llama_model_default_params();
    mparams.progress_callback = no;
    CHECK(!llama_load_model_from_file(argv[1], mparams));
    mparams.progress_callback = nullptr;
    CHECK(!llama_load_model_from_file(argv[2], mparams));
    llama_model * model = llama_load_model_from_file(argv[1], mparams);
    CHECK(model);

    // a model is no adapter, and a file that is none is nothing
#if HAS_ADAPTER_LORA
    CHECK(!llama_adapter_lora_init(model, argv[1]));
    CHECK(!llama_adapter_lora_init(model, argv[2]));
#else
    CHECK(!llama_lora_adapter_init(model, argv[1]));
    CHECK(!llama_lora_adapter_init(model, argv[2]));
#endif

    llama_context_params cparams = llama_context_default_params();
    cparams.n_batch  = 0;
    cparams.n_ubatch = 0;
    CHECK(!llama_new_context_with_model(model, cparams));
    cparams.n_batch         = 64;
    cparams.n_ubatch        = 32;
    cparams.n_ctx           = 256;
    cparams.n_seq_max       = 2;
    cparams.n_threads       = 1;
    cparams.n_threads_batch = 1; // with more, an aborted graph of 2024 leaves its threads waiting for each other
    llama_context * ctx = llama_new_context_with_model(model, cparams);
    CHECK(ctx);

#if HAS_MEMORY || HAS_KV_SELF // before, what creating a context throws is not caught
    exhaust(model, cparams);
#endif
    ggml_backend_buffer_t part = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), 64);
    CHECK(part);
    ggml_backend_buffer_free(ggml_backend_multi_buffer_alloc_buffer(&part, 1));

    CHECK(decode(ctx, 0, 0) == -1);
    llama_batch none = llama_batch_init(1, 0, 1);
    CHECK(llama_encode(ctx, none) != 0);
    llama_batch_free(none);

    CHECK(decode(ctx, 48, 0) == 0);
    llama_synchronize(ctx);
    for (int i = 0; i < 3; i++) { // of one shape, so that the graph is used again
        CHECK(decode(ctx, 1, 48 + i) == 0);
    }
    can_be_waited_for = true;
    CHECK(decode(ctx, 1, 51, false) == 0);
    llama_synchronize(ctx);
    can_be_waited_for = false;
    CHECK(decode(ctx, 1, 52) == 0);
#if HAS_SAMPLERS
    sample(ctx, { llama_sampler_init_greedy() });
    sample(ctx, { llama_sampler_init_top_k(5), llama_sampler_init_top_p(0.9f, 1), llama_sampler_init_min_p(0.05f, 1),
        llama_sampler_init_temp(0.8f), llama_sampler_init_temp_ext(0.8f, 0.1f, 1.0f), llama_sampler_init_dist(1) });
#endif

    states(ctx, argv[4], argv[1], "no-such-folder/state");
#if HAS_BACKEND_SAMPLERS
    sample_in_graph(model, cparams);
#endif
#if HAS_MEMORY || HAS_KV_SELF // before, an encoder had to come with a decoder
    encode(argv[3], cparams);
    recur(argv[5], cparams);
#endif

    llama_set_abort_callback(ctx, yes, nullptr);
    decode(ctx, 48, 53); // an older one decodes to the end
    llama_set_abort_callback(ctx, nullptr, nullptr);
    sequences(ctx);
#if HAS_DEFRAG
    defragment(ctx);
#endif

    llama_free(ctx);
    llama_free_model(model);
    llama_backend_free();
    return 0;
}
