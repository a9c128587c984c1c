#include "origin.h"

#include "registry.h"

#include "opentelemetry/sdk/resource/resource_detector.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#ifdef _WIN32
#    include <process.h>
#    define getpid _getpid
#else
#    include <unistd.h>
#endif

namespace llama_otel_cpp {

namespace resource = otel::sdk::resource;

namespace {

// The SDK's own detector reads the environment once for the whole process, and older ones do not decode what they read.
class detector : public resource::ResourceDetector {
public:
    explicit detector(resource::ResourceAttributes attributes) : attributes(std::move(attributes)) {}

    resource::Resource Detect() noexcept override { return Create(attributes, SCHEMA_URL); }

private:
    resource::ResourceAttributes attributes;
};

// the file name of the program, empty if the system does not tell
std::string program_name() {
#if defined(__GLIBC__)
    return program_invocation_short_name;
#elif defined(__APPLE__) || defined(__FreeBSD__)
    return getprogname();
#else
    return "";
#endif
}

std::string host_name() {
#ifdef _WIN32
    const char * name = std::getenv("COMPUTERNAME");
    return name ? name : "";
#else
    char name[256] = {};
    return gethostname(name, sizeof(name) - 1) == 0 ? name : "";
#endif
}

// the conventions' names of architectures and systems
constexpr const char * host_arch() {
#if defined(__x86_64__) || defined(_M_X64)
    return "amd64";
#elif defined(__i386__) || defined(_M_IX86)
    return "x86";
#elif defined(__aarch64__) || defined(_M_ARM64)
    return "arm64";
#elif defined(__arm__)
    return "arm32";
#elif defined(__powerpc64__)
    return "ppc64";
#elif defined(__s390x__)
    return "s390x";
#elif defined(__riscv)
    return "riscv64";
#else
    return "unknown";
#endif
}

constexpr const char * os_type() {
#if defined(_WIN32)
    return "windows";
#elif defined(__APPLE__)
    return "darwin";
#elif defined(__FreeBSD__)
    return "freebsd";
#else
    return "linux";
#endif
}

std::vector<std::string> words(const std::string & text) {
    std::vector<std::string> all;
    for (size_t at = 0; at < text.size();) {
        const size_t comma = std::min(text.find(',', at), text.size());
        if (comma > at) {
            all.push_back(text.substr(at, comma - at));
        }
        at = comma + 1;
    }
    return all;
}

bool is_commit(const std::string & text) {
    return text.size() >= 7 && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c); });
}

} // namespace

std::shared_ptr<const origin> make_origin(const llama_otel_control & control, const config & config) {
    resource::ResourceAttributes attributes;
    const std::string            program = program_name();
    attributes["service.name"]  = program.empty() ? "unknown_service" : "unknown_service:" + program;
    attributes["llama.version"] = std::string(control.llama_version);
    attributes["ggml.version"]  = std::string(control.ggml_version);
    attributes["ggml.backends"] = words(control.ggml_backends);
    attributes["process.pid"]   = (int64_t) getpid();
    attributes["host.arch"]     = std::string(host_arch());
    attributes["os.type"]       = std::string(os_type());
    if (const std::string host = host_name(); !host.empty()) {
        attributes["host.name"] = host;
    }
    if (!program.empty()) {
        attributes["process.executable.name"] = program;
    }
    const std::string commit = control.llama_commit;
    constexpr std::string_view DIRTY = "-dirty";
    const bool is_dirty = commit.size() > DIRTY.size() && commit.compare(commit.size() - DIRTY.size(), DIRTY.size(), DIRTY) == 0;
    if (is_commit(is_dirty ? commit.substr(0, commit.size() - DIRTY.size()) : commit)) {
        attributes["llama.commit"] = commit;
    } else if (commit != "unknown") {
        // a tree that does not know its commit is stamped with what it was obtained from
        attributes["llama.pin"] = commit;
    }
    if (control.llama_build_number > 0) {
        attributes["llama.build.number"] = (int64_t) control.llama_build_number;
    }
    // what the environment says stands
    for (const auto & given : config.resource) {
        attributes[given.first] = given.second;
    }
    return std::make_shared<const origin>(origin{
        resource::Resource::GetDefault().Merge(detector(std::move(attributes)).Detect()),
        otel::sdk::instrumentationscope::InstrumentationScope::Create("llama.cpp", control.llama_version, SCHEMA_URL),
    });
}

} // namespace llama_otel_cpp
