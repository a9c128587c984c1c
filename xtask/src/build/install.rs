//! What an installed build has beside libraries, headers and manifest: a CMake package (`find_package(llama-otel)`) and a
//! pkg-config module, both from the manifest, with nothing left for the user to link; for a build with the Rust backend that
//! backend itself as a static library.
//!
//! Libraries are named by their full path below the installed folder, so that no other `libllama` of the system, however early in
//! the search path, can take their place; and relative to the files that name them, so that the folder can be moved. What looks
//! for shared ones when a program starts is the program itself, so that it gets their folder too.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use llama_build::{LibKind, Manifest, SystemLibKind, Telemetry};

use super::copy_build;
use crate::{context::Context, sources::cargo_program};

/// Name of the CMake package, of its namespace and of the pkg-config module.
const NAME: &str = "llama-otel";

/// With what optimisation the Rust backend is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As cargo's `dev`: what the tests share with each other.
    Dev,
    /// As cargo's `release`.
    Release,
}

/// The crate otel-shim as a static library.
pub struct RustBackend {
    /// The library.
    pub path: PathBuf,
    /// What it needs of the system, as words for the linker (`-lgcc_s`).
    pub system_libs: Vec<String>,
}

/// Copies a finished build into `dir`, and adds what C and C++ programs find it by.
///
/// # Errors
/// The Rust backend cannot be compiled; a file cannot be written.
pub fn install(context: &Context, from: &Path, manifest: &Manifest, profile: Profile, dir: &Path) -> Result<()> {
    copy_build(from, dir)?;
    if cfg!(windows) && manifest.libs.iter().any(|lib| lib.kind != LibKind::Static) {
        // They cannot call the Rust backend in the program, see docs/backends.md; `manifest.json` says what to link.
        return Ok(());
    }
    let mut link = Link::of(manifest);
    if manifest.telemetry == Telemetry::Rust {
        let backend = rust_backend(context, profile)?;
        let name = backend.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = dir.join("lib").join(&name);
        fs::copy(&backend.path, &place).with_context(|| format!("cannot write {}", place.display()))?;
        link.libs.push(format!("lib/{name}"));
        let known: Vec<_> = backend.system_libs.into_iter().filter(|word| !link.system.contains(word)).collect();
        link.system.extend(known);
    }
    let about = format!(
        "llama.cpp {} with OpenTelemetry inside",
        manifest.llama_version.as_deref().unwrap_or(&manifest.build_commit)
    );
    for (path, text) in [
        (format!("lib/pkgconfig/{NAME}.pc"), link.pkg_config(&about)),
        (format!("lib/cmake/{NAME}/{NAME}-config.cmake"), link.cmake_package(&about)),
        (format!("lib/cmake/{NAME}/{NAME}-config-version.cmake"), cmake_version()),
    ] {
        let path = dir.join(path);
        let failed = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(dir)).with_context(failed)?;
        fs::write(&path, text).with_context(failed)?;
    }
    Ok(())
}

/// Compiles the crate otel-shim as a static library.
///
/// # Errors
/// cargo fails.
pub fn rust_backend(context: &Context, profile: Profile) -> Result<RustBackend> {
    let mut command = Command::new(cargo_program());
    command.current_dir(&context.root).args(["rustc", "--package", "otel-shim", "--lib", "--crate-type", "staticlib"]);
    command.arg("--target-dir").arg(context.target_dir());
    if profile == Profile::Release {
        command.arg("--release");
    }
    // What cargo prints of it is repeated where nothing is compiled anew.
    command.args(["--", "--print", "native-static-libs"]);
    let out = command.stdin(Stdio::null()).output().context("cannot start cargo")?;
    if !out.status.success() {
        let _ = std::io::stderr().write_all(&out.stderr);
        bail!("cargo could not build otel-shim as a static library (see above)");
    }
    let text = String::from_utf8_lossy(&out.stderr);
    let words = text.lines().find_map(|line| line.split_once("native-static-libs: ")).map(|(_, words)| words);
    let words = words.context("rustc does not say what otel-shim needs to be linked with")?;
    let file = if cfg!(windows) { "otel_shim.lib" } else { "libotel_shim.a" };
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    Ok(RustBackend {
        path: context.target_dir().join(folder).join(file),
        system_libs: words.split_whitespace().map(str::to_owned).collect(),
    })
}

/// What a program links, in order.
struct Link {
    /// Files, relative to the installed folder.
    libs: Vec<String>,
    /// Whether some of them are shared.
    is_shared: bool,
    /// Words for the linker.
    system: Vec<String>,
    /// Whether there are backends that the program loads when it runs.
    has_modules: bool,
}

/// Where installed libraries and modules are.
const LIB: &str = "lib";

