# The telemetry backend upon opentelemetry-cpp, LLAMA_OTEL_BACKEND=cpp. Needs opentelemetry-cpp 1.19 or newer, either
# installed (find_package) or as a source folder that is built along:
#
#   OPENTELEMETRY_CPP_SOURCE_DIR   a checkout of opentelemetry-cpp
#   OTELCPP_PROTO_PATH             a checkout of opentelemetry-proto; without it opentelemetry-cpp downloads one

set(OPENTELEMETRY_CPP_SOURCE_DIR "" CACHE PATH "source folder of opentelemetry-cpp to build along (empty: an installed one is used)")

if (CMAKE_VERSION VERSION_LESS 3.24)
    message(FATAL_ERROR "LLAMA_OTEL_BACKEND=cpp needs CMake 3.24 or newer; this is ${CMAKE_VERSION}")
endif()

# Static and without what we do not use. The options were renamed after 1.28.
function(llama_otel_add_opentelemetry_cpp)
    set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
    set(BUILD_SHARED_LIBS OFF)
    set(BUILD_TESTING OFF)
    set(CMAKE_POSITION_INDEPENDENT_CODE ON)
    foreach (prefix "" OTELCPP_)
        set(${prefix}BUILD_TESTING OFF)
        set(${prefix}OPENTELEMETRY_INSTALL OFF)
        set(${prefix}WITH_OTLP_HTTP ON)
        foreach (part EXAMPLES BENCHMARK FUNC_TESTS OTLP_FILE ZIPKIN PROMETHEUS ELASTICSEARCH OPENTRACING ETW)
            set(${prefix}WITH_${part} OFF)
        endforeach()
        if (NOT DEFINED ${prefix}WITH_OTLP_GRPC)
            set(${prefix}WITH_OTLP_GRPC OFF)
        endif()
    endforeach()
    set(OPENTELEMETRY_INSTALL OFF)
    add_subdirectory("${OPENTELEMETRY_CPP_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/opentelemetry-cpp" EXCLUDE_FROM_ALL)
endfunction()

if (OPENTELEMETRY_CPP_SOURCE_DIR)
    if (NOT EXISTS "${OPENTELEMETRY_CPP_SOURCE_DIR}/sdk/CMakeLists.txt")
        message(FATAL_ERROR "OPENTELEMETRY_CPP_SOURCE_DIR=${OPENTELEMETRY_CPP_SOURCE_DIR}: that is no source folder of opentelemetry-cpp")
    endif()
    llama_otel_add_opentelemetry_cpp()
else()
    # the libraries are linked by targets of other folders, programs for one
    set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
    find_package(opentelemetry-cpp CONFIG QUIET)
    if (NOT opentelemetry-cpp_FOUND)
        message(FATAL_ERROR
            "LLAMA_OTEL_BACKEND=cpp: opentelemetry-cpp was not found ${opentelemetry-cpp_NOT_FOUND_MESSAGE}\n"
            "Install it (Debian: the package opentelemetry-cpp-dev with libabsl-dev libprotobuf-dev protobuf-compiler libcurl4-openssl-dev "
            "nlohmann-json3-dev libgrpc++-dev protobuf-compiler-grpc), name its folder with -DCMAKE_PREFIX_PATH=…, or build it along with "
            "-DOPENTELEMETRY_CPP_SOURCE_DIR=… and -DOTELCPP_PROTO_PATH=…")
    endif()
    if (OPENTELEMETRY_VERSION AND OPENTELEMETRY_VERSION VERSION_LESS 1.19)
        message(FATAL_ERROR "LLAMA_OTEL_BACKEND=cpp needs opentelemetry-cpp 1.19 or newer; ${opentelemetry-cpp_DIR} is ${OPENTELEMETRY_VERSION}")
    endif()
endif()

# `out` gets the target of an installed opentelemetry-cpp, or that of its source folder, or nothing
function(llama_otel_find_target out)
    set(${out} "" PARENT_SCOPE)
    foreach (target ${ARGN})
        if (TARGET ${target})
            set(${out} ${target} PARENT_SCOPE)
            return()
        endif()
    endforeach()
endfunction()

add_library(llama-otel-cpp STATIC
    otelcpp/backend.cpp otelcpp/environment.cpp otelcpp/events.cpp otelcpp/exporters.cpp otelcpp/log.cpp otelcpp/metrics.cpp
    otelcpp/origin.cpp otelcpp/pipeline.cpp otelcpp/process.cpp otelcpp/record.cpp otelcpp/ring.cpp otelcpp/spans.cpp otelcpp/text.cpp)
