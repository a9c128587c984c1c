#pragma once

// What the files of the runtime share; nothing of it is seen by llama.cpp.

#include "otel.h"

#include <cstdint>

// Bytes that a thread holds back: more than the largest record, and what a decode of one token records.
constexpr size_t LLAMA_OTEL_MAX_HELD = 4096;

// hands over what this thread holds back
void llama_otel_hand_over() noexcept;
// the same, if what was done meanwhile took so long that it would be late
void llama_otel_hand_over_after(int64_t ns) noexcept;

// Who asks for the gauges that are kept up to date, or for what was counted.
struct llama_otel_observer {
    void (* tell)(void * to, const llama_otel_metric_record * record, size_t size);
    void * to;

    // keys and values are of static storage
    template <typename... Attrs> void gauge(llama_otel_metric metric, double value, const Attrs &... attrs) const noexcept { measured(metric, value, 1, attrs...); }

    // the same value so many times
    template <typename... Attrs> void measured(llama_otel_metric metric, double value, uint32_t n_times, const Attrs &... attrs) const noexcept {
        struct {
            llama_otel_metric_record record;
            llama_otel_attr          attrs[sizeof...(attrs) / 2];
        } data;
        data.record = { value, metric, sizeof...(attrs) / 2, n_times };
        llama_otel_attr_writer writer = { data.attrs, nullptr, 0 };
        writer.put(attrs...);
        tell(to, &data.record, sizeof(data));
    }
};

// tells all of them; llama_otel_control::observe
void llama_otel_observe(void (* tell)(void * to, const llama_otel_metric_record * record, size_t size), void * to) noexcept;
void llama_otel_observe_cells(const llama_otel_observer & observer) noexcept;    // memory.cpp
void llama_otel_observe_contexts(const llama_otel_observer & observer) noexcept; // context.cpp

// tells what was counted; llama_otel_control::counted; counts.cpp
void llama_otel_tell_counts(void (* tell)(void * to, const llama_otel_metric_record * record, size_t size), void * to) noexcept;

// a span or half a trace id, never 0
uint64_t llama_otel_next_id() noexcept;

// whether a new trace of that id is recorded
bool llama_otel_is_sampled(uint64_t trace_id_lo) noexcept;

// a finished span that no scope of C++ holds
void llama_otel_submit_span(llama_otel_buffer<llama_otel_span_record> & data) noexcept;

// of every context that is alive, from any thread
void llama_otel_end_generations() noexcept;

// what a span becomes a child of; span_id 0: it begins a trace of its own
struct llama_otel_parent {
    uint64_t trace_id_hi;
    uint64_t trace_id_lo;
    uint64_t span_id;
    bool     sampled;
    bool     remote; // it is another process's
    const struct llama_otel_origin * origin; // what came with it, propagation.h; null: nothing did
};
