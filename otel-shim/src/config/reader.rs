//! One variable → one value, or a warning that names the variable, what was expected, and the default that is used.

use std::fmt;

use super::Variables;

/// A set of values that have names.
pub trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

macro_rules! named {
    ($type:ty, $($name:literal => $value:expr),+ $(,)?) => {
        impl $crate::config::reader::Named for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, $value)),+];
        }

        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                <Self as $crate::config::reader::Named>::of(text).ok_or(())
            }
        }
    };
}
pub(super) use named;

pub struct Reader<'a> {
    variables: &'a Variables,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(variables: &'a Variables) -> Self {
        Reader { variables, warnings: Vec::new() }
    }

    /// The warnings, each once: a variable for all signals is read for each of them.
    pub fn into_warnings(self) -> Vec<String> {
        let mut once = Vec::with_capacity(self.warnings.len());
        for warning in self.warnings {
            if !once.contains(&warning) {
                once.push(warning);
            }
        }
        once
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub fn warn(&mut self, name: &str, expected: &str, default: impl fmt::Display) {
        let value = self.get(name).unwrap_or_default();
        self.warn_as(name, value, expected, default);
    }

    /// With another text for the value.
    pub fn warn_as(&mut self, name: &str, value: &str, expected: &str, default: impl fmt::Display) {
        self.warnings.push(format!("{name}={value}: expected {expected}; using {default}"));
    }

    /// For a value that may be secret.
    pub fn warn_secret(&mut self, name: &str, expected: &str, instead: &str) {
        self.warnings.push(format!("{name}: expected {expected}; {instead}"));
    }

    pub fn boolean(&mut self, name: &str) -> bool {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.warn(name, "true or false", "false");
                false
            }
        }
    }

    pub fn named<T: Named>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.get(name) else { return default };
        T::of(text).unwrap_or_else(|| {
            let names: Vec<&str> = T::NAMES.iter().map(|(name, _)| *name).collect();
            self.warn(name, &format!("one of {}", names.join(", ")), default.name());
            default
        })
    }

    pub fn count(&mut self, name: &str, default: usize) -> usize {
        match self.get(name).map(str::parse) {
            None => default,
            Some(Ok(n)) if n > 0 => n,
            Some(_) => {
                self.warn(name, "a whole number above 0", default);
                default
            }
        }
    }

    /// A limit, for which 0 is a value.
    pub fn limit(&mut self, name: &str, default: usize) -> usize {
        match self.get(name).map(str::parse) {
            None => default,
            Some(Ok(n)) => n,
            Some(Err(_)) => {
                let shown = if default == usize::MAX { "no limit".to_owned() } else { default.to_string() };
                self.warn(name, "a whole number", shown);
                default
            }
        }
    }

    pub fn milliseconds(&mut self, name: &str, default: usize) -> std::time::Duration {
        std::time::Duration::from_millis(self.count(name, default) as u64)
    }

    /// What stands between commas.
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        self.get(name)
            .into_iter()
            .flat_map(|text| text.split(','))
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// The runtime reads it when a graph is computed; what it does not know is as if there was none.
    pub fn op_callback(&mut self) {
        const NAME: &str = "LLAMA_OTEL_OP_CALLBACK";
        match self.get(NAME).map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "false" | "1" | "0") => {}
            Some(_) => self.warn(NAME, "true or false", "the callback where it costs nothing"),
        }
    }

    /// `OTEL_RESOURCE_ATTRIBUTES` is read by the SDK, which leaves out what it does not understand without a word.
    pub fn resource(&mut self) {
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        for entry in self.list(NAME) {
            if !is_pair(entry) {
                self.warn_as(NAME, entry, "key=value,key=value", "the others only");
            }
        }
    }
}

/// `key=value`, neither of them empty.
pub fn is_pair(entry: &str) -> bool {
    entry.split_once('=').is_some_and(|(key, value)| !key.trim().is_empty() && !value.trim().is_empty())
}
