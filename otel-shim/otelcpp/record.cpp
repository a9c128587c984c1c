#include "record.h"

#include "registry.h"
#include "text.h"

#include <algorithm>
#include <cstring>

namespace llama_otel_cpp {

namespace nostd = opentelemetry::nostd;

static bool is_list(const char * key) {
    return std::any_of(std::begin(LISTS), std::end(LISTS), [&](const char * list) { return strcmp(list, key) == 0; });
}

void attribute_list::set(const char * key, value value) {
    for (auto & attribute : all) {
        if (attribute.first == key || strcmp(attribute.first, key) == 0) {
            attribute.second = value;
            return;
        }
    }
    all.emplace_back(key, value);
}

bool attribute_list::has(const char * key) const {
    return std::any_of(all.begin(), all.end(), [&](const auto & attribute) { return strcmp(attribute.first, key) == 0; });
}

void attribute_list::set_text(const char * key, std::string text) {
    texts.push_back(std::move(text));
    set_kept(key, texts.back());
}

void attribute_list::set_kept(const char * key, std::string_view kept) {
    if (!is_list(key)) {
        set(key, value(nostd::string_view(kept.data(), kept.size())));
        return;
    }
    // the runtime has no arrays: the names in one are separated by commas
    lists.emplace_back();
    for (size_t at = 0; at < kept.size();) {
        const size_t comma = std::min(kept.find(',', at), kept.size());
        if (comma > at) {
            lists.back().emplace_back(kept.data() + at, comma - at);
        }
        at = comma + 1;
    }
    set(key, value(nostd::span<const nostd::string_view>(lists.back().data(), lists.back().size())));
}

void attribute_list::add(const llama_otel_attr & attr, std::string_view text) {
    switch (attr.type) {
        case LLAMA_OTEL_TYPE_BOOL:   set(attr.key, value(attr.value.i != 0));     break;
        case LLAMA_OTEL_TYPE_INT:    set(attr.key, value((int64_t) attr.value.i)); break;
        case LLAMA_OTEL_TYPE_DOUBLE: set(attr.key, value(attr.value.d));          break;
        case LLAMA_OTEL_TYPE_STRING: set_text(attr.key, clean(text));             break;
        case LLAMA_OTEL_TYPE_LITERAL: set_kept(attr.key, attr.value.literal ? attr.value.literal : ""); break;
        default: break; // a type that this version does not know
    }
}

template <typename Head> void attribute_list::add(const record_view<Head> & record, const char * const * wanted, size_t n_wanted) {
    all.reserve(all.size() + std::min(record.n_attrs, n_wanted));
    for (size_t i = 0; i < record.n_attrs; i++) {
        const llama_otel_attr & attr = record.attrs[i];
        const bool is_wanted = n_wanted == SIZE_MAX || std::any_of(wanted, wanted + n_wanted, [&](const char * key) { return strcmp(key, attr.key) == 0; });
        if (is_wanted) {
            add(attr, attr.type == LLAMA_OTEL_TYPE_STRING ? record.text(attr.value.s) : std::string_view());
        }
    }
}

template void attribute_list::add(const record_view<llama_otel_span_record> &, const char * const *, size_t);
template void attribute_list::add(const record_view<llama_otel_metric_record> &, const char * const *, size_t);
template void attribute_list::add(const record_view<llama_otel_event_record> &, const char * const *, size_t);

static nostd::string_view cut(nostd::string_view text, size_t characters) {
    size_t i = 0;
    for (; i < text.size(); i++) {
        if (((unsigned char) text[i] & 0xc0) != 0x80 && characters-- == 0) { // where a character begins
            break;
        }
    }
    return text.substr(0, i);
}

size_t attribute_list::limit(size_t max, size_t max_length) {
    const size_t n_before = all.size();
    all.resize(std::min(n_before, max), { nullptr, value(false) });
    if (max_length < MAX_TEXT) {
        for (auto & attribute : all) {
            if (const auto * text = nostd::get_if<nostd::string_view>(&attribute.second)) {
                attribute.second = cut(*text, max_length);
            }
        }
        for (auto & list : lists) {
            for (auto & text : list) {
                text = cut(text, max_length);
            }
        }
    }
    return n_before - all.size();
}

bool attribute_list::ForEachKeyValue(nostd::function_ref<bool(nostd::string_view, value)> callback) const noexcept {
    return std::all_of(all.begin(), all.end(), [&](const auto & attribute) { return callback(attribute.first, attribute.second); });
}

std::string attribute_list::identity() const {
    std::vector<std::string> parts;
    for (const auto & attribute : all) {
        std::string part = attribute.first;
        part += '\0';
        if (const auto * text = nostd::get_if<nostd::string_view>(&attribute.second)) {
            part.append(text->data(), text->size());
        } else if (const auto * integer = nostd::get_if<int64_t>(&attribute.second)) {
            part += std::to_string(*integer);
        } else if (const auto * floating = nostd::get_if<double>(&attribute.second)) {
            part += std::to_string(*floating);
        } else if (const auto * boolean = nostd::get_if<bool>(&attribute.second)) {
            part += *boolean ? "true" : "false";
        }
        parts.push_back(std::move(part));
    }
    std::sort(parts.begin(), parts.end());
    std::string identity;
    for (const std::string & part : parts) {
        identity += part;
        identity += '\1';
    }
    return identity;
}

} // namespace llama_otel_cpp
