#pragma once

// One signal's way out: a bounded queue of batches and the thread that exports them. Nothing here is waited for but by a
// flush, and every wait has a deadline. The thread owns what it needs, so that it may outlive a shutdown that gave it up.

#include "log.h"
#include "process.h"
#include "ring.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace llama_otel_cpp {

using steady = std::chrono::steady_clock;

template <typename Batch> class outlet {
public:
    struct exporter {
        std::function<bool(Batch &)>     send;   // true if the receiver has it
        std::function<void()>            cancel; // may be called while `send` runs; may block
        std::function<size_t(Batch &)>   size;   // in spans or metrics
        std::function<void()>            renew;  // after an export that failed, on the same thread; may be empty
    };

    static constexpr size_t QUEUED_BATCHES = 4; // more stay with the drain thread

    static constexpr size_t MAX_EXPORTS    = 1024; // durations that are kept until they are asked for

    // throws std::system_error if there can be no thread
    outlet(const char * signal, record_kind kind, exporter exporter, void (*exported_first)()) : state(std::make_shared<shared>()) {
        state->signal   = signal;
        state->kind     = kind;
        state->exporter = std::move(exporter);
        state->exported_first = exported_first;
        std::thread([state = state] {
            give_way(state->signal);
            run(*state);
        }).detach();
    }

    ~outlet() { stop(); }

    bool has_room() const {
        std::lock_guard<std::mutex> lock(state->mutex);
        return state->n_batches < QUEUED_BATCHES;
    }

    // takes the batch if there is room
    bool offer(Batch & batch) {
        std::lock_guard<std::mutex> lock(state->mutex);
        if (state->n_batches >= QUEUED_BATCHES) {
            return false;
        }
        state->n_batches++;
        state->jobs.push_back({ std::move(batch), nullptr });
        state->wake.notify_one();
        return true;
    }

    // the answer: whether all since the last flush was delivered
    std::future<bool> flush() {
        auto answer = std::make_shared<std::promise<bool>>();
        std::lock_guard<std::mutex> lock(state->mutex);
        state->jobs.push_back({ std::nullopt, answer });
        state->wake.notify_one();
        return answer->get_future();
    }

    void stop() {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->is_stopping = true;
        state->wake.notify_one();
    }

    // false if an export is still under way
    bool wait_stopped(steady::time_point deadline) {
        std::unique_lock<std::mutex> lock(state->mutex);
        return state->stopped.wait_until(lock, deadline, [&] { return state->is_stopped; });
    }

    // counts what has not been exported: nobody will hear of the export under way
    void give_up() {
        std::lock_guard<std::mutex> lock(state->mutex);
        if (!state->is_given_up) {
            state->is_given_up = true;
            count_dropped(state->kind, drop_reason::export_failed, state->under_way);
            count_left(*state);
        }
    }

    // makes an export under way give up, if the exporter can; does not wait for that
    void cancel() {
        std::thread([state = state] { state->exporter.cancel(); }).detach();
    }

    // whether each export since the last call was delivered, and its seconds
    std::vector<std::pair<bool, double>> take_exports() {
        std::lock_guard<std::mutex> lock(state->mutex);
        return std::exchange(state->exports, {});
    }

    // items in the queue
    size_t waiting() const {
        std::lock_guard<std::mutex> lock(state->mutex);
        size_t n = 0;
        for (job & job : state->jobs) {
            n += job.batch ? state->exporter.size(*job.batch) : 0;
        }
        return n;
    }

private:
    struct job {
        std::optional<Batch>                batch;
        std::shared_ptr<std::promise<bool>> answer;
    };

    struct shared {
        const char *            signal = "";
        llama_otel_cpp::record_kind    kind   = record_kind::span;
        outlet::exporter        exporter;
        void (*                 exported_first)() = nullptr;
        std::mutex              mutex;
        std::condition_variable wake;
        std::condition_variable stopped;
        std::deque<job>         jobs;
        size_t                  n_batches   = 0;
        bool                    is_stopping = false;
        bool                    is_stopped  = false;
        bool                    is_given_up = false;
        size_t                  under_way   = 0; // items of the export under way
        std::vector<std::pair<bool, double>> exports;
        bool                    is_failing = false; // the rest belongs to the thread
        bool                    delivered  = true;
    };

    // with the lock held
    static void count_left(shared & state) {
        for (job & left : state.jobs) {
            if (left.batch) {
                count_dropped(state.kind, drop_reason::shutdown, state.exporter.size(*left.batch));
            }
        }
        state.jobs.clear();
    }

    static void run(shared & state) {
        std::unique_lock<std::mutex> lock(state.mutex);
        for (;;) {
            state.wake.wait(lock, [&] { return state.is_stopping || !state.jobs.empty(); });
            if (state.is_stopping) {
                break;
            }
            job job = std::move(state.jobs.front());
            state.jobs.pop_front();
            state.under_way = job.batch ? state.exporter.size(*job.batch) : 0;
            lock.unlock();
            if (job.answer) {
                job.answer->set_value(state.delivered);
                state.delivered = true;
            } else {
                send(state, *job.batch);
                job.batch.reset();
            }
            lock.lock();
            state.under_way = 0;
            state.n_batches -= job.answer ? 0 : 1;
        }
        count_left(state);
        state.is_stopped = true;
        state.stopped.notify_all();
    }

    static void send(shared & state, Batch & batch) {
        const size_t n     = state.exporter.size(batch);
        const auto   start = steady::now();
        log_capture  capture;
        bool         delivered = false;
        try {
            delivered = state.exporter.send(batch);
        } catch (...) { // counted below
        }
        delivered = delivered && !capture.has_error();
        if (state.exported_first) {
            state.exported_first();
            state.exported_first = nullptr;
        }
        {
            std::lock_guard<std::mutex> lock(state.mutex);
            if (state.is_given_up) {
                return; // counted
            }
            state.under_way = 0;
            if (!delivered) {
                count_dropped(state.kind, drop_reason::export_failed, n);
            }
            if (state.exports.size() < MAX_EXPORTS) {
                state.exports.emplace_back(delivered, std::chrono::duration<double>(steady::now() - start).count());
            }
        }
        if (!delivered) {
            state.delivered = false;
            renew(state);
        }
        // says once that a receiver does not answer, and once that it does again
        if (!delivered && !state.is_failing) {
            say(level::warn, std::string(state.signal) + " cannot be exported, inference goes on without: " + capture.first_error("opentelemetry-cpp gives no reason"));
        } else if (delivered && state.is_failing) {
            say(level::info, std::string(state.signal) + " are exported again");
        }
        state.is_failing = !delivered;
    }

    static void renew(shared & state) {
        const log_capture capture;
        try {
            if (state.exporter.renew) {
                state.exporter.renew();
            }
        } catch (...) { // the old one goes on
        }
    }

    std::shared_ptr<shared> state;
};

} // namespace llama_otel_cpp
