#include "text.h"

#include <algorithm>
#include <cstdint>

namespace llama_otel_cpp {

namespace {

// a character at the front of `bytes`, or the longest front of it that could begin one
struct character {
    size_t   length;
    bool     valid;
    uint32_t code;
};

character next(std::string_view bytes) {
    const auto at = [&](size_t i) { return i < bytes.size() ? (unsigned char) bytes[i] : 0u; };
    const uint32_t first = at(0);
    if (first < 0x80) {
        return { 1, true, first };
    }
    const size_t length = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
    if (length == 0) {
        return { 1, false, 0 };
    }
    uint32_t code = first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        // overlong forms, surrogates and what is beyond Unicode show in the second byte
        uint32_t low  = 0x80;
        uint32_t high = 0xbf;
        if (i == 1) {
            low  = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
            high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
        }
        if (i >= bytes.size() || at(i) < low || at(i) > high) {
            return { i, false, 0 };
        }
        code = (code << 6) | (at(i) & 0x3f);
    }
    return { length, true, code };
}

} // namespace

std::string clean(std::string_view bytes) {
    constexpr std::string_view REPLACEMENT = "\xef\xbf\xbd";
    if (bytes.size() <= MAX_TEXT && std::all_of(bytes.begin(), bytes.end(), [](char c) { return c >= 0x20 && c < 0x7f; })) {
        return std::string(bytes); // nearly always
    }
    const bool  cut = bytes.size() >= MAX_TEXT;
    std::string out;
    while (!bytes.empty()) {
        const character  c    = next(bytes);
        std::string_view text = bytes.substr(0, c.length);
        if (!c.valid) {
            if (cut && c.length == bytes.size()) {
                break;
            }
            text = REPLACEMENT;
        } else if (c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0)) {
            text = " ";
        }
        if (out.size() + text.size() > MAX_TEXT) {
            break;
        }
        out.append(text);
        bytes.remove_prefix(c.length);
    }
    return out;
}

} // namespace llama_otel_cpp
