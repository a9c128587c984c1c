//! libclang on this machine, and what bindgen must be told about it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Tool;
use crate::python::checked;

/// libclang as the machine has it: where `LIBCLANG_PATH`, `llvm-config` or the usual folders say.
pub fn find() -> Option<Tool> {
    let named = env::var_os("LIBCLANG_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let by_config =
        ["llvm-config", "llvm-config-18", "llvm-config-17", "llvm-config-16", "llvm-config-15", "llvm-config-14"]
            .into_iter()
            .filter_map(|name| which::which(name).ok())
            .filter_map(|program| checked(Command::new(program).arg("--libdir")).ok())
            .map(|dir| PathBuf::from(dir.trim()));
    named.into_iter().chain(by_config).chain(usual_dirs()).find_map(|dir| in_dir(&dir))
}

fn usual_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for parent in ["/usr/lib", "/usr/lib64", "/opt/homebrew/opt", "/usr/local/opt"] {
        let mut versions: Vec<_> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm")))
            .collect();
        versions.sort_by_key(|path| std::cmp::Reverse(digits(&path.to_string_lossy())));
        dirs.extend(versions.iter().flat_map(|path| [path.join("lib"), path.join("lib64")]));
    }
    let arch = env::consts::ARCH;
    dirs.push(format!("/usr/lib/{arch}-linux-gnu").into());
    let fixed = [
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
        r"C:\Program Files\LLVM\bin",
        r"C:\Program Files\LLVM\lib",
    ];
    dirs.extend(fixed.map(PathBuf::from));
    dirs
}

fn digits(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// libclang in a folder, by the names that bindgen's loader accepts (`path` may also be the library itself).
fn in_dir(path: &Path) -> Option<Tool> {
    let is_libclang = |name: &str| {
        let stem = name.strip_prefix("libclang").unwrap_or("?");
        let unix =
            stem.starts_with(".so") || (stem.starts_with('-') && stem.contains(".so") && !stem.starts_with("-cpp"));
        unix || stem == ".dylib" || stem == ".dll"
    };
    let name_of = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (dir, file) = if path.is_file() && is_libclang(&name_of(path)) {
        (path.parent()?.to_path_buf(), path.to_path_buf())
    } else {
        let mut files: Vec<_> = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| is_libclang(&name_of(file)) && file.is_file());
        files.sort();
        (path.to_path_buf(), files.pop()?)
    };
    let real = file.canonicalize().unwrap_or(file);
    let version = version_in(&name_of(&real), &real.parent()?.to_string_lossy());
    Some(Tool { path: dir, version, provisioned: false })
}

/// From the names: `libclang-14.so.14.0.6` and `libclang.so.18.1` carry it, `libclang-14.so.1` its major part,
/// `llvm-18/lib/libclang.dylib` only in the folder.
fn version_in(file: &str, dir: &str) -> String {
    let (before, after) = file.split_once(".so").unwrap_or((file, ""));
    let (before, after) = (digits(before), digits(after));
    let numbers = match (before.is_empty(), after.len()) {
        (_, 2..) | (true, 1) => after,
        (false, _) => before,
        (true, 0) => digits(dir),
    };
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// Clang's own headers (`stdbool.h`) are neither in the wheel nor in Debian's `libclang1`; the compiler's serve as well.
pub fn bindgen_args(libclang: &Tool) -> Option<OsString> {
    if cfg!(windows) || has_clang_headers(&libclang.path) || which::which("clang").is_ok() {
        return None;
    }
    let compiler = ["cc", "gcc"].into_iter().find_map(|name| which::which(name).ok())?;
    let dir = checked(Command::new(compiler).arg("-print-file-name=include")).ok()?;
    let mut args = env::var_os("BINDGEN_EXTRA_CLANG_ARGS").unwrap_or_default();
    if !args.is_empty() {
        args.push(" ");
    }
    args.push(format!("-I{}", dir.trim()));
    Some(args)
}

fn has_clang_headers(libclang_dir: &Path) -> bool {
    let versions = [libclang_dir.join("clang"), libclang_dir.join("../lib/clang")];
    versions
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten())
        .any(|entry| entry.path().join("include/stddef.h").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        in_dir(dir.path()).map(|tool| tool.version)
    }

    #[test]
    fn the_library_is_told_from_its_neighbours() {
        assert_eq!(found(&["libclang-14.so.14.0.6"]).as_deref(), Some("14.0.6"));
        assert_eq!(found(&["libclang-14.so.1"]).as_deref(), Some("14"));
        assert_eq!(found(&["libclang.so.18.1"]).as_deref(), Some("18.1"));
        assert!(found(&["libclang.dylib"]).is_some());
        assert!(found(&["libclang.dll"]).is_some());
        assert_eq!(found(&["libclang-cpp.so.14", "libclang_rt.so", "libclangAST.a", "libclang.txt"]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_name_without_version_leaves_it_to_the_folder() {
        assert_eq!(version_in("libclang.dylib", "/opt/llvm-18/lib"), "18");
        assert_eq!(version_in("libclang.so", "/usr/lib"), "");
    }

    #[test]
    fn headers_beside_the_library_make_the_compilers_needless() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_clang_headers(dir.path()));
        fs::create_dir_all(dir.path().join("clang/18/include")).unwrap();
        fs::write(dir.path().join("clang/18/include/stddef.h"), "").unwrap();
        assert!(has_clang_headers(dir.path()));
    }
}
