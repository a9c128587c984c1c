// an older header
#ifndef CASE_H
#define CASE_H

/* #include <map> */
#include <vector>

extern "C" {
#include <stddef.h>
}
#endif
