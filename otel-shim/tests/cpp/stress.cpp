// Many threads at everything that the runtime offers, against a backend that only looks at what it is given.
// Compiled by tests/sanitizers.rs with each of the compiler's sanitizers: stress THREADS SECONDS

#include "otel.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#if !defined(__linux__)
static int64_t ggml_time_us() { return llama_otel_now_ns() / 1000; }
#endif

static llama_otel_control *   control = nullptr;
static std::atomic<uint64_t> n_spans{ 0 };
static std::atomic<uint64_t> n_metrics{ 0 };
static std::atomic<uint64_t> n_bytes{ 0 }; // read, so that a range that is not there is found

static uint64_t look(const void * begin, size_t size) {
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += ((const unsigned char *) begin)[i];
    }
    return sum;
}

static void start(llama_otel_control * c) {
    control = c;
    c->detail.store(LLAMA_OTEL_DETAIL_OP);
}

static void take_span(const llama_otel_span_record * record, size_t size, const char * strings, size_t strings_size) {
    const bool exported = record->flags & LLAMA_OTEL_FLAG_EXPORT;
    if ((exported && record->span_id == 0) || record->end_ns < record->start_ns) {
        abort();
    }
    n_spans++;
    n_bytes += look(record, size) + look(strings, strings_size);
}

static void take_metric(const llama_otel_metric_record * record, size_t size, const char * strings, size_t strings_size) {
    n_metrics++;
    n_bytes += look(record, size) + look(strings, strings_size);
}

static void take_event(const llama_otel_event_record * record, size_t size, const char * strings, size_t strings_size) {
    if (record->span_id == 0 && record->severity == 0) {
        abort();
    }
    n_bytes += look(record, size) + look(strings, strings_size);
}

static void take_gauge(void *, const llama_otel_metric_record * record, size_t size) {
    if (record->value < 0 || record->n_attrs == 0 || size != sizeof(*record) + record->n_attrs * sizeof(llama_otel_attr)) {
        abort();
    }
    n_metrics++;
    n_bytes += look(record, size);
}

static void take_entries(const void * entries, size_t size) {
    const unsigned char * at  = (const unsigned char *) entries;
    const unsigned char * end = at + size;
    while (at != end) {
        llama_otel_entry head;
        memcpy(&head, at, sizeof(head));
        std::vector<uint64_t> record((head.record + 7) / 8);
        memcpy(record.data(), at + sizeof(head), head.record);
        const char * strings = (const char *) at + sizeof(head) + head.record;
        switch (head.kind) {
            case LLAMA_OTEL_ENTRY_SPAN:   take_span((const llama_otel_span_record *) record.data(), head.record, strings, head.strings); break;
            case LLAMA_OTEL_ENTRY_METRIC: take_metric((const llama_otel_metric_record *) record.data(), head.record, strings, head.strings); break;
            case LLAMA_OTEL_ENTRY_EVENT:  take_event((const llama_otel_event_record *) record.data(), head.record, strings, head.strings); break;
            default: abort();
        }
        at += sizeof(head) + head.record + head.strings;
    }
}

static bool flush(uint32_t)    { return true; }
static bool shutdown(uint32_t) { return true; }

static void work(int thread, const std::atomic<bool> & stop) {
    for (uint64_t i = 0; !stop.load(std::memory_order_relaxed); i++) {
        auto context = std::make_unique<int64_t>();
        llama_otel_new_context(context.get(), nullptr, "tiny", 64);
        llama_otel_memory_held(context.get(), "CPU", i % 2 ? "kv" : "compute", i);
        try {
            LLAMA_OTEL_SPAN("llama_decode");
            llama_otel_batch_view batch = {};
            batch.n_tokens  = 1 + i % 3;
            batch.n_outputs = 1;
            LLAMA_OTEL_IF_ON(llama_otel_batch(context.get(), batch));
            LLAMA_OTEL_IF_ON(llama_otel_cells(context.get(), "full", i % 100, 100, true));
            LLAMA_OTEL_ADD_ATTRIBUTES("thread", thread, "x", 0.5, "text", std::string(i % 400, 'x'));
            {
                LLAMA_OTEL_SPAN_TIMED(DECODE, "llama_sample_token", LLAMA_SAMPLER_DURATION);
                LLAMA_OTEL_INCREMENT_TOKENS(1);
            }
            if (i % 7 == 0) {
                LLAMA_OTEL_SET_DECODE_STATUS(1);
            }
            if (i % 11 == 0) {
                throw std::runtime_error("on purpose");
            }
        } catch (const std::runtime_error &) {
        }
        LLAMA_OTEL_EVALUATED(context.get(), 1, llama_otel_now_ns() / 1000 - 10);
        LLAMA_OTEL_SPAN("llama_free");
        llama_otel_context_destroyed(context.get(), 1, 1);
    }
}

int main(int argc, char ** argv) {
    static const llama_otel_backend backend = {
        LLAMA_OTEL_ABI_VERSION, LLAMA_OTEL_REGISTRY_FINGERPRINT, start, take_span, take_metric, take_event, take_entries, flush, shutdown,
        nullptr, nullptr, nullptr, nullptr, nullptr,
    };
    const int    n_threads = argc > 1 ? atoi(argv[1]) : 8;
    const double seconds   = argc > 2 ? atof(argv[2]) : 1.0;
    if (!llama_otel_register(&backend)) {
        return 2;
    }
    llama_otel_start();

    std::atomic<bool>        stop{ false };
    std::vector<std::thread> all;
    for (int i = 0; i < n_threads; i++) {
        all.emplace_back([i, &stop] { work(i, stop); });
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    for (uint32_t i = 0; std::chrono::steady_clock::now() < end; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        llama_otel_set_detail(1 + i % LLAMA_OTEL_DETAIL_OP);
        llama_otel_ctl.observe(take_gauge, nullptr);
        llama_otel_ctl.counted(take_gauge, nullptr);
        llama_otel_flush(10);
        if (i % 16 == 0) {
            llama_otel_shutdown(10);
            llama_otel_start();
        }
    }
    stop = true;
    for (auto & thread : all) {
        thread.join();
    }
    printf("%llu spans, %llu measurements\n", (unsigned long long) n_spans.load(), (unsigned long long) n_metrics.load());
    return n_spans.load() > 0 && n_metrics.load() > 0 ? 0 : 3;
}
