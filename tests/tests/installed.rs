//! The example projects for Rust, C and C++, built from an installed build, static and shared, and run: what they were told to
//! link is complete, and no other libllama of the system takes its place.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use llama_otel_tests::{number, prepared};
use otlp_receiver::{Receiver, Telemetry};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn finished(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{command:?}\n{}{}", text(&out.stdout), text(&out.stderr));
    out
}

/// Runs a program that was built from an example for seven tokens.
fn generate(exe: &Path) -> Telemetry {
    let receiver = Receiver::start().expect("a receiver on the loopback");
    let out = finished(
        Command::new(exe)
            .arg(prepared("LLAMA_OTEL_TINY"))
            .arg("7")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint())
            .env("LLAMA_OTEL_DETAIL", "decode")
            .env("TRACEPARENT", format!("00-{TRACE}-b7ad6b7169203331-01")),
    );
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), 7);
    let telemetry = receiver.stop();
    assert_eq!(telemetry.spans_named("llama_model_load").len(), 1);
    assert_eq!(telemetry.spans_named("llama_sample_token").len(), 7);
    let decodes = telemetry.spans_named("llama_decode");
    assert_eq!(decodes.len(), 7);
    assert!(decodes.iter().all(|span| number(span, "llama.batch.n_tokens") == 1.0));
    assert_eq!(telemetry.metric("llama.decode.duration").expect("a metric").count(), 7);
    telemetry
}

/// How the installed build is linked.
#[derive(Clone, Copy, PartialEq)]
enum Linked {
    Static,
    Shared,
}

impl Linked {
    fn folder(self) -> PathBuf {
        prepared(if self == Self::Static { "LLAMA_OTEL_INSTALLED" } else { "LLAMA_OTEL_INSTALLED_SHARED" })
    }

    fn rust_example(self) -> PathBuf {
        prepared(if self == Self::Static { "LLAMA_OTEL_EXAMPLE" } else { "LLAMA_OTEL_EXAMPLE_SHARED" })
    }

    /// Whether llama.cpp is in the program itself, as it should be.
    fn check(self, exe: &Path) {
        let mark = b"llama-otel: instrumented, ABI ";
        let bytes = std::fs::read(exe).unwrap();
        let is_inside = bytes.windows(mark.len() + 1).any(|it| it.starts_with(mark) && it[mark.len()].is_ascii_digit());
        assert_eq!(is_inside, self == Self::Static, "{}", exe.display());
    }

    /// A copy of the installed folder, since it may be moved.
    fn moved(self, to: PathBuf) -> PathBuf {
        let from = self.folder();
        for entry in walkdir::WalkDir::new(&from) {
            let entry = entry.unwrap();
            let target = to.join(entry.path().strip_prefix(&from).unwrap());
            match entry.file_type() {
                it if it.is_dir() => std::fs::create_dir_all(target).unwrap(),
                // the names of a shared library
                #[cfg(unix)]
                it if it.is_symlink() => {
                    std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
                }
                _ => drop(std::fs::copy(entry.path(), target).unwrap()),
            }
        }
        to
    }
}

/// The folder with a `libllama` that is none, shared and static: what is linked with it ends at its first call. The examples are
/// linked where the linker looks into it by itself.
fn stale() -> PathBuf {
    prepared("LLAMA_OTEL_STALE")
}

/// Without which the tests below would say nothing: told of no folder, the linker takes that one, and the program ends at once.
#[test]
fn a_stale_libllama_is_taken_by_who_names_no_other() {
    if cfg!(windows) {
        println!("SKIP: no cc, and no path of the linker's own");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(
        scratch.path().join("main.c"),
        "void llama_backend_init(void);\nint main(void) { llama_backend_init(); return 0; }\n",
    )
    .unwrap();
    finished(
        Command::new("cc").current_dir(&scratch).args(["main.c", "-o", "main", "-lllama"]).env("LIBRARY_PATH", stale()),
    );
    let mut main = Command::new(scratch.path().join("main"));
    let ended = main.env("LD_LIBRARY_PATH", stale()).env("DYLD_LIBRARY_PATH", stale()).output().unwrap();
    assert_eq!(ended.status.code(), None, "a signal");
}

#[test]
fn the_rust_example_is_built_from_the_installed_folder() {
    rust_example(Linked::Static);
}

#[test]
fn the_rust_example_is_built_from_shared_libraries() {
    from_shared_libraries(rust_example);
}

fn from_shared_libraries(example: fn(Linked)) {
    if cfg!(windows) {
        println!("SKIP: shared libraries cannot carry the Rust backend on Windows");
        return;
    }
    example(Linked::Shared);
}

/// Linked, by `cargo xtask test`, with the stale library in the default path.
fn rust_example(linked: Linked) {
    let exe = linked.rust_example();
    linked.check(&exe);
    let telemetry = generate(&exe);
    assert_eq!(telemetry.span("llama_decode").unwrap().trace_id, TRACE, "in the trace of the request");
}

#[test]
fn the_cmake_example_is_built_from_the_installed_folder() {
    cmake_example(Linked::Static);
}

#[test]
fn the_cmake_example_is_built_from_shared_libraries() {
    cmake_example(Linked::Shared);
}

fn cmake_example(linked: Linked) {
    if cfg!(windows) {
        println!("SKIP: the example is built with Ninja and cc");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (prefix, stale, build) =
        (linked.moved(scratch.path().join("moved here")), stale(), scratch.path().join("build"));
    let mut configure = Command::new(prepared("CMAKE"));
    configure.arg("-S").arg(example("cmake")).arg("-B").arg(&build).args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]);
    configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", prepared("LLAMA_OTEL_NINJA").display()));
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    // the stale library is where the linker looks first
    configure.arg(format!("-DCMAKE_EXE_LINKER_FLAGS=-L{}", stale.display()));
    finished(&mut configure);
    finished(Command::new(prepared("CMAKE")).arg("--build").arg(&build).env("LIBRARY_PATH", &stale));
    linked.check(&build.join("generate"));
    let telemetry = generate(&build.join("generate"));
    let decode = telemetry.span("llama_decode").unwrap();
    assert_eq!(decode.trace_id, TRACE, "in the trace of the request");
}

