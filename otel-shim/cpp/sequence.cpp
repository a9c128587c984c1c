// The sequences of a context between its batches: emptied, cut back, copied, shifted, restored.

#include "generation.h"

#include <algorithm>
#include <limits>

namespace {

constexpr int32_t MAX_SEQUENCES = 1024; // of one context; llama.cpp has at most 256

constexpr int32_t NO_BOUND = std::numeric_limits<int32_t>::max();

} // namespace

llama_otel_sequence * llama_otel_sequences::existing(int32_t id) noexcept {
    return id >= 0 && (size_t) id < sequences.size() ? sequences[id].get() : nullptr;
}

llama_otel_sequence * llama_otel_sequences::at(int32_t id) noexcept {
    if (llama_otel_sequence * seq = existing(id)) {
        return seq;
    }
    if (id < 0 || id >= MAX_SEQUENCES) {
        return nullptr;
    }
    try {
        if (sequences.size() <= (size_t) id) {
            sequences.resize(id + 1);
        }
        sequences[id] = std::make_unique<llama_otel_sequence>();
    } catch (...) { // no memory: this sequence has no generation
        return nullptr;
    }
    return sequences[id].get();
}

// the sequence, or with a negative id all that were ever seen
template <typename F> void llama_otel_sequences::for_each(int32_t id, F f) noexcept {
    if (id >= 0) {
        if (llama_otel_sequence * seq = existing(id)) {
            f(*seq, id);
        }
        return;
    }
    for (size_t i = 0; i < sequences.size(); i++) {
        if (sequences[i]) {
            f(*sequences[i], (int32_t) i);
        }
    }
}

// ends its generation without what was taken back of it
void llama_otel_sequences::settle(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept {
    if (seq.open) {
        seq.generation.n_continued -= seq.n_taken_back;
        seq.generation.n_removed   += seq.n_taken_back;
        end(seq, id, finish);
    }
    seq.n_taken_back = 0;
}

void llama_otel_sequences::empty(llama_otel_sequence & seq, int32_t id, const char * finish) noexcept {
    settle(seq, id, finish);
    seq.last      = -1;
    seq.continues = false;
}

void llama_otel_sequences::end_all(const char * finish) noexcept {
    for_each(-1, [&](llama_otel_sequence & seq, int32_t id) { settle(seq, id, finish); });
}

void llama_otel_sequences::clear(const char * finish) noexcept {
    for_each(-1, [&](llama_otel_sequence & seq, int32_t id) { empty(seq, id, finish); });
    served.clear();
    update_longest();
}

void llama_otel_sequences::take_back(llama_otel_sequence & seq, int32_t id, int32_t p0, int32_t p1) noexcept {
    llama_otel_generation & g = seq.generation;
    if (p0 <= 0 && p1 > seq.last) {
        empty(seq, id, "cleared");
    } else if (p0 > seq.last) {
        // nothing is there
    } else if (p1 <= seq.last) {
        // from the middle: the context is shifted
        if (seq.open && p0 <= g.prompt_last && g.prompt_last < p1) {
            g.prompt_last = p0 - 1;
        }
        if (seq.open && p0 <= g.first_pos && g.first_pos < p1) {
            g.first_pos = p0;
        }
    } else {
        if (seq.open && p0 <= g.first_pos) {
            empty(seq, id, "cleared");
        } else if (seq.open && p0 <= g.prompt_last) {
            seq.cut = true;
        } else if (seq.open) {
            const int64_t n = std::min<int64_t>((int64_t) seq.last - p0 + 1, g.n_continued - seq.n_taken_back);
            if (seq.n_tokens > 1 && p0 > seq.pos_min) { // the tail of the last batch: drafts that were refused
                g.n_continued -= n;
                g.n_removed   += n;
            } else {
                seq.n_taken_back += n;
            }
        }
        seq.last = p0 - 1;
    }
}

void llama_otel_sequences::remove(int32_t seq, int32_t p0, int32_t p1) noexcept {
    for_each(seq, [&](llama_otel_sequence & s, int32_t id) { take_back(s, id, std::max(p0, 0), p1 < 0 ? NO_BOUND : p1); });
    update_longest();
}

// back to an earlier point of itself (a checkpoint) it is cut back; anything else is another sequence
void llama_otel_sequences::replaced(int32_t seq, int32_t last) noexcept {
    for_each(seq, [&](llama_otel_sequence & s, int32_t id) {
        if (seq >= 0 && last >= 0 && last <= s.last) {
            take_back(s, id, last + 1, NO_BOUND);
        } else {
            empty(s, id, "cleared");
            s.last = seq >= 0 ? last : -1;
        }
    });
    update_longest();
}

void llama_otel_sequences::copy(int32_t from, int32_t to, int32_t p0, int32_t p1) noexcept {
    const llama_otel_sequence * source = existing(from);
    if (from == to || !source || source->last < 0) {
        return;
    }
    llama_otel_sequence * target = at(to);
    if (!target) {
        return;
    }
    const int32_t last = p1 < 0 ? source->last : std::min(source->last, p1 - 1);
    if (!target->open) {
        target->continues = last == source->last && std::max(p0, 0) <= last &&
            (source->open ? source->generation.prompt_done && !source->cut && !source->generation.embeddings : source->continues);
    }
    target->last = std::max(target->last, last);
    update_longest();
}

void llama_otel_sequences::keep(int32_t seq) noexcept {
    for_each(-1, [&](llama_otel_sequence & s, int32_t id) {
        if (id != seq) {
            empty(s, id, "cleared");
        }
    });
    update_longest();
}

// every position in the range becomes `moved` of it
template <typename F> void llama_otel_sequences::move(int32_t seq, int32_t p0, int32_t p1, F moved) noexcept {
    for_each(seq, [&](llama_otel_sequence & s, int32_t) {
        for (int32_t * pos : { &s.last, &s.pos_min, &s.pos_max, &s.generation.first_pos, &s.generation.prompt_last }) {
            if (*pos >= std::max(p0, 0) && (p1 < 0 || *pos < p1)) {
                *pos = moved(*pos);
            }
        }
    });
    update_longest();
}

void llama_otel_sequences::shift(int32_t seq, int32_t p0, int32_t p1, int32_t delta) noexcept {
    move(seq, p0, p1, [=](int32_t pos) { return std::max(pos + delta, -1); });
}

void llama_otel_sequences::divide(int32_t seq, int32_t p0, int32_t p1, int32_t divisor) noexcept {
    if (divisor > 0) {
        move(seq, p0, p1, [=](int32_t pos) { return pos / divisor; });
    }
}

void llama_otel_sequences::update_longest() noexcept {
    int64_t n = 0;
    for (const auto & seq : sequences) {
        n = seq ? std::max<int64_t>(n, seq->last + 1) : n;
    }
    longest.store(n, std::memory_order_relaxed);
}
