//! Real builds of a tree with llama.cpp's shape but a few lines of code, with the CMake of this
//! machine (`CMAKE`, else the `PATH`). Without one, all that can be tested is the error.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use llama_build::{Error, LibKind, MANIFEST_FILE, Manifest, Options, Telemetry, build};
use tempfile::TempDir;

const TOP: &str = r#"
cmake_minimum_required(VERSION 3.14...3.28)
project("llama.cpp" C CXX)
set(LLAMA_VERSION "1.2.3-dev")
add_subdirectory(ggml)
add_subdirectory(src)
"#;

const GGML: &str = r#"
cmake_minimum_required(VERSION 3.14...3.28)
project("ggml" C CXX)
set(GGML_VERSION "4.5.6")
option(GGML_NATIVE "" ON)
add_subdirectory(src)
"#;

const GGML_SRC: &str = r#"
add_library(ggml-base base.cpp)
add_library(ggml ggml.cpp)
add_library(ggml-cpu cpu.cpp)
add_library(not-linked cpu.cpp)
target_link_libraries(ggml-cpu PRIVATE ggml-base)
target_link_libraries(ggml PUBLIC ggml-base PRIVATE ggml-cpu ${CMAKE_DL_LIBS})
if (GGML_NATIVE)
    target_compile_definitions(ggml-cpu PRIVATE NATIVE)
endif()
"#;

const SRC: &str = r#"
add_library(llama llama.cpp)
target_include_directories(llama PUBLIC ../include)
target_link_libraries(llama PUBLIC ggml)
"#;

const BLOCK: &str = r#"
# >>> llama-otel
add_library(llama-otel otel.cpp)
target_compile_definitions(llama-otel PRIVATE BACKEND=${LLAMA_OTEL_BACKEND})
target_link_libraries(llama PRIVATE llama-otel)
target_link_libraries(ggml-base PRIVATE llama-otel)
# <<< llama-otel
"#;

struct Fixture {
    _root: TempDir,
    tree: PathBuf,
    out: PathBuf,
    options: Options,
}

impl Fixture {
    fn new() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        // A blank and a non-ASCII letter: users have both in their paths.
        let tree = root.path().join("a trée");
        let out = root.path().join("the óut");
        for (path, text) in [
            ("CMakeLists.txt", TOP),
            ("ggml/CMakeLists.txt", GGML),
            ("ggml/src/CMakeLists.txt", GGML_SRC),
            ("ggml/src/base.cpp", "int base() { return 1; }\n"),
            ("ggml/src/ggml.cpp", "int ggml() { return 1; }\n"),
            ("ggml/src/cpu.cpp", "int cpu() { return 1; }\n"),
            ("ggml/include/ggml.h", "int ggml();\n"),
            ("src/CMakeLists.txt", SRC),
            ("src/llama.cpp", "int llama() { return 1; }\n"),
            ("src/otel.cpp", "int otel() { return 1; }\n"),
            ("include/llama.h", "int llama();\n"),
        ] {
            write(&tree.join(path), text);
        }
        let mut options = Options::new(&tree);
        options.cmake = std::env::var_os("CMAKE").map(PathBuf::from);
        options.ninja = std::env::var_os("LLAMA_OTEL_NINJA").map(PathBuf::from);
        Fixture { _root: root, tree, out, options }
    }

    /// `None` on a machine without CMake, after checking that the error says so.
    fn build(&self) -> Option<Manifest> {
        match build(&self.options, &self.out, &mut |_| {}) {
            Err(error @ Error::ToolMissing { .. }) => {
                assert!(error.to_string().contains("help: "), "{error}");
                assert!(!self.out.join(MANIFEST_FILE).exists());
                None
            }
            result => Some(result.unwrap_or_else(|error| panic!("{error}"))),
        }
    }

    fn modified(&self, path: &str) -> SystemTime {
        fs::metadata(self.out.join(path)).unwrap().modified().unwrap()
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.libs.iter().map(|lib| lib.name.as_str()).collect()
}

