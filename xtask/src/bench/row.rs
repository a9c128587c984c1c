//! One measured figure, in the form in which every benchmark prints its results.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::Format;

/// A figure. Every goal is an upper bound: a benchmark that wants more of something measures its inverse.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured, parts separated by dots, the same in every run: `patch.tree.median`.
    pub name: String,
    /// The measured value.
    pub value: f64,
    /// Its unit, as UCUM writes it: `ms`, `s`, `ns`, `MiBy`, `1`.
    pub unit: String,
    /// The same without what is measured, in the same unit; null where there is nothing to compare with.
    pub baseline: Option<f64>,
    /// `value / baseline`; null without a baseline.
    pub ratio: Option<f64>,
    /// What the figure may be at most; null where no goal is set. It bounds `ratio` where there is one, else `value`.
    pub goal: Option<f64>,
    /// Whether the goal is met; null without one.
    pub met: Option<bool>,
}

impl Row {
    /// A figure by itself.
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.to_owned(), baseline: None, ratio: None, goal: None, met: None }
    }

    /// Compared with what was measured in the same way without the thing.
    pub fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self.ratio = (baseline != 0.0).then(|| self.value / baseline);
        self.judged()
    }

    /// With a bound on the ratio, or on the value if there is no baseline.
    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self.judged()
    }

    /// Measured with opentelemetry-cpp behind the macros, which its name then says.
    pub fn of_otelcpp(self) -> Self {
        Self { name: format!("otelcpp.{}", self.name), ..self }
    }

    fn judged(mut self) -> Self {
        self.met = self.goal.map(|goal| self.ratio.unwrap_or(self.value) <= goal);
        self
    }
}

/// The median of measurements, which a busy machine moves the least; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => (value + sorted[middle - 1]) / 2.0,
    }
}

/// Prints rows to standard output, as a JSON array or as a table.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print(rows: &[Row], format: Format) -> Result<()> {
    let text = match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(rows)?),
        Format::Text => table(rows),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    let mut text = format!(
        "{:width$} {:>12} {:5} {:>12} {:>8} {:>10}  met\n",
        "name", "value", "unit", "baseline", "ratio", "at most"
    );
    for row in rows {
        let met = match row.met {
            None => "-",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        text.push_str(&format!(
            "{:width$} {:>12} {:5} {:>12} {:>8} {:>10}  {met}\n",
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

/// Four significant digits, and no exponent.
pub fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from(3 - digits).unwrap_or(0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_bounds_the_ratio_where_there_is_one() {
        let alone = Row::new("a", 120.0, "ms").at_most(150.0);
        assert_eq!((alone.ratio, alone.met), (None, Some(true)));
        let compared = Row::new("a", 120.0, "ms").at_most(1.1).against(100.0);
        assert_eq!((compared.ratio, compared.met), (Some(1.2), Some(false)));
        assert_eq!(Row::new("a", 1.0, "1").against(0.0).ratio, None);
    }

    #[test]
    fn the_median_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let text = table(&[Row::new("a.b", 0.012_342, "s").at_most(1.0), Row::new("c", 1234.5, "MiBy")]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[1], ["a.b", "0.01234", "s", "-", "-", "1.000", "yes"]);
        assert_eq!(lines[2], ["c", "1234", "MiBy", "-", "-", "-", "-"]);
    }
}
