#pragma once

// A record of otel-backend.h as what opentelemetry-cpp takes: attributes with each key once, times of the wall clock.

#include "otel-backend.h"
#include "ring.h"

#include "opentelemetry/common/attribute_value.h"
#include "opentelemetry/common/key_value_iterable.h"
#include "opentelemetry/nostd/string_view.h"

#include <chrono>
#include <list>
#include <string>
#include <utility>
#include <vector>

namespace llama_otel_cpp {

// What follows a record's head, never more than the record has room for.
template <typename Head> struct record_view {
    const Head *            head     = nullptr;
    const llama_otel_attr * attrs    = nullptr;
    size_t                  n_attrs  = 0;
    const char *            strings  = nullptr;
    size_t                  n_strings = 0;
    const unsigned char *   tail     = nullptr; // behind the attributes
    size_t                  n_tail   = 0;

    // `head` stays null if there is no whole one
    explicit record_view(const entry & entry) {
        if (entry.size < sizeof(Head)) {
            return;
        }
        head    = (const Head *) entry.record;
        attrs   = (const llama_otel_attr *) (head + 1);
        n_attrs = head->n_attrs;
        if (n_attrs > (entry.size - sizeof(Head)) / sizeof(llama_otel_attr)) {
            n_attrs = (entry.size - sizeof(Head)) / sizeof(llama_otel_attr);
        }
        strings   = entry.strings;
        n_strings = entry.strings_size;
        tail      = (const unsigned char *) (attrs + n_attrs);
        n_tail    = entry.size - sizeof(Head) - n_attrs * sizeof(llama_otel_attr);
    }

    // empty if the range does not lie within the record's strings
    std::string_view text(llama_otel_str range) const {
        const bool is_within = range.offset <= n_strings && range.length <= n_strings - range.offset;
        return is_within ? std::string_view(strings + range.offset, range.length) : std::string_view();
    }
};

// Attributes and the strings that they refer to. Each key is there once: the last value stands.
class attribute_list : public opentelemetry::common::KeyValueIterable {
public:
    using value = opentelemetry::common::AttributeValue;

    attribute_list() = default;
    attribute_list(const attribute_list &) = delete; // the values refer to the strings
    attribute_list & operator=(const attribute_list &) = delete;

    // `key` must be of static storage
    void set(const char * key, value value);
    void set_text(const char * key, std::string text);
    bool has(const char * key) const;

    // all attributes of a record, or those whose keys are among `wanted`
    template <typename Head> void add(const record_view<Head> & record, const char * const * wanted = nullptr, size_t n_wanted = SIZE_MAX);

    // Leaves the first `max` attributes, with strings of at most `max_length` characters; returns how many it left out.
    size_t limit(size_t max, size_t max_length);

    // equal for equal attributes, whatever their order
    std::string identity() const;

    bool   ForEachKeyValue(opentelemetry::nostd::function_ref<bool(opentelemetry::nostd::string_view, value)> callback) const noexcept override;
    size_t size() const noexcept override { return all.size(); }

private:
    void add(const llama_otel_attr & attr, std::string_view text);
    // `text` must stay
    void set_kept(const char * key, std::string_view text);

    std::vector<std::pair<const char *, value>> all;
    // addresses stay, and an empty one allocates nothing
    std::list<std::string>                                    texts;
    std::list<std::vector<opentelemetry::nostd::string_view>> lists;
};

// relates the clock of the records (monotonic, nanoseconds) to the wall clock
struct epoch {
    int64_t                               monotonic_ns;
    std::chrono::system_clock::time_point wall;

    std::chrono::system_clock::time_point at(int64_t ns) const { return wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(ns - monotonic_ns)); }
};

} // namespace llama_otel_cpp
