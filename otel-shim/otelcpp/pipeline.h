#pragma once

// Telemetry as a whole: its start, its end, and what a program may switch. Every function may be called from any thread.

#include "otel-backend.h"

#include <chrono>

namespace llama_otel_cpp {

// reads the environment and starts the threads if telemetry is wanted; does nothing while it runs
void start(llama_otel_control & control);
// true if all that was recorded before has reached the receiver, or if telemetry is off
bool flush(std::chrono::milliseconds timeout);
// the same, then stops the threads and turns telemetry off
bool shutdown(std::chrono::milliseconds timeout);

// as the functions of llama-otel.h
bool     is_active();
void     set_detail(uint32_t detail);
bool     set_export(bool on);
uint64_t count_lost(const char * signal, const char * reason);

} // namespace llama_otel_cpp
