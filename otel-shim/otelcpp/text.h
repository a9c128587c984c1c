#pragma once

// Strings from a program or a model file, made fit for export: valid UTF-8, no control characters, at most 256 bytes.

#include <string>
#include <string_view>

namespace llama_otel_cpp {

constexpr size_t MAX_TEXT = 256; // bytes of the longest exported string

// invalid bytes become U+FFFD, control characters a space; a character cut at the end is left out
std::string clean(std::string_view bytes);

} // namespace llama_otel_cpp
