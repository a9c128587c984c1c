#include <exception>
static void log_error(const char * s) { (void) s; }
int load(int n) {
    try {
        if (n) {
            throw 1;
        }
    } catch (const std::exception & err) {
        log_error(err.what());
        LLAMA_OTEL_SPAN("f");
        return -1;
    }
    return 0;
}
