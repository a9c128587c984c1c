// A program without telemetry of its own that loads a plug-in with it and closes it again, three times. `host LIBRARY`

#include <chrono>
#include <cstdio>
#include <dlfcn.h>
#include <thread>

int main(int argc, char ** argv) {
    for (int i = 0; i < 3; i++) {
        void * library = dlopen(argc > 1 ? argv[1] : "", RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            fprintf(stderr, "%s\n", dlerror());
            return 3;
        }
        ((void (*)()) dlsym(library, "llama_otel_plugin"))();
        if (dlclose(library) != 0) {
            fprintf(stderr, "%s\n", dlerror());
            return 3;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    printf("{}\n");
    return 0;
}
