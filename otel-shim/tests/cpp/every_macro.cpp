// Every macro once, in the places where points put them. Compiled with telemetry on and off; never run.

// the parts of llama.cpp and ggml that the macros and otel-c.h name
enum ggml_op { GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_PERMUTE, GGML_OP_TRANSPOSE, GGML_OP_ADD };
enum ggml_log_level { GGML_LOG_LEVEL_ERROR = 4 };
const char * ggml_op_name(ggml_op op);
long long    ggml_time_us(void);

#include "otel.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

// those that otel-llama.h and otel-ggml.h read, by the names that they read
struct ggml_tensor { ggml_op op; };
struct ggml_context;
ggml_tensor * ggml_get_first_tensor(const ggml_context * context);
ggml_tensor * ggml_get_next_tensor(const ggml_context * context, ggml_tensor * tensor);
size_t ggml_nbytes(const ggml_tensor * tensor);
enum ggml_type_t { TYPE_F16 };
const char * ggml_type_name(ggml_type_t type);
struct ggml_cgraph;
struct ggml_backend_device;
struct ggml_backend_i { void (*synchronize)(void); };
struct ggml_backend { ggml_backend_i iface; ggml_backend_device * device; };
struct ggml_backend_sched {
    bool (*callback_eval)(ggml_tensor * tensor, bool ask, void * user_data);
    void * callback_eval_user_data;
};
struct ggml_backend_reg;
int ggml_graph_n_nodes(ggml_cgraph * graph);
int ggml_backend_sched_get_n_splits(ggml_backend_sched * sched);
const char * ggml_backend_name(ggml_backend * backend);
const char * ggml_backend_reg_name(ggml_backend_reg * reg);
ggml_backend_reg * ggml_backend_dev_backend_reg(ggml_backend_device * device);
size_t ggml_backend_reg_count();
struct ggml_backend_buffer_type;
typedef ggml_backend_buffer_type * ggml_backend_buffer_type_t;
typedef ggml_backend_device * ggml_backend_dev_t;
enum ggml_backend_dev_type_t { DEV_CPU };
enum load_mode_t { MODE_MMAP };

const char * ggml_backend_buft_name(ggml_backend_buffer_type_t buft);
const char * ggml_backend_dev_name(ggml_backend_dev_t device);
const char * ggml_backend_dev_description(ggml_backend_dev_t device);
ggml_backend_dev_type_t ggml_backend_dev_type(ggml_backend_dev_t device);
void ggml_backend_dev_memory(ggml_backend_dev_t device, size_t * free, size_t * total);
size_t ggml_backend_dev_count();
ggml_backend_dev_t ggml_backend_dev_get(size_t i);
const char * llama_load_mode_name(load_mode_t mode);

struct context_params { ggml_type_t type_k; ggml_type_t type_v; };
struct params_old { int n_gpu_layers; int split_mode; bool use_mmap; bool use_mlock; };
struct params_new { int n_gpu_layers; int split_mode; load_mode_t load_mode; };
struct loader_t { int n_tensors; std::string ftype_name() const; };
struct vocab_t { uint32_t n_tokens() const; };
struct hparams_t { uint32_t n_ctx_train; uint32_t n_layer() const; };
struct model_t {
    std::string name;
    vocab_t     vocab;
    hparams_t   hparams;
    std::string arch_name() const;
    uint64_t    n_elements() const;
    size_t      size() const;
    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const;
};
struct breakdown_t { size_t model, context, compute; };
struct cparams_t { uint32_t n_ctx, n_batch, n_ubatch, n_seq_max; int32_t n_threads, n_threads_batch; bool flash_attn, embeddings; };
struct context_t {
    const cparams_t & get_cparams() const;
    const model_t & get_model() const;
    std::map<ggml_backend_buffer_type_t, breakdown_t> memory_breakdown() const;
};
struct sampler_t {};
struct sampler_entry_t { sampler_t * ptr; };
struct tokens_t { int64_t selected; };
const char * llama_sampler_name(const sampler_t * sampler);
struct memory_t { int32_t seq_pos_max(int32_t seq) const; };
const memory_t * llama_get_memory(const context_t * context);
struct batch_t { const int32_t * pos; const int32_t * n_seq_id; int32_t ** seq_id; int8_t * logits; };
struct cells_t { uint32_t get_used() const; uint32_t size() const; };

struct cache_t {
    std::vector<cells_t> v_cells;
    void clear() {
        LLAMA_OTEL_KV_CELLS_AFTER(v_cells, "full");
        LLAMA_OTEL_KV_POOL("full", v_cells, v_cells.size());
        v_cells.clear();
    }
};

int compute(ggml_backend_sched * sched, ggml_backend * backend, ggml_cgraph * graph, ggml_backend_buffer_type_t buft, void * buffer, size_t size, const ggml_tensor * node, std::vector<uint8_t> & message) {
    bool      reuse = true;
    uint8_t * data  = new uint8_t[size];
    LLAMA_OTEL_ALLOCATION(buft, size);
    LLAMA_OTEL_MEMORY_KIND("compute");
    LLAMA_OTEL_BUFFER(buffer, buft, size);
    LLAMA_OTEL_BUFFER_FREED(buffer);
    LLAMA_OTEL_GRAPH(sched, graph);
    LLAMA_OTEL_GRAPH_REUSED();
    LLAMA_OTEL_GRAPH_STEP(BUILD);
    LLAMA_OTEL_SPLIT(sched, backend);
    LLAMA_OTEL_WAIT(backend);
    LLAMA_OTEL_RPC_WHOLE(reuse);
    LLAMA_OTEL_RPC_CARRY(message);
    LLAMA_OTEL_RPC_CARRY(data, &size);
    delete[] data;
    LLAMA_OTEL_RPC_GRAPH(message, message.data(), size, backend);
    LLAMA_OTEL_DEVICE_MEMORY();
    LLAMA_OTEL_LOG(GGML_LOG_LEVEL_ERROR, "what went wrong");
    LLAMA_OTEL_OPS(size > 0);
    LLAMA_OTEL_OP(node->op);
    LLAMA_OTEL_OPS_END();
    return (int) size + (sched->callback_eval && backend->device && graph && buft && buffer && node->op && reuse && message.empty());
}

