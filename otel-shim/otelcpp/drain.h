#pragma once

// The drain thread: empties the rings into the waiting spans and the instruments, and hands both over to the exporters. It
// never touches the network itself.

#include "environment.h"
#include "events.h"
#include "exporters.h"
#include "log.h"
#include "metrics.h"
#include "origin.h"
#include "otel-registry.h"
#include "process.h"
#include "record.h"
#include "ring.h"
#include "spans.h"

#include "opentelemetry/trace/trace_state.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace llama_otel_cpp {

using namespace std::chrono_literals;

constexpr auto BUSY       = 20ms;  // how often the rings are looked at while records come
constexpr auto IDLE       = 500ms; // and at most while none do
constexpr auto EPOCH_LIFE = 10s;   // the two clocks are compared anew after this time, since the wall clock is adjusted
constexpr auto GIVE_UP    = 200ms; // for threads to end whose work is given up

struct order {
    bool                                is_stop;
    steady::time_point                  deadline;
    std::shared_ptr<std::promise<bool>> answer;
};

// What the drain thread shares with those who tell it what to do.
struct order_queue {
    std::mutex        mutex;
    std::deque<order> queue;
    bool              is_closed = false;    // nobody takes orders any more
    std::atomic<bool> is_exporting{ true }; // false: nothing leaves the process

    // the deadline of the stop, once there is one: a flush that was ordered before it takes no longer either
    std::atomic<steady::time_point> stop_by{ steady::time_point::max() };
};

class metric_pipeline {
public:
    metric_pipeline(const llama_otel_control & control, const config & config, const origin & origin, std::vector<std::string> & warnings) :
        control(control), instruments(origin.resource, control.llama_version, config.metrics_temporality, config.exponential_histograms), out(make_metric_outlet(config, instruments.provider(), prepare_exit_again, warnings)),
        interval(config.metric_interval), due(steady::now() + interval) {}

    void hand_over(bool now, const span_pipeline * spans, const log_pipeline * logs) {
        if (spans) {
            durations("traces", spans->queue.out->take_exports());
        }
        if (logs) {
            durations("logs", logs->queue.out->take_exports());
        }
        durations("metrics", out->take_exports());
        // an export under way is waited for: with delta temporality a collection that is thrown away would be lost
        if (!(now || steady::now() >= due) || !out->has_room()) {
            return;
        }
        due = steady::now() + interval;
        control.observe(tell, &instruments);
        instruments.drops();
        if (spans) {
            usage("traces", spans->queue.size() + spans->queue.out->waiting());
        }
        if (logs) {
            usage("logs", logs->queue.size() + logs->queue.out->waiting());
        }
        usage("metrics", out->waiting());
        if (auto collected = instruments.collect()) {
            out->offer(*collected);
        }
    }

    // what the runtime has counted since this was last called
    void take_counts() { control.counted(tell, &instruments); }

    const llama_otel_control &            control;
    llama_otel_cpp::instruments           instruments;
    std::unique_ptr<outlet<metric_batch>> out;

    steady::time_point next() const { return due; }

private:
    // what the runtime keeps up to date or has counted; called by C++ of ours, through which nothing is thrown
    static void tell(void * to, const llama_otel_metric_record * record, size_t size) noexcept {
        const entry entry = { record_kind::metric, record, size, "", 0 };
        static_cast<llama_otel_cpp::instruments *>(to)->measurement(record_view<llama_otel_metric_record>(entry));
    }

    void usage(const char * signal, size_t waiting) {
        instruments.own(LLAMA_OTEL_METRIC_LLAMA_OTEL_QUEUE_USAGE, (double) waiting, { { "llama.otel.signal", signal } });
    }

    void durations(const char * signal, const std::vector<std::pair<bool, double>> & exports) {
        for (const auto & [delivered, seconds] : exports) {
            instruments.own(LLAMA_OTEL_METRIC_LLAMA_OTEL_EXPORT_DURATION, seconds, { { "llama.otel.signal", signal }, { "llama.otel.outcome", delivered ? "ok" : "error" } });
        }
    }

    std::chrono::milliseconds interval;
    steady::time_point        due;
};

