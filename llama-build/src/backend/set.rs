//! The backends of one build.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Backend;
use crate::error::Error;

/// The backends of one build, each once, in the table's order. The processor's is always among
/// them, since llama.cpp needs it beside any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Backend>", into = "Vec<Backend>")]
pub struct Backends(Vec<Backend>);

impl Backends {
    /// Whether it is one of them.
    pub fn contains(&self, backend: Backend) -> bool {
        self.0.contains(&backend)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Backend> {
        self.0.iter().copied()
    }

    /// Those of `wanted` that are missing here.
    pub fn lacks(&self, wanted: &Backends) -> Vec<Backend> {
        wanted.iter().filter(|backend| !self.contains(*backend)).collect()
    }
}

impl FromIterator<Backend> for Backends {
    fn from_iter<I: IntoIterator<Item = Backend>>(backends: I) -> Self {
        let asked: Vec<Backend> = backends.into_iter().collect();
        Backends(Backend::all().filter(|&b| b == Backend::Cpu || asked.contains(&b)).collect())
    }
}

impl From<Backend> for Backends {
    fn from(backend: Backend) -> Self {
        Backends::from_iter([backend])
    }
}

impl From<Vec<Backend>> for Backends {
    fn from(backends: Vec<Backend>) -> Self {
        Backends::from_iter(backends)
    }
}

impl From<Backends> for Vec<Backend> {
    fn from(backends: Backends) -> Self {
        backends.0
    }
}

impl FromStr for Backends {
    type Err = Error;

    /// Names separated by commas.
    fn from_str(names: &str) -> Result<Self, Error> {
        names.split(',').map(|name| name.trim().parse()).collect()
    }
}

impl fmt::Display for Backends {
    /// Names separated by commas; the processor's only where it is alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<_> = self.iter().filter(|&b| b != Backend::Cpu).map(Backend::name).collect();
        f.write_str(if others.is_empty() { "cpu".to_owned() } else { others.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "cuda,gpu".parse::<Backends>().unwrap_err().to_string();
        assert!(error.contains("`gpu`"), "{error}");
        assert!(error.contains("cpu, cuda, metal"), "{error}");
    }

    #[test]
    fn a_list_has_each_once_and_the_processor_always() {
        let backends: Backends = "vulkan, rpc,vulkan".parse().unwrap();
        assert_eq!(backends.iter().collect::<Vec<_>>(), [Backend::Cpu, Backend::Vulkan, Backend::Rpc]);
        assert_eq!(backends.to_string(), "vulkan,rpc");
        assert_eq!("cpu".parse::<Backends>().unwrap().to_string(), "cpu");
        assert_eq!(backends, "rpc,cpu,vulkan".parse().unwrap());
        assert_eq!(backends.lacks(&"blas,rpc".parse().unwrap()), [Backend::Blas]);
        let json = serde_json::to_string(&backends).unwrap();
        assert_eq!(json, r#"["cpu","vulkan","rpc"]"#);
        assert_eq!(serde_json::from_str::<Backends>(&json).unwrap(), backends);
    }
}
