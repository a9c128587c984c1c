// an older header
#ifndef CASE_H
#define CASE_H

/* #include <map> */
#include <vector>
#include "common/otel/otel.h"

extern "C" {
#include <stddef.h>
}
#endif
