// Errors that llama.cpp and ggml log, and what may be said of them outside of the process.

#include "log.h"

#include <cctype>

namespace {

bool is_slash(char c) noexcept { return c == '/' || c == '\\'; }

// a path may begin behind one of these
bool ends_a_word(char c) noexcept { return isspace((unsigned char) c) || strchr("'\"`(<[{=,;", c) != nullptr; }

// "/", "~/", "./", "../", "C:\"
bool begins_a_path(std::string_view text) noexcept {
    const auto at = [&](size_t i) { return i < text.size() ? text[i] : '\0'; };
    return is_slash(at(0)) || (at(0) == '~' && is_slash(at(1))) || (at(0) == '.' && is_slash(at(1))) ||
        (at(0) == '.' && at(1) == '.' && is_slash(at(2))) || (isalpha((unsigned char) at(0)) && at(1) == ':' && is_slash(at(2)));
}

// Paths → the names at their ends. One in quotes ends at the quote; any other before ": ", or with the line: folders may have
// spaces, and a word too many that is cut is better than a folder that is not.
std::string without_folders(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
        const bool word = i == 0 || ends_a_word(text[i - 1]);
        size_t     end  = i;
        if (word && begins_a_path(text.substr(i))) {
            const char quote = i > 0 && strchr("'\"`", text[i - 1]) ? text[i - 1] : '\0';
            if (quote) {
                end = text.find(quote, i);
            } else {
                end = text.find(": ", i);
                const size_t line = text.find('\n', i);
                end = line < end ? line : end;
            }
        } else if (word) {
            // a relative path: a word with a slash in it
            end = i;
            while (end < text.size() && !ends_a_word(text[end])) {
                end++;
            }
            if (text.substr(i, end - i).find_first_of("/\\") == std::string_view::npos) {
                out.append(text.substr(i, end - i));
                if (end < text.size()) {
                    out += text[end++];
                }
                i = end;
                continue;
            }
        } else {
            out += text[i++];
            continue;
        }
        end = end == std::string_view::npos ? text.size() : end;
        const std::string_view path  = text.substr(i, end - i);
        const size_t           slash = path.find_last_of("/\\");
        out.append(slash == std::string_view::npos ? path : path.substr(slash + 1));
        i = end;
        if (i < text.size()) {
            out += text[i++];
        }
    }
    return out;
}

// "invalid token[3] = 4711" → "invalid token[?] = ?": which tokens a prompt has is the prompt
void hide_token_ids(std::string & text) {
    for (size_t at = text.find("token"); at != std::string::npos; at = text.find("token", at + 1)) {
        size_t i = at + 5;
        if (i < text.size() && (text[i] == 's' || text[i] == '_' || isalpha((unsigned char) text[i]))) {
            continue;
        }
        while (i < text.size() && !strchr(",(;\n", text[i])) {
            if (!isdigit((unsigned char) text[i])) {
                i++;
                continue;
            }
            size_t end = i;
            while (end < text.size() && isdigit((unsigned char) text[end])) {
                end++;
            }
            text.replace(i, end - i, "?");
            i++;
        }
    }
}

} // namespace

std::string llama_otel_public_text(std::string_view text, std::string_view path) {
    while (!text.empty() && isspace((unsigned char) text.back())) {
        text.remove_suffix(1);
    }
    std::string out(text.substr(0, LLAMA_OTEL_MAX_TEXT));
    const size_t slash = path.find_last_of("/\\");
    if (!path.empty() && slash != std::string_view::npos) {
        const std::string_view file = path.substr(slash + 1);
        for (size_t at = 0; (at = out.find(path, at)) != std::string::npos; at += file.size()) {
            out.replace(at, path.size(), file);
        }
    }
    out = without_folders(out);
    hide_token_ids(out);
    return out;
}

void llama_otel_log_error(const char * text) noexcept {
    if (!text || !llama_otel_on()) {
        return;
    }
    try {
        const std::string message = llama_otel_public_text(text, llama_otel_private_path());
        if (message.empty()) {
            return;
        }
        llama_otel_buffer<llama_otel_event_record> data;
        data.record          = {};
        data.record.name     = "llama.log";
        data.record.severity = LLAMA_OTEL_SEVERITY_ERROR;
        data.n_strings       = 0;
        data.record.message  = data.copy(message);
        llama_otel_submit_event(data);
    } catch (...) { // no memory for the text
    }
}
