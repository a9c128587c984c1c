//! Tells cargo what to link and what dependents may ask for, all of it from the manifest.

use llama_build::{LibKind, MANIFEST_FILE, SystemLibKind};

use crate::cmake::Built;

pub fn link(built: &Built) {
    let manifest = &built.manifest;
    // First, so that no library of the system with the same name can win.
    println!("cargo::rustc-link-search=native={}", built.dir.join("lib").display());
    for lib in &manifest.libs {
        let kind = match lib.kind {
            LibKind::Static => "static",
            LibKind::Dylib => "dylib",
        };
        println!("cargo::rustc-link-lib={kind}={}", lib.name);
    }
    for lib in &manifest.system_libs {
        if let Some(dir) = &lib.dir {
            println!("cargo::rustc-link-search=native={dir}");
        }
        let kind = match lib.kind {
            SystemLibKind::Dylib => "dylib",
            SystemLibKind::Static => "static",
            SystemLibKind::Framework => "framework",
        };
        println!("cargo::rustc-link-lib={kind}={}", lib.name);
    }
    if let Some(stdlib) = &manifest.cxx_stdlib {
        println!("cargo::rustc-link-lib=dylib={stdlib}");
    }
    if !manifest.link_args.is_empty() {
        println!("cargo::warning=a program must pass these to the linker itself: {}", manifest.link_args.join(" "));
    }
}

/// Metadata for dependents' build scripts (`DEP_LLAMA_*`) and constants for `src/lib.rs`.
pub fn describe(built: &Built) {
    let manifest = &built.manifest;
    let dir = built.dir.display();
    println!("cargo::metadata=root={dir}");
    println!("cargo::metadata=manifest={}", built.dir.join(MANIFEST_FILE).display());
    if let Some(include) = manifest.include_dirs.first() {
        println!("cargo::metadata=include={}", built.dir.join(include).display());
    }
    let telemetry = match manifest.telemetry {
        llama_build::Telemetry::Rust => "rust",
        llama_build::Telemetry::None => "none",
        llama_build::Telemetry::Off => "off",
    };
    let constants = [
        ("LLAMA", manifest.llama_version.as_deref().unwrap_or_default()),
        ("GGML", manifest.ggml_version.as_deref().unwrap_or_default()),
        ("PIN", manifest.pin.as_deref().unwrap_or_default()),
        ("COMMIT", &manifest.build_commit),
        ("BACKENDS", manifest.backend.name()),
        ("TELEMETRY", telemetry),
        ("BUILD_NUMBER", &manifest.build_number.to_string()),
    ];
    for (name, value) in constants {
        println!("cargo::rustc-env=LLAMA_OTEL_SYS_{name}={value}");
    }
}
