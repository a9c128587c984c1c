//! The table of backends in its three forms: a line for each try, text for the terminal, and docs/backends.md.

use std::{collections::BTreeMap, fmt::Write as _};

use llama_build::Backend;

use super::{Outcome, Place, Results, Row};

const HEAD: &str = "\
# Backends

<!-- Written by `cargo xtask backends --run NAMES` from docs/backends.json, where each run stores what came of it. -->

```console
$ cargo xtask doctor                                 # which can be built here, and what gets the rest
$ cargo xtask build --backend vulkan,rpc             # several in one library
$ cargo xtask build --backend cuda --provision       # NVIDIA's toolkit from PyPI, without root and without a GPU
$ cargo xtask build --backend blas,rpc --dynamic-backends
$ cargo xtask backends --run blas,rpc                # configure, compile, link, run, and write this page
$ cargo xtask backends --format json
```

| backend | computes on | configures | compiles | links | runs here | runs in the workflow | |
|---|---|---|---|---|---|---|---|
";

const FOOT: &str = "
*yes* and *no* were seen, by the command above on the system named; `-` was not tried. *runs* means: the tests of
`tests/tests/backends.rs` generated tokens on the device and found its spans and its memory in the telemetry. A job's name
in the last column but one says that `.github/workflows/ci.yml` tries it there; *yes* stands there only once a run of the
workflow has been recorded.

## Choices

- **Portable or native.** The default is portable: AVX2, FMA and F16C on x86-64, armv8 on arm64. `--native` builds for the
  processor of this machine; with gcc 12 llama.cpp then crashes on processors with AMX. With `--dynamic-backends` the
  portable build has a module for each generation of processors, and ggml loads the best when the program starts.
- **Static or shared.** The default is static. Shared libraries find each other beside themselves (`$ORIGIN`); a program
  needs their folder in its own run path, which `llama-otel-sys` hands to build scripts as `DEP_LLAMA_RPATH`
  (`demo/build.rs` shows the use). On Windows, shared libraries cannot carry the Rust telemetry backend.
- **Dynamic backends** are found where the program tells ggml to look: `ggml_backend_load_all_from_path` with
  `llama_otel_sys::BACKENDS_DIR`, or beside the program.
- **ccache or sccache** is used where CMake finds one; `-D GGML_CCACHE=OFF` compiles without. `.ci/run` has the settings by
  which builds in several folders share what was compiled.
- **Any CMake entry** goes through: `-D GGML_CUDA_FA=OFF`. In a build by cargo alone: `LLAMA_OTEL_CMAKE_DEFINES` and
  `LLAMA_OTEL_CUDA_ARCH`, with the features of `llama-otel-sys` that have the backends' names.

## cuda

Needs no GPU to be compiled and linked: `--provision` installs CUDA 13 as PyPI wheels (631 MB) into the cache, with a
stub in place of the driver's library, which is linked against and never shipped. The wheels have shared cuBLAS only. NCCL is
off; `-D GGML_CUDA_NCCL=ON` turns it on. Set `--cuda-arch` (90 for H100 and H200): llama.cpp's own list of architectures
takes long. A person with an NVIDIA GPU repeats the run with `scripts/try-cuda.sh`.

On Linux `cargo xtask test --only cuda` compiles it for one virtual architecture, without flash attention and hardly optimised
(`-O0 -Xcicc -O1`), and links the demo program with it. With a toolkit on the machine it takes that one, else the wheels. The
nightly workflow does the same optimised. `.ci/run` ends with this and with metal, unless three quarters of an hour have
passed by then, or pip cannot get what they need.

## vulkan

Runs on Mesa's software driver too: `apt-get install libvulkan-dev glslc spirv-headers mesa-vulkan-drivers`, on Debian 12 with
`--provision` for newer headers (`cargo xtask test` gets them where nothing else is missing), and `GGML_VK_VISIBLE_DEVICES=0`, without which ggml leaves a driver in software out.

