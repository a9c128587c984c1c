//! The CMake cache entries of a build.

use crate::backend::Backend;
use crate::error::Error;
use crate::options::{Options, Telemetry};
use crate::tree::Tree;

/// Never built: they need more than a compiler, or the network. Names that a tree does not have
/// are ignored by CMake.
const PARTS_LEFT_OUT: &[&str] = &[
    "LLAMA_BUILD_APP",
    "LLAMA_BUILD_COMMON",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_MTMD",
    "LLAMA_BUILD_SERVER",
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_TOOLS",
    "LLAMA_BUILD_UI",
    "LLAMA_BUILD_WEBUI",
    "LLAMA_CURL",
    "LLAMA_LLGUIDANCE",
    "LLAMA_OPENSSL",
    "LLAMA_USE_PREBUILT_UI",
    "LLAMA_USE_SYSTEM_GGML",
    "GGML_BUILD_EXAMPLES",
    "GGML_BUILD_TESTS",
    "GGML_OPENMP_FETCH",
];

/// What CMake is told of the build that is asked for; the caller's own entries win.
///
/// # Errors
/// The tree does not have a backend that is asked for.
pub(super) fn defines(options: &Options, tree: &Tree) -> Result<Vec<(String, String)>, Error> {
    let on = |yes: bool| if yes { "ON" } else { "OFF" };
    let mut chosen: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match chosen.iter_mut().find(|(n, _)| n == name) {
        Some(entry) => entry.1 = value.to_owned(),
        None => chosen.push((name.to_owned(), value.to_owned())),
    };
    set("CMAKE_BUILD_TYPE", options.build_type.name());
    set("CMAKE_INSTALL_LIBDIR", "lib");
    // The libraries may end up in a shared object, a Rust cdylib for one.
    set("CMAKE_POSITION_INDEPENDENT_CODE", "ON");
    if cfg!(windows) {
        // Rust's own choice, in debug builds too.
        set("CMAKE_MSVC_RUNTIME_LIBRARY", "MultiThreadedDLL");
    }
    set("BUILD_SHARED_LIBS", on(options.is_shared()));
    if options.is_shared() && cfg!(unix) {
        // The libraries find each other wherever the folder is moved, and those of a toolkit where
        // it is now.
        let beside = if cfg!(target_os = "macos") { "@loader_path" } else { "$ORIGIN" };
        set("CMAKE_BUILD_WITH_INSTALL_RPATH", "ON");
        set("CMAKE_INSTALL_RPATH", beside);
        set("CMAKE_INSTALL_RPATH_USE_LINK_PATH", "ON");
    }
    if options.is_shared() && options.telemetry == Telemetry::Rust && cfg!(target_os = "macos") {
        // The Rust backend is in the program that loads the library.
        set("CMAKE_SHARED_LINKER_FLAGS", "-undefined dynamic_lookup");
    }
    set("FETCHCONTENT_FULLY_DISCONNECTED", "ON");
    // Built for this very processor, llama.cpp crashes on some (AMX with gcc 12).
    set("GGML_NATIVE", on(options.native));
    set("GGML_BACKEND_DL", on(options.dynamic_backends));
    // A module for each generation of processors, of which ggml takes the best when a program runs.
    set("GGML_CPU_ALL_VARIANTS", on(options.dynamic_backends));
    for part in PARTS_LEFT_OUT {
        set(part, "OFF");
    }
    // The rest is off explicitly: upstream turns some on by itself (Metal and BLAS on macOS).
    for backend in Backend::all().filter(|backend| !options.backends.contains(*backend)) {
        for switch in backend.switches() {
            set(switch, "OFF");
        }
    }
    for backend in options.backends.iter() {
        match tree.declared(backend.switches()) {
            Some(switch) => set(switch, "ON"),
            // Older trees have no switch for it.
            None if backend == Backend::Cpu => set(backend.switch(), "ON"),
            None => {
                return Err(Error::BackendNotInTree {
                    backend,
                    tree: tree.root.clone(),
                    switch: backend.switches().join(" or "),
                });
            }
        }
        for (name, value) in backend.defines(std::env::consts::OS) {
            set(name, value);
        }
    }
    if options.backends.contains(Backend::Cuda) {
        match (&options.cuda_arch, options.native) {
            (Some(arch), _) => set("CMAKE_CUDA_ARCHITECTURES", arch),
            (None, true) => set("CMAKE_CUDA_ARCHITECTURES", "native"),
            (None, false) => {}
        }
    }
    if tree.patched {
        for (name, value) in options.telemetry.defines() {
            set(name, value);
        }
    }
    if !tree.is_git_clone() {
        let (number, commit) = tree.stamp().unwrap_or((0, "unknown".into()));
        set("LLAMA_BUILD_NUMBER", &number.to_string());
        set("LLAMA_BUILD_COMMIT", &commit);
        // With git, ggml would overwrite the commit by nothing.
        set("GIT_EXE", "");
    }
    for (name, value) in &options.defines {
        set(name, value);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tree::tests::fake_tree;

    fn define<'a>(defines: &'a [(String, String)], name: &str) -> Option<&'a str> {
        defines.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn defaults_are_portable_and_the_callers_entries_win() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        let tree = Tree::open(dir.path()).unwrap();
        let mut options = Options::new(dir.path());
        let defaults = defines(&options, &tree).unwrap();
        assert_eq!(define(&defaults, "GGML_NATIVE"), Some("OFF"));
        assert_eq!(define(&defaults, "GGML_METAL"), Some("OFF"));
        assert_eq!(define(&defaults, "LLAMA_BUILD_COMMIT"), Some("unknown"));
        assert_eq!(define(&defaults, "LLAMA_OTEL"), None, "a pristine tree has no such option");

        options.defines = vec![("GGML_NATIVE".into(), "ON".into())];
        let chosen = defines(&options, &tree).unwrap();
        assert_eq!(define(&chosen, "GGML_NATIVE"), Some("ON"));
        assert_eq!(chosen.iter().filter(|(name, _)| name == "GGML_NATIVE").count(), 1);
    }

    #[test]
    fn a_backend_goes_by_what_the_tree_calls_it_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        fs::create_dir(dir.path().join("ggml")).unwrap();
        let lists = "option(GGML_HIPBLAS \"\" OFF)\noption(GGML_CUDA \"\" OFF)\n";
        fs::write(dir.path().join("ggml/CMakeLists.txt"), lists).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let mut options = Options::new(dir.path());
        options.backends = "cuda,hip".parse().unwrap();
        options.cuda_arch = Some("75-virtual".into());
        let chosen = defines(&options, &tree).unwrap();
        for (name, value) in [
            ("GGML_HIPBLAS", "ON"),
            ("GGML_CUDA", "ON"),
            ("GGML_CUDA_NCCL", "OFF"),
            ("CMAKE_CUDA_ARCHITECTURES", "75-virtual"),
            ("GGML_VULKAN", "OFF"),
            ("BUILD_SHARED_LIBS", "OFF"),
        ] {
            assert_eq!(define(&chosen, name), Some(value), "{name}");
        }
        options.backends = "opencl".parse().unwrap();
        let text = defines(&options, &tree).unwrap_err().to_string();
        assert!(text.contains("no backend `opencl`") && text.contains("GGML_OPENCL"), "{text}");
    }

    #[test]
    fn dynamic_backends_bring_every_variant_of_the_processor() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        let tree = Tree::open(dir.path()).unwrap();
        let mut options = Options::new(dir.path());
        options.dynamic_backends = true;
        let value = |options: &Options, name: &str| define(&defines(options, &tree).unwrap(), name).map(str::to_owned);
        for name in ["BUILD_SHARED_LIBS", "GGML_BACKEND_DL", "GGML_CPU_ALL_VARIANTS"] {
            assert_eq!(value(&options, name).as_deref(), Some("ON"), "{name}");
        }
        options.dynamic_backends = false;
        options.native = true;
        assert_eq!(value(&options, "GGML_CPU_ALL_VARIANTS").as_deref(), Some("OFF"));
        assert_eq!(value(&options, "GGML_NATIVE").as_deref(), Some("ON"));
    }

    #[test]
    fn a_git_clone_keeps_its_own_commit() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        fs::create_dir(dir.path().join(".git")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let defines = defines(&Options::new(dir.path()), &tree).unwrap();
        assert_eq!(define(&defines, "LLAMA_BUILD_COMMIT"), None);
    }
}
