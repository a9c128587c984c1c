#include <functional>
struct hybrid {
    std::function<bool(int)> a;
    std::function<bool(int)> b;
    hybrid(int filter);
};
hybrid::hybrid(int filter) :
    a([&](int il) { return il == 0; }),
    b(filter == 0 ? std::function<bool(int)>([&](int il) {
        return il > 0;
    }) : nullptr) {
    LLAMA_OTEL_SPAN(filter);
    a(0);
}
