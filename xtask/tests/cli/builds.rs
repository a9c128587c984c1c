//! With the CMake and ninja of `cargo xtask test`, or of this machine: what the doctor says that each backend lacks, and that
//! a compiler cache is used where there is one.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::checkout::{Checkout, failure, success};

/// Variables by which a machine says where something is, or what a compiler is called with.
const OF_THE_MACHINE: &[&str] = &[
    "CARGO_TARGET_DIR",
    "CC",
    "CCACHE_DISABLE",
    "CCACHE_READONLY",
    "CCACHE_RECACHE",
    "CMAKE_CXX_COMPILER_LAUNCHER",
    "CMAKE_C_COMPILER_LAUNCHER",
    "CMAKE_PREFIX_PATH",
    "CUDACXX",
    "CUDA_PATH",
    "CXX",
    "MKLROOT",
    "ONEAPI_ROOT",
    "ROCM_PATH",
    "VULKAN_SDK",
];

/// A checkout, and the tools that CMake needs here.
struct Machine {
    checkout: Checkout,
    cmake: PathBuf,
    ninja: PathBuf,
    /// Programs of the test's own, which come before those of the machine.
    bin: PathBuf,
}

impl Machine {
    /// `None`, after saying so, without CMake and ninja.
    fn find() -> Option<Self> {
        let find = |variable, name: &str| which::which(env::var_os(variable).unwrap_or_else(|| name.into())).ok();
        let Some((cmake, ninja)) = find("CMAKE", "cmake").zip(find("LLAMA_OTEL_NINJA", "ninja")) else {
            println!("SKIP: CMake and ninja are not on this machine; `cargo xtask test` brings its own");
            return None;
        };
        let checkout = Checkout::new();
        let bin = checkout.dir("bin");
        // no test here reads headers, but without libclang the tools are not complete
        fs::write(checkout.dir("libclang").join(format!("libclang{}", env::consts::DLL_SUFFIX)), "").unwrap();
        Some(Self { checkout, cmake, ninja, bin })
    }

    fn program(&self, name: &str, text: &str) -> PathBuf {
        write_program(&self.bin.join(name), text)
    }

    /// The program, with `path` behind the test's own programs.
    fn xtask<'a>(&self, path: &OsStr, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.checkout.xtask(args);
        for variable in OF_THE_MACHINE {
            command.env_remove(variable);
        }
        let folders = [self.bin.clone()].into_iter().chain(env::split_paths(path));
        command.env("PATH", env::join_paths(folders).unwrap());
        command.env("CMAKE", &self.cmake).env("LLAMA_OTEL_NINJA", &self.ninja);
        command.env("LIBCLANG_PATH", self.checkout.path().join("libclang"));
        command
    }
}

fn write_program(path: &Path, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_path_buf()
}

fn path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// A machine with compilers and Debian's package manager, and nothing else that CMake would find: it looks below a folder that is
/// empty.
struct Bare {
    machine: Machine,
    root: PathBuf,
}

impl Bare {
    fn find() -> Option<Self> {
        let machine = Machine::find()?;
        let Some((c, cpp)) = which::which("cc").ok().zip(which::which("c++").ok()) else {
            println!("SKIP: no C++ compiler on this machine");
            return None;
        };
        machine.program("apt-get", "#!/bin/sh\nexit 1\n");
        let root = machine.checkout.dir("empty");
        let mut toolchain = format!("set(CMAKE_FIND_ROOT_PATH \"{}\")\n", root.display());
        for kind in ["PROGRAM", "LIBRARY", "INCLUDE", "PACKAGE"] {
            toolchain += &format!("set(CMAKE_FIND_ROOT_PATH_MODE_{kind} ONLY)\n");
        }
        for (language, compiler) in [("C", c), ("CXX", cpp)] {
            toolchain += &format!("set(CMAKE_{language}_COMPILER \"{}\")\n", compiler.display());
        }
        fs::write(machine.checkout.path().join("bare.cmake"), toolchain).unwrap();
        Some(Self { machine, root })
    }

