// Has llama_decode and llama_encode return every code that they can be made to return, and says what they returned. The graphs are
// computed by a device of this program's own, which fails when it is told to. Knows nothing of telemetry.
// `failing MODEL ENCODER`

#include "llama.h"

#include "ggml-backend-impl.h"

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

static void quiet(ggml_log_level, const char *, void *) {}

//
// a device: the CPU's, as an accelerator, with a fault in it
//

static const ggml_status NO_FAULT = GGML_STATUS_SUCCESS;

static struct {
    ggml_status status; // what the graph comes to that has the fault
    bool        throws; // it leaves by an exception instead
    int         after;  // graphs that are computed before it
} fault = { NO_FAULT, false, 0 };

static int n_computed = 0; // graphs of the device, since the last attempt began

static ggml_backend_i cpu_backend;

static ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    if ((fault.status != NO_FAULT || fault.throws) && fault.after-- == 0) {
        if (fault.throws) {
            throw std::runtime_error("the device is gone");
        }
        return fault.status;
    }
    n_computed++;
    return cpu_backend.graph_compute(backend, graph);
}

static ggml_backend_device device;

static ggml_backend_t init_backend(ggml_backend_dev_t dev, const char *) {
    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    cpu_backend = backend->iface;
    backend->iface.graph_compute = compute;
    backend->iface.get_name = [](ggml_backend_t) { return "FAULTY"; };
    backend->device = dev;
    return backend;
}

static void register_device() {
    device = *ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    device.iface.get_name        = [](ggml_backend_dev_t) { return "FAULTY"; };
    device.iface.get_description = [](ggml_backend_dev_t) { return "a device that fails when it is told to"; };
    device.iface.get_type        = [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; };
    device.iface.init_backend    = init_backend;
    ggml_backend_device_register(&device);
}

//
// what is tried
//

struct entry {
    llama_token  token;
    llama_pos    pos;
    llama_seq_id seq;
    bool         output;
};

static std::vector<entry> tokens(llama_pos first, int n) {
    std::vector<entry> entries;
    for (int i = 0; i < n; i++) {
        entries.push_back({ 5 + i, first + i, 0, i == n - 1 });
    }
    return entries;
}

static std::string attempts;

// one batch; what came of it is printed at the end
static void attempt(const char * call, const char * what, llama_context * ctx, const std::vector<entry> & entries) {
    llama_batch batch = llama_batch_init((int32_t) entries.size() + 1, 0, 1);
    for (const entry & e : entries) {
        const int i = batch.n_tokens++;
        batch.token[i]     = e.token;
        batch.pos[i]       = e.pos;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = e.seq;
        batch.logits[i]    = e.output;
    }
    n_computed = 0;
    std::string ret = "null"; // left by an exception
    try {
        ret = std::to_string(std::string(call) == "llama_decode" ? llama_decode(ctx, batch) : llama_encode(ctx, batch));
        llama_synchronize(ctx);
    } catch (const std::exception &) {
    }
    fault = { NO_FAULT, false, 0 };
    llama_batch_free(batch);
    attempts += std::string(attempts.empty() ? "" : ",") + "{\"call\":\"" + call + "\",\"what\":\"" + what + "\",\"ret\":" + ret + "}";
}

static void fail_with(ggml_status status, int after = 0) { fault = { status, false, after }; }

static void throw_next() { fault = { NO_FAULT, true, 0 }; }

static llama_context * create(llama_model * model, bool embeddings) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx           = 256;
    params.n_batch         = 64;
    params.n_ubatch        = embeddings ? 64 : 32;
    params.n_seq_max       = 2;
    params.kv_unified      = true;
    params.n_threads       = 1;
    params.n_threads_batch = 1;
    params.embeddings      = embeddings;
    return model ? llama_init_from_model(model, params) : nullptr;
}

