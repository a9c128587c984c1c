//! The content key of a build: equal keys mean interchangeable libraries.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::backend::Backends;
use crate::error::Error;
use crate::options::{Options, Telemetry};
use crate::toolchain::{self, Tools};
use crate::tree::Tree;

/// Everything that the content of the libraries depends on. Paths are left out on purpose.
#[derive(Serialize)]
struct Ingredients<'a> {
    crate_version: &'a str,
    tree: String,
    stamp: Option<(u64, String)>,
    backends: &'a Backends,
    dynamic_backends: bool,
    native: bool,
    cuda_arch: Option<&'a str>,
    telemetry: Telemetry,
    defines: Vec<&'a (String, String)>,
    build_type: &'a str,
    shared: bool,
    system: (&'a str, &'a str),
    cmake: &'a str,
    compilers: &'a [String],
    environment: &'a [(String, String)],
}

/// The content key of what [`build`](crate::build) would build: 32 hexadecimal digits over the
/// tree's digest, the options, the compilers, CMake, and this crate's version.
///
/// # Errors
/// A tree or a tool that is missing, or a file that cannot be read.
pub fn key(options: &Options) -> Result<String, Error> {
    options.check()?;
    let tree = Tree::open(&options.tree)?;
    tree.check(options.telemetry)?;
    of(options, &tree, &toolchain::find(options)?)
}

pub(crate) fn of(options: &Options, tree: &Tree, tools: &Tools) -> Result<String, Error> {
    let mut defines: Vec<_> = options.defines.iter().collect();
    defines.sort();
    let ingredients = Ingredients {
        crate_version: env!("CARGO_PKG_VERSION"),
        tree: tree.digest()?,
        stamp: tree.stamp(),
        backends: &options.backends,
        dynamic_backends: options.dynamic_backends,
        native: options.native,
        cuda_arch: options.cuda_arch.as_deref(),
        telemetry: options.telemetry,
        defines,
        build_type: options.build_type.name(),
        shared: options.is_shared(),
        system: (std::env::consts::OS, std::env::consts::ARCH),
        cmake: &tools.cmake_version,
        compilers: &tools.compilers,
        environment: &tools.environment,
    };
    // A struct of strings and numbers always serialises.
    let text = serde_json::to_vec(&ingredients).unwrap_or_default();
    let mut key = hex::encode(Sha256::digest(&text));
    key.truncate(32);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::BuildType;
    use crate::tree::tests::fake_tree;

    fn tools() -> Tools {
        Tools {
            cmake: "cmake".into(),
            cmake_version: "4.0".into(),
            ninja: None,
            compilers: vec!["cc 12".into()],
            environment: Vec::new(),
        }
    }

    #[test]
    fn every_ingredient_changes_the_key_and_paths_do_not() {
        let dir = tempfile::tempdir().unwrap();
        fake_tree(dir.path());
        let tree = Tree::open(dir.path()).unwrap();
        let options = Options::new(dir.path());
        let base = of(&options, &tree, &tools()).unwrap();
        assert_eq!(base.len(), 32);

        let mut keys = vec![base.clone()];
        let mut with = |change: &dyn Fn(&mut Options, &mut Tools)| {
            let (mut options, mut tools) = (options.clone(), tools());
            change(&mut options, &mut tools);
            keys.push(of(&options, &tree, &tools).unwrap());
        };
        with(&|o, _| o.telemetry = Telemetry::Off);
        with(&|o, _| o.build_type = BuildType::Debug);
        with(&|o, _| o.defines.push(("GGML_NATIVE".into(), "ON".into())));
        with(&|o, _| o.backends = "rpc".parse().unwrap());
        with(&|o, _| o.shared = true);
        with(&|o, _| o.dynamic_backends = true);
        with(&|o, _| o.native = true);
        with(&|o, _| o.cuda_arch = Some("75-virtual".into()));
        with(&|_, t| t.cmake_version = "4.1".into());
        with(&|_, t| t.compilers = vec!["cc 13".into()]);
        with(&|_, t| t.environment = vec![("CFLAGS".into(), "-m32".into())]);
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");

        let other = tempfile::tempdir().unwrap();
        fake_tree(other.path());
        let mut moved = options.clone();
        moved.tree = other.path().into();
        moved.jobs = Some(7);
        let moved_tree = Tree::open(other.path()).unwrap();
        assert_eq!(of(&moved, &moved_tree, &tools()).unwrap(), base);
    }
}
