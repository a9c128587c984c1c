// `hot`: the loops of hot.cpp in a program without Rust, with the backend upon opentelemetry-cpp registered. What `bench-hot`
// does for the Rust backend, command for command, so that the two can take turns: see bench/src/hot/answer.rs, sustain.rs, threads.rs.
// Built by tests/cmake.

#include "otel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace fs = std::filesystem;
using steady = std::chrono::steady_clock;

static thread_local uint64_t n_allocations = 0;

extern "C" {
void llama_otel_bench_allocated() { n_allocations++; }
void llama_otel_bench_start();
void llama_otel_bench_empty(uint64_t n);
void llama_otel_bench_span(uint64_t n);
void llama_otel_bench_span_not_sampled(uint64_t n);
void llama_otel_bench_span_with_attributes(uint64_t n);
void llama_otel_bench_attributes(uint64_t n);
void llama_otel_bench_metric(uint64_t n);
void llama_otel_bench_metric_with_attribute(uint64_t n);
}

namespace {

// the same numbers as in bench/src/hot/work.rs and compare.rs
constexpr uint64_t WARM_UP    = 40;
constexpr uint64_t UNRECORDED = 20000;
constexpr uint64_t RECORDED   = 400;

struct work {
    const char * name;
    void (*      run)(uint64_t);
    uint32_t     detail;
    uint64_t     block;
};

constexpr work ALL[] = {
    { "off.span", llama_otel_bench_span, LLAMA_OTEL_DETAIL_OFF, UNRECORDED },
    { "off.attributes", llama_otel_bench_attributes, LLAMA_OTEL_DETAIL_OFF, UNRECORDED },
    { "off.metric", llama_otel_bench_metric, LLAMA_OTEL_DETAIL_OFF, UNRECORDED },
    { "span_not_sampled", llama_otel_bench_span_not_sampled, LLAMA_OTEL_DETAIL_DECODE, UNRECORDED },
    { "span", llama_otel_bench_span, LLAMA_OTEL_DETAIL_DECODE, RECORDED },
    { "span_with_attributes", llama_otel_bench_span_with_attributes, LLAMA_OTEL_DETAIL_DECODE, RECORDED },
    { "metric", llama_otel_bench_metric, LLAMA_OTEL_DETAIL_DECODE, RECORDED },
    { "metric_with_attribute", llama_otel_bench_metric_with_attribute, LLAMA_OTEL_DETAIL_DECODE, RECORDED },
};

double seconds_since(steady::time_point start) {
    return std::chrono::duration<double>(steady::now() - start).count();
}

void flush() { llama_otel_flush(5000); }

std::string first_word(const fs::path & path) {
    std::string word;
    std::ifstream(path) >> word;
    return word;
}

// CPU nanoseconds of telemetry's threads so far, and the least nice value among them; Linux only
uint64_t telemetry_cpu_ns(int * nice = nullptr) {
    uint64_t        total = 0;
    std::error_code absent;
    for (const auto & task : fs::directory_iterator("/proc/self/task", absent)) {
        if (first_word(task.path() / "comm").rfind("llama-otel", 0) != 0) {
            continue;
        }
        total += strtoull(first_word(task.path() / "schedstat").c_str(), nullptr, 10);
        std::string line;
        std::getline(std::ifstream(task.path() / "stat") >> std::ws, line);
        // the second field, the name, may hold spaces; the nice value is the 19th
        std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
        std::string        field;
        for (int i = 0; i < 17; i++) {
            fields >> field;
        }
        if (nice) {
            *nice = std::min(*nice, atoi(field.c_str()));
        }
    }
    return total;
}

size_t count(const char * folder, const char * target) {
    size_t          n = 0;
    std::error_code absent;
    for (const auto & entry : fs::directory_iterator(folder, absent)) {
        const std::string name = target ? fs::read_symlink(entry.path(), absent).string() : "";
        n += !target || name.rfind(target, 0) == 0;
    }
    return n;
}

const work * find(const std::string & name) {
    const auto * it = std::find_if(std::begin(ALL), std::end(ALL), [&](const work & one) { return name == one.name; });
    return it == std::end(ALL) ? nullptr : it;
}

// nanoseconds per operation of one block
double time_block(const work & work) {
    llama_otel_set_detail(work.detail);
    work.run(WARM_UP);
    const auto   start = steady::now();
    work.run(work.block);
    const double ns = seconds_since(start) * 1e9 / (double) work.block;
    if (work.detail != LLAMA_OTEL_DETAIL_OFF) {
        flush();
    }
    return ns;
}

// allocations of a block on the calling thread, which has recorded before
uint64_t allocations(const work & work) {
    llama_otel_set_detail(work.detail);
    work.run(1);
    const uint64_t before = n_allocations;
    work.run(work.block);
    const uint64_t n = n_allocations - before;
    flush();
    return n;
}

int answer() {
    puts("ready");
    fflush(stdout);
    for (std::string verb, name; std::cin >> verb >> name;) {
        const work * work = find(name);
        if (!work || (verb != "block" && verb != "allocations")) {
            fprintf(stderr, "hot: no such order: %s %s\n", verb.c_str(), name.c_str());
            return 2;
        }
        if (verb == "block") {
            printf("%f\n", time_block(*work));
        } else {
            printf("%llu\n", (unsigned long long) allocations(*work));
        }
        fflush(stdout);
    }
    fprintf(stderr, "%s", llama_otel_dropped(nullptr, nullptr) ? "hot: records were dropped, so the figures are too good\n" : "");
    return 0;
}

// of the calling thread so far; of the clock where the system does not tell
uint64_t thread_cpu_ns() {
#ifdef CLOCK_THREAD_CPUTIME_ID
    timespec time = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t) time.tv_sec * 1000000000 + (uint64_t) time.tv_nsec;
#else
    return (uint64_t) std::chrono::nanoseconds(steady::now().time_since_epoch()).count();
#endif
}

