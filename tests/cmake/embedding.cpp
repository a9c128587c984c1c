// Gives parents by W3C headers and switches telemetry while it runs, in the ways that otel-shim/tests/cases/embedding.rs asks
// for, each in a process of its own, as otel-shim/examples/embedding.rs does for the Rust backend. `embedding MODE` prints what
// was found out as one line of JSON.

#include "llama-otel.h"

#include <chrono>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

extern "C" {
void llama_otel_embedding_start();
void llama_otel_embedding_create(const char * context);
void llama_otel_embedding_decode(const char * context, const int32_t * seqs, int32_t n_seqs, bool ubatch);
void llama_otel_embedding_sample();
void llama_otel_embedding_free(const char * context);
}

// their addresses stand for contexts
static const char A[] = "a";
static const char B[] = "b";

static const llama_context * context_of(const char * context) { return (const llama_context *) (const void *) context; }

static void decode(const char * context, std::initializer_list<int32_t> seqs, bool ubatch) {
    llama_otel_embedding_decode(context, seqs.begin(), (int32_t) seqs.size(), ubatch);
}

static std::string parent(char digit, bool sampled = true) {
    return "00-" + std::string(32, digit) + "-" + std::string(16, digit) + (sampled ? "-01" : "-00");
}

static void give(const std::string & traceparent, const char * tracestate = nullptr, const char * baggage = nullptr) {
    llama_otel_set_traceparent(traceparent.c_str(), tracestate, baggage);
}

static void give_context(const char * context, char digit) {
    llama_otel_set_context_traceparent(context_of(context), parent(digit).c_str(), nullptr, nullptr);
}

static std::string json(bool value) { return value ? "true" : "false"; }

static void of_thread() {
    give(parent('1'), "vendor=x,other=y", "user=ann,tenant=blue%20sky,secret=1");
    decode(A, { 0 }, true);
    give("");
    decode(A, { 0 }, false);
    // another thread was given nothing
    give(parent('2'));
    std::thread([] { decode(B, { 0 }, false); }).join();
}

// one batch that the drain thread has seen before the process ends, and one that it has not
static void late() {
    give(parent('1'), "vendor=x");
    decode(A, { 0 }, false);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    decode(A, { 0 }, false);
}

static void of_contexts() {
    llama_otel_embedding_create(A);
    llama_otel_embedding_create(B);
    give_context(A, '1');
    give_context(B, '2');
    for (int i = 0; i < 2; i++) {
        for (const char * context : { A, B }) {
            decode(context, { 0, 1 }, true);
            llama_otel_embedding_sample();
        }
    }
    llama_otel_embedding_free(A);
    decode(A, { 0 }, false); // an address that none has any more
    llama_otel_embedding_free(B);
}

static void of_sequences() {
    llama_otel_embedding_create(A);
    give_context(A, '1');
    llama_otel_set_sequence_traceparent(context_of(A), 1, parent('2').c_str(), nullptr, nullptr);
    decode(A, { 0, 1 }, false);
    decode(A, { 1 }, true);
    llama_otel_embedding_free(A);
}

// the results of the calls
static std::string set_and_taken_away() {
    std::vector<uint32_t> results;
    const auto of_context = [&](const char * parent) {
        results.push_back(llama_otel_set_context_traceparent(context_of(A), parent, nullptr, nullptr));
    };
    const auto of_sequence = [&](const char * parent, const char * state, const char * baggage) {
        results.push_back(llama_otel_set_sequence_traceparent(context_of(A), 1, parent, state, baggage));
    };
    llama_otel_embedding_create(A);
    of_context(parent('1').c_str());
    of_sequence(parent('2').c_str(), "vendor=x", "user=ann");
    decode(A, { 0, 1 }, false);
    decode(A, { 1 }, true);
    of_sequence(parent('3').c_str(), "not a state", "");
    decode(A, { 1 }, false);
    of_sequence("00-malformed", "", "");
    decode(A, { 1 }, false); // its context's
    of_sequence(parent('2').c_str(), "", "");
    of_sequence(nullptr, "", "");
    decode(A, { 1 }, false); // the same
    of_context(nullptr);
    decode(A, { 1 }, false); // nobody's
    llama_otel_embedding_free(A);
    std::string all;
    for (uint32_t result : results) {
        all += (all.empty() ? "" : ",") + std::to_string(result);
    }
    return "[" + all + "]";
}

static void flags() {
    for (bool sampled : { false, true }) {
        give(parent(sampled ? '2' : '1', sampled));
        decode(A, { 0 }, true);
    }
}

static std::string switches() {
    std::string report;
    const auto note = [&](const char * what) {
        report += (report.empty() ? "[\"" : ",[\"") + std::string(what) + "\"," + std::to_string(llama_otel_get_detail()) + "," + json(llama_otel_is_active()) + "]";
    };
    const auto at = [&](uint32_t detail, const char * what) {
        llama_otel_set_detail(detail);
        decode(A, { 0 }, true);
        note(what);
    };
    note("started");
    decode(A, { 0 }, true);
    at(LLAMA_OTEL_DETAIL_REQUEST, "request");
    at(LLAMA_OTEL_DETAIL_OFF, "off");
    at(LLAMA_OTEL_DETAIL_OP, "op");
    const bool off = llama_otel_set_export(false);
    decode(A, { 0 }, true);
    note("paused");
    const bool flushed = llama_otel_flush(3000);
    const bool on      = llama_otel_set_export(true);
    note("on");
    decode(A, { 0 }, true);
    const bool flushed_again = llama_otel_flush(3000);
    return "{\"report\":[" + report + "],\"off\":" + json(off) + ",\"on\":" + json(on) + ",\"flushed\":" + json(flushed) + ",\"flushed_again\":" + json(flushed_again) +
           ",\"dropped\":" + std::to_string(llama_otel_dropped(nullptr, nullptr)) + "}";
}

// without any variable: off until the program asks for it
static std::string asked() {
    const bool before = llama_otel_is_active();
    const bool on     = llama_otel_set_export(true);
    decode(A, { 0 }, true);
    return "{\"before\":" + json(before) + ",\"on\":" + json(on) + ",\"active\":" + json(llama_otel_is_active()) + "}";
}

int main(int argc, char ** argv) {
    const std::string mode   = argc > 1 ? argv[1] : "";
    std::string       report = "null";
    llama_otel_embedding_start();
    if (mode == "thread") {
        of_thread();
    } else if (mode == "late") {
        late();
    } else if (mode == "contexts") {
        of_contexts();
    } else if (mode == "sequences") {
        of_sequences();
    } else if (mode == "sequences_in_c") {
        report = set_and_taken_away();
    } else if (mode == "flags") {
        flags();
    } else if (mode == "switches") {
        report = switches();
    } else if (mode == "asked") {
        report = asked();
    } else {
        fprintf(stderr, "usage: embedding MODE\n");
        return 2;
    }
    printf("%s\n", report.c_str());
    return 0;
}
