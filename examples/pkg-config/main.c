// generate MODEL.gguf N_TOKENS: greedy tokens from the model's first one on. Telemetry needs no line here: set
// OTEL_EXPORTER_OTLP_ENDPOINT.

#include "llama-otel.h"
#include "llama.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: generate MODEL.gguf N_TOKENS\n");
        return 2;
    }
    llama_backend_init();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return 1;
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx           = 128;
    params.n_threads       = 1;
    params.n_threads_batch = 1;
    struct llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return 1;
    }

    struct llama_sampler * sampler = llama_sampler_init_greedy();
    llama_token token = llama_vocab_bos(llama_model_get_vocab(model));
    for (int i = 0; i < atoi(argv[2]); i++) {
        if (llama_decode(context, llama_batch_get_one(&token, 1)) != 0) {
            return 1;
        }
        token = llama_sampler_sample(sampler, context, -1);
        printf("%d\n", token);
    }
    if (!llama_otel_flush(1000)) {
        fprintf(stderr, "not all telemetry was delivered\n");
    }

    llama_sampler_free(sampler);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
