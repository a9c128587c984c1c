#pragma once

// What is read from llama.cpp's own types. Templates, instantiated where a macro is used, so that they need none of
// llama.cpp's headers; members that came or went with a version are asked for by name. Included by otel.h.

#include <utility>

#define LLAMA_OTEL_DETECT(name, expression)                                                   \
    template <typename T, typename = void> struct llama_otel_has_##name : std::false_type {};  \
    template <typename T> struct llama_otel_has_##name<T, std::void_t<decltype(expression)>> : std::true_type {};

LLAMA_OTEL_DETECT(use_mmap,         std::declval<T>().use_mmap)
LLAMA_OTEL_DETECT(load_mode,        std::declval<T>().load_mode)
LLAMA_OTEL_DETECT(n_layer_function, std::declval<T>().n_layer())
LLAMA_OTEL_DETECT(memory_breakdown, std::declval<T>().memory_breakdown())
LLAMA_OTEL_DETECT(ftype_name,       std::declval<T>().ftype_name())
LLAMA_OTEL_DETECT(arch_name,        std::declval<T>().arch_name())
LLAMA_OTEL_DETECT(n_elements,       std::declval<T>().n_elements())
LLAMA_OTEL_DETECT(n_tokens,         std::declval<T>().n_tokens())
LLAMA_OTEL_DETECT(get_cparams,      std::declval<T>().get_cparams())
LLAMA_OTEL_DETECT(cparams,          std::declval<T>().cparams)
LLAMA_OTEL_DETECT(n_eval,           std::declval<T>().n_eval)

#undef LLAMA_OTEL_DETECT

// llama_model_params and the file that is about to be loaded ("" if it comes from a FILE * or from the program's memory)
template <typename Params> void llama_otel_model_request(const std::string & file, const Params & params) noexcept {
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    span->set_private_path(file);
    const size_t slash = file.find_last_of("/\\");
    span->add("llama.model.file", std::string_view(file).substr(slash == std::string::npos ? 0 : slash + 1));
    if (llama_otel_path_wanted()) {
        span->add("llama.model.path", file);
    }
    span->add("llama.model.n_gpu_layers", params.n_gpu_layers, "llama.model.split_mode", llama_otel_split_mode((int) params.split_mode));
    if constexpr (llama_otel_has_use_mmap<Params>::value) {
        span->add("llama.model.use_mmap", params.use_mmap, "llama.model.use_mlock", params.use_mlock);
    }
    if constexpr (llama_otel_has_load_mode<Params>::value) {
        span->add("llama.model.load_mode", llama_load_mode_name(params.load_mode));
    }
}

// the architecture's name as the model file spells it
template <typename Model, typename Loader> std::string llama_otel_arch_name(const Model & model, const Loader & loader) {
    if constexpr (llama_otel_has_arch_name<Model>::value) {
        return model.arch_name();
    } else {
        return loader.get_arch_name();
    }
}

// tokens of the vocabulary
template <typename Model> int64_t llama_otel_n_vocab(const Model & model) noexcept {
    if constexpr (llama_otel_has_n_tokens<decltype(model.vocab)>::value) {
        return model.vocab.n_tokens();
    } else {
        return model.hparams.n_vocab;
    }
}

// llama_model and the llama_model_loader that filled it
template <typename Model, typename Loader> void llama_otel_model_loaded(const Model & model, const Loader & loader) noexcept {
    if constexpr (llama_otel_has_memory_breakdown<Model>::value) {
        for (const auto & entry : model.memory_breakdown()) {
            llama_otel_memory_held(&model, ggml_backend_buft_name(entry.first), "model", entry.second);
        }
    }
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MODEL_LOAD_TENSORS, loader.n_tensors, "llama.model.name", model.name);

    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    span->add("llama.model.load.outcome", "ok", "llama.model.name", model.name, "llama.model.arch", llama_otel_arch_name(model, loader));
    if constexpr (llama_otel_has_n_elements<Model>::value) {
        span->add("llama.model.n_params", model.n_elements(), "llama.model.size", model.size());
    } else {
        span->add("llama.model.n_params", llama_model_n_params(&model), "llama.model.size", llama_model_size(&model));
    }
    span->add("llama.model.n_tokens", llama_otel_n_vocab(model), "llama.model.n_tensors", loader.n_tensors);
    span->add("llama.model.n_ctx_train", model.hparams.n_ctx_train);
    if constexpr (llama_otel_has_n_layer_function<decltype(model.hparams)>::value) {
        span->add("llama.model.n_layer", model.hparams.n_layer());
    } else {
        span->add("llama.model.n_layer", model.hparams.n_layer);
    }
    if constexpr (llama_otel_has_ftype_name<Loader>::value) {
        span->add("llama.model.ftype", loader.ftype_name());
    }
}

template <typename Params> void llama_otel_add_cparams(llama_otel_span * span, const Params & cparams) noexcept {
    span->add("llama.context.n_ctx", cparams.n_ctx, "llama.context.n_batch", cparams.n_batch, "llama.context.n_ubatch", cparams.n_ubatch);
    span->add("llama.context.n_seq_max", cparams.n_seq_max, "llama.context.flash_attn", cparams.flash_attn);
    span->add("llama.context.n_threads", cparams.n_threads, "llama.context.n_threads_batch", cparams.n_threads_batch);
}

