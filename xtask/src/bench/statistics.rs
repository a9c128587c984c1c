//! Order statistics, and what can be said of a ratio that was measured several times.

use super::row::{Row, median};

/// The value below which that share of the values lies; 0 of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or_default()
}

/// A median and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// Whether the interval has that value in it: the measurements have not shown on which side of it the median lies.
    pub fn undecided(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Percentile bootstrap of the median: 10,000 resamples from a generator with a fixed seed, so that the same
/// measurements give the same interval.
pub fn estimate(values: &[f64]) -> Estimate {
    const RESAMPLES: usize = 10_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    };
    let median_of_all = median(values);
    if values.is_empty() {
        return Estimate { median: median_of_all, low: median_of_all, high: median_of_all };
    }
    let medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let resample: Vec<f64> = values.iter().map(|_| values[below(values.len())]).collect();
            median(&resample)
        })
        .collect();
    Estimate { median: median_of_all, low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
}

/// A ratio that was measured several times: its median, which `goal` bounds, and its interval, `.ci95.low` and `.ci95.high`.
pub fn ratio_rows(name: &str, ratios: &[f64], goal: Option<f64>) -> [Row; 3] {
    let interval = estimate(ratios);
    let row = |suffix: &str, value: f64| Row::new(format!("{name}{suffix}"), value, "1");
    let ratio = row("", interval.median);
    let ratio = match goal {
        Some(goal) => ratio.at_most(goal),
        None => ratio,
    };
    [ratio, row(".ci95.low", interval.low), row(".ci95.high", interval.high)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        assert_eq!([quantile(&values, 0.1), quantile(&values, 0.5), quantile(&values, 1.0)], [1.0, 5.0, 10.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_values() {
        let spread = |n: u32| (0..n).map(|i| 1.0 + f64::from(i * 37 % 100) / 1000.0).collect::<Vec<_>>();
        let (few, many) = (estimate(&spread(10)), estimate(&spread(100)));
        for estimate in [few, many] {
            assert!(estimate.low <= estimate.median && estimate.median <= estimate.high, "{estimate:?}");
        }
        assert!(many.high - many.low < few.high - few.low, "{few:?} {many:?}");
        assert_eq!(estimate(&spread(10)), few, "the same values give the same interval");
        assert!(few.undecided(few.median) && !few.undecided(2.0));
        assert_eq!(estimate(&[2.0]), Estimate { median: 2.0, low: 2.0, high: 2.0 });
    }
}
