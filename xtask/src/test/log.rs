//! Reads what `cargo test -- --show-output` prints: totals, skipped tests and their reasons. A test that
//! cannot run here prints a line that begins with `SKIP:` and passes.

use std::{collections::BTreeSet, fmt};

/// Totals over any number of test programs.
#[derive(Debug, Default)]
pub struct TestLog {
    passed: usize,
    failed: usize,
    skipped: BTreeSet<String>,
    /// Within the output of tests that passed.
    in_successes: bool,
    /// The test that printed what follows.
    printing: String,
}

impl TestLog {
    /// Takes one line and returns it if it is worth showing.
    pub fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let line = line.trim_end_matches('\r');
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" || line.starts_with("test result:") {
            self.in_successes = false;
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.printing = name.to_owned();
        } else if let Some(reason) = line.strip_prefix("SKIP:") {
            self.skipped.insert(format!("{}: {}", self.printing, reason.trim()));
        } else if let Some(totals) = line.strip_prefix("test result:") {
            self.add(totals);
        } else if let Some((name, how)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            && let Some(reason) = how.strip_prefix("ignored")
        {
            self.skipped.insert(format!("{name}: ignored{reason}"));
        }
        (!self.in_successes).then_some(line)
    }

    /// Something outside `cargo test` that could not run here, and why.
    pub fn skip(&mut self, what_and_why: String) {
        self.skipped.insert(what_and_why);
    }

    /// Takes what another one has, as tests of `name`.
    pub fn add_from(&mut self, name: &str, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped.into_iter().map(|skipped| format!("{name} {skipped}")));
    }

    /// Tests that passed so far, those that were skipped among them.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Tests that failed so far.
    pub fn failed(&self) -> usize {
        self.failed
    }

    fn add(&mut self, totals: &str) {
        let count = |word: &str| {
            let mut parts = totals.split([';', '.']).map(str::trim);
            parts.find_map(|part| part.strip_suffix(word)?.trim().parse::<usize>().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
    }
}

impl fmt::Display for TestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())?;
        self.skipped.iter().try_for_each(|skipped| write!(f, "\n  skipped {skipped}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a::runs ... ok
test a::needs_clang ... ok
test a::slow ... ignored, takes an hour
test a::breaks ... FAILED

successes:

---- a::needs_clang stdout ----
SKIP: no clang++ on this machine

successes:
    a::runs
    a::needs_clang

failures:

---- a::breaks stdout ----
assertion failed

failures:
    a::breaks

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn totals_and_reasons_are_read() {
        let mut log = TestLog::default();
        let shown: Vec<_> = OUTPUT.lines().filter_map(|line| log.line(line)).collect();
        assert_eq!(
            log.to_string(),
            "tests: 2 passed, 1 failed, 2 skipped\n  skipped a::needs_clang: no clang++ on this machine\n  \
             skipped a::slow: ignored, takes an hour"
        );
        assert!(shown.contains(&"assertion failed"), "{shown:?}");
        assert!(!shown.iter().any(|line| line.contains("SKIP")), "{shown:?}");
    }

    #[test]
    fn programs_add_up() {
        let mut log = TestLog::default();
        for _ in 0..2 {
            log.line("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        }
        assert_eq!(log.to_string(), "tests: 6 passed, 0 failed, 0 skipped");
        let mut other = TestLog::default();
        OUTPUT.lines().for_each(|line| {
            other.line(line);
        });
        assert_eq!((other.passed(), other.failed()), (2, 1));
        log.add_from("crate", other);
        assert!(
            log.to_string().starts_with("tests: 8 passed, 1 failed, 2 skipped\n  skipped crate a::needs_clang"),
            "{log}"
        );
    }
}
