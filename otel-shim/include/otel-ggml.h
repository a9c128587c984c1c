#pragma once

// What is read from ggml's own types, in ggml-backend.cpp and in libllama: devices, buffers, graphs. Templates, for the reason that
// otel-llama.h has. Included by otel.h.

#include <utility>

// Runs at the end of the enclosing block.
template <typename F> class llama_otel_at_exit {
public:
    explicit llama_otel_at_exit(F f) noexcept : f(std::move(f)) {}
    ~llama_otel_at_exit() { f(); }

    llama_otel_at_exit(const llama_otel_at_exit &) = delete;
    llama_otel_at_exit & operator=(const llama_otel_at_exit &) = delete;

private:
    F f;
};

// A buffer type that spreads its buffers over others, which are counted: newer trees have it.
template <typename T, typename = void> struct llama_otel_has_meta : std::false_type {};
template <typename T> struct llama_otel_has_meta<T, std::void_t<decltype(ggml_backend_buft_is_meta(std::declval<T>()))>> : std::true_type {};

// a new ggml_backend_buffer_t of that type
template <typename Type> void llama_otel_buffer_made(const void * buffer, Type buft, size_t size) noexcept {
    if constexpr (llama_otel_has_meta<Type>::value) {
        size = ggml_backend_buft_is_meta(buft) ? 0 : size;
    }
    llama_otel_buffer_allocated(buffer, ggml_backend_buft_name(buft), size);
}

// what a device's memory holds, measured now
template <typename Device> void llama_otel_measure_device_memory(Device device) noexcept {
    size_t free  = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    llama_otel_device_memory(ggml_backend_dev_name(device), llama_otel_device_type((int) ggml_backend_dev_type(device)), free, total);
}

template <typename Device> void llama_otel_measure_device_memories(size_t n, Device (*get)(size_t)) noexcept {
    for (size_t i = 0; i < n; i++) {
        llama_otel_measure_device_memory(get(i));
    }
}

// a ggml_backend_dev_t that is initialised
template <typename Device> void llama_otel_device(Device device) noexcept {
    llama_otel_measure_device_memory(device);
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    size_t free  = 0;
    size_t total = 0;
    ggml_backend_dev_memory(device, &free, &total);
    span->add("llama.backend.name", ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)));
    span->add("llama.device.name", ggml_backend_dev_name(device), "llama.device.type", llama_otel_device_type((int) ggml_backend_dev_type(device)));
    span->add("llama.device.description", ggml_backend_dev_description(device));
    span->add("llama.device.memory.total", total, "llama.device.memory.free", free);
}

// the devices of every registered backend, each an event of the current span
template <typename Device> void llama_otel_devices(size_t n_backends, size_t n, Device (*get)(size_t)) noexcept {
    llama_otel_measure_device_memories(n, get);
    llama_otel_span * span = llama_otel_current_span();
    if (!span) {
        return;
    }
    std::string names;
    for (size_t i = 0; i < n; i++) {
        Device device = get(i);
        size_t free  = 0;
        size_t total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        llama_otel_event("llama.device", "llama.device.name", ggml_backend_dev_name(device),
            "llama.backend.name", ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)),
            "llama.device.type", llama_otel_device_type((int) ggml_backend_dev_type(device)),
            "llama.device.description", ggml_backend_dev_description(device),
            "llama.device.memory.total", total, "llama.device.memory.free", free);
        names += i ? "," : "";
        names += ggml_backend_dev_name(device);
    }
    span->add("llama.backend.count", n_backends, "llama.backend.devices", names);
}

