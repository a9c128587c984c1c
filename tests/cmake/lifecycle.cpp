// Lives and ends in the ways that the cases of otel-shim/tests ask for, each in a process of its own, as
// otel-shim/examples/lifecycle.rs does for the Rust backend. `lifecycle MODE [ARGUMENTS]` prints what was found out as one
// line of JSON.

#include "otel.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#ifdef __unix__
#    include <sys/wait.h>
#    include <unistd.h>
#endif
#ifdef __linux__
#    include <filesystem>
#    include <sstream>
#    include <sys/resource.h>
#endif

extern "C" {
void llama_otel_lifecycle_start(void);
void llama_otel_lifecycle_decode(int64_t i);
void llama_otel_lifecycle_statics(void);
void llama_otel_lifecycle_thread_local(void);
bool llama_otel_lifecycle_free_during_shutdown(int n_threads);
void llama_otel_lifecycle_leave_running(int n_threads);
double llama_otel_lifecycle_beside(bool is_shutdown, unsigned timeout_ms, double * waited);
void llama_otel_lifecycle_leave_flushing(unsigned timeout_ms);
}

using steady_clock = std::chrono::steady_clock;

static double seconds_since(steady_clock::time_point start) {
    return std::chrono::duration<double>(steady_clock::now() - start).count();
}

static void decode(int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        llama_otel_lifecycle_decode(i);
    }
}

static std::string json(bool value) { return value ? "true" : "false"; }

// resident bytes of this process; 0 where that cannot be asked
static long long resident() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmRSS:", 0) == 0) {
            return atoll(line.c_str() + 6) << 10;
        }
    }
    return 0;
}

// decodes for `length` seconds, `rate` times a second or without a pause (0); looks at the memory ten times
static std::string steady(double length, double rate) {
    const auto  start   = steady_clock::now();
    int64_t     n       = 0;
    int         looks   = 0;
    double      longest = 0;
    std::string memory;
    while (seconds_since(start) < length) {
        const auto begin = steady_clock::now();
        decode(100);
        longest = std::max(longest, seconds_since(begin));
        n += 100;
        if (seconds_since(start) > length * 0.1 * looks) {
            memory += (looks++ ? "," : "") + std::to_string(resident());
        }
        if (rate > 0) {
            std::this_thread::sleep_until(start + std::chrono::duration<double>((double) n / rate));
        }
    }
    const auto begin     = steady_clock::now();
    const bool delivered = llama_otel_shutdown(5000);
    return "\"spans\":" + std::to_string(n) + ",\"resident\":[" + memory + "],\"longest_seconds\":" + std::to_string(longest) +
           ",\"delivered\":" + json(delivered) + ",\"shutdown_seconds\":" + std::to_string(seconds_since(begin));
}

