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
    a(0);
}
