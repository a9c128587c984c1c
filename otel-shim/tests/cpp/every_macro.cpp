// Every macro once, in the places where points put them. Compiled with telemetry on and off; never run.

#include "otel.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

// the parts of llama.cpp and ggml that otel-llama.h reads, by the names that it reads
struct ggml_backend_buffer_type;
typedef ggml_backend_buffer_type * ggml_backend_buffer_type_t;
struct ggml_backend_device;
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
struct cparams_t { uint32_t n_ctx, n_batch, n_ubatch, n_seq_max; int32_t n_threads, n_threads_batch; bool flash_attn; };
struct context_t {
    const cparams_t & get_cparams() const;
    std::map<ggml_backend_buffer_type_t, breakdown_t> memory_breakdown() const;
};
struct cells_t { uint32_t get_used() const; uint32_t size() const; };

int decode(const model_t & model, const loader_t & ml, context_t * context, const std::string & file, params_old & a, params_new & b, ggml_backend_dev_t device, const std::vector<cells_t> & cells, int status) {
    LLAMA_OTEL_START();
    LLAMA_OTEL_SPAN("llama_decode");
    LLAMA_OTEL_SPAN_AT(OP, "llama_ubatch");
    LLAMA_OTEL_SPAN_IF(status > 0, DECODE, "llama_synchronize");
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
    LLAMA_OTEL_CONTEXT_CREATED(*context);
    LLAMA_OTEL_CONTEXT_DESTROYED(context, 1 + 2, 3);
    LLAMA_OTEL_MEMORY_RELEASED(context);
    LLAMA_OTEL_BATCH(context, 1, 1);
    LLAMA_OTEL_EVALUATED(1, 1000);
    LLAMA_OTEL_KV_CELLS(cells, "full");
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
    return model.name.size() + ml.n_tensors + a.use_mmap + b.split_mode + cells.size() + (context != nullptr) + (device != nullptr) + file.size();
}