## metal

On Linux, `cargo xtask backends --run metal` and `cargo xtask test --only metal` check what can be checked there: the
options, the frameworks on the link line, the embedded shader library, and every C and C++ file of the patched tree compiled
for arm64 macOS with zig, not optimised. The second does nothing where the cache says that the same has passed before. The two
Objective-C files, the shaders, the link and the run need a Mac: the job of the workflow does them.

## rpc

`llama-otel-demo --rpc-serve HOST:PORT` serves a device, `--rpc HOST:PORT --device RPC0` uses it. Both processes are
instrumented and report on their own. llama.cpp's protocol has no encryption and no authentication: loopback or a network
that you trust.

With `LLAMA_OTEL_PROPAGATE_RPC=true` in the client, and the level of detail `decode` in both, it is one trace across both
processes: each graph of a batch is a span `llama_rpc_graph_compute` of the server's, a child of the client's batch. The
client's place in the trace lies in 64 bytes behind the graph, where every server since RPC began stops reading, so that an
unpatched one works as before; what a client without telemetry sends is what it always was. The message that asks for the
last graph once more has no room for it: a client that propagates sends each graph whole, about 300 bytes for each tensor.
Newer servers compute asynchronously; where their device does too, the span is the submission.
";

fn word(stage: Option<bool>) -> &'static str {
    match stage {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

/// One try in one line.
pub fn in_words(outcome: &Outcome) -> String {
    let note = if outcome.note.is_empty() { String::new() } else { format!(" ({})", outcome.note) };
    format!(
        "configures {}, compiles {}, links {}, runs {}{note}",
        word(outcome.configures),
        word(outcome.compiles),
        word(outcome.links),
        word(outcome.runs)
    )
}

/// For the terminal.
pub fn text(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<8} {:<11} {:<9} {:<6} {:<10} {:<21} {}\n",
        "backend", "configures", "compiles", "links", "runs here", "runs in the workflow", ""
    );
    for row in rows {
        let jobs =
            if row.runs_in_workflow.is_some() { word(row.runs_in_workflow).to_owned() } else { row.jobs.join(" ") };
        let note = row.missing.as_ref().map_or_else(|| row.note.clone(), |missing| format!("missing: {missing}"));
        let _ = writeln!(
            out,
            "{:<8} {:<11} {:<9} {:<6} {:<10} {:<21} {note}",
            row.backend,
            word(row.configures),
            word(row.compiles),
            word(row.links),
            word(row.runs_here),
            if jobs.is_empty() { "-" } else { &jobs },
        );
    }
    out
}

/// docs/backends.md.
pub fn page(results: &Results) -> String {
    let mut page = HEAD.to_owned();
    for row in super::rows(results, &BTreeMap::new()) {
        let about = row.backend.parse::<Backend>().map_or("what the modules found at run time have", Backend::about);
        let jobs = match row.runs_in_workflow {
            Some(_) => word(row.runs_in_workflow).to_owned(),
            None if row.jobs.is_empty() => "-".to_owned(),
            None => row.jobs.iter().map(|job| format!("`{job}`")).collect::<Vec<_>>().join(", "),
        };
        let _ = writeln!(
            page,
            "| `{}` | {about} | {} | {} | {} | {} | {jobs} | {} |",
            row.backend,
            word(row.configures),
            word(row.compiles),
            word(row.links),
            word(row.runs_here),
            row.note
        );
    }
    let mut systems: Vec<_> = results
        .outcomes
        .iter()
        .filter(|o| o.place == Place::Here)
        .map(|o| format!("{}, {}", o.system, o.tree))
        .collect();
    systems.sort();
    systems.dedup();
    let _ = writeln!(page, "\nHere: {}.", if systems.is_empty() { "nothing yet".into() } else { systems.join("; ") });
    page.push_str(FOOT);
    page
}
