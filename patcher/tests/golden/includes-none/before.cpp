#if 0
#include <vector>
#endif
int f();
#include <map>
