//! llama.cpp's backends. One table says how each is called, which CMake entries turn it on, and what a machine must have to build
//! it; command lines, cargo features, the doctor, the workflow's matrix and docs/backends.md are all made from it.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

mod set;
mod table;

pub use self::set::Backends;
pub use self::table::Backend;
use self::table::TABLE;

/// One backend of the table.
struct Row {
    backend: Backend,
    name: &'static str,
    about: &'static str,
    /// CMake's switch as trees spell it, the newest first.
    switches: &'static [&'static str],
    /// Entries that belong to the switch, on the systems that the last word names (any if empty).
    defines: &'static [(&'static str, &'static str, &'static str)],
    /// The names that `std::env::consts::OS` has where it can be built.
    systems: &'static [&'static str],
    needs: &'static [Need],
}

/// Something that a machine must have before a backend can be built.
#[derive(Debug)]
pub struct Need {
    /// As `toolkit.cmake` calls it.
    pub(crate) id: &'static str,
    /// For people.
    pub what: &'static str,
    /// Package in each package manager; empty where there is none.
    apt: &'static str,
    dnf: &'static str,
    brew: &'static str,
    winget: &'static str,
    /// What to do where no package manager has it.
    pub(crate) otherwise: &'static str,
}

impl Need {
    /// Its packages in a package manager (`apt-get`, `dnf`, `brew`, `winget`), separated by blanks;
    /// empty where there is none.
    pub fn package(&self, manager: &str) -> &'static str {
        match manager {
            "apt-get" => self.apt,
            "dnf" => self.dnf,
            "brew" => self.brew,
            "winget" => self.winget,
            _ => "",
        }
    }
}

impl Backend {
    /// Every backend that has a name here.
    pub fn all() -> impl Iterator<Item = Backend> {
        TABLE.iter().map(|row| row.backend)
    }

    /// The name on the command line and of the cargo feature.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// What it computes on, for people.
    pub fn about(self) -> &'static str {
        self.row().map_or("", |row| row.about)
    }

    /// The newest spelling of CMake's switch.
    pub fn switch(self) -> &'static str {
        self.row().and_then(|row| row.switches.first()).copied().unwrap_or_default()
    }

    /// What a machine must have to build it.
    pub fn needs(self) -> &'static [Need] {
        self.row().map_or(&[], |row| row.needs)
    }

    /// Whether the vendor has it for `system`, a value of [`std::env::consts::OS`].
    pub fn runs_on(self, system: &str) -> bool {
        self.row().is_some_and(|row| row.systems.contains(&system))
    }

    pub(crate) fn switches(self) -> &'static [&'static str] {
        self.row().map_or(&[], |row| row.switches)
    }

    /// The entries that belong to the switch on `system`.
    pub(crate) fn defines(self, system: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let entries = self.row().map_or(&[][..], |row| row.defines);
        let system = system.to_owned();
        entries.iter().filter(move |entry| entry.2.is_empty() || entry.2 == system).map(|entry| (entry.0, entry.1))
    }

    pub(crate) fn names() -> String {
        TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.backend == self)
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        TABLE
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.backend)
            .ok_or_else(|| Error::UnknownBackend { name: name.into() })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_match_serde() {
        for backend in Backend::all() {
            assert_eq!(backend.name().parse::<Backend>().unwrap(), backend);
            let json = serde_json::to_string(&backend).unwrap();
            assert_eq!(json, format!("\"{}\"", backend.name()));
        }
    }

    #[test]
    fn every_need_says_how_to_get_it() {
        for backend in Backend::all() {
            assert!(!backend.switch().is_empty() && !backend.about().is_empty());
            for need in backend.needs() {
                assert!(need.id.starts_with(&format!("{backend}.")), "{}", need.id);
                assert!(!need.otherwise.is_empty(), "{}", need.id);
            }
        }
    }

    #[test]
    fn blas_is_another_library_on_a_mac() {
        let vendor = |system: &str| Backend::Blas.defines(system).map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(vendor("linux"), ["OpenBLAS"]);
        assert_eq!(vendor("macos"), ["Apple"]);
    }
}
