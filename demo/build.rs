//! Where the program looks for shared libraries when it starts: llama.cpp's own and a toolkit's.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_LLAMA_RPATH");
    let is_unix = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix");
    let folders = std::env::var("DEP_LLAMA_RPATH").unwrap_or_default();
    for folder in folders.split(':').filter(|folder| is_unix && !folder.is_empty()) {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{folder}");
    }
}