target_compile_features(llama-otel-cpp PRIVATE cxx_std_17)
target_include_directories(llama-otel-cpp PRIVATE "${CMAKE_CURRENT_LIST_DIR}")
set_target_properties(llama-otel-cpp PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)

llama_otel_find_target(LLAMA_OTEL_HTTP_SPANS   opentelemetry-cpp::otlp_http_exporter        opentelemetry_exporter_otlp_http)
llama_otel_find_target(LLAMA_OTEL_HTTP_METRICS opentelemetry-cpp::otlp_http_metric_exporter opentelemetry_exporter_otlp_http_metric)
llama_otel_find_target(LLAMA_OTEL_SDK_METRICS  opentelemetry-cpp::metrics                   opentelemetry_metrics)
llama_otel_find_target(LLAMA_OTEL_SDK_TRACE    opentelemetry-cpp::trace                     opentelemetry_trace)
llama_otel_find_target(LLAMA_OTEL_HTTP_LOGS    opentelemetry-cpp::otlp_http_log_record_exporter opentelemetry_exporter_otlp_http_log)
foreach (part LLAMA_OTEL_HTTP_SPANS LLAMA_OTEL_HTTP_METRICS LLAMA_OTEL_HTTP_LOGS LLAMA_OTEL_SDK_METRICS LLAMA_OTEL_SDK_TRACE)
    if (NOT ${part})
        message(FATAL_ERROR "LLAMA_OTEL_BACKEND=cpp: this opentelemetry-cpp lacks OTLP over HTTP; build it with -DOTELCPP_WITH_OTLP_HTTP=ON (until 1.28: -DWITH_OTLP_HTTP=ON)")
    endif()
    target_link_libraries(llama-otel-cpp PRIVATE ${${part}})
endforeach()

llama_otel_find_target(LLAMA_OTEL_GRPC_SPANS   opentelemetry-cpp::otlp_grpc_exporter         opentelemetry_exporter_otlp_grpc)
llama_otel_find_target(LLAMA_OTEL_GRPC_METRICS opentelemetry-cpp::otlp_grpc_metrics_exporter opentelemetry_exporter_otlp_grpc_metrics)
llama_otel_find_target(LLAMA_OTEL_GRPC_LOGS    opentelemetry-cpp::otlp_grpc_log_record_exporter opentelemetry_exporter_otlp_grpc_log)
if (LLAMA_OTEL_GRPC_SPANS AND LLAMA_OTEL_GRPC_METRICS AND LLAMA_OTEL_GRPC_LOGS)
    target_compile_definitions(llama-otel-cpp PRIVATE LLAMA_OTEL_CPP_GRPC)
    target_link_libraries(llama-otel-cpp PRIVATE ${LLAMA_OTEL_GRPC_SPANS} ${LLAMA_OTEL_GRPC_METRICS} ${LLAMA_OTEL_GRPC_LOGS})
endif()

llama_otel_find_target(LLAMA_OTEL_CONSOLE_SPANS   opentelemetry-cpp::ostream_span_exporter    opentelemetry_exporter_ostream_span)
llama_otel_find_target(LLAMA_OTEL_CONSOLE_METRICS opentelemetry-cpp::ostream_metrics_exporter opentelemetry_exporter_ostream_metrics)
llama_otel_find_target(LLAMA_OTEL_CONSOLE_LOGS    opentelemetry-cpp::ostream_log_record_exporter opentelemetry_exporter_ostream_logs)
if (LLAMA_OTEL_CONSOLE_SPANS AND LLAMA_OTEL_CONSOLE_METRICS AND LLAMA_OTEL_CONSOLE_LOGS)
    target_compile_definitions(llama-otel-cpp PRIVATE LLAMA_OTEL_CPP_CONSOLE)
    target_link_libraries(llama-otel-cpp PRIVATE ${LLAMA_OTEL_CONSOLE_SPANS} ${LLAMA_OTEL_CONSOLE_METRICS} ${LLAMA_OTEL_CONSOLE_LOGS})
endif()

# A shared libllama-otel shows its own functions and nothing of opentelemetry-cpp, protobuf or curl, whatever the program has of them.
if (BUILD_SHARED_LIBS AND UNIX AND NOT APPLE)
    target_link_options(llama-otel PRIVATE "LINKER:--version-script=${CMAKE_CURRENT_LIST_DIR}/otelcpp/exports.map")
    set_property(TARGET llama-otel APPEND PROPERTY LINK_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/otelcpp/exports.map")
endif()
