#pragma once

// The log of opentelemetry-cpp. An exporter writes a line there for every failed request, and for the synchronous
// OTLP/HTTP exporter of 1.19 that line is the only sign of the failure: `Export` answers success. So errors of ours are
// read there, kept out of the program's output, and give their reason to the one line that we write. What others export
// with the same library is logged as before.

#include "compat.h"

#include <string>

namespace llama_otel_cpp {

// What telemetry says about itself on standard error (OTEL_LOG_LEVEL): whole lines.
enum class level { none, error, warn, info };
void set_level(level level);
void say(level level, const std::string & text);

// While one exists, the errors of the OTLP exporter that this thread uses are remembered instead of printed. If the program has
// a log handler of its own, that one still gets every line.
//
// The reason is often logged by a thread of the library's, which does not say whose request it is. Where a thread inherits the
// name of the one that started it, on Linux, the name tells; elsewhere the error is remembered for every export under way.
class log_capture {
public:
    log_capture();
    ~log_capture();
    log_capture(const log_capture &) = delete;
    log_capture & operator=(const log_capture &) = delete;

    // an error on this thread, or on any if exports are asynchronous
    bool        has_error() const;
    std::string first_error(const char * otherwise) const;

    void remember(const char * text, bool is_here);
    bool is_of(const std::string & thread) const { return thread == name; }

private:
    const std::string name; // of this thread
    log_capture *     outer; // on the same thread
    std::string       first; // the rest with the lock of the log
    bool              has_failed = false; // on this thread
};

// While one exists, what the library logs on this thread is dropped: it reads the variables that we have read already.
class log_silence {
public:
    log_silence();
    ~log_silence();
    log_silence(const log_silence &) = delete;
    log_silence & operator=(const log_silence &) = delete;
};

// Puts our handler before the present one, which it calls. Done anew before each export: the program may have set its own.
void install_log_handler();
// Takes it out, if nobody has put another one before it, and no export is under way or has just failed.
void remove_log_handler();

} // namespace llama_otel_cpp