// the cost of a span on each of one, two and eight threads that record at the same time, in CPU time of the thread
int threads(uint64_t rounds) {
    constexpr size_t   COUNTS[] = { 1, 2, 8 };
    constexpr size_t   MOST     = 8;
    constexpr uint64_t BLOCK    = 600;
    llama_otel_set_detail(LLAMA_OTEL_DETAIL_DECODE);

    std::mutex              mutex;
    std::condition_variable changed;
    uint64_t                turn = 0;
    size_t                  n = 0, finished = 0; // n: threads of this turn; 0 ends
    std::vector<double>     samples[std::size(COUNTS)], * into = nullptr;
    std::atomic<size_t>     ready{ 0 };
    std::atomic<bool>       go{ false };

    const auto next_turn = [&](size_t n_threads, std::vector<double> * to) {
        std::lock_guard<std::mutex> lock(mutex);
        n        = n_threads;
        into     = to;
        finished = 0;
        ready    = 0;
        go       = false;
        turn++;
        changed.notify_all();
    };
    const auto record = [&](size_t index) {
        for (uint64_t seen = 0;;) {
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, [&] { return turn != seen; });
            seen                = turn;
            const size_t wanted = n;
            lock.unlock();
            if (wanted == 0) {
                return;
            }
            double ns = 0;
            if (index < wanted) {
                llama_otel_bench_span_with_attributes(WARM_UP);
                ready++;
                while (!go) {
                    // with a core for each they start at once; without, the others must come to this point too
                    std::this_thread::yield();
                }
                const uint64_t before = thread_cpu_ns();
                llama_otel_bench_span_with_attributes(BLOCK);
                ns = (double) (thread_cpu_ns() - before) / (double) BLOCK;
            }
            lock.lock();
            if (index < wanted) {
                into->push_back(ns);
            }
            finished++;
            changed.notify_all();
        }
    };
    std::vector<std::thread> workers;
    for (size_t index = 0; index < MOST; index++) {
        workers.emplace_back(record, index);
    }
    for (uint64_t round = 0; round < rounds; round++) {
        for (size_t which = 0; which < std::size(COUNTS); which++) {
            next_turn(COUNTS[which], &samples[which]);
            while (ready < COUNTS[which]) {
                std::this_thread::yield();
            }
            go = true;
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, [&] { return finished == MOST; });
            lock.unlock();
            flush();
        }
    }
    next_turn(0, nullptr);
    for (std::thread & worker : workers) {
        worker.join();
    }
    printf("{\"figures\":{");
    for (size_t which = 0; which < std::size(COUNTS); which++) {
        std::vector<double> & all = samples[which];
        std::sort(all.begin(), all.end());
        printf("%s\"%zu\":%f", which ? "," : "", COUNTS[which], all.at(all.size() / 2));
    }
    printf("},\"dropped\":%llu}\n", (unsigned long long) llama_otel_dropped(nullptr, nullptr));
    return 0;
}

