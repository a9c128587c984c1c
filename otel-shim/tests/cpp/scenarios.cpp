// What a patched llama.cpp would do, in small: called by examples/scenario.rs, observed by tests/export.rs through a receiver.

#include "otel.h"

#include <stdexcept>
#include <thread>
#include <vector>

enum color : int { GREEN = 7 };

static void nested() {
    LLAMA_OTEL_SPAN("llama_model_load");
    LLAMA_OTEL_ADD_ATTRIBUTES("a.bool", true, "a.int", -3, "a.unsigned", 18446744073709551615ull, "a.double", 0.5, "a.enum", GREEN);
    LLAMA_OTEL_ADD_ATTRIBUTES("a.literal", "text", "a.string", std::string("string"), "a.null", (const char *) nullptr);
    {
        LLAMA_OTEL_SPAN("llama_model_load.hparams");
        LLAMA_OTEL_SPAN("llama_model_load.vocab"); // two in one scope
        LLAMA_OTEL_ADD_ATTRIBUTE("inner", 1);
    }
    LLAMA_OTEL_ADD_ATTRIBUTE("after", std::string_view("outer again"));
    LLAMA_OTEL_RECORD_MODEL_LOAD_TIME(0.25);
    LLAMA_OTEL_INCREMENT_TOKENS(3);
    LLAMA_OTEL_INCREMENT_TOKENS(4);
    LLAMA_OTEL_RECORD_BATCH_SIZE(12);
    LLAMA_OTEL_RECORD_TOKEN_TIME(0.004);
    LLAMA_OTEL_RECORD_MEMORY_USAGE(1024);
}

static void errors() {
    try {
        LLAMA_OTEL_SPAN("llama_model_load");
        throw std::runtime_error("not caught inside");
    } catch (const std::exception &) {
    }
    {
        LLAMA_OTEL_SPAN("llama_init_from_model");
        LLAMA_OTEL_SET_ERROR("init_failed", "first");
        LLAMA_OTEL_SET_ERROR("init_failed", "second");
    }
    for (int code : { 1, 2, -1, -2, -3 }) {
        LLAMA_OTEL_SPAN("llama_decode");
        LLAMA_OTEL_SET_DECODE_STATUS(code);
    }
    for (int status : { -2, -1, 1, 0 }) {
        LLAMA_OTEL_SPAN("llama_encode");
        LLAMA_OTEL_SET_GGML_STATUS(status);
    }
}

static void levels() {
    LLAMA_OTEL_SPAN("llama_decode");
    {
        LLAMA_OTEL_SPAN_AT(OP, "llama_ubatch");
        LLAMA_OTEL_ADD_ATTRIBUTE("must.not.reach.the.outer", 1);
    }
    {
        LLAMA_OTEL_SPAN_TIMED(DECODE, "llama_sample_token", LLAMA_SAMPLER_DURATION);
        LLAMA_OTEL_SPAN_ONCE(DECODE, "llama_sample_token", LLAMA_SAMPLER_DURATION);
    }
    LLAMA_OTEL_SPAN_EXPORT_IF(false);
}

static void private_path() {
    const std::string path = "/home/somebody/secret models/tiny.gguf";
    LLAMA_OTEL_SPAN("llama_model_load");
    LLAMA_OTEL_PRIVATE_PATH(path);
    LLAMA_OTEL_SET_ERROR("load_failed", "failed to open " + path + ": no such file");
}

static void hostile() {
    LLAMA_OTEL_SPAN("llama_model_load");
    LLAMA_OTEL_ADD_ATTRIBUTE("long", std::string(10 << 20, 'x'));
    LLAMA_OTEL_ADD_ATTRIBUTE("control", "a\nb\x1b[31m\"'</script>");
    LLAMA_OTEL_ADD_ATTRIBUTE("invalid", std::string("\xff\xfe ok"));
    for (int i = 0; i < 100; i++) {
        LLAMA_OTEL_ADD_ATTRIBUTE("again", i);
    }
    LLAMA_OTEL_ADD_ATTRIBUTES("1", 1, "2", 2, "3", 3, "4", 4, "5", 5, "6", 6, "7", 7, "8", 8, "9", 9, "10", 10, "11", 11, "12", 12, "13", 13, "14", 14, "15", 15);
    LLAMA_OTEL_ADD_ATTRIBUTES("16", 1, "17", 2, "18", 3, "19", 4, "20", 5, "21", 6, "22", 7, "23", 8, "24", 9, "25", 10, "26", 11, "27", 12, "28", 13, "29", 14, "30", 15);
}

static void burst(int n) {
    for (int i = 0; i < n; i++) {
        LLAMA_OTEL_SPAN("llama_decode");
        LLAMA_OTEL_ADD_ATTRIBUTES("i", i, "x", 0.5, "b", true, "s", "text");
        LLAMA_OTEL_INCREMENT_TOKENS(1);
    }
}