int decode(const model_t & model, const loader_t & ml, context_t * context, const std::string & file, params_old & a, params_new & b, ggml_backend_dev_t device, const std::vector<cells_t> & cells, const batch_t & batch, const memory_t * memory, const sampler_t * sampler, const tokens_t * tokens, const std::vector<sampler_t *> & samplers, const std::vector<sampler_entry_t> & entries, ggml_context * tensors, const context_params & cparams, int status) {
    LLAMA_OTEL_START();
    LLAMA_OTEL_SPAN("llama_decode");
    LLAMA_OTEL_SPAN_AT(OP, "llama_ubatch");
    LLAMA_OTEL_SPAN_IF(status > 0, DECODE, "llama_rpc_graph_compute");
    LLAMA_OTEL_SPAN_WAIT(status > 0, DECODE, "llama_synchronize");
    LLAMA_OTEL_SPAN_TIMED(REQUEST, "llama_model_load", LLAMA_MODEL_LOAD_DURATION);
    LLAMA_OTEL_SPAN_ONCE(DECODE, "llama_sample_token", LLAMA_SAMPLER_DURATION);
    LLAMA_OTEL_SPAN_EXPORT_IF(status != 0);
    LLAMA_OTEL_ADD_ATTRIBUTE("key", status);
    LLAMA_OTEL_ADD_ATTRIBUTES("key", true, "other", 1.5f);
    LLAMA_OTEL_PRIVATE_PATH(file);
    LLAMA_OTEL_MODEL_REQUEST(file, a);
    LLAMA_OTEL_MODEL_REQUEST(file, b);
    LLAMA_OTEL_MODEL_LOADED(model, ml);
    LLAMA_OTEL_MODEL_FAILED("load_failed", "why");
    LLAMA_OTEL_MODEL_DATA(tensors);
    LLAMA_OTEL_CONTEXT_REQUEST(cparams);
    LLAMA_OTEL_CONTEXT_CREATED(*context);
    LLAMA_OTEL_CONTEXT_DESTROYED(context, 1 + 2, 3);
    LLAMA_OTEL_MODEL_FREED(&model);
    LLAMA_OTEL_UBATCH(1);
    LLAMA_OTEL_STATE_SAVE(context, -1, nullptr);
    {
        LLAMA_OTEL_STATE_LOAD(context, 0, "file");
        LLAMA_OTEL_STATE_SIZE(1);
    }
    LLAMA_OTEL_SAMPLER_APPLY(sampler, tokens);
    LLAMA_OTEL_SAMPLER_CHAIN(samplers);
    LLAMA_OTEL_SAMPLER_CHAIN(entries);
    LLAMA_OTEL_SPAN_DROP_IF(status != 0);
    LLAMA_OTEL_BATCH(context, batch, 1, 1, false);
    LLAMA_OTEL_ENCODE_BATCH(context, 1);
    LLAMA_OTEL_EVALUATED(context, 1, 1000);
    LLAMA_OTEL_SEQ_CLEAR(memory);
    LLAMA_OTEL_SEQ_RM(memory, 0, 1, -1);
    LLAMA_OTEL_SEQ_CP(memory, 0, 1, -1, -1);
    LLAMA_OTEL_SEQ_KEEP(memory, 0);
    LLAMA_OTEL_SEQ_ADD(memory, 0, 1, -1, -1);
    LLAMA_OTEL_SEQ_DIV(memory, 0, 1, -1, 2);
    LLAMA_OTEL_KV_CELLS(context, cells, "full");
    LLAMA_OTEL_DEVICE(device);
    LLAMA_OTEL_DEVICES();
    LLAMA_OTEL_METRIC(LLAMA_ERROR_COUNT, 1, "llama.operation", "llama_decode");
    LLAMA_OTEL_RECORD_MODEL_LOAD_TIME(1.0);
    LLAMA_OTEL_RECORD_TOKEN_TIME(0.01);
    LLAMA_OTEL_RECORD_BATCH_SIZE(512);
    LLAMA_OTEL_RECORD_MEMORY_USAGE((int64_t) 1 << 40);
    LLAMA_OTEL_INCREMENT_TOKENS(1);
    if (status < 0) {
        LLAMA_OTEL_SET_ERROR("compute_failed", "why");
        LLAMA_OTEL_SET_ERROR(std::string("why"));
        return -3;
    }
    switch (status) {
        case 1:
            LLAMA_OTEL_SET_DECODE_STATUS(1);
            return 1;
        default:
            LLAMA_OTEL_SET_GGML_STATUS(status);
            break;
    }
    LLAMA_OTEL_FLUSH();
    return model.name.size() + ml.n_tensors + a.use_mmap + b.split_mode + cells.size() + (context != nullptr) + (device != nullptr) + (batch.pos != nullptr) + (memory != nullptr) + (sampler != nullptr) + (tokens != nullptr) + samplers.size() + entries.size() + file.size() + (tensors != nullptr) + (cparams.type_k == cparams.type_v);
}