impl Link {
    fn of(manifest: &Manifest) -> Self {
        let mut system = Vec::new();
        for lib in &manifest.system_libs {
            system.extend(lib.dir.as_ref().map(|dir| format!("-L{dir}")));
            match lib.kind {
                SystemLibKind::Framework => system.extend(["-framework".to_owned(), lib.name.clone()]),
                SystemLibKind::Dylib | SystemLibKind::Static => system.push(format!("-l{}", lib.name)),
            }
        }
        system.extend(manifest.runtime_dirs().into_iter().map(|dir| format!("-Wl,-rpath,{dir}")));
        system.extend(manifest.cxx_stdlib.as_ref().map(|name| format!("-l{name}")));
        system.extend(manifest.link_args.iter().cloned());
        let linked = || manifest.libs.iter().filter(|lib| lib.kind != LibKind::Module);
        Self {
            libs: linked().map(|lib| lib.path.clone()).collect(),
            is_shared: linked().any(|lib| lib.kind == LibKind::Dylib),
            system,
            has_modules: !manifest.modules.is_empty(),
        }
    }

    fn pkg_config(&self, about: &str) -> String {
        let mut libs: Vec<_> = self.libs.iter().map(|lib| format!("${{prefix}}/{lib}")).collect();
        libs.extend(self.is_shared.then(|| format!("-Wl,-rpath,${{prefix}}/{LIB}")));
        let modules = if self.has_modules { format!("backendsdir=${{prefix}}/{LIB}\n") } else { String::new() };
        format!(
            // pkg-config has no way to name a file in a folder with a blank that all its versions take.
            "prefix=${{pcfiledir}}/../..\n{modules}\n\
             Name: {NAME}\nDescription: {about}\nVersion: {}\n\
             Cflags: -I${{prefix}}/include\nLibs: {} {}\n",
            env!("CARGO_PKG_VERSION"),
            libs.join(" "),
            self.system.join(" ")
        )
    }

    fn cmake_package(&self, about: &str) -> String {
        let mut text = format!(
            "# {about}: the target {NAME}::llama is everything that a program needs.\n\
             if (NOT TARGET {NAME}::llama)\n    \
                 get_filename_component(_llama_otel_root \"${{CMAKE_CURRENT_LIST_DIR}}/../../..\" ABSOLUTE)\n    \
                 add_library({NAME}::llama INTERFACE IMPORTED)\n    \
                 set_target_properties({NAME}::llama PROPERTIES\n        \
                     INTERFACE_INCLUDE_DIRECTORIES \"${{_llama_otel_root}}/include\"\n        \
                     INTERFACE_LINK_LIBRARIES \""
        );
        // CMake itself adds the folder of a shared library that is named by its path to the run path of what it builds.
        let libs = self.libs.iter().map(|lib| format!("${{_llama_otel_root}}/{lib}"));
        // `-framework X` is one item of CMake's list.
        let system = self.system.join(";").replace("-framework;", "-framework ");
        let items: Vec<_> = libs.chain([system]).filter(|item| !item.is_empty()).collect();
        let _ = writeln!(text, "{}\")", items.join(";"));
        if self.has_modules {
            let _ = writeln!(text, "    set({NAME}_BACKENDS_DIR \"${{_llama_otel_root}}/{LIB}\")");
        }
        text.push_str("    unset(_llama_otel_root)\nendif()\n");
        text
    }
}

/// Any version of the same minor one will do before 1.0, as cargo has it.
fn cmake_version() -> String {
    format!(
        "set(PACKAGE_VERSION \"{version}\")\n\
         if (PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION OR NOT PACKAGE_FIND_VERSION VERSION_GREATER_EQUAL \"{least}\")\n    \
             set(PACKAGE_VERSION_COMPATIBLE FALSE)\n\
         else()\n    \
             set(PACKAGE_VERSION_COMPATIBLE TRUE)\n    \
             if (PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)\n        \
                 set(PACKAGE_VERSION_EXACT TRUE)\n    \
             endif()\n\
         endif()\n",
        version = env!("CARGO_PKG_VERSION"),
        least = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frameworks_stay_with_their_word() {
        let system = ["-lm", "-framework", "Metal", "-lc++"].map(str::to_owned).into();
        let link = Link { libs: vec!["lib/libllama.a".to_owned()], is_shared: false, system, has_modules: false };
        assert!(link.cmake_package("x").contains("/lib/libllama.a;-lm;-framework Metal;-lc++\")\n    unset"));
        assert!(link.pkg_config("x").contains("${prefix}/lib/libllama.a -lm -framework Metal -lc++\n"));
        assert!(!link.pkg_config("x").contains("backendsdir"));
    }

    #[test]
    fn a_program_is_told_where_shared_libraries_and_modules_are() {
        let libs = vec!["lib/libllama.so".to_owned(), "lib/libotel_shim.a".to_owned()];
        let link = Link { libs, is_shared: true, system: vec!["-lm".to_owned()], has_modules: true };
        let pkg_config = link.pkg_config("x");
        assert!(pkg_config.contains("${prefix}/lib/libotel_shim.a -Wl,-rpath,${prefix}/lib -lm\n"), "{pkg_config}");
        assert!(pkg_config.contains("\nbackendsdir=${prefix}/lib\n"), "{pkg_config}");
        let package = link.cmake_package("x");
        assert!(package.contains("set(llama-otel_BACKENDS_DIR \"${_llama_otel_root}/lib\")"), "{package}");
    }
}
