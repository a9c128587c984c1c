#include <vector>
#include "common/otel/otel.h"
