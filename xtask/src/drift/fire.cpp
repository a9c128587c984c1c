// Brings about what the points observe, with the calls that every llama.cpp since November 2024 has. Arguments: a small
// model, and a path for a file that is none. Prints the name of each span that it is handed.

#include "common/otel/otel.h"

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

static void start(llama_otel_control * control) { control->detail = LLAMA_OTEL_DETAIL_OP; }

static void span(const llama_otel_span_record * record, size_t, const char *, size_t) { printf("span %s\n", record->name); }

static void metric(const llama_otel_metric_record *, size_t, const char *, size_t) {}

static bool done(uint32_t) { return true; }

static const llama_otel_backend backend = {
    LLAMA_OTEL_ABI_VERSION, LLAMA_OTEL_REGISTRY_FINGERPRINT, start, span, metric, done, done,
};

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

// `n` tokens of sequence 0 from position `pos`, logits of the last
static int decode(llama_context * ctx, int n, int pos) {
    llama_batch batch = llama_batch_init(n > 0 ? n : 1, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        batch.token[i]     = 1 + i % 3;
        batch.pos[i]       = pos + i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = i == n - 1;
    }
    const int status = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return status;
}

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

int main(int argc, char ** argv) {
    CHECK(argc == 3);
    CHECK(llama_otel_register(&backend));
    llama_log_set(quiet, nullptr);
    llama_backend_init();

    llama_model_params mparams = llama_model_default_params();
    mparams.progress_callback = no;
    CHECK(!llama_load_model_from_file(argv[1], mparams));
    mparams.progress_callback = nullptr;
    CHECK(!llama_load_model_from_file(argv[2], mparams));
    llama_model * model = llama_load_model_from_file(argv[1], mparams);
    CHECK(model);

    llama_context_params cparams = llama_context_default_params();
    cparams.n_batch  = 0;
    cparams.n_ubatch = 0;
    CHECK(!llama_new_context_with_model(model, cparams));
    cparams.n_batch         = 64;
    cparams.n_ubatch        = 32;
    cparams.n_ctx           = 256;
    cparams.n_threads       = 1;
    cparams.n_threads_batch = 1; // with more, an aborted graph of 2024 leaves its threads waiting for each other
    llama_context * ctx = llama_new_context_with_model(model, cparams);
    CHECK(ctx);

    CHECK(decode(ctx, 0, 0) == -1);
    llama_batch none = llama_batch_init(1, 0, 1);
    CHECK(llama_encode(ctx, none) != 0);
    llama_batch_free(none);

    CHECK(decode(ctx, 48, 0) == 0);
    llama_synchronize(ctx);
    CHECK(decode(ctx, 1, 48) == 0);
#if HAS_SAMPLERS
    sample(ctx, { llama_sampler_init_greedy() });
    sample(ctx, { llama_sampler_init_top_k(5), llama_sampler_init_top_p(0.9f, 1), llama_sampler_init_min_p(0.05f, 1),
        llama_sampler_init_temp(0.8f), llama_sampler_init_temp_ext(0.8f, 0.1f, 1.0f), llama_sampler_init_dist(1) });
#endif

    llama_set_abort_callback(ctx, yes, nullptr);
    decode(ctx, 48, 49); // an older one decodes to the end
    llama_set_abort_callback(ctx, nullptr, nullptr);

    llama_free(ctx);
    llama_free_model(model);
    llama_backend_free();
    return 0;
}
