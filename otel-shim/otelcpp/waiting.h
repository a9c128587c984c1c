#pragma once

// Spans, or records of the log, that wait for their exporter: in batches, up to a bound.

#include "outlet.h"
#include "ring.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

namespace llama_otel_cpp {

constexpr std::chrono::milliseconds SOON{ 500 }; // when what is due and finds no room is looked at again, at the latest

template <typename Item> class waiting_queue {
public:
    using batch_type = std::vector<std::unique_ptr<Item>>;

    waiting_queue(std::unique_ptr<outlet<batch_type>> out, record_kind kind, std::chrono::milliseconds delay, size_t batch, size_t max_waiting) :
        out(std::move(out)), kind(kind), delay(delay), batch(std::min(batch, max_waiting)), max_waiting(max_waiting) {}

    // an item that is null could not be made
    void take(std::unique_ptr<Item> item) {
        if (items.size() >= batch && may_leave) {
            hand_over(false);
        }
        if (!item || items.size() >= max_waiting) {
            count_dropped(kind, item ? drop_reason::queue_full : drop_reason::export_failed, 1);
            return;
        }
        if (!due) {
            due = steady::now() + delay;
        }
        items.push_back(std::move(item));
    }

    // hands over full batches; the rest too if `all` or when it is due
    void hand_over(bool all) {
        all = all || (due && steady::now() >= *due);
        const size_t before = items.size();
        while (out->has_room() && (items.size() >= batch || (all && !items.empty()))) {
            const auto end = items.begin() + (ptrdiff_t) std::min(batch, items.size());
            batch_type front(std::make_move_iterator(items.begin()), std::make_move_iterator(end));
            items.erase(items.begin(), end);
            out->offer(front); // there is room, and nobody else gives it any
        }
        if (items.empty()) {
            due = std::nullopt;
        } else if (items.size() < before) {
            due = steady::now() + delay;
        } else if (all) { // there was no room: not at every look, but soon
            due = steady::now() + std::min(delay, SOON);
        }
    }

    void count_left() const { count_dropped(kind, drop_reason::shutdown, items.size()); }

    size_t                            size() const { return items.size(); }
    std::optional<steady::time_point> next() const { return due; }

    std::unique_ptr<outlet<batch_type>> out;
    bool                                may_leave = true; // false: what is taken waits, also a full batch

private:
    record_kind                       kind;
    batch_type                        items;
    std::optional<steady::time_point> due; // when the oldest must go
    std::chrono::milliseconds         delay;
    size_t                            batch;
    size_t                            max_waiting;
};

} // namespace llama_otel_cpp
