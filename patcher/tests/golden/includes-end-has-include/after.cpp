#include <cstdio>
#include "common/otel/otel.h"

#ifdef __has_include
    #if __has_include(<unistd.h>)
        #include <unistd.h>
        #if defined(_POSIX_MAPPED_FILES)
            #include <sys/mman.h>
        #endif
    #endif
#endif

int f() {
    return 0;
}
#include <climits>
