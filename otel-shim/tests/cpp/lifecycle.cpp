// What programs do to telemetry at their begin and end, in C++: called by examples/lifecycle.rs, observed by tests/lifecycle.rs.

#include "otel.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

static void record(const char * who) {
    LLAMA_OTEL_SPAN("llama_free");
    LLAMA_OTEL_ADD_ATTRIBUTE("who", who);
}

// records when it is destroyed, as a context in a smart pointer of static life does
struct last_words {
    const char * who;
    ~last_words() { record(who); }
};

static last_words before_telemetry{ "constructed before telemetry" };

extern "C" void llama_otel_lifecycle_start(void) { llama_otel_start(); }

// one decode with what is measured of it
extern "C" void llama_otel_lifecycle_decode(int64_t i) {
    LLAMA_OTEL_SPAN("llama_decode");
    LLAMA_OTEL_ADD_ATTRIBUTES("i", i, "x", 0.5, "b", true, "s", "text");
    LLAMA_OTEL_INCREMENT_TOKENS(1);
}

extern "C" void llama_otel_lifecycle_statics(void) {
    static last_words after_telemetry{ "constructed after telemetry" };
    (void) after_telemetry;
}

extern "C" void llama_otel_lifecycle_thread_local(void) {
    std::thread([] {
        static thread_local last_words of_thread{ "thread_local" };
        (void) of_thread;
        record("thread");
    }).join();
}

// contexts come and go until `stop`
static void churn(const std::atomic<bool> & stop) {
    while (!stop.load(std::memory_order_relaxed)) {
        auto context = std::make_unique<int64_t>();
        llama_otel_new_context(context.get(), nullptr, "tiny", 64);
        llama_otel_memory_held(context.get(), "CPU", "kv", 100);
        {
            LLAMA_OTEL_SPAN("llama_decode");
            llama_otel_batch_view batch = {};
            batch.n_tokens  = 1;
            batch.n_outputs = 1;
            LLAMA_OTEL_IF_ON(llama_otel_batch(context.get(), batch));
        }
        LLAMA_OTEL_SPAN("llama_free");
        llama_otel_context_destroyed(context.get(), 1, 1);
    }
}

extern "C" bool llama_otel_lifecycle_free_during_shutdown(int n_threads) {
    std::atomic<bool>        stop{ false };
    std::vector<std::thread> all;
    for (int i = 0; i < n_threads; i++) {
        all.emplace_back([&stop] { churn(stop); });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const bool delivered = llama_otel_shutdown(5000);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop = true;
    for (auto & thread : all) {
        thread.join();
    }
    return delivered;
}

// Another thread waits for a flush or a shutdown; what this one does meanwhile, as a load of a model does it, is returned in
// seconds, and how long the other one waited.
extern "C" double llama_otel_lifecycle_beside(bool is_shutdown, unsigned timeout_ms, double * waited) {
    using steady_clock = std::chrono::steady_clock;
    const auto since   = [](steady_clock::time_point start) { return std::chrono::duration<double>(steady_clock::now() - start).count(); };
    std::thread other([&] {
        const auto start = steady_clock::now();
        is_shutdown ? llama_otel_shutdown(timeout_ms) : llama_otel_flush(timeout_ms);
        *waited = since(start);
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const auto start = steady_clock::now();
    llama_otel_is_active();
    llama_otel_start();
    llama_otel_set_detail(3);
    llama_otel_set_export(true);
    llama_otel_lifecycle_decode(0);
    const double seconds = since(start);
    other.join();
    return seconds;
}

// a flush that another thread waits for when the process ends
extern "C" void llama_otel_lifecycle_leave_flushing(unsigned timeout_ms) {
    std::thread([timeout_ms] { llama_otel_flush(timeout_ms); }).detach();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

// threads that are still at work when the process ends
extern "C" void llama_otel_lifecycle_leave_running(int n_threads) {
    static std::atomic<bool> never{ false };
    for (int i = 0; i < n_threads; i++) {
        std::thread([] { churn(never); }).detach();
    }
}
