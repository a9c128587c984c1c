#include "pipeline.h"

#include "drain.h"
#include "environment.h"
#include "log.h"
#include "process.h"
#include "ring.h"

#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <optional>
#include <thread>

namespace llama_otel_cpp {

namespace {

constexpr std::chrono::milliseconds EXIT_TIMEOUT = 5s; // longest that the end of the process waits; less if OTEL_BSP_EXPORT_TIMEOUT is

struct telemetry_run {
    llama_otel_control *         control;
    std::shared_ptr<order_queue> orders;
    std::future<void>            ended;
    std::chrono::milliseconds    exit_timeout;
    uint32_t                     detail; // that is wanted, also while nothing is exported
};

// Never destroyed: the process may be ending.
struct current {
    std::mutex                   mutex;
    std::optional<telemetry_run> running;
    llama_otel_control *         control = nullptr; // of the runtime that was last started
};

current & state() {
    static current & one = *new current;
    return one;
}

bool give(telemetry_run & run, bool is_stop, std::chrono::milliseconds timeout) {
    auto answer   = std::make_shared<std::promise<bool>>();
    auto answered = answer->get_future();
    const auto deadline = steady::now() + timeout;
    {
        std::lock_guard<std::mutex> lock(run.orders->mutex);
        run.orders->queue.push_back({ is_stop, deadline, answer });
    }
    wake_drain();
    // a stop may have to give up exporters after the deadline
    const auto latest    = is_stop ? deadline + 2 * GIVE_UP : deadline;
    const bool delivered = answered.wait_until(latest) == std::future_status::ready && answered.get();
    if (is_stop) {
        run.ended.wait_until(std::max(latest, steady::now() + GIVE_UP));
    }
    return delivered;
}

bool stop(std::optional<std::chrono::milliseconds> timeout) {
    std::lock_guard<std::mutex> lock(state().mutex);
    if (!state().running) {
        return true;
    }
    telemetry_run run = std::move(*state().running);
    state().running.reset();
    run.control->detail.store(LLAMA_OTEL_DETAIL_OFF);
    return give(run, true, timeout.value_or(run.exit_timeout));
}

void at_exit() {
    try {
        if (!is_forked()) {
            stop(std::nullopt);
        }
    } catch (...) { // the process ends without
    }
}

// a list for the runtime, which may read it for as long as the process lives
const char * const * baggage_keys(const std::vector<std::string> & names) {
    if (names.empty()) {
        return nullptr;
    }
    auto * keys = new const char *[names.size() + 1]();
    for (size_t i = 0; i < names.size(); i++) {
        keys[i] = (new std::string(names[i]))->c_str();
    }
    return keys;
}

void run_threads(llama_otel_control & control, const config & config) {
    set_level(config.log_level);
    auto warnings   = config.warnings;
    auto all_orders = std::make_shared<order_queue>();
    std::shared_ptr<drain_thread> thread;
    {
        const log_silence silence;
        thread = std::make_shared<drain_thread>(control, config, all_orders, warnings);
    }
    for (const std::string & warning : warnings) {
        say(level::warn, warning);
    }
    auto ended = std::make_shared<std::promise<void>>();
    state().running = telemetry_run{ &control, all_orders, ended->get_future(), std::min(config.span_export_timeout, EXIT_TIMEOUT), config.detail };
    std::thread([thread = std::move(thread), ended, all_orders, &control]() mutable {
        give_way("llama-otel-drain");
        try {
            thread->run();
        } catch (...) { // out of memory: telemetry ends, inference goes on
            control.detail.store(LLAMA_OTEL_DETAIL_OFF);
            std::lock_guard<std::mutex> lock(all_orders->mutex);
            all_orders->queue.clear(); // who waits for an answer sees its promise go
        }
        thread.reset();
        ended->set_value();
    }).detach();
    prepare_process(control, at_exit);
    control.capture.store(config.capture_model_path ? (uint32_t) LLAMA_OTEL_CAPTURE_MODEL_PATH : 0);
    control.sample_threshold.store(config.sample_threshold());
    control.parent_based.store(config.parent_based);
    control.propagators.store(config.propagators);
    control.baggage_keys.store(baggage_keys(config.baggage_attributes));
    control.detail.store(config.detail);
}

// with the lock held
void start_locked(llama_otel_control & control, bool is_asked_for) {
    state().control = &control;
    if (state().running) {
        return;
    }
    const auto config = read_config(process_variables(), is_asked_for);
    if (!config) {
        return;
    }
    try {
        install_log_handler();
        run_threads(control, *config);
    } catch (const std::exception & error) {
        state().running.reset();
        remove_log_handler();
        // every model load asks again; the answer is the same
        static std::atomic<bool> has_failed{ false };
        if (!has_failed.exchange(true)) {
            say(level::error, std::string("telemetry is off: ") + error.what());
        }
    }
}

// while nothing is exported, no span is recorded
void apply(const telemetry_run & run) {
    const bool is_exporting = run.orders->is_exporting;
    run.control->detail.store(is_exporting ? run.detail : std::min<uint32_t>(run.detail, LLAMA_OTEL_DETAIL_METRICS));
}

} // namespace

void start(llama_otel_control & control) {
    if (!is_forked()) {
        std::lock_guard<std::mutex> lock(state().mutex);
        start_locked(control, false);
    }
}

bool flush(std::chrono::milliseconds timeout) {
    if (is_forked()) {
        return true;
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    return !state().running || give(*state().running, false, timeout);
}

bool shutdown(std::chrono::milliseconds timeout) {
    return is_forked() || stop(timeout);
}

bool is_active() {
    if (is_forked()) {
        return false;
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    return state().running.has_value();
}

void set_detail(uint32_t detail) {
    if (is_forked()) {
        return;
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    if (state().running) {
        state().running->detail = detail;
        apply(*state().running);
    }
}

bool set_export(bool on) {
    if (is_forked()) {
        return !on;
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    if (on && !state().running && state().control) {
        start_locked(*state().control, true);
    }
    if (!state().running) {
        return !on;
    }
    state().running->orders->is_exporting = on;
    apply(*state().running);
    return true;
}

uint64_t count_lost(const char * signal, const char * reason) {
    uint64_t n = 0;
    for (const drop_count & drop : dropped()) {
        const bool is_meant = (!signal || strcmp(signal, drop.signal) == 0) && (!reason || strcmp(reason, drop.reason) == 0);
        n += is_meant ? drop.count : 0;
    }
    return n;
}

} // namespace llama_otel_cpp
