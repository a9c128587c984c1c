#pragma once

// Whose telemetry it is: the resource and the instrumentation scope.

#include "environment.h"
#include "exporters.h"

#include <memory>

namespace llama_otel_cpp {

std::shared_ptr<const origin> make_origin(const llama_otel_control & control, const config & config);

} // namespace llama_otel_cpp