    fn xtask<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.machine.xtask(&path(), args);
        command.env("CMAKE_TOOLCHAIN_FILE", self.machine.checkout.path().join("bare.cmake"));
        command
    }

    /// What the doctor says of each backend, as JSON.
    fn backends(&self) -> Vec<Value> {
        // the exit code says whether the tools are here, not the toolkits
        let output = self.xtask(["doctor", "--format", "json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let backends = report["backends"].as_array().unwrap().clone();
        assert!(!backends.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        backends
    }
}

/// Each backend, how many things it needs of the machine, and a word of what gets them.
const LACKING: [(&str, usize, &str); 9] = [
    ("cpu", 0, ""),
    ("cuda", 2, "--provision"),
    ("metal", 1, "xcode-select --install"),
    ("vulkan", 4, "sudo apt-get install libvulkan-dev glslc spirv-headers"),
    ("blas", 3, "sudo apt-get install libopenblas-dev pkg-config"),
    ("rpc", 0, ""),
    ("hip", 2, "ROCm"),
    ("sycl", 2, "oneAPI"),
    ("opencl", 2, "sudo apt-get install ocl-icd-opencl-dev opencl-headers python3"),
];

#[test]
fn the_doctor_lists_every_backend_with_what_it_lacks_and_what_gets_that() {
    let Some(bare) = Bare::find() else { return };
    let text = bare.xtask(["doctor"]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let backends = bare.backends();
    let names: Vec<_> = backends.iter().map(|backend| backend["backend"].as_str().unwrap()).collect();
    assert_eq!(names, LACKING.map(|(name, ..)| name));
    for (backend, (name, n_missing, get)) in backends.iter().zip(LACKING) {
        let missing: Vec<_> = backend["missing"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        // Apple's library has its header with it
        let is_apples = name == "blas" && cfg!(target_os = "macos");
        assert_eq!(missing.len(), if is_apples { 1 } else { n_missing }, "{backend}");
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no line of {name}:\n{text}"));
        if n_missing == 0 {
            assert_eq!(backend["install"], Value::Null);
            assert!(line.ends_with("ready"), "{line}");
            continue;
        }
        let install = backend["install"].as_str().unwrap_or_else(|| panic!("{backend}"));
        match get.starts_with("sudo ") {
            true if is_apples => assert_eq!(install, "sudo apt-get install libopenblas-dev"),
            true => assert_eq!(install, get, "one command for all of it"),
            false => assert!(install.contains(get), "{install}"),
        }
        assert!(line.ends_with(&format!("missing    {}: {install}", missing.join(", "))), "{line}");
    }
}

#[test]
fn what_is_there_is_not_asked_for() {
    let Some(bare) = Bare::find() else { return };
    let glslc = write_program(&bare.root.join("usr/bin/glslc"), "#!/bin/sh\n");
    let backends = bare.backends();
    let vulkan = backends.iter().find(|backend| backend["backend"] == "vulkan").unwrap();
    assert_eq!(vulkan["found"], json!([["the shader compiler glslc", glslc]]));
    assert_eq!(vulkan["missing"].as_array().unwrap().len(), 3);
    assert_eq!(vulkan["install"], "sudo apt-get install libvulkan-dev spirv-headers");
}

#[test]
fn a_build_without_the_toolkit_says_that_command_before_it_begins() {
    let Some(bare) = Bare::find() else { return };
    let fork = bare.machine.checkout.dir("fork");
    for (file, text) in [
        ("CMakeLists.txt", "message(FATAL_ERROR \"this must not be configured\")\n"),
        ("ggml/CMakeLists.txt", "option(GGML_VULKAN \"\" OFF)\n"),
        ("src/CMakeLists.txt", ""),
        ("include/llama.h", ""),
    ] {
        fs::create_dir_all(fork.join(file).parent().unwrap()).unwrap();
        fs::write(fork.join(file), text).unwrap();
    }
    let error = failure(&mut bare.xtask(["build", "--pristine", "--backend", "vulkan"]));
    assert!(error.contains("glslc") && error.contains(LACKING[3].2), "{error}");
    assert!(!error.contains("this must not be configured"), "{error}");
}

/// The file that is compiled in the place of all.
const OBJECT: &str = "ggml/src/CMakeFiles/ggml-base.dir/ggml-alloc.c.o";

/// A ninja that writes down the commands of a build, compiles one file of it, and stops there.
const NINJA: &str = r#"#!/bin/sh
case " $* " in
*" llama "*)
    "@NINJA@" -t commands llama > "@COMMANDS@"
    "@NINJA@" @OBJECT@
    echo "one file is enough"
    exit 1 ;;
esac
exec "@NINJA@" "$@"
"#;

/// Builds of the llama.cpp tree that `LLAMA_OTEL_SRC` names, each stopped after one file.
struct Builds {
    machine: Machine,
    commands: PathBuf,
}

impl Builds {
    /// `None`, after saying so, without a tree or tools.
    fn find() -> Option<Self> {
        let Some(tree) = env::var_os("LLAMA_OTEL_SRC").map(PathBuf::from) else {
            println!("SKIP: LLAMA_OTEL_SRC names no llama.cpp tree");
            return None;
        };
        let mut machine = Machine::find()?;
        machine.checkout.upstream(&format!("{{ kind = \"path\", dir = {} }}", json!(tree)), None);
        let commands = machine.checkout.path().join("commands.txt");
        let ninja = NINJA.replace("@NINJA@", machine.ninja.to_str().unwrap()).replace("@OBJECT@", OBJECT);
        let ninja = ninja.replace("@COMMANDS@", commands.to_str().unwrap());
        machine.ninja = write_program(&machine.checkout.path().join("ninja/ninja"), &ninja);
        Some(Self { machine, commands })
    }

    /// Compiles that file for a build with the options `args`, from an empty folder, and returns the compilers' commands of the
    /// whole library.
    fn run(&self, path: &OsStr, args: &[&str]) -> Vec<String> {
        let objects = self.machine.checkout.path().join("target/llama-otel/objects");
        let _ = fs::remove_dir_all(&objects);
        let args = ["build", "--pristine"].iter().chain(args).copied();
        let error = failure(self.machine.xtask(path, args).env("CCACHE_DIR", self.cache()));
        assert!(error.contains("one file is enough"), "{error}");
        let is_compiled =
            walkdir::WalkDir::new(&objects).into_iter().any(|file| file.unwrap().path().ends_with(OBJECT));
        assert!(is_compiled, "{error}");
        let commands = fs::read_to_string(&self.commands).unwrap();
        let commands: Vec<_> = commands.lines().filter(|line| line.contains(" -c ")).map(str::to_owned).collect();
        assert!(commands.len() > 20, "{commands:?}");
        commands
    }

    fn cache(&self) -> PathBuf {
        self.machine.checkout.path().join("ccache")
    }

    /// How often ccache had an object, and how often it had none.
    fn hits_and_misses(&self, ccache: &Path) -> [u64; 2] {
        let counts = success(Command::new(ccache).arg("--print-stats").env("CCACHE_DIR", self.cache()));
        let count = |name: &str| -> u64 {
            let line = counts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
            line.map_or(0, |count| count.parse().unwrap())
        };
        [count("direct_cache_hit") + count("preprocessed_cache_hit"), count("cache_miss")]
    }
}

/// Every command for a compiler begins with that program.
fn assert_all_through(commands: &[String], launcher: &Path) {
    let other = commands.iter().find(|command| command.split_whitespace().next().map(Path::new) != Some(launcher));
    assert_eq!(other, None, "{}", launcher.display());
}

/// `PATH` without a compiler cache: a folder that has one is replaced by links to all else that is in it.
fn path_without_cache(dir: &Path) -> OsString {
    let caches = ["ccache", "sccache"];
    let path = path();
    let folders = env::split_paths(&path).enumerate().map(|(index, folder)| {
        if !caches.iter().any(|name| folder.join(name).exists()) {
            return folder;
        }
        let links = dir.join(index.to_string());
        fs::create_dir_all(&links).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if !caches.iter().any(|name| entry.file_name() == *name) {
                symlink(entry.path(), links.join(entry.file_name())).unwrap();
            }
        }
        links
    });
    env::join_paths(folders.collect::<Vec<_>>()).unwrap()
}

/// CMake looks where a system has its programs even if `PATH` does not name that.
const PATH_ONLY: [&str; 2] = ["-D", "CMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF"];

#[test]
fn ccache_is_used_where_it_is_and_can_be_switched_off() {
    let Ok(ccache) = which::which("ccache") else {
        println!("SKIP: ccache is not on this machine");
        return;
    };
    let Some(builds) = Builds::find() else { return };
    assert_all_through(&builds.run(&path(), &[]), Path::new("ccache"));
    assert_eq!(builds.hits_and_misses(&ccache), [0, 1]);
    builds.run(&path(), &[]);
    assert_eq!(builds.hits_and_misses(&ccache), [1, 1], "the same object again");

    let commands = builds.run(&path(), &["-D", "GGML_CCACHE=OFF"]);
    assert_eq!(commands.iter().find(|command| command.contains("ccache")), None);
    assert_eq!(builds.hits_and_misses(&ccache), [1, 1]);
}

#[test]
fn a_build_needs_no_compiler_cache_and_takes_sccache_too() {
    let Some(builds) = Builds::find() else { return };
    let path = path_without_cache(&builds.machine.checkout.dir("path"));
    let commands = builds.run(&path, &PATH_ONLY);
    assert_eq!(commands.iter().find(|command| command.contains("ccache")), None);

    // by its name: it compiles through a server of its own, for which a test is no place
    let log = builds.machine.checkout.path().join("sccache.log");
    builds.machine.program("sccache", &format!("#!/bin/sh\necho \"$*\" >> '{}'\nexec \"$@\"\n", log.display()));
    assert_all_through(&builds.run(&path, &PATH_ONLY), Path::new("sccache"));
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 1);
}
