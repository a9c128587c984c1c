#pragma once

#include <cstddef> // for size_t
#include <vector>
#include "common/otel/otel.h"

#ifdef __linux__
#include <unistd.h>
#endif

int f(size_t n);
#define LATE "late.inc"