static void threads() {
    std::vector<std::thread> all;
    for (int i = 0; i < 8; i++) {
        all.emplace_back([i] {
            for (int j = 0; j < 50; j++) {
                LLAMA_OTEL_SPAN("llama_decode");
                LLAMA_OTEL_ADD_ATTRIBUTE("thread", i);
                LLAMA_OTEL_SPAN("llama_ubatch");
                LLAMA_OTEL_ADD_ATTRIBUTE("thread", i);
            }
        });
    }
    for (auto & thread : all) {
        thread.join();
    }
}

// buffers by address; a request for one may be fulfilled by one of another type, or not at all
static void memory() {
    static const char buffers[4] = {};
    {
        LLAMA_OTEL_MEMORY_KIND("model");
        llama_otel_buffer_allocated(&buffers[0], "CPU", 1000);
        const llama_otel_allocation outer("CPU_REPACK", 500);
        const llama_otel_allocation inner("CPU", 500);
        llama_otel_buffer_allocated(&buffers[1], "CPU", 500);
    }
    {
        LLAMA_OTEL_MEMORY_KIND("kv");
        llama_otel_buffer_allocated(&buffers[2], "CPU", 200);
        LLAMA_OTEL_MEMORY_KIND(""); // made of others
        llama_otel_buffer_allocated(&buffers[3], "CPU", 200);
    }
    llama_otel_buffer_freed(&buffers[2]);
    llama_otel_buffer_freed(&buffers[2]);
    llama_otel_buffer_allocated(&buffers[2], "CPU", 300);
    llama_otel_buffer_freed(&buffers[3]);
    LLAMA_OTEL_SPAN("llama_init_from_model");
    const llama_otel_allocation failed("CPU", 7000);
}

// what variables decide in the runtime
static void variables() {
    llama_otel_set_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", nullptr, "user=7,secret=8");
    {
        LLAMA_OTEL_SPAN("llama_decode");
        LLAMA_OTEL_ADD_ATTRIBUTES("callback.free", llama_otel_ops_by_callback(true, true), "callback.costly", llama_otel_ops_by_callback(true, false));
        LLAMA_OTEL_ADD_ATTRIBUTE("path", llama_otel_path_wanted());
        llama_otel_ops_by_callback(false, false);
    }
    llama_otel_set_traceparent(nullptr, nullptr, nullptr);
}

enum { GGML_LOG_LEVEL_WARN = 3, GGML_LOG_LEVEL_ERROR = 4 };

static void logs() {
    LLAMA_OTEL_LOG(GGML_LOG_LEVEL_ERROR, "before any span\n");
    LLAMA_OTEL_SPAN("llama_model_load");
    LLAMA_OTEL_LOG(GGML_LOG_LEVEL_WARN, "no error");
    for (const char * text : {
             "init: invalid token[3] = 4711\n",
             "3 tokens of 16, token id 99, reason: no token = 5 (line 7)",
             "failed to open '/home/some body/secret models/a.gguf': No such file",
             "failed to open /home/some body/secret models/b.gguf: No such file",
             "failed to open C:\\Users\\me\\c.gguf: No such file",
             "cannot read ../up/d.bin",
             "cannot read \"~/e.bin\" and models/sub/f.bin",
             "a/b; 5 tok/s",
             "",
         }) {
        LLAMA_OTEL_LOG(GGML_LOG_LEVEL_ERROR, text);
    }
    {
        LLAMA_OTEL_SPAN_AT(OP, "llama_ubatch");
        llama_otel_event("llama.device", "llama.device.name", "CPU");
    }
}

static void slow() {
    int context = 0;
    llama_otel_new_context(&context, nullptr, "tiny", 512);
    llama_otel_batch_view batch = {};
    batch.n_tokens  = 8;
    batch.n_outputs = 1;
    {
        LLAMA_OTEL_SPAN("llama_decode");
        llama_otel_batch(&context, batch);
    }
    batch.n_tokens = 1;
    for (int i = 0; i < 40; i++) {
        LLAMA_OTEL_SPAN("llama_decode");
        llama_otel_batch(&context, batch);
        std::this_thread::sleep_for(std::chrono::milliseconds(i == 30 ? 200 : 2));
    }
}

// returns false if there is no such scenario
extern "C" bool llama_otel_scenario(const char * name) {
    llama_otel_start();
    const std::string scenario = name;
    if      (scenario == "nested")       { nested(); }
    else if (scenario == "errors")       { errors(); }
    else if (scenario == "levels")       { levels(); }
    else if (scenario == "private_path") { private_path(); }
    else if (scenario == "hostile")      { hostile(); }
    else if (scenario == "burst")        { burst(200000); }
    else if (scenario == "threads")      { threads(); }
    else if (scenario == "memory")       { memory(); }
    else if (scenario == "logs")         { logs(); }
    else if (scenario == "failing")      { errors(); logs(); }
    else if (scenario == "slow")         { slow(); }
    else if (scenario == "variables")    { variables(); }
    else if (scenario == "nothing")      { }
    else                                 { return false; }
    return true;
}

extern "C" bool llama_otel_scenario_flush(unsigned timeout_ms) { return llama_otel_flush(timeout_ms); }
extern "C" bool llama_otel_scenario_shutdown(unsigned timeout_ms) { return llama_otel_shutdown(timeout_ms); }