class drain_thread {
public:
    drain_thread(llama_otel_control & control, const config & config, std::shared_ptr<order_queue> orders, std::vector<std::string> & warnings) : control(control), orders(std::move(orders)) {
        const auto origin = make_origin(control, config);
        if (auto outlet = make_span_outlet(config, origin, prepare_exit_again, warnings)) {
            spans = std::make_unique<span_pipeline>(std::move(*outlet), origin, config);
        }
        if (auto outlet = make_log_outlet(config, origin, prepare_exit_again, warnings)) {
            logs = std::make_unique<log_pipeline>(std::move(*outlet), origin, config);
        }
        if (config.metrics != exporter::none) {
            instruments::warm_up(origin->resource);
            metrics = std::make_unique<metric_pipeline>(control, config, *origin, warnings);
        }
        compare_clocks();
        warm_up();
    }

    void run() {
        std::chrono::milliseconds pause = BUSY;
        for (;;) {
            const size_t n = empty_rings();
            hand_over(false);
            if (auto order = next_order()) {
                if (order->is_stop) { // on this thread: at the end of the process the calling one may have lost what it had of its own
                    control.end_generations();
                }
                const bool delivered = deliver(order->deadline);
                if (order->is_stop) {
                    stop(order->deadline, *order->answer, delivered);
                    return;
                }
                order->answer->set_value(delivered);
                continue;
            }
            pause = n > 0 ? std::chrono::milliseconds(BUSY) : std::min<std::chrono::milliseconds>(pause * 2, IDLE);
            sleep_until_needed(until_due(pause));
        }
    }

private:
    llama_otel_control &             control;
    std::shared_ptr<order_queue>          orders;
    std::unique_ptr<span_pipeline>   spans;
    std::unique_ptr<metric_pipeline> metrics;
    std::unique_ptr<log_pipeline>    logs;
    open_events                      events;
    bool                             has_said_op = false;
    llama_otel_cpp::epoch            epoch;
    steady::time_point               compared;

    // a span for nothing, as `instruments::warm_up`, and a trace state: objects of static life parse it
    void warm_up() {
        if (spans) {
            otel::trace::TraceState::FromHeader("a=b");
            llama_otel_span_record record = {};
            record.name = "llama-otel";
            spans->make(record_view<llama_otel_span_record>(entry{ record_kind::span, &record, sizeof(record), "", 0 }), epoch, events);
        }
    }

    void compare_clocks() {
        epoch    = { control.now_ns(), std::chrono::system_clock::now() };
        compared = steady::now();
    }

    std::optional<order> next_order() {
        std::lock_guard<std::mutex> lock(orders->mutex);
        if (orders->queue.empty()) {
            return std::nullopt;
        }
        order order = orders->queue.front();
        orders->queue.pop_front();
        return order;
    }

    std::chrono::milliseconds until_due(std::chrono::milliseconds pause) const {
        if (!orders->is_exporting) { // nothing is due
            return pause;
        }
        auto wait = [&](steady::time_point due) {
            pause = std::min(pause, std::chrono::duration_cast<std::chrono::milliseconds>(due - steady::now()));
        };
        if (spans && spans->queue.next()) {
            wait(*spans->queue.next());
        }
        if (logs && logs->queue.next()) {
            wait(*logs->queue.next());
        }
        if (metrics) {
            wait(metrics->next());
        }
        return std::max<std::chrono::milliseconds>(pause, 1ms);
    }

    size_t empty_rings() {
        if (steady::now() - compared > EPOCH_LIFE) {
            compare_clocks();
        }
        if (spans) {
            spans->queue.may_leave = orders->is_exporting;
        }
        if (logs) {
            logs->queue.may_leave = orders->is_exporting;
        }
        if (metrics) {
            metrics->take_counts();
        } else { // else it would be told where metrics are wanted later
            control.counted([](void *, const llama_otel_metric_record *, size_t) {}, nullptr);
        }
        return drain([this](const entry & entry) { take(entry); });
    }

