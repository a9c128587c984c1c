//! The package's own sources: those of the three crates, folded into one, and its readme.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{
    fold::{Rule, fold},
    manifest::Crates,
    tree::PatchedTree,
};
use crate::files::{copy, list, read, write};

/// What becomes a module of the library.
const SHIM: &str = "otel_shim";
/// What becomes a module of the build script.
const BUILD: &str = "llama_build";

/// Of the build script: before which line the modules are declared, and behind which one the bridge is compiled.
const MODULES_ANCHOR: &str = "mod bindings;\n";
const MODULES: &str = "\
// llama-otel: other crates of its workspace, which are published as a part of this one.
#[cfg(feature = \"telemetry-rust\")]
#[path = \"../otel-shim/bridge.rs\"]
mod bridge;
#[allow(dead_code, unused_imports)]
#[path = \"../llama-build/src/lib.rs\"]
mod llama_build;

";
const BRIDGE_ANCHOR: &str = "    link::link(&built);\n";
const BRIDGE: &str = "    #[cfg(feature = \"telemetry-rust\")]\n    bridge::compile(\"otel-shim\", &[], &[]);\n";

/// At the end of the library.
const LIBRARY: &str = "
/// The telemetry backend, a crate of its own in llama-otel's workspace; its name here is `otel`.
#[cfg(feature = \"telemetry-rust\")]
#[doc(hidden)]
#[path = \"../otel-shim/src/lib.rs\"]
pub mod otel_shim;
";

/// The package's readme.
const README: &str = include_str!("README.md");

/// Writes the sources of the package into `folder`.
///
/// # Errors
/// A source cannot be read, folded or written; the build script is not of the expected form.
pub fn write_all(crates: &Crates, folder: &Path) -> Result<()> {
    let Crates { sys, shim, build } = crates;
    let taking = Rule { module: None, folded: &[SHIM, BUILD] };
    fold_all(&sys.dir().join("src"), &folder.join("src"), taking)?;
    fold_all(&sys.dir().join("build"), &folder.join("build"), taking)?;
    let script = folder.join("build/main.rs");
    let text = inserted(&read(&script)?, MODULES_ANCHOR, [MODULES, MODULES_ANCHOR])
        .and_then(|text| inserted(&text, BRIDGE_ANCHOR, [BRIDGE_ANCHOR, BRIDGE]))
        .context("llama-otel-sys/build/main.rs")?;
    write(&script, text)?;
    let library = folder.join("src/lib.rs");
    write(&library, read(&library)? + LIBRARY)?;

    let to = folder.join("otel-shim");
    let macros = fold_all(&shim.dir().join("src"), &to.join("src"), Rule { module: Some(SHIM), folded: &[] })?;
    let module = to.join("src/lib.rs");
    // A macro that is exported is at the root of the crate, and looked for where the crate's root was.
    let exported: String = macros.iter().map(|name| format!("\npub use crate::{name};\n")).collect();
    write(&module, read(&module)? + &exported)?;
    // The runtime itself is in the tree.
    for part in ["bridge.rs", "cpp/bridge.cpp", "include"] {
        copy(&shim.dir().join(part), &to.join(part))?;
    }
    fold_all(&build.dir().join("src"), &folder.join("llama-build/src"), Rule { module: Some(BUILD), folded: &[] })?;
    Ok(())
}

/// Folds every Rust source in `from`, copies other files, and names the macros that are exported.
fn fold_all(from: &Path, to: &Path, rule: Rule<'_>) -> Result<Vec<String>> {
    let mut macros = Vec::new();
    for file in list(from) {
        let file = file?;
        let to = to.join(file.strip_prefix(from).unwrap_or(&file));
        if file.extension().is_none_or(|extension| extension != "rs") {
            copy(&file, &to)?;
            continue;
        }
        let folded = fold(&read(&file)?, rule).with_context(|| format!("{} cannot be folded", file.display()))?;
        macros.extend(folded.exported_macros);
        write(&to, folded.text)?;
    }
    Ok(macros)
}

/// The text with these lines in the place of `anchor`, which must be there once.
fn inserted(text: &str, anchor: &str, lines: [&str; 2]) -> Result<String> {
    match text.matches(anchor).count() {
        1 => Ok(text.replace(anchor, &lines.concat())),
        found => bail!("`{}` is there {found} times, and lines are to be inserted at one", anchor.trim()),
    }
}

/// The readme of the package.
pub fn readme(tree: &PatchedTree, version: &str) -> String {
    README
        .replace("{version}", version)
        .replace("{llama.cpp}", &tree.vendored.version())
        .replace("{source}", &tree.source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolved;

    #[test]
    fn the_sources_of_today_fold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let [sys, shim, build] = resolved::crates(&root, ["llama-otel-sys", "otel-shim", "llama-build"]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_all(&Crates { sys, shim, build }, dir.path()).unwrap();
        let text = |path: &str| read(&dir.path().join(path)).unwrap();
        assert!(text("build/cmake.rs").contains("use crate::llama_build::{Backend"));
        assert!(text("build/main.rs").contains("link::link(&built);\n    #[cfg"));
        assert!(text("src/lib.rs").contains("pub use crate::otel_shim as otel;"));
        assert!(text("otel-shim/src/lib.rs").contains("type Control = crate::otel_shim::abi::Control;"));
        assert!(text("otel-shim/src/lib.rs").ends_with("pub use crate::require_instrumented;\n"));
        assert!(text("llama-build/src/key.rs").contains("use crate::llama_build::backend::Backends;"));
        assert!(dir.path().join("llama-build/src/probe.cmake").is_file());
        assert!(dir.path().join("otel-shim/cpp/bridge.cpp").is_file());
        assert!(!dir.path().join("otel-shim/cpp/otel.cpp").exists());
    }

    #[test]
    fn lines_are_inserted_at_one_place_or_none() {
        assert_eq!(inserted("a\nb\n", "b\n", ["x\n", "b\n"]).unwrap(), "a\nx\nb\n");
        let error = inserted("b\nb\n", "b\n", ["x\n", "b\n"]).unwrap_err().to_string();
        assert!(error.contains("there 2 times"), "{error}");
    }
}