#[test]
fn a_pristine_tree_gives_its_libraries_in_link_order() {
    let fixture = Fixture::new();
    let Some(manifest) = fixture.build() else {
        return;
    };
    assert_eq!(names(&manifest), ["llama", "ggml", "ggml-cpu", "ggml-base"]);
    assert!(manifest.libs.iter().all(|lib| lib.kind == LibKind::Static));
    assert_eq!(manifest.telemetry, Telemetry::Off);
    assert_eq!(manifest.llama_version.as_deref(), Some("1.2.3-dev"));
    assert_eq!(manifest.ggml_version.as_deref(), Some("4.5.6"));
    assert_eq!(manifest.key, llama_build::key(&fixture.options).unwrap());
    assert_eq!(Manifest::read(&fixture.out).unwrap(), manifest);
    assert!(fixture.out.join("include/llama.h").is_file());
    assert!(fixture.out.join("include/ggml.h").is_file());
    if cfg!(target_os = "linux") {
        assert!(manifest.system_libs.iter().any(|lib| lib.name == "dl"), "{manifest:?}");
        assert!(manifest.cxx_stdlib.is_some());
    }
}

#[test]
fn a_patched_tree_has_the_runtime_last() {
    let mut fixture = Fixture::new();
    write(&fixture.tree.join("src/CMakeLists.txt"), &format!("{SRC}{BLOCK}"));
    fixture.options.telemetry = Telemetry::Rust;
    let Some(manifest) = fixture.build() else {
        return;
    };
    assert_eq!(names(&manifest).last(), Some(&"llama-otel"));
    assert_eq!(manifest.telemetry, Telemetry::Rust);
}

