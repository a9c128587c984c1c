#ifndef _GNU_SOURCE
#    define _GNU_SOURCE // dladdr
#endif

#include "process.h"

#include <atomic>
#include <cstdlib>

#if defined(__unix__) || defined(__APPLE__)
#    include <dlfcn.h>
#    include <pthread.h>
#    define LLAMA_OTEL_UNIX
#endif
#ifdef __linux__
#    include <sys/prctl.h>
#    include <sys/resource.h>
#endif
#ifdef __APPLE__
#    include <pthread/qos.h>
#endif

namespace llama_otel_cpp {

namespace {

std::atomic<bool>                 forked{ false };
std::atomic<llama_otel_control *> shared_control{ nullptr };
std::atomic<void (*)()>           exit_handler{ nullptr };

#ifdef LLAMA_OTEL_UNIX
void in_child() {
    forked.store(true, std::memory_order_relaxed);
    if (llama_otel_control * control = shared_control.load()) {
        control->detail.store(LLAMA_OTEL_DETAIL_OFF, std::memory_order_relaxed);
    }
}

void stay_loaded() {
    Dl_info info;
    if (dladdr((void *) &is_forked, &info) != 0) {
        // for the main program this finds nothing to do
        dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    }
}
#endif

} // namespace

bool is_forked() {
    return forked.load(std::memory_order_relaxed);
}

void prepare_process(llama_otel_control & control, void (*at_exit)()) {
    shared_control.store(&control);
    if (exit_handler.exchange(at_exit)) {
        return;
    }
    std::atexit(at_exit);
#ifdef LLAMA_OTEL_UNIX
    pthread_atfork(nullptr, nullptr, in_child);
    stay_loaded();
#endif
}

void give_way(const char * end) {
    const std::string name = (THREADS + std::string(end)).substr(0, 15); // a system takes no more
#ifdef __linux__
    constexpr int NICER = 5;
    prctl(PR_SET_NAME, name.c_str(), 0, 0, 0);
    // 0 is the calling thread, not its process
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICER);
#elif defined(__APPLE__)
    pthread_setname_np(name.c_str());
    pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#else
    (void) name;
#endif
}

std::string thread_name() {
#ifdef __linux__
    char name[16] = {};
    return prctl(PR_GET_NAME, name, 0, 0, 0) == 0 ? name : "";
#else
    return "";
#endif
}

void prepare_exit_again() {
    static std::atomic<int> n_times{ 0 };
    if (auto * handler = exit_handler.load(); handler && n_times.fetch_add(1) < 8) {
        std::atexit(handler);
    }
}

} // namespace llama_otel_cpp