    void take(const entry & entry) {
        if (entry.kind == record_kind::metric) {
            const record_view<llama_otel_metric_record> record(entry);
            if (metrics && record.head) {
                metrics->instruments.measurement(record);
                if (record.head->metric == LLAMA_OTEL_METRIC_GGML_OP_DURATION && !has_said_op) { // whoever measures should not wonder where the time went
                    has_said_op = true;
                    say(level::warn, "the level of detail is `op`, which may cost speed");
                }
            }
            return;
        }
        if (entry.kind == record_kind::event) {
            const record_view<llama_otel_event_record> record(entry);
            if (record.head && spans) {
                events.add(record, epoch);
            }
            if (record.head && logs) {
                logs->take(record, epoch);
            }
            return;
        }
        const record_view<llama_otel_span_record> record(entry);
        if (!record.head) {
            return;
        }
        if (metrics) {
            metrics->instruments.span_duration(record);
        }
        if (spans && record.head->flags & LLAMA_OTEL_FLAG_EXPORT) {
            spans->take(record, epoch, events);
        }
    }

    void hand_over(bool now) {
        if (!orders->is_exporting) {
            return;
        }
        if (spans) {
            spans->queue.hand_over(now);
        }
        if (logs) {
            logs->queue.hand_over(now);
        }
        if (metrics) {
            metrics->hand_over(now, spans.get(), logs.get());
        }
    }

    // calls `wait` with the time until which it may wait, in short steps, until it is true or the time is over
    template <typename Wait> bool waits_for(steady::time_point deadline, Wait wait) const {
        for (;;) {
            const auto end = std::min(deadline, orders->stop_by.load());
            if (wait(std::min<steady::time_point>(end, steady::now() + BUSY))) {
                return true;
            }
            if (steady::now() >= end) {
                return false;
            }
        }
    }

    // everything that was recorded before, to the receiver; false if something was refused or the time ran out
    bool deliver(steady::time_point deadline) {
        empty_rings();
        if (!orders->is_exporting) {
            return false;
        }
        // all signals at once: none waits for the receiver of another
        bool metrics_wait = metrics != nullptr;
        const auto handed_over = [&] {
            if (metrics_wait && metrics->out->has_room()) {
                metrics->hand_over(true, spans.get(), logs.get());
                metrics_wait = false;
            }
            if (spans) {
                spans->queue.hand_over(true);
            }
            if (logs) {
                logs->queue.hand_over(true);
            }
            return !metrics_wait && (!spans || spans->queue.size() == 0) && (!logs || logs->queue.size() == 0);
        };
        bool delivered = waits_for(deadline, [&](steady::time_point until) {
            while (!handed_over()) {
                if (steady::now() >= until) {
                    return false;
                }
                std::this_thread::sleep_for(2ms);
            }
            return true;
        });
        std::vector<std::future<bool>> answers;
        if (spans) {
            answers.push_back(spans->queue.out->flush());
        }
        if (logs) {
            answers.push_back(logs->queue.out->flush());
        }
        if (metrics) {
            answers.push_back(metrics->out->flush());
        }
        // every answer is waited for, also after a bad one
        for (auto & answer : answers) {
            const bool is_there = waits_for(deadline, [&](steady::time_point until) { return answer.wait_until(until) == std::future_status::ready; });
            delivered = (is_there && answer.get()) && delivered;
        }
        return delivered;
    }

    // exporters that do not come to an end are told to give up, and then left to themselves
    void stop(steady::time_point deadline, std::promise<bool> & answer, bool delivered) {
        if (spans) {
            spans->queue.out->stop();
        }
        if (logs) {
            logs->queue.out->stop();
        }
        if (metrics) {
            metrics->out->stop();
        }
        const auto ended = [&](steady::time_point until) {
            const bool spans_ended   = !spans || spans->queue.out->wait_stopped(until);
            const bool logs_ended    = !logs || logs->queue.out->wait_stopped(until);
            const bool metrics_ended = !metrics || metrics->out->wait_stopped(until);
            return spans_ended && logs_ended && metrics_ended;
        };
        if (!ended(deadline)) {
            if (spans) {
                spans->queue.out->cancel();
            }
            if (logs) {
                logs->queue.out->cancel();
            }
            if (metrics) {
                metrics->out->cancel();
            }
            if (!ended(steady::now() + GIVE_UP)) {
                if (spans) {
                    spans->queue.out->give_up();
                }
                if (logs) {
                    logs->queue.out->give_up();
                }
                if (metrics) {
                    metrics->out->give_up();
                }
            }
        }
        if (spans) {
            spans->queue.count_left();
        }
        if (logs) {
            logs->queue.count_left();
        }
        remove_log_handler();
        answer.set_value(delivered);
    }
};

} // namespace llama_otel_cpp