/// Shared libraries keep their three names, find each other after the folder was moved, and one that
/// only another needs is there too.
#[cfg(unix)]
#[test]
fn shared_libraries_are_whole_and_can_be_moved() {
    let mut fixture = Fixture::new();
    let versioned = "set_target_properties(llama PROPERTIES VERSION 1.2.3 SOVERSION 1)\n";
    write(&fixture.tree.join("src/CMakeLists.txt"), &format!("{SRC}{versioned}{BLOCK}"));
    fixture.options.telemetry = Telemetry::None;
    fixture.options.shared = true;
    let Some(manifest) = fixture.build() else {
        return;
    };
    assert!(manifest.libs.iter().all(|lib| lib.kind == LibKind::Dylib), "{manifest:?}");
    assert_eq!(names(&manifest)[0], "llama");
    assert!(names(&manifest).contains(&"llama-otel"), "needed by llama, on no link line of a program");
    let moved = fixture.out.with_file_name("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(fixture.out.join("lib"), moved.join("lib")).unwrap();
    fs::remove_dir_all(&fixture.out).unwrap();
    let lib = moved.join("lib");
    let links = fs::read_dir(&lib).unwrap().flatten().filter(|entry| entry.path().is_symlink()).count();
    assert_eq!(links, 2, "libllama.so and libllama.so.1");
    let source = moved.join("main.cpp");
    write(&source, "int llama(); int main() { return llama() == 1 ? 0 : 1; }\n");
    let program = moved.join("program");
    let mut command = std::process::Command::new("c++");
    command.arg(&source).arg("-o").arg(&program).arg(format!("-L{}", lib.display())).arg("-lllama");
    assert!(command.arg(format!("-Wl,-rpath,{}", lib.display())).status().unwrap().success());
    assert!(std::process::Command::new(&program).status().unwrap().success(), "a library was not found");
}

#[test]
fn a_missing_toolkit_is_named_before_anything_is_compiled() {
    let mut fixture = Fixture::new();
    write(&fixture.tree.join("ggml/CMakeLists.txt"), &format!("{GGML}option(GGML_HIP \"\" OFF)\n"));
    fixture.options.backends = "hip".parse().unwrap();
    if std::env::var_os("ROCM_PATH").is_some() || Path::new("/opt/rocm").exists() {
        eprintln!("SKIP: ROCm is installed here");
        return;
    }
    match build(&fixture.options, &fixture.out, &mut |_| panic!("something was started")) {
        Err(Error::ToolMissing { .. }) => {}
        Err(error @ Error::ToolkitMissing { .. }) => {
            let text = error.to_string();
            assert!(text.contains("cannot build the backend `hip`: missing HIP's CMake package, hipBLAS"), "{text}");
            assert!(text.contains("help: install AMD's ROCm"), "{text}");
            assert!(!fixture.out.join("cmake").exists());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_changed_is_built_again() {
    let mut fixture = Fixture::new();
    if fixture.build().is_none() {
        return;
    }
    let times = |fixture: &Fixture| {
        ["llama", "ggml-cpu"].map(|name| {
            let manifest = Manifest::read(&fixture.out).unwrap();
            let lib = manifest.libs.iter().find(|lib| lib.name == name).unwrap();
            (fixture.modified(MANIFEST_FILE), fixture.modified(&lib.path))
        })
    };
    let first = times(&fixture);
    fixture.build();
    assert_eq!(first, times(&fixture), "nothing changed");

    write(&fixture.tree.join("src/llama.cpp"), "int llama() { return 2222; }\n");
    fixture.build();
    let [(manifest, llama), (_, ggml_cpu)] = times(&fixture);
    let [(old_manifest, old_llama), (_, old_ggml_cpu)] = first;
    assert!(llama > old_llama);
    assert!(manifest > old_manifest, "cargo follows the manifest");
    assert_eq!(ggml_cpu, old_ggml_cpu, "it did not change");

    // An entry that is no longer asked for must not stay in CMake's cache.
    let native = |fixture: &Fixture| {
        fs::read_to_string(fixture.out.join("cmake/CMakeCache.txt")).unwrap().contains("GGML_NATIVE:BOOL=ON")
    };
    fixture.options.defines = vec![("GGML_NATIVE".into(), "ON".into())];
    fixture.build();
    assert!(native(&fixture));
    fixture.options.defines.clear();
    fixture.build();
    assert!(!native(&fixture));
}

#[test]
fn an_interrupted_build_heals() {
    let fixture = Fixture::new();
    let Some(manifest) = fixture.build() else {
        return;
    };
    // Killed while configuring: CMake's files are half there and no step has said that it is done.
    write(&fixture.out.join("cmake/CMakeCache.txt"), "CMAKE_CXX_COMPILER:FILEPATH=/no");
    fs::remove_file(fixture.out.join("cmake/llama-otel/configured.json")).unwrap();
    fs::remove_file(fixture.out.join(MANIFEST_FILE)).unwrap();
    assert_eq!(fixture.build(), Some(manifest));
}

#[test]
fn two_builds_of_one_folder_wait_for_each_other() {
    let fixture = Fixture::new();
    let manifests = std::thread::scope(|scope| {
        let other = scope.spawn(|| fixture.build());
        [fixture.build(), other.join().unwrap()]
    });
    assert_eq!(manifests[0], manifests[1]);
}

#[test]
fn a_compiler_error_is_shown_and_leaves_no_manifest() {
    let fixture = Fixture::new();
    write(&fixture.tree.join("src/llama.cpp"), "int llama() { return nonsense; }\n");
    let mut lines = 0;
    match build(&fixture.options, &fixture.out, &mut |_| lines += 1) {
        Err(Error::ToolMissing { .. }) => return,
        Err(error @ Error::Step { .. }) => {
            let text = error.to_string();
            assert!(text.contains("compiling llama.cpp failed"), "{text}");
            assert!(text.contains("nonsense"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(lines > 5);
    assert!(!fixture.out.join(MANIFEST_FILE).exists());
    assert!(fs::read_to_string(fixture.out.join("build.log")).unwrap().contains("nonsense"));
}
