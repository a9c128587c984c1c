// W3C Trace Context and W3C Baggage: strict parsers of the three headers.

#include "w3c.h"

#include <cstring>

namespace {

int hex_digit(char c, bool upper) noexcept {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return upper && c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// lowercase digits only, as the recommendation demands
bool parse_hex(std::string_view text, uint64_t & out) noexcept {
    out = 0;
    for (const char c : text) {
        const int digit = hex_digit(c, false);
        if (digit < 0) {
            return false;
        }
        out = (out << 4) | (uint64_t) digit;
    }
    return true;
}

bool is_lower_or_digit(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

std::string_view trim(std::string_view text) noexcept {
    const size_t first = text.find_first_not_of(" \t");
    return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// calls f for what stands between commas, without the blanks around it, until f returns false
template <typename F> bool for_each_member(std::string_view text, F f) {
    while (true) {
        const size_t comma = text.find(',');
        if (!f(trim(text.substr(0, comma)))) {
            return false;
        }
        if (comma == std::string_view::npos) {
            return true;
        }
        text.remove_prefix(comma + 1);
    }
}

bool is_key_part(std::string_view text, size_t max, bool digit_first) noexcept {
    if (text.empty() || text.size() > max || !(is_lower_or_digit(text[0]) && (digit_first || text[0] > '9'))) {
        return false;
    }
    for (const char c : text) {
        if (!is_lower_or_digit(c) && !strchr("_-*/", c)) {
            return false;
        }
    }
    return text.find('\0') == std::string_view::npos;
}

bool is_tracestate_key(std::string_view key) noexcept {
    const size_t at = key.find('@');
    return at == std::string_view::npos ? is_key_part(key, 256, true) : is_key_part(key.substr(0, at), 241, true) && is_key_part(key.substr(at + 1), 14, false);
}

bool is_tracestate_value(std::string_view value) noexcept {
    if (value.empty() || value.size() > 256 || value.back() == ' ') {
        return false;
    }
    for (const char c : value) {
        if (c < 0x20 || c > 0x7e || c == ',' || c == '=') {
            return false;
        }
    }
    return true;
}

// RFC 7230
bool is_token(std::string_view text) noexcept {
    for (const char c : text) {
        if (c <= 0x20 || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return !text.empty();
}

bool percent_decode(std::string_view text, std::string & out) {
    for (size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        if (c == '%') {
            const int high = i + 2 < text.size() ? hex_digit(text[i + 1], true) : -1;
            const int low  = i + 2 < text.size() ? hex_digit(text[i + 2], true) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            out.push_back((char) (high * 16 + low));
            i += 2;
        } else if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            return false;
        } else {
            out.push_back(c);
        }
    }
    return true;
}

} // namespace

bool llama_otel_parse_traceparent(std::string_view text, llama_otel_traceparent & out) noexcept {
    constexpr size_t LENGTH = 55; // 00-<32 digits>-<16 digits>-<2 digits>
    uint64_t version = 0;
    uint64_t flags   = 0;
    if (text.size() < LENGTH || text[2] != '-' || text[35] != '-' || text[52] != '-' || !parse_hex(text.substr(0, 2), version) || version == 0xff) {
        return false;
    }
    if (text.size() > LENGTH && (version == 0 || text[LENGTH] != '-')) {
        return false;
    }
    if (!parse_hex(text.substr(3, 16), out.trace_id_hi) || !parse_hex(text.substr(19, 16), out.trace_id_lo) || !parse_hex(text.substr(36, 16), out.span_id) ||
        !parse_hex(text.substr(53, 2), flags)) {
        return false;
    }
    out.sampled = (flags & 1) != 0;
    return (out.trace_id_hi | out.trace_id_lo) != 0 && out.span_id != 0;
}

bool llama_otel_parse_tracestate(std::string_view text, size_t max_bytes, std::string & out) {
    out.clear();
    std::vector<std::string_view> keys;
    bool room = true;
    const bool valid = for_each_member(text, [&](std::string_view member) {
        if (member.empty()) {
            return true;
        }
        const size_t equals = member.find('=');
        if (equals == std::string_view::npos || !is_tracestate_key(member.substr(0, equals)) || !is_tracestate_value(member.substr(equals + 1))) {
            return false;
        }
        for (const std::string_view key : keys) {
            if (key == member.substr(0, equals)) {
                return false;
            }
        }
        keys.push_back(member.substr(0, equals));
        room = room && out.size() + !out.empty() + member.size() <= max_bytes;
        if (room) {
            out.append(out.empty() ? "" : ",").append(member);
        }
        return keys.size() <= 32;
    });
    if (!valid) {
        out.clear();
    }
    return valid;
}

bool llama_otel_parse_baggage(std::string_view text, std::vector<std::pair<std::string, std::string>> & out) {
    out.clear();
    if (trim(text).empty()) {
        return true;
    }
    const bool valid = text.size() <= 8192 && for_each_member(text, [&](std::string_view member) {
        const std::string_view entry  = member.substr(0, member.find(';'));
        const size_t           equals = entry.find('=');
        if (equals == std::string_view::npos || !is_token(trim(entry.substr(0, equals)))) {
            return false;
        }
        out.emplace_back(trim(entry.substr(0, equals)), std::string());
        return percent_decode(trim(entry.substr(equals + 1)), out.back().second) && out.size() <= 64;
    });
    if (!valid) {
        out.clear();
    }
    return valid;
}
