//! Only a program on shared libraries needs this file: it looks for them where the installed build is.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_LLAMA_RPATH");
    let is_unix = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix");
    let folders = std::env::var("DEP_LLAMA_RPATH").unwrap_or_default();
    for folder in folders.split(':').filter(|folder| is_unix && !folder.is_empty()) {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{folder}");
    }
}