// a llama_context that is complete
template <typename Context> void llama_otel_context_created(const Context & context) noexcept {
    const int64_t id = llama_otel_new_context_id(&context);
    size_t kv      = 0;
    size_t compute = 0;
    if constexpr (llama_otel_has_memory_breakdown<Context>::value) {
        for (const auto & entry : context.memory_breakdown()) {
            const char * device = ggml_backend_buft_name(entry.first);
            llama_otel_memory_held(&context, device, "kv",      entry.second.context);
            llama_otel_memory_held(&context, device, "compute", entry.second.compute);
            kv      += entry.second.context;
            compute += entry.second.compute;
        }
    }
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    span->add("llama.context.id", id, "llama.alias", "llama_new_context_with_model");
    if constexpr (llama_otel_has_get_cparams<Context>::value) {
        llama_otel_add_cparams(span, context.get_cparams());
    } else if constexpr (llama_otel_has_cparams<Context>::value) {
        llama_otel_add_cparams(span, context.cparams);
    } else {
        span->add("llama.context.n_ctx", llama_n_ctx(&context), "llama.context.n_batch", llama_n_batch(&context));
        span->add("llama.context.n_ubatch", llama_n_ubatch(&context), "llama.context.n_seq_max", llama_n_seq_max(&context));
    }
    // older ones do not say what they hold: no figure, rather than 0
    if constexpr (llama_otel_has_memory_breakdown<Context>::value) {
        span->add("llama.kv_cache.size", kv, "llama.context.compute.size", compute);
    }
}

// a context that is about to be deleted, or an address that none has: llama_free takes a null pointer
template <typename Context> const void * llama_otel_freed(const Context * context) noexcept {
    static const char none = 0;
    return context ? (const void *) context : &none;
}

// tokens that it evaluated in its life, from where llama.cpp counts them
template <typename Context> int64_t llama_otel_tokens_evaluated(const Context * context) noexcept {
    if (!context) {
        return 0;
    }
    if constexpr (llama_otel_has_n_eval<Context>::value) {
        return context->n_p_eval + context->n_eval;
    } else {
        // there 0 is given as 1; a prompt has more than one token, a single token has taken time
        const auto perf = llama_perf_context(context);
        return (perf.n_p_eval > 1 ? perf.n_p_eval : 0) + (perf.n_eval > 1 || perf.t_eval_ms > 0.0 ? perf.n_eval : 0);
    }
}

// time that their evaluation took, in microseconds
template <typename Context> int64_t llama_otel_evaluation_us(const Context * context) noexcept {
    if (!context) {
        return 0;
    }
    if constexpr (llama_otel_has_n_eval<Context>::value) {
        return context->t_p_eval_us + context->t_eval_us;
    } else {
        const auto perf = llama_perf_context(context);
        return (int64_t) (1000.0 * (perf.t_p_eval_ms + perf.t_eval_ms));
    }
}

// The cells of a KV cache that has one stream: a container of one, whose cells count themselves or are counted by it.
struct llama_otel_cell_count {
    int64_t used;
    int64_t total;

    int64_t get_used() const noexcept { return used; }
    int64_t size() const noexcept { return total; }
};

struct llama_otel_one_cell_count {
    llama_otel_cell_count count;

    const llama_otel_cell_count * begin() const noexcept { return &count; }
    const llama_otel_cell_count * end() const noexcept { return &count + 1; }
};

inline llama_otel_one_cell_count llama_otel_cell_counts(int64_t used, int64_t total) noexcept { return { { used, total } }; }

template <typename Cells> llama_otel_one_cell_count llama_otel_one_stream(const Cells & cells) noexcept {
    return llama_otel_cell_counts(cells.get_used(), cells.size());
}

// the cells of every stream of a KV cache
template <typename Streams> void llama_otel_kv_cells(const Streams & streams, const char * pool) noexcept {
    int64_t used  = 0;
    int64_t total = 0;
    for (const auto & cells : streams) {
        used  += cells.get_used();
        total += cells.size();
    }
    const int64_t id = llama_otel_current_context_id();
    const double utilization = total ? (double) used / (double) total : 0.0;
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_USAGE,       used,        "llama.context.id", id, "llama.kv_cache.pool", pool);
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_LIMIT,       total,       "llama.context.id", id, "llama.kv_cache.pool", pool);
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_KV_CACHE_CELLS_UTILIZATION, utilization, "llama.context.id", id, "llama.kv_cache.pool", pool);
    // the span says how full the context is: of a model with a sliding window too, that is its full pool
    llama_otel_span * span = strcmp(pool, "swa") != 0 ? llama_otel_current_span() : nullptr;
    if (span) {
        span->add("llama.kv_cache.cells.used", used, "llama.kv_cache.cells.total", total);
    }
}

// a ggml_backend_dev_t
template <typename Device> void llama_otel_device(Device device) noexcept {
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    size_t free  = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    span->add("llama.device.name", ggml_backend_dev_name(device), "llama.device.type", llama_otel_device_type((int) ggml_backend_dev_type(device)));
    span->add("llama.device.description", ggml_backend_dev_description(device));
    span->add("llama.device.memory.total", total, "llama.device.memory.free", free);
}

// the devices of every registered backend
template <typename Device> void llama_otel_devices(size_t n, Device (*get)(size_t)) noexcept {
    if (llama_otel_span * span = llama_otel_current_span()) {
        std::string names;
        for (size_t i = 0; i < n; i++) {
            names += i ? "," : "";
            names += ggml_backend_dev_name(get(i));
        }
        span->add("llama.backend.count", n, "llama.backend.devices", names);
    }
}
