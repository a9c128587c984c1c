//! Random numbers that are the same on every system: integer arithmetic and exact floating-point steps only,
//! no `ln` or `cos`, whose last bit differs between C libraries.

/// A stream of weights, near a normal distribution with mean 0.
#[derive(Clone, Debug)]
pub struct Weights {
    state: u64,
    deviation: f32,
}

impl Weights {
    /// The stream of one tensor: it depends on the seed and the tensor's name, not on the tensors before it.
    pub fn of_tensor(seed: u64, name: &str, deviation: f32) -> Self {
        // FNV-1a
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { state: hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), deviation }
    }

    /// SplitMix64.
    fn next_bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

impl Iterator for Weights {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        let bits = self.next_bits();
        // Four uniform numbers have a sum of variance 4/12; centred and scaled it is 1.
        let sum: i32 = (0..4).map(|lane| (bits >> (16 * lane)) as u16).map(i32::from).sum();
        let centred = (sum - 2 * 65_535) as f32 / 65_536.0;
        const SQRT_3: f32 = 1.732_050_8;
        Some(centred * SQRT_3 * self.deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_as_asked() {
        let values: Vec<_> = Weights::of_tensor(0, "a", 0.05).take(100_000).map(f64::from).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 1e-3, "{mean}");
        assert!((variance.sqrt() - 0.05).abs() < 1e-3, "{variance}");
    }

    #[test]
    fn seed_and_name_choose_the_stream() {
        let first = |seed, name| Weights::of_tensor(seed, name, 1.0).next();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }
}
