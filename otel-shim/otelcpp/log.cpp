#include "log.h"

#include "process.h"
#include "text.h"

#include "opentelemetry/sdk/common/global_log_handler.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <vector>

namespace llama_otel_cpp {

namespace {

using namespace otel::sdk::common::internal_log;

using steady = std::chrono::steady_clock;

// An exporter gives a request up when its own wait ends; the HTTP client, whose time-out is as long, may say so afterwards.
constexpr std::chrono::seconds LATE{ 5 };

struct captured {
    std::mutex                 mutex;
    std::vector<log_capture *> exports; // under way
    steady::time_point         late_until; // what an export that failed may still have to say
    LogLevel                   level_before = LogLevel::Warning; // what the program wants to be logged

    bool expects_errors() const { return !exports.empty() || steady::now() < late_until; }

    // an error that is logged on this thread; with the lock held
    void remember(const char * text);
};

thread_local log_capture * here      = nullptr; // of the export of this thread
thread_local bool          is_silent = false;

captured & state() {
    static captured & all = *new captured; // never destroyed: an export may be under way when the process ends
    return all;
}

// "[OTLP HTTP Client] Session state: connection failed." and the like; where the text begins
const char * of_an_exporter(const char * message) {
    if (!message || strncmp(message, "[OTLP ", 6) != 0) {
        return nullptr;
    }
    const char * end = strchr(message, ']');
    return end ? end + 1 + strspn(end + 1, " ") : message;
}

void captured::remember(const char * text) {
    if (here) {
        return here->remember(text, true);
    }
    const std::string name     = thread_name();
    const bool        is_known = name.compare(0, strlen(THREADS), THREADS) == 0;
    for (log_capture * one : exports) {
        if (!is_known || one->is_of(name)) {
            one->remember(text, false);
        }
    }
}

class handler : public LogHandler {
public:
    explicit handler(otel::nostd::shared_ptr<LogHandler> behind) : behind(behind) {}

    void Handle(LogLevel level, const char * file, int line, const char * message, const otel::sdk::common::AttributeMap & attributes) noexcept override {
        if (is_silent) {
            return;
        }
        bool is_ours = false;
        try {
            if (const char * text = of_an_exporter(message)) {
                std::lock_guard<std::mutex> lock(state().mutex);
                is_ours = state().expects_errors();
                if (is_ours && level == LogLevel::Error) {
                    state().remember(text);
                }
            }
        } catch (...) { // no memory for the text
        }
        const bool is_default = dynamic_cast<DefaultLogHandler *>(behind.get()) != nullptr;
        if (behind && level <= state().level_before && !(is_ours && is_default)) {
            behind->Handle(level, file, line, message, attributes);
        }
    }

    otel::nostd::shared_ptr<LogHandler> behind;
};

} // namespace

static std::atomic<level> shown{ level::info };

void set_level(level level) {
    shown.store(level);
}

void say(level level, const std::string & text) {
    if (level <= shown.load()) {
        fprintf(stderr, "llama-otel: %s\n", text.c_str());
    }
}

log_capture::log_capture() : name(thread_name()), outer(here) {
    install_log_handler();
    std::lock_guard<std::mutex> lock(state().mutex);
    state().exports.push_back(this);
    here = this;
}

log_capture::~log_capture() {
    std::lock_guard<std::mutex> lock(state().mutex);
    auto & all = state().exports;
    all.erase(std::remove(all.begin(), all.end(), this), all.end());
    here = outer;
    if (has_failed || !first.empty()) {
        state().late_until = steady::now() + LATE;
    }
}

void log_capture::remember(const char * text, bool is_here) {
    has_failed = has_failed || is_here;
    if (first.empty()) {
        first = clean(text);
    }
}

log_silence::log_silence() { is_silent = true; }
log_silence::~log_silence() { is_silent = false; }

bool log_capture::has_error() const {
    std::lock_guard<std::mutex> lock(state().mutex);
    return EXPORT_IS_ASYNCHRONOUS ? !first.empty() : has_failed;
}

std::string log_capture::first_error(const char * otherwise) const {
    std::lock_guard<std::mutex> lock(state().mutex);
    return first.empty() ? otherwise : first;
}

void install_log_handler() {
    auto present = GlobalLogHandler::GetLogHandler();
    if (!dynamic_cast<handler *>(present.get())) {
        GlobalLogHandler::SetLogHandler(otel::nostd::shared_ptr<LogHandler>(new handler(present)));
    }
    if (GlobalLogHandler::GetLogLevel() < LogLevel::Error) {
        std::lock_guard<std::mutex> lock(state().mutex);
        state().level_before = GlobalLogHandler::GetLogLevel();
        GlobalLogHandler::SetLogLevel(LogLevel::Error);
    }
}

void remove_log_handler() {
    {
        std::lock_guard<std::mutex> lock(state().mutex);
        if (state().expects_errors()) {
            return; // it has no other effect
        }
    }
    auto present = GlobalLogHandler::GetLogHandler();
    if (auto * ours = dynamic_cast<handler *>(present.get())) {
        GlobalLogHandler::SetLogHandler(ours->behind);
    }
    std::lock_guard<std::mutex> lock(state().mutex);
    if (state().level_before < LogLevel::Error) {
        GlobalLogHandler::SetLogLevel(state().level_before);
        state().level_before = LogLevel::Warning;
    }
}

} // namespace llama_otel_cpp
