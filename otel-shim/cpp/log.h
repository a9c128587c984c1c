#pragma once

// Texts of llama.cpp's that leave the process, within the runtime.

#include "otel.h"

#include <string>
#include <string_view>

#define LLAMA_OTEL_MAX_TEXT 4096 // bytes of a text that are looked at

// A text without the folders of paths and without the ids of tokens; `path` is one that is known to be private, or empty.
std::string llama_otel_public_text(std::string_view text, std::string_view path);

// the path that the spans open on this thread have declared private, the innermost one's; empty if none has
std::string_view llama_otel_private_path() noexcept;