static void decode(llama_context * ctx) {
    const char * call = "llama_decode";
    llama_memory_t memory = llama_get_memory(ctx);

    attempt(call, "ok", ctx, tokens(0, 8));
    const int n_graphs = n_computed; // of one physical batch

    fail_with(GGML_STATUS_FAILED);
    attempt(call, "device failed", ctx, tokens(8, 4));
    attempt(call, "ok", ctx, tokens(8, 1));
    fail_with(GGML_STATUS_ALLOC_FAILED);
    attempt(call, "device has no memory", ctx, tokens(9, 4));
    fail_with(GGML_STATUS_ABORTED);
    attempt(call, "device aborted", ctx, tokens(9, 4));
    throw_next();
    attempt(call, "device threw", ctx, tokens(9, 4));
    llama_memory_seq_rm(memory, 0, 9, -1); // an exception leaves the cells as they were taken

    attempt(call, "no tokens",      ctx, {});
    attempt(call, "no such token",  ctx, { { 1 << 30, 9, 0, true } });
    attempt(call, "no such sequence", ctx, { { 5, 9, 1 << 20, true } });
    attempt(call, "gap in the positions", ctx, { { 5, 20, 0, true } });

    llama_sampler * greedy = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(greedy, llama_sampler_init_greedy());
    if (llama_set_sampler(ctx, 1, greedy)) {
        attempt(call, "more outputs than a sampler takes", ctx, { { 5, 0, 1, true }, { 6, 1, 1, true } });
        llama_set_sampler(ctx, 1, nullptr);
    }
    llama_sampler_free(greedy);
    // the next batch reserves its graphs anew, and llama.cpp counts it as evaluated before it is computed: let that be one that succeeds
    attempt(call, "ok", ctx, tokens(9, 1));
    llama_memory_seq_rm(memory, 0, 9, -1);

    // the first physical batch is computed, the second one fails
    fail_with(GGML_STATUS_FAILED, n_graphs);
    attempt(call, "device failed in the second ubatch", ctx, tokens(9, 40));

    // what was computed stays: 9 and 32 cells; then as many as there are, and one more
    for (llama_pos pos = 41; pos < 256; pos += 43) {
        attempt(call, "ok", ctx, tokens(pos, 43));
    }
    attempt(call, "no slot", ctx, tokens(256, 1));
}

static void encode(llama_context * ctx) {
    const char * call = "llama_encode";
    attempt(call, "ok", ctx, tokens(0, 8));
    fail_with(GGML_STATUS_FAILED);
    attempt(call, "device failed", ctx, tokens(0, 8));
    fail_with(GGML_STATUS_ALLOC_FAILED);
    attempt(call, "device has no memory", ctx, tokens(0, 8));
    fail_with(GGML_STATUS_ABORTED);
    attempt(call, "device aborted", ctx, tokens(0, 8));
    throw_next();
    attempt(call, "device threw", ctx, tokens(0, 8));
    attempt(call, "no tokens", ctx, {});
    attempt(call, "no such token", ctx, { { 1 << 30, 0, 0, true } });
    // a model without memory is encoded whichever function is called
    fail_with(GGML_STATUS_FAILED);
    attempt("llama_decode", "device failed", ctx, tokens(0, 8));
    attempt(call, "ok", ctx, tokens(0, 8));
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: failing MODEL ENCODER\n");
        return 2;
    }
    llama_log_set(quiet, nullptr);
    register_device();
    llama_backend_init();
    for (int i = 1; i <= 2; i++) {
        llama_model *   model = llama_model_load_from_file(argv[i], llama_model_default_params());
        llama_context * ctx   = create(model, i == 2);
        if (!ctx) {
            fprintf(stderr, "failing: no context for %s\n", argv[i]);
            return 3;
        }
        i == 1 ? decode(ctx) : encode(ctx);
        llama_free(ctx);
        llama_model_free(model);
    }
    llama_backend_free();
    printf("{\"attempts\":[%s]}\n", attempts.c_str());
    return 0;
}
