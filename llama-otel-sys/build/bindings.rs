//! Writes the Rust declarations of llama.cpp's C interface with bindgen.

use std::path::Path;

use bindgen::callbacks::ParseCallbacks;

use crate::cmake::Built;
use crate::env::Env;

const HEADERS: &str = "\
#include \"ggml.h\"
#include \"ggml-alloc.h\"
#include \"ggml-backend.h\"
#include \"ggml-cpu.h\"
#include \"gguf.h\"
#include \"llama.h\"
";

pub fn generate(env: &Env, built: &Built) -> Result<(), String> {
    // bindgen panics without libclang; asking first gives an error that helps.
    env.var("LIBCLANG_PATH");
    clang_sys::load().map_err(|reason| {
        format!(
            "libclang, which reads llama.cpp's headers, was not found: {reason}\n\
             help: build through `cargo xtask build`, which provisions it, \
             or install it (`apt-get install libclang1`) or set LIBCLANG_PATH to its folder"
        )
    })?;
    // the functions for programs, upon which the module `otel` is written; the Rust backend brings its own
    let headers = format!("{HEADERS}{}", if env.feature("telemetry-cpp") { "#include \"llama-otel.h\"\n" } else { "" });
    let includes = built.manifest.include_dirs.iter();
    let bindings = bindgen::builder()
        .header_contents("llama-otel-sys.h", &headers)
        .clang_args(includes.map(|dir| format!("-I{}", built.dir.join(dir).display())))
        // Upstream documents in ordinary comments.
        .clang_arg("-fparse-all-comments")
        .allowlist_item("(llama|ggml|gguf|LLAMA|GGML|GGUF)_.*")
        // Only ever handled by pointer, and laid out differently by every C library.
        .blocklist_type("FILE|_IO_FILE|__sFILE|_iobuf")
        .raw_line("/// A stream of the C library, only ever handled by pointer.")
        .raw_line("pub type FILE = ::core::ffi::c_void;")
        .use_core()
        .prepend_enum_name(false)
        .derive_partialeq(true)
        .parse_callbacks(Box::new(Comments))
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new().rerun_on_header_files(false)))
        .generate()
        .map_err(|error| explain(&error.to_string()))?;
    let path = Path::new(&env.cargo("OUT_DIR")?).join("bindings.rs");
    bindings.write_to_file(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn explain(error: &str) -> String {
    let help = match error.contains("file not found") {
        true => {
            "\nhelp: this libclang comes without its own headers; \
             set BINDGEN_EXTRA_CLANG_ARGS=\"-I$(gcc -print-file-name=include)\""
        }
        false => "",
    };
    format!("bindgen cannot read llama.cpp's headers: {error}{help}")
}

/// Upstream's comments are plain text in columns; as Markdown, indented lines would be taken for
/// Rust examples.
#[derive(Debug)]
struct Comments;

impl ParseCallbacks for Comments {
    fn process_comment(&self, comment: &str) -> Option<String> {
        let lines = comment.trim_matches('\n').trim_end().lines();
        let text: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        match text.is_empty() {
            true => None,
            false => Some(format!("```text\n{}\n```", text.join("\n"))),
        }
    }
}
