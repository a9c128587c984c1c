//! Puts figures into the page that has a place for them: the table of one subject, between the two comments that name it,
//! with the command, the machine and the day.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

use super::row::{Row, number};
use crate::{context::Context, python::checked};

const PAGES: [&str; 2] = ["docs/performance.md", "docs/op-times.md"];
const END: &str = "<!-- end -->";

/// Replaces the figures of a subject.
///
/// # Errors
/// A page cannot be read or written, or none has a place for them.
pub fn write(context: &Context, subject: &str, rows: &[Row]) -> Result<()> {
    let block = format!("`cargo xtask bench {subject}` on {}:\n\n{}", machine(), table(rows));
    for page in PAGES {
        let path = context.root.join(page);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(text) = replaced(&text, subject, &block) {
            return fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()));
        }
    }
    bail!(
        "no page has a place for these figures\nhelp: put `{}` and `{END}` where they belong, in {}",
        start(subject),
        PAGES.join(" or ")
    )
}

fn start(subject: &str) -> String {
    // nothing in a comment may look like its end
    format!("<!-- figures: {} -->", subject.replace(" --", ", "))
}

/// `None` if the two comments are not there.
fn replaced(text: &str, subject: &str, block: &str) -> Option<String> {
    let start = start(subject);
    let (before, rest) = text.split_once(&start)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{start}\n{block}{END}{after}"))
}

fn table(rows: &[Row]) -> String {
    let mut text =
        "| figure | value | unit | against | ratio | at most | met |\n|---|--:|---|--:|--:|--:|---|\n".to_owned();
    let optional = |value: Option<f64>| value.map_or_else(String::new, number);
    for row in rows {
        let met = match row.met {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} | {met} |\n",
            row.name,
            number(row.value),
            row.unit,
            optional(row.baseline),
            optional(row.ratio),
            optional(row.goal)
        ));
    }
    text
}

/// Processor, cores, memory, system, compilers, how busy it is, and the day.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = after(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.strip_suffix("kB")?.trim().parse::<f64>().ok())
        .map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / f64::from(1 << 20)));
    let tool = |program: &str, args: &[&str]| {
        let text = checked(Command::new(program).args(args)).unwrap_or_default();
        text.lines().next().unwrap_or(program).trim().to_owned()
    };
    let load =
        read("/proc/loadavg").split(' ').next().map_or_else(String::new, |load| format!(", load average {load}"));
    format!(
        "{cpu}, {cores} cores{memory}, {}, {}, {}{load}, {}",
        std::env::consts::OS,
        tool("rustc", &["--version"]),
        tool("c++", &["--version"]),
        tool("date", &["-u", "+%Y-%m-%d"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_figures_of_the_subject_are_replaced() {
        let page = "a\n<!-- figures: x -->\nold\n<!-- end -->\nb\n<!-- figures: y -->\nkept\n<!-- end -->\n";
        let new = replaced(page, "x", "new\n").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert_eq!(replaced(page, "z", "new\n"), None);
    }

    #[test]
    fn a_row_is_a_line() {
        let rows = [Row::new("a", 120.0, "ns").against(100.0).at_most(1.1), Row::new("b", 1.0, "s")];
        let text = table(&rows);
        assert!(text.contains("| `a` | 120.0 | ns | 100.0 | 1.200 | 1.100 | **no** |"), "{text}");
        assert!(text.contains("| `b` | 1.000 | s |  |  |  |  |"), "{text}");
    }
}
