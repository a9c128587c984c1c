// One scripted use of llama.cpp: load, prefill, decode, errors, free. Knows nothing of telemetry. `workload MODEL [N_DECODES]`

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

static void quiet(ggml_log_level, const char *, void *) {}

static bool decode(llama_context * context, std::vector<llama_token> tokens) {
    return llama_decode(context, llama_batch_get_one(tokens.data(), (int32_t) tokens.size())) == 0;
}

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: workload MODEL [N_DECODES]\n");
        return 2;
    }
    const int n_decodes = argc > 2 ? atoi(argv[2]) : 20;
    llama_log_set(quiet, nullptr);
    llama_backend_init();

    // a load that fails
    llama_model * missing = llama_model_load_from_file("/no/such/folder/missing.gguf", llama_model_default_params());

    llama_model *        model  = llama_model_load_from_file(argv[1], llama_model_default_params());
    llama_context_params params = llama_context_default_params();
    params.n_ctx           = 256;
    params.n_batch         = 64;
    params.n_ubatch        = 32;
    params.n_threads       = 1;
    params.n_threads_batch = 1;
    llama_context * context = model ? llama_init_from_model(model, params) : nullptr;
    if (missing || !context) {
        fprintf(stderr, "workload: %s\n", missing ? "a model that does not exist was loaded" : "no model or context");
        return 3;
    }

    llama_sampler * sampler = llama_sampler_init_greedy();
    std::vector<llama_token> prompt(40);
    for (size_t i = 0; i < prompt.size(); i++) {
        prompt[i] = (llama_token) (5 + i);
    }
    bool ok = decode(context, prompt);
    for (int i = 0; ok && i < n_decodes; i++) {
        ok = decode(context, { llama_sampler_sample(sampler, context, -1) });
    }
    // a token that does not exist, and more than the context holds
    const bool refused = !decode(context, { 1 << 30 });
    bool       is_full = false;
    for (int i = 0; i < 8 && !is_full; i++) {
        is_full = !decode(context, prompt);
    }

    llama_sampler_free(sampler);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    printf("{\"ok\":%s,\"refused\":%s,\"full\":%s}\n", ok ? "true" : "false", refused ? "true" : "false", is_full ? "true" : "false");
    return ok && refused && is_full ? 0 : 4;
}
