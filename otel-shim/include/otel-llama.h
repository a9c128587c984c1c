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
LLAMA_OTEL_DETECT(get_model,        std::declval<T>().get_model())
LLAMA_OTEL_DETECT(n_ctx_seq,        std::declval<T>().n_ctx_seq)
LLAMA_OTEL_DETECT(kv_unified,       std::declval<T>().kv_unified)
LLAMA_OTEL_DETECT(memory,           llama_get_memory(std::declval<const T *>()))
LLAMA_OTEL_DETECT(tensors_by_name,  std::declval<T>().tensors_by_name)
LLAMA_OTEL_DETECT(seq_pos_max,      std::declval<T>().seq_pos_max(0))
LLAMA_OTEL_DETECT(all_seq_id,       std::declval<T>().all_seq_id)

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

// bytes of its tensors
template <typename Model> size_t llama_otel_model_size(const Model & model) noexcept {
    if constexpr (llama_otel_has_n_elements<Model>::value) {
        return model.size();
    } else {
        return llama_model_size(&model);
    }
}

// tensors that were loaded; a model whose tensors the program provides has none in its file
template <typename Model, typename Loader> int64_t llama_otel_n_tensors(const Model & model, const Loader & loader) noexcept {
    if constexpr (llama_otel_has_tensors_by_name<Model>::value) {
        return loader.n_tensors > 0 ? (int64_t) loader.n_tensors : (int64_t) model.tensors_by_name.size();
    } else {
        return loader.n_tensors;
    }
}

