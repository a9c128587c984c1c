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
            LibKind::Module => continue,
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
    if std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        // Cargo hands these to the tests of this package only; a program asks for `DEP_LLAMA_RPATH`.
        for dir in rpath(built) {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{dir}");
        }
    }
    if !manifest.link_args.is_empty() {
        println!("cargo::warning=a program must pass these to the linker itself: {}", manifest.link_args.join(" "));
    }
}

/// Folders in which a program looks for shared libraries when it starts.
fn rpath(built: &Built) -> Vec<String> {
    let is_shared = built.manifest.libs.iter().any(|lib| lib.kind == LibKind::Dylib);
    let own = is_shared.then(|| built.dir.join("lib").display().to_string());
    own.into_iter().chain(built.manifest.runtime_dirs().into_iter().map(str::to_owned)).collect()
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
    // Folders have no line feeds in their names, or cargo could not be told of them anyway.
    println!("cargo::metadata=rpath={}", rpath(built).join(":"));
    let backends_dir = match manifest.modules.is_empty() {
        true => String::new(),
        false => built.dir.join("lib").display().to_string(),
    };
    let telemetry = match manifest.telemetry {
        llama_build::Telemetry::Rust => "rust",
        llama_build::Telemetry::Cpp => "cpp",
        llama_build::Telemetry::None => "none",
        llama_build::Telemetry::Off => "off",
    };
    let constants = [
        ("LLAMA", manifest.llama_version.as_deref().unwrap_or_default()),
        ("GGML", manifest.ggml_version.as_deref().unwrap_or_default()),
        ("PIN", manifest.pin.as_deref().unwrap_or_default()),
        ("COMMIT", &manifest.build_commit),
        ("BACKENDS", &manifest.backends.iter().map(|b| b.name()).collect::<Vec<_>>().join(",")),
        ("BACKENDS_DIR", &backends_dir),
        ("TELEMETRY", telemetry),
        ("BUILD_NUMBER", &manifest.build_number.to_string()),
    ];
    for (name, value) in constants {
        println!("cargo::rustc-env=LLAMA_OTEL_SYS_{name}={value}");
    }
}