int sustain(uint64_t rate, uint64_t seconds) {
    constexpr uint64_t TICKS_PER_SECOND = 1000;
    constexpr auto     TICK             = std::chrono::milliseconds(1000 / TICKS_PER_SECOND);
    llama_otel_set_detail(LLAMA_OTEL_DETAIL_DECODE);
    // connections are opened: that is not the cost of a span
    llama_otel_bench_span_with_attributes(1);
    flush();
    const uint64_t before   = telemetry_cpu_ns();
    const auto     start    = steady::now();
    const uint64_t total    = rate * seconds;
    const uint64_t most     = 2 * rate / TICKS_PER_SECOND + 1;
    uint64_t       recorded = 0;
    while (recorded < total) {
        const auto     tick   = steady::now();
        const uint64_t wanted = (uint64_t) (seconds_since(start) * (double) rate) + 1;
        const uint64_t n      = std::min({ wanted > recorded ? wanted - recorded : 0, total - recorded, most });
        llama_otel_bench_span_with_attributes(n);
        recorded += n;
        std::this_thread::sleep_until(tick + TICK);
    }
    const double elapsed   = seconds_since(start);
    const bool   delivered = llama_otel_flush(10000);
    int          nice      = 99;
    const auto   cpu       = telemetry_cpu_ns(&nice) - before;
    printf("{\"recorded\":%llu,\"seconds\":%f,\"cpu_ns\":%llu,\"delivered\":%s,\"dropped\":{\"all\":%llu},\"threads\":[{\"nice\":%d}]}\n",
           (unsigned long long) recorded, elapsed, (unsigned long long) cpu, delivered ? "true" : "false",
           (unsigned long long) llama_otel_dropped(nullptr, nullptr), nice);
    return 0;
}

int idle(uint64_t seconds) {
    llama_otel_bench_span_with_attributes(1);
    flush();
    std::this_thread::sleep_for(std::chrono::seconds(1));
    const uint64_t before = telemetry_cpu_ns();
    std::this_thread::sleep_for(std::chrono::seconds(seconds));
    printf("{\"seconds\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long) seconds, (unsigned long long) (telemetry_cpu_ns() - before));
    return 0;
}

// with no OTEL_* variable set
int off() {
    llama_otel_bench_start();
    const uint64_t before = n_allocations;
    for (const work & work : ALL) {
        if (work.detail == LLAMA_OTEL_DETAIL_OFF) {
            work.run(UNRECORDED);
        }
    }
    const uint64_t n = n_allocations - before;
    printf("{\"active\":%s,\"allocations\":%llu,\"threads\":%zu,\"sockets\":%zu}\n", llama_otel_is_active() ? "true" : "false",
           (unsigned long long) n, count("/proc/self/task", nullptr) - 1, count("/proc/self/fd", "socket:"));
    return 0;
}

} // namespace

int main(int argc, char ** argv) {
    const std::string verb   = argc > 1 ? argv[1] : "";
    const auto        number = [&](int i) { return i < argc ? strtoull(argv[i], nullptr, 10) : 0; };
    if (verb == "off") {
        return off();
    }
    llama_otel_bench_start();
    if (!llama_otel_is_active()) {
        fprintf(stderr, "hot: no telemetry: set OTEL_EXPORTER_OTLP_ENDPOINT\n");
        return 1;
    }
    if (verb == "answer") {
        return answer();
    }
    if (verb == "threads" && number(2)) {
        return threads(number(2));
    }
    if (verb == "sustain" && number(2) && number(3)) {
        return sustain(number(2), number(3));
    }
    if (verb == "idle" && number(2)) {
        return idle(number(2));
    }
    fprintf(stderr, "usage: hot answer | off | threads ROUNDS | sustain SPANS_PER_SECOND SECONDS | idle SECONDS\n");
    return 2;
}
