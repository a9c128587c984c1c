// Runs one scenario of otel-shim/tests/cpp/scenarios.cpp in a process of its own, as otel-shim/examples/scenario.rs does for
// the Rust backend. `scenario NAME [exit|flush|shutdown|twice|late|leave]`: how the process ends.

#include "otel.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

extern "C" bool llama_otel_scenario(const char * name);

// frees, and so records, when the objects of static life are destroyed
struct late_user {
    ~late_user() {
        LLAMA_OTEL_SPAN("llama_model_free");
        LLAMA_OTEL_INCREMENT_TOKENS(1);
    }
};

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: scenario NAME [exit|flush|shutdown|twice|late|leave]\n");
        return 2;
    }
    const std::string end = argc > 2 ? argv[2] : "exit";
    if (!llama_otel_scenario(argv[1])) {
        fprintf(stderr, "no such scenario: %s\n", argv[1]);
        return 2;
    }
    const bool active = llama_otel_on();
    const auto start  = std::chrono::steady_clock::now();
    bool delivered = true;
    if (end == "flush") {
        delivered = llama_otel_flush(3000);
    } else if (end == "shutdown") {
        delivered = llama_otel_shutdown(3000);
    } else if (end == "twice") {
        delivered = llama_otel_shutdown(3000);
        llama_otel_scenario(argv[1]);
        delivered = llama_otel_flush(3000) && delivered;
    } else if (end == "late") {
        static late_user user;
        std::thread([] { thread_local late_user user_of_thread; (void) &user_of_thread; LLAMA_OTEL_INCREMENT_TOKENS(1); }).join();
        LLAMA_OTEL_INCREMENT_TOKENS(1);
    }
    if (end == "leave") { // without the last delivery
        std::this_thread::sleep_for(std::chrono::seconds(1));
        std::_Exit(0);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::string dropped;
    for (const char * signal : { "traces", "metrics", "logs" }) {
        for (const char * reason : { "ring_full", "thread_limit", "queue_full", "export_failed", "shutdown" }) {
            if (const uint64_t n = llama_otel_dropped(signal, reason)) {
                dropped += (dropped.empty() ? "\"" : ",\"") + std::string(signal) + "." + reason + "\":" + std::to_string(n);
            }
        }
    }
    printf("{\"active\":%s,\"delivered\":%s,\"seconds\":%f,\"dropped\":{%s}}\n", active ? "true" : "false", delivered ? "true" : "false", seconds, dropped.c_str());
    return 0;
}