// llama_model and the llama_model_loader that filled it
template <typename Model, typename Loader> void llama_otel_model_loaded(const Model & model, const Loader & loader) noexcept {
    if constexpr (llama_otel_has_memory_breakdown<Model>::value) {
        for (const auto & entry : model.memory_breakdown()) {
            llama_otel_memory_held(&model, ggml_backend_buft_name(entry.first), "model", entry.second);
        }
    }
    llama_otel_measure(LLAMA_OTEL_METRIC_LLAMA_MODEL_LOAD_TENSORS, llama_otel_n_tensors(model, loader), "llama.model.name", model.name, "llama.model.load.outcome", "ok");
    llama_otel_model_held(&model, model.name.c_str(), llama_otel_model_size(model));

    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    span->add("llama.model.load.outcome", "ok", "llama.model.name", model.name, "llama.model.arch", llama_otel_arch_name(model, loader));
    if constexpr (llama_otel_has_n_elements<Model>::value) {
        span->add("llama.model.n_params", model.n_elements(), "llama.model.size", llama_otel_model_size(model));
    } else {
        span->add("llama.model.n_params", llama_model_n_params(&model), "llama.model.size", llama_otel_model_size(model));
    }
    span->add("llama.model.n_tokens", llama_otel_n_vocab(model), "llama.model.n_tensors", llama_otel_n_tensors(model, loader));
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

// a ggml_context whose tensors are about to be filled from the file
template <typename Tensors> void llama_otel_model_data(Tensors * tensors) noexcept {
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    int64_t n    = 0;
    size_t  size = 0;
    for (auto * tensor = ggml_get_first_tensor(tensors); tensor; tensor = ggml_get_next_tensor(tensors, tensor)) {
        size += ggml_nbytes(tensor);
        n++;
    }
    span->add("llama.model.n_tensors", n, "llama.model.size", size);
}

template <typename Params> void llama_otel_add_cparams(llama_otel_span * span, const Params & cparams) noexcept {
    span->add("llama.context.n_ctx", cparams.n_ctx, "llama.context.n_batch", cparams.n_batch, "llama.context.n_ubatch", cparams.n_ubatch);
    span->add("llama.context.n_seq_max", cparams.n_seq_max, "llama.context.flash_attn", cparams.flash_attn ? "enabled" : "disabled");
    span->add("llama.context.n_threads", cparams.n_threads, "llama.context.n_threads_batch", cparams.n_threads_batch);
}

// tokens that one sequence may have
template <typename Params> int64_t llama_otel_n_ctx_seq(const Params & cparams) noexcept {
    if constexpr (llama_otel_has_n_ctx_seq<Params>::value) {
        return cparams.n_ctx_seq;
    } else if constexpr (llama_otel_has_kv_unified<Params>::value) {
        return cparams.kv_unified || cparams.n_seq_max == 0 ? cparams.n_ctx : cparams.n_ctx / cparams.n_seq_max;
    } else {
        return cparams.n_ctx;
    }
}

// gives a new context its number
template <typename Context> int64_t llama_otel_register_context(const Context & context) noexcept {
    const void * memory = nullptr;
    if constexpr (llama_otel_has_memory<Context>::value) {
        memory = llama_get_memory(&context);
    }
    const char * model = nullptr;
    if constexpr (llama_otel_has_get_model<Context>::value) {
        model = context.get_model().name.c_str();
    } else {
        model = context.model.name.c_str();
    }
    int64_t n_ctx = 0;
    if constexpr (llama_otel_has_get_cparams<Context>::value) {
        n_ctx = llama_otel_n_ctx_seq(context.get_cparams());
    } else {
        n_ctx = llama_n_ctx(&context);
    }
    return llama_otel_new_context(&context, memory, model, n_ctx);
}

// A llama_batch that passed validation. Where its members are null, llama.cpp's own defaults hold.
template <typename Batch> void llama_otel_decode_batch(const void * context, const Batch & batch, int64_t n_tokens, int64_t n_outputs, bool embeddings) noexcept {
    llama_otel_batch_view view = { n_tokens, n_outputs, batch.pos, batch.n_seq_id, batch.seq_id, batch.logits, 0, 0, 0, embeddings };
    if constexpr (llama_otel_has_all_seq_id<Batch>::value) {
        view.first_pos  = batch.all_pos_0;
        view.pos_step   = batch.all_pos_1;
        view.all_seq_id = batch.all_seq_id;
    }
    llama_otel_batch(context, view);
}

// A removal from a sequence: told at the end of the scope, since a memory may refuse to give up a part (a recurrent state).
template <typename Owner> class llama_otel_removal {
public:
    llama_otel_removal(Owner * owner, int32_t seq, int32_t p0, int32_t p1) noexcept : owner(owner), seq(seq), p0(p0), p1(p1) {}

    ~llama_otel_removal() {
        if (llama_otel_on() && owner && !refused()) {
            llama_otel_seq_rm(owner, seq, p0, p1);
        }
    }

    llama_otel_removal(const llama_otel_removal &) = delete;
    llama_otel_removal & operator=(const llama_otel_removal &) = delete;

private:
    // all from p0 on was to go, and something is there
    bool refused() const noexcept {
        if constexpr (llama_otel_has_seq_pos_max<Owner>::value) {
            return seq >= 0 && p1 < 0 && owner->seq_pos_max(seq) >= (p0 < 0 ? 0 : p0);
        } else {
            return false;
        }
    }

    Owner * owner;
    int32_t seq;
    int32_t p0;
    int32_t p1;
};

// Saving or restoring a state: the span of it. `seq` is negative for all sequences, `path` null for memory.
template <typename Context> class llama_otel_state_scope {
public:
    llama_otel_state_scope(const char * name, bool load, Context * context, int32_t seq, const char * path) noexcept :
        span(name, LLAMA_OTEL_DETAIL_REQUEST, LLAMA_OTEL_NO_METRIC, llama_otel_span::ONCE), load(load), context(context), seq(seq) {
        llama_otel_span * open = llama_otel_recording_span();
        if (!open) {
            return;
        }
        open->add("llama.context.id", llama_otel_context_id(context));
        if (seq >= 0) {
            open->add("llama.sequence.id", seq);
        }
        if (path) {
            open->set_private_path(path);
        }
    }

    ~llama_otel_state_scope() {
        if (load && llama_otel_on()) {
            llama_otel_state_loaded(context, seq, last());
        }
    }

private:
    int32_t last() const noexcept {
        if constexpr (llama_otel_has_memory<Context>::value) {
            const auto memory = llama_get_memory(context);
            return memory && seq >= 0 ? memory->seq_pos_max(seq) : -1;
        } else {
            return -1;
        }
    }

    llama_otel_span span;
    bool            load;
    Context *       context;
    int32_t         seq;
};

// A chain or a sampler that is applied, outside of llama_sampler_sample: one token if it selects one. A chain counts all the
// same, since a caller may choose from what it leaves.
template <typename Sampler, typename Tokens> class llama_otel_sampling {
public:
    llama_otel_sampling(const Sampler * sampler, const Tokens * tokens) noexcept :
        span("llama_sample_token", LLAMA_OTEL_DETAIL_DECODE, LLAMA_OTEL_METRIC_LLAMA_SAMPLER_DURATION, llama_otel_span::ONCE), sampler(sampler), tokens(tokens) {}

    ~llama_otel_sampling() {
        if (span.recording() && (!sampler || (tokens->selected < 0 && strcmp(llama_sampler_name(sampler), "chain") != 0))) {
            span.drop();
        }
    }

private:
    llama_otel_span span;
    const Sampler * sampler;
    const Tokens *  tokens;
};

template <typename T> const char * llama_otel_sampler_name(const T & sampler) noexcept {
    if constexpr (std::is_pointer_v<T>) {
        return llama_sampler_name(sampler);
    } else {
        return llama_sampler_name(sampler.ptr);
    }
}

// the samplers of a chain, which are pointers or have one
template <typename Samplers> void llama_otel_sampler_chain(const Samplers & samplers) noexcept {
    llama_otel_span * span = llama_otel_ctl.detail.load(std::memory_order_relaxed) >= LLAMA_OTEL_DETAIL_DECODE ? llama_otel_current_span() : nullptr;
    if (!span) {
        return;
    }
    try {
        std::string names;
        for (const auto & sampler : samplers) {
            names += names.empty() ? "" : ",";
            names += llama_otel_sampler_name(sampler);
        }
        span->add("llama.sampling.chain", names);
    } catch (...) { // no memory: the names are left out
    }
}

// a llama_context that is complete
template <typename Context> void llama_otel_context_created(const Context & context) noexcept {
    const int64_t id = llama_otel_register_context(context);
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

// llama_context_params, known also when no context comes of them
template <typename Params> void llama_otel_context_request(const Params & params) noexcept {
    if (llama_otel_span * span = llama_otel_current_span()) {
        span->add("llama.kv_cache.type_k", ggml_type_name(params.type_k), "llama.kv_cache.type_v", ggml_type_name(params.type_v));
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

// the cells of every stream of `owner`, a KV cache or a recurrent memory; in a batch, or after an operation on its sequences
template <typename Streams> void llama_otel_kv_cells(const void * owner, const Streams & streams, const char * pool, bool in_batch) noexcept {
    int64_t used  = 0;
    int64_t total = 0;
    for (const auto & cells : streams) {
        used  += cells.get_used();
        total += cells.size();
    }
    llama_otel_cells(owner, pool, used, total, in_batch);
    // the span says how full the context is: of a model with a sliding window or with states too, that is its full pool
    llama_otel_span * span = in_batch && !llama_otel_is(pool, "swa") ? llama_otel_current_span() : nullptr;
    if (span && span->takes_cells_of(llama_otel_is(pool, "full"))) {
        span->add("llama.kv_cache.cells.used", used, "llama.kv_cache.cells.total", total);
    }
}

// a part of a context's memory that was created: its cells, and the layers that have some there
template <typename Streams> void llama_otel_kv_pool(const char * pool, const Streams & streams, int64_t n_layers) noexcept {
    int64_t total = 0;
    for (const auto & cells : streams) {
        total += cells.size();
    }
    llama_otel_event("llama.kv_cache.pool_created", "llama.kv_cache.pool", pool, "llama.kv_cache.cells.total", total, "llama.kv_cache.n_layer", n_layers);
}

// layers that have a tensor in this list of one for each
template <typename Tensors> int64_t llama_otel_n_present(const Tensors & tensors) noexcept {
    int64_t n = 0;
    for (const auto * tensor : tensors) {
        n += tensor != nullptr;
    }
    return n;
}
