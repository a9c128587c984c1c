//! The one place where the build script reads its environment. Whatever is read is announced to
//! cargo, so that a change runs the script again.

use std::path::PathBuf;

type Lookup = dyn Fn(&str) -> Option<String>;

/// The environment of a build script.
pub struct Env {
    lookup: Box<Lookup>,
}

impl Env {
    pub fn of_process() -> Env {
        Env::new(|name| std::env::var(name).ok())
    }

    pub fn new(lookup: impl Fn(&str) -> Option<String> + 'static) -> Env {
        Env { lookup: Box::new(lookup) }
    }

    /// A variable that a user may set; an empty one counts as not set.
    pub fn var(&self, name: &str) -> Option<String> {
        println!("cargo::rerun-if-env-changed={name}");
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// As [`var`](Self::var), for a file or folder.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from)
    }

    /// A variable that cargo sets for every build script.
    pub fn cargo(&self, name: &str) -> Result<String, String> {
        (self.lookup)(name)
            .ok_or_else(|| format!("{name} is not set\nhelp: this is a build script, run it with `cargo build`"))
    }

    /// Whether a feature of this crate is on.
    pub fn feature(&self, name: &str) -> bool {
        let variable = name.to_uppercase().replace('-', "_");
        (self.lookup)(&format!("CARGO_FEATURE_{variable}")).is_some()
    }
}
