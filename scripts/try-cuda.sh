#!/usr/bin/env bash
# The cuda backend on a machine with an NVIDIA GPU: built, run, and measured, for a person who has one.
#
#   scripts/try-cuda.sh [ARCHITECTURES]      default: that of the GPU that is there (90 for H100 and H200)
#
# 1. The toolkit: the machine's own, else as PyPI wheels into the cache (631 MB, no root).
# 2. `cargo xtask backends --run cuda`: configures, compiles, links, and runs the tests of tests/tests/backends.rs on the
#    device: tokens, the device's spans and memory, the decode times against llama.cpp's own, waits included.
#    What came of it is in docs/backends.json and docs/backends.md.
# 3. The wall clock around a generation against the time that the telemetry reports, with Gemma 3 270M: the two must agree,
#    since every decode is waited for before the next token is chosen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v nvidia-smi > /dev/null || { echo "there is no NVIDIA driver here: nvidia-smi was not found" >&2; exit 1; }
nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv
arch="${1:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)}"

provision=()
command -v nvcc > /dev/null || [ -n "${CUDA_PATH:-}" ] || provision=(--provision)

SECONDS=0
cargo xtask backends --run cuda "${provision[@]}" --cuda-arch "$arch"
echo "build and tests: ${SECONDS} s"

model=$(cargo xtask model gemma3-270m)
target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
demo="$target/llama-otel/demo/backend-cuda/llama-otel-demo"
echo "== the telemetry of 256 tokens on CUDA0; the last line is the program's own count and clock (decode_s)"
OTEL_TRACES_EXPORTER=none OTEL_METRICS_EXPORTER=console OTEL_METRIC_EXPORT_INTERVAL=3600000 \
    "$demo" --model "$model" --device CUDA0 --prompt "The capital of France is" --n-predict 256 --ignore-eos --json |
    grep -E '"event":"done"|llama\.decode\.duration|llama\.device|llama\.synchronize|Sum|Count' || true
nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv
