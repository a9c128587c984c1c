# Runs inside llama.cpp's own CMake project (CMAKE_PROJECT_INCLUDE), so that nothing in the tree
# changes. At the end of the top folder it adds a program that links `llama` and is never built:
# CMake's file API then tells its complete link line, in order, for static libraries too. It also
# writes down the versions that only CMake knows.

function(llama_otel_probe)
    add_executable(llama-otel-probe EXCLUDE_FROM_ALL "${CMAKE_BINARY_DIR}/llama-otel/probe.cpp")
    target_link_libraries(llama-otel-probe PRIVATE llama)
    set(ggml_version "")
    if (EXISTS "${CMAKE_SOURCE_DIR}/ggml/CMakeLists.txt")
        get_directory_property(ggml_version DIRECTORY "${CMAKE_SOURCE_DIR}/ggml" DEFINITION GGML_VERSION)
    endif()
    file(WRITE "${CMAKE_BINARY_DIR}/llama-otel/versions.json" "{
  \"llama_version\": \"${LLAMA_VERSION}\",
  \"ggml_version\": \"${ggml_version}\",
  \"build_number\": \"${LLAMA_BUILD_NUMBER}\",
  \"build_commit\": \"${LLAMA_BUILD_COMMIT}\"
}
")
endfunction()

# ggml is a project of its own inside llama.cpp's and includes this file again.
if (CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
    cmake_language(DEFER CALL llama_otel_probe)
endif()
