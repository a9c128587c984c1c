#define API __attribute__((visibility("default")))
#define NORETURN [[noreturn]]
#define FORMAT(a, b) __attribute__((format(printf, a, b)))
FORMAT(1, 2)
API void log_line(const char * format, ...);
NORETURN void stop(int code);
API __attribute__((noinline)) int decode(int n) __attribute__((aligned(64)));
API
__attribute__((noinline))
int decode([[maybe_unused]] int n) {
    LLAMA_OTEL_SPAN(n);
    return n;
}