// One split of a graph on its backend: the device's busy time and, where asked for, the time of each operation through the
// scheduler's callback. `Sched` is a ggml_backend_sched_t, whose callback is the program's if it has one.
template <typename Sched, typename Backend> class llama_otel_split {
public:
    llama_otel_split(Sched sched, Backend backend, bool (*is_work)(int)) noexcept : sched(sched), backend(backend), is_work(is_work) {
        if (!llama_otel_on()) {
            return;
        }
        device = backend->device ? ggml_backend_dev_name(backend->device) : ggml_backend_name(backend);
        start  = llama_otel_split_begins();
        if (!sched->callback_eval && llama_otel_ops_by_callback(true, computes_one_by_one())) {
            memset(ops.of, 0, sizeof(ops.of));
            sched->callback_eval           = eval;
            sched->callback_eval_user_data = this;
        }
    }

    ~llama_otel_split() {
        if (!device) {
            return;
        }
        if (sched->callback_eval_user_data == this) {
            sched->callback_eval           = nullptr;
            sched->callback_eval_user_data = nullptr;
            llama_otel_ops_by_callback(false, false);
            for (int op = 0; op < LLAMA_OTEL_MAX_OPS; op++) {
                if (ops.of[op].n > 0) {
                    llama_otel_op(names[op], device, ops.of[op].n, ops.of[op].ns);
                }
            }
        }
        // a backend that one can wait for goes on after it was given the work
        llama_otel_device_submitted(backend, device, start, backend->iface.synchronize != nullptr);
    }

    llama_otel_split(const llama_otel_split &) = delete;
    llama_otel_split & operator=(const llama_otel_split &) = delete;

private:
    // Nobody can wait for it, so each operation is over before the next begins; not the CPU, which measures itself as it runs.
    bool computes_one_by_one() const noexcept {
        const bool cpu = backend->device ? (int) ggml_backend_dev_type(backend->device) == 0 : strcmp(ggml_backend_name(backend), "CPU") == 0;
        return !cpu && !backend->iface.synchronize;
    }

    // asked before a node whether its data is wanted, which makes ggml compute it alone and wait; told when it is there
    template <typename Tensor> static bool eval(Tensor * tensor, bool ask, void * user_data) {
        auto *     self = static_cast<llama_otel_split *>(user_data);
        const int  op   = (int) tensor->op;
        const bool work = op >= 0 && op < LLAMA_OTEL_MAX_OPS && self->is_work(op);
        if (ask) { // what is no work goes with the operation behind it
            self->ops.since = llama_otel_now_ns();
            return work;
        }
        if (work) {
            self->ops.of[op].ns += llama_otel_now_ns() - self->ops.since;
            self->ops.of[op].n++;
            self->names[op] = ggml_op_name(tensor->op);
        }
        return true;
    }

    Sched          sched;
    Backend        backend;
    bool        (* is_work)(int op);
    const char *   device = nullptr; // null: telemetry was off
    int64_t        start  = 0;
    llama_otel_ops ops;
    const char *   names[LLAMA_OTEL_MAX_OPS];
};

// a ggml_backend_t whose work is waited for, until the end of the enclosing block
template <typename Backend> class llama_otel_wait {
public:
    explicit llama_otel_wait(Backend backend) noexcept : backend(llama_otel_on() ? backend : nullptr) {}
    ~llama_otel_wait() {
        if (backend) {
            llama_otel_device_waited(backend);
        }
    }

    llama_otel_wait(const llama_otel_wait &) = delete;
    llama_otel_wait & operator=(const llama_otel_wait &) = delete;

private:
    Backend backend;
};

// One graph that is computed, until the end of the enclosing block.
template <typename Sched, typename Graph> class llama_otel_graph {
public:
    llama_otel_graph(Sched sched, Graph graph) noexcept {
        if (llama_otel_on()) {
            phase    = llama_otel_current_phase();
            start    = llama_otel_graph_begins();
            n_nodes  = ggml_graph_n_nodes(graph);
            n_splits = ggml_backend_sched_get_n_splits(sched);
        }
    }
    ~llama_otel_graph() {
        if (phase) {
            llama_otel_graph_computed(phase, n_nodes, n_splits, start);
        }
    }

    llama_otel_graph(const llama_otel_graph &) = delete;
    llama_otel_graph & operator=(const llama_otel_graph &) = delete;

private:
    const char * phase    = nullptr; // null: telemetry was off
    int64_t      start    = 0;
    int          n_nodes  = 0;
    int          n_splits = 0;
};
