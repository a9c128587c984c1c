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
#include <utility>

namespace llama_otel_cpp {

namespace {

constexpr std::chrono::milliseconds EXIT_TIMEOUT = 5s; // longest that the end of the process waits; less if OTEL_BSP_EXPORT_TIMEOUT is

struct telemetry_run {
    llama_otel_control *         control;
    std::shared_ptr<order_queue> orders;
    std::shared_future<void>     ended;
    std::chrono::milliseconds    exit_timeout;
    uint32_t                     detail; // that is wanted, also while nothing is exported; with the lock of `current`
};

// Never destroyed: the process may be ending. Nobody waits while he has the lock: whoever waits for the drain thread, in a
// flush or a shutdown, keeps the run alive by a pointer of his own, and a model is loaded meanwhile.
struct current {
    std::mutex                     mutex;
    std::shared_ptr<telemetry_run> running;
    llama_otel_control *           control = nullptr; // of the runtime that was last started

    std::shared_future<void> stopping; // of the run that was last told to stop, and how long that may take
    steady::time_point       stopped_by;
};

current & state() {
    static current & one = *new current;
    return one;
}

bool give(const telemetry_run & run, bool is_stop, steady::time_point deadline) {
    auto answer   = std::make_shared<std::promise<bool>>();
    auto answered = answer->get_future();
    {
        std::lock_guard<std::mutex> lock(run.orders->mutex);
        if (run.orders->is_closed) {
            return false;
        }
        run.orders->queue.push_back({ is_stop, deadline, std::move(answer) });
        if (is_stop) {
            run.orders->stop_by.store(deadline);
        }
    }
    wake_drain();
    // a stop may have to give up exporters after the deadline
    const auto latest    = is_stop ? deadline + 2 * GIVE_UP : deadline;
    bool       delivered = false;
    try {
        delivered = answered.wait_until(latest) == std::future_status::ready && answered.get();
    } catch (const std::future_error &) { // the drain thread came to its end before
    }
    if (is_stop) {
        run.ended.wait_until(std::max(latest, steady::now() + GIVE_UP));
    }
    return delivered;
}

bool stop(std::optional<std::chrono::milliseconds> timeout) {
    std::shared_ptr<telemetry_run> run;
    steady::time_point             deadline;
    {
        std::lock_guard<std::mutex> lock(state().mutex);
        if (!state().running) {
            return true;
        }
        run      = std::exchange(state().running, nullptr);
        deadline = steady::now() + timeout.value_or(run->exit_timeout);
        run->control->detail.store(LLAMA_OTEL_DETAIL_OFF);
        state().stopping   = run->ended;
        state().stopped_by = deadline + 2 * GIVE_UP;
    }
    return give(*run, true, deadline);
}

// A shutdown that another thread waits for: what its threads use of opentelemetry-cpp must not be destroyed under them.
void wait_stopped() {
    std::shared_future<void> stopping;
    steady::time_point       until;
    {
        std::lock_guard<std::mutex> lock(state().mutex);
        // the handler is called several times, and waits once
        state().stopped_by = std::min(state().stopped_by, steady::now() + EXIT_TIMEOUT);
        stopping = state().stopping;
        until    = state().stopped_by;
    }
    if (stopping.valid()) {
        stopping.wait_until(until);
    }
}

void at_exit() {
    try {
        if (!is_forked()) {
            stop(std::nullopt);
            wait_stopped();
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
    for (const std::string & warning : config.warnings) {
        say(level::warn, warning);
    }
    std::vector<std::string> warnings; // of the exporters
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
    state().running = std::make_shared<telemetry_run>(telemetry_run{ &control, all_orders, ended->get_future(), std::min(config.span_export_timeout, EXIT_TIMEOUT), config.detail });
    std::thread([thread = std::move(thread), ended, all_orders, &control]() mutable {
        give_way("drain");
        try {
            thread->run();
        } catch (...) { // out of memory: telemetry ends, inference goes on
            control.detail.store(LLAMA_OTEL_DETAIL_OFF);
        }
        {
            std::lock_guard<std::mutex> lock(all_orders->mutex);
            all_orders->is_closed = true;
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

// nothing in a forked child too, where the lock may be held for ever
std::shared_ptr<telemetry_run> running() {
    if (is_forked()) {
        return nullptr;
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    return state().running;
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
    const auto deadline = steady::now() + timeout;
    const auto run      = running();
    return !run || give(*run, false, deadline);
}

bool shutdown(std::chrono::milliseconds timeout) {
    return is_forked() || stop(timeout);
}

bool is_active() {
    return running() != nullptr;
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