#[test]
fn the_pkg_config_example_is_built_from_the_installed_folder() {
    pkg_config_example(Linked::Static);
}

#[test]
fn the_pkg_config_example_is_built_from_shared_libraries() {
    from_shared_libraries(pkg_config_example);
}

fn pkg_config_example(linked: Linked) {
    let is_there =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if let Some(missing) = ["pkg-config", "make", "cc"].into_iter().find(|program| !is_there(program)) {
        println!("SKIP: {missing} is not installed");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (prefix, stale, build) = (linked.moved(scratch.path().join("moved")), stale(), scratch.path().join("build"));
    std::fs::create_dir(&build).unwrap();
    for file in ["Makefile", "main.c"] {
        std::fs::copy(example("pkg-config").join(file), build.join(file)).unwrap();
    }
    finished(
        Command::new("make")
            .current_dir(&build)
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
            .env("LDFLAGS", format!("-L{}", stale.display()))
            .env("LIBRARY_PATH", &stale),
    );
    linked.check(&build.join("generate"));
    generate(&build.join("generate"));
}

/// A program with a second ggml of its own, as whisper.cpp brings one: the linker refuses it, rather than mixing the two; in
/// a shared library that hides its symbols it does no harm.
#[test]
fn a_second_ggml_is_refused_unless_it_is_hidden() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: the words for the linker are those of Linux");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let prefix = prepared("LLAMA_OTEL_INSTALLED");
    let pkg_config = std::fs::read_to_string(prefix.join("lib/pkgconfig/llama-otel.pc")).unwrap();
    let libs = pkg_config.lines().find_map(|line| line.strip_prefix("Libs: ")).expect("a line of libraries");
    let libs = libs.replace("${prefix}", &prefix.display().to_string());
    let second = prepared("LLAMA_OTEL_PREBUILT_PRISTINE").join("lib/libggml-base.a");
    let whole = ["-Wl,--whole-archive", second.to_str().unwrap(), "-Wl,--no-whole-archive"];

    let main = "void llama_backend_init(void);\nint ggml_time_us(void);\nvoid * other(void);\n\
        int main(void) { llama_backend_init(); return other() == (void *) ggml_time_us; }\n";
    std::fs::write(dir.join("main.c"), main).unwrap();
    std::fs::write(
        dir.join("other.c"),
        "int ggml_time_us(void);\nvoid * other(void) { return (void *) ggml_time_us; }\n",
    )
    .unwrap();
    let cc = |args: &[&str], libs: &[&str]| {
        Command::new("cc").current_dir(dir).args(args).args(libs).output().expect("a C compiler")
    };
    let libs: Vec<&str> = libs.split_whitespace().collect();

    // A function of ggml, whose file has not all that ours has: so it is with another version.
    std::fs::write(dir.join("second.c"), "int ggml_time_us(void) { return 0; }\n").unwrap();
    let refused = cc(&["main.c", "other.c", "second.c", "-o", "both"], &libs);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("ggml_"), "{text}");
    assert!(text.contains("multiple definition") || text.contains("duplicate symbol"), "{text}");

    let shared = ["-shared", "-fPIC", "other.c", "-o", "libother.so", "-Wl,--exclude-libs,ALL"];
    let made = cc(&[&shared[..], &whole[..]].concat(), &["-lstdc++", "-lm", "-lpthread"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let main = dir.join("main");
    let made = cc(&["main.c", "-o", "main", "-L.", "-lother", "-Wl,-rpath,$ORIGIN"], &libs);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Each has a function of its own: the exit code says so.
    finished(&mut Command::new(main));
}