// so many threads that decode for `length` seconds
static std::string crowd(int n_threads, double length) {
    const auto               start = steady_clock::now();
    std::vector<std::thread> threads;
    for (int i = 0; i < n_threads; i++) {
        threads.emplace_back([&] {
            while (seconds_since(start) < length) {
                decode(10);
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
    return "\"delivered\":" + json(llama_otel_shutdown(5000));
}

#ifdef __unix__
// a child that goes on without exec, as a pre-forking server does
static std::string forked() {
    decode(10);
    const pid_t child = fork();
    if (child == 0) {
        llama_otel_lifecycle_start();
        decode(1000);
        exit(llama_otel_flush(3000) && !llama_otel_is_active() ? 7 : 8);
    }
    const auto start = steady_clock::now();
    int status = 0;
    waitpid(child, &status, 0);
    const double seconds = seconds_since(start);
    decode(10);
    return "\"child\":" + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1) + ",\"seconds\":" + std::to_string(seconds);
}
#endif

// two starts, two shutdowns, and a start after them
static std::string twice() {
    llama_otel_lifecycle_start();
    decode(10);
    const bool first  = llama_otel_shutdown(5000);
    const bool second = llama_otel_shutdown(5000);
    const bool off    = !llama_otel_is_active();
    decode(10); // nobody is there to take it
    llama_otel_lifecycle_start();
    llama_otel_lifecycle_start();
    decode(10);
    return "\"first\":" + json(first) + ",\"second\":" + json(second) + ",\"off\":" + json(off) + ",\"on\":" + json(llama_otel_is_active());
}

#ifdef __linux__
static std::string first_line(const std::filesystem::path & path) {
    std::string line;
    std::getline(std::ifstream(path) >> std::ws, line);
    return line;
}

// CPU nanoseconds of telemetry's threads, and how nice each is
static uint64_t cpu_ns(std::vector<int> & nice) {
    uint64_t total = 0;
    nice.clear();
    for (const auto & task : std::filesystem::directory_iterator("/proc/self/task")) {
        if (first_line(task.path() / "comm").rfind("llama-otel", 0) == 0) {
            total += strtoull(first_line(task.path() / "schedstat").c_str(), nullptr, 10);
            // the 19th field; the second, the name in parentheses, may hold spaces
            const std::string  stat = first_line(task.path() / "stat");
            std::istringstream fields(stat.substr(stat.rfind(')') + 1));
            std::string        field;
            for (int i = 0; i < 17; i++) {
                fields >> field;
            }
            nice.push_back(atoi(field.c_str()));
        }
    }
    return total;
}

// what the threads take in a second with nothing to do, after they have delivered something or failed to
static std::string idle() {
    decode(10);
    const bool delivered = llama_otel_flush(3000);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::vector<int> nice;
    const uint64_t before = cpu_ns(nice);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const uint64_t n = cpu_ns(nice) - before;
    std::string all;
    for (int one : nice) {
        all += (all.empty() ? "" : ",") + std::to_string(one);
    }
    return "\"delivered\":" + json(delivered) + ",\"cpu_ns\":" + std::to_string(n) + ",\"nice\":[" + all + "],\"own_nice\":" + std::to_string(getpriority(PRIO_PROCESS, 0));
}
#endif

static void exit_in_a_thread() {
    decode(10);
    std::thread([] {
        decode(10);
        printf("{}\n");
        exit(0);
    }).join();
}

static std::string losses() {
    std::string text;
    for (const char * signal : { "traces", "metrics", "logs" }) {
        for (const char * reason : { "ring_full", "thread_limit", "queue_full", "export_failed", "shutdown" }) {
            if (const uint64_t n = llama_otel_dropped(signal, reason)) {
                text += (text.empty() ? "\"" : ",\"") + std::string(signal) + "." + reason + "\":" + std::to_string(n);
            }
        }
    }
    return "\"dropped\":{" + text + "},\"active\":" + json(llama_otel_is_active());
}

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: lifecycle MODE [ARGUMENTS]\n");
        return 2;
    }
    const std::string mode     = argv[1];
    const auto        argument = [&](int i) { return i < argc ? argv[i] : ""; };
    llama_otel_lifecycle_start();
    std::string report;
    if (mode == "steady") {
        report = steady(atof(argument(2)), atof(argument(3)));
#ifdef __unix__
    } else if (mode == "fork") {
        report = forked();
#endif
#ifdef __linux__
    } else if (mode == "idle") {
        report = idle();
#endif
    } else if (mode == "threads") {
        report = crowd(atoi(argument(2)), atof(argument(3)));
    } else if (mode == "exit-in-thread") {
        exit_in_a_thread();
    } else if (mode == "exit-while-working") {
        llama_otel_lifecycle_leave_running(8);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    } else if (mode == "statics") {
        llama_otel_lifecycle_statics();
        llama_otel_lifecycle_thread_local();
    } else if (mode == "double") {
        report = twice();
    } else if (mode == "free-during-shutdown") {
        report = "\"delivered\":" + json(llama_otel_lifecycle_free_during_shutdown(8));
    } else if (mode == "beside-flush" || mode == "beside-shutdown") {
        decode(10);
        double       waited  = 0;
        const double seconds = llama_otel_lifecycle_beside(mode == "beside-shutdown", (unsigned) atoi(argument(2)), &waited);
        report = "\"seconds\":" + std::to_string(seconds) + ",\"waited\":" + std::to_string(waited);
    } else if (mode == "exit-while-flushing") {
        decode(10);
        llama_otel_lifecycle_leave_flushing((unsigned) atoi(argument(2)));
    } else if (mode == "decode") {
        decode(atoll(argument(2)));
    } else {
        fprintf(stderr, "no such mode: %s\n", mode.c_str());
        return 2;
    }
    printf("{%s%s%s}\n", report.c_str(), report.empty() ? "" : ",", losses().c_str());
    return 0;
}
