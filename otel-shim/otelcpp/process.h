#pragma once

// What the process may do to telemetry: end, fork, and unload the library that telemetry is part of.

#include "otel-backend.h"

#include <string>

namespace llama_otel_cpp {

// Whether this is a child of a process in which telemetry ran. Our threads do not exist there, and our locks may be held by
// them for ever: nothing that takes one may be called.
bool is_forked();

// Calls `at_exit` when the process ends, switches telemetry off in children, and keeps the code loaded that our threads run.
// Once, after opentelemetry-cpp has been used: handlers and destructors run in the reverse order of their registration, and
// the library's objects of static life must be destroyed after ours is done.
void prepare_process(llama_otel_control & control, void (*at_exit)());

// Registers `at_exit` anew after more of the library has been used, so that it runs before the destructors of what that made.
void prepare_exit_again();

constexpr const char * THREADS = "llama-otel-"; // what their names begin with

// Names the calling thread, one of telemetry's own, and lowers its priority as far as the system lets it, as the Rust backend
// does (priority.rs): inference never waits for it. Of the name's end, four bytes count.
void give_way(const char * end);

// The calling thread's name where a thread inherits that of the thread which starts it; else empty.
std::string thread_name();

} // namespace llama_otel_cpp
