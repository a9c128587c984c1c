//! Tensors and their encodings.

use crate::{Error, Weights};

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// Blocks of 32 8-bit integers with one 16-bit scale.
    Q8_0,
}

/// Elements of a [`TensorType::Q8_0`] block.
const BLOCK: usize = 32;

impl TensorType {
    /// ggml's number for it.
    pub(crate) fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
        }
    }
}

/// A named tensor with its encoded elements.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: TensorType,
    pub(crate) data: Vec<u8>,
}

impl Tensor {
    /// Encodes `values`. `dims` are in ggml's order: the first one varies fastest (the row's length).
    ///
    /// # Errors
    /// Not one to four dimensions; their product is not the number of values; a Q8_0 row is not a multiple of 32.
    pub fn new(
        name: impl Into<String>,
        dims: &[u64],
        kind: TensorType,
        values: impl IntoIterator<Item = f32>,
    ) -> Result<Self, Error> {
        let name = name.into();
        let shape = |value, rule: &str| Error::Shape { what: format!("tensor `{name}`"), value, rule: rule.to_owned() };
        let row = match dims {
            [row, ..] if dims.len() <= 4 => *row,
            _ => return Err(shape(dims.len() as u64, "of one to four dimensions")),
        };
        let values: Vec<f32> = values.into_iter().collect();
        let expected = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
        if expected != Some(values.len() as u64) {
            return Err(shape(values.len() as u64, "as many values as the dimensions' product"));
        }
        let data = match kind {
            TensorType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorType::F16 => values.iter().flat_map(|&value| f16_bits(value).to_le_bytes()).collect(),
            TensorType::Q8_0 if row % BLOCK as u64 == 0 => values.chunks(BLOCK).flat_map(q8_0_block).collect(),
            TensorType::Q8_0 => return Err(shape(row, "rows of a multiple of 32 for q8_0")),
        };
        Ok(Self { name, dims: dims.to_vec(), kind, data })
    }

    /// Normally distributed numbers in f32, chosen by the seed and the name.
    pub(crate) fn random(seed: u64, name: &str, dims: &[u64]) -> Result<Self, Error> {
        let weights = Weights::of_tensor(seed, name, DEVIATION).take(dims.iter().product::<u64>() as usize);
        Self::new(name, dims, TensorType::F32, weights)
    }

    /// The same number everywhere, in f32.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn constant(name: &str, dims: &[u64], value: f32) -> Result<Self, Error> {
        Self::new(name, dims, TensorType::F32, (0..dims.iter().product::<u64>()).map(|_| value))
    }
}

/// Deviation of the random weights: large enough that greedy text varies, small enough that nothing overflows.
pub(crate) const DEVIATION: f32 = 0.05;

/// As ggml's reference: scale = largest magnitude / 127, rounded halves away from zero.
fn q8_0_block(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut block = f16_bits(scale).to_le_bytes().to_vec();
    block.extend(values.iter().map(|value| (value * inverse).round() as i8 as u8));
    block
}

/// IEEE 754 half precision, rounded to nearest, ties to even.
fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let exponent = ((bits >> 23) & 0xff) as i32;
    let mantissa = bits & 0x007f_ffff;
    if exponent == 0xff {
        return sign | 0x7c00 | if mantissa == 0 { 0 } else { 0x0200 };
    }
    let half_exponent = exponent - 127 + 15;
    if half_exponent >= 0x1f {
        return sign | 0x7c00;
    }
    // Below the normal range the implicit one is written out and shifted with the rest.
    let (full, shift) = if half_exponent <= 0 {
        (mantissa | 0x0080_0000, (14 - half_exponent) as u32)
    } else {
        (((half_exponent as u32) << 23) | mantissa, 13)
    };
    if shift > 24 {
        return sign;
    }
    let kept = full >> shift;
    let rest = full & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    let up = rest > half || (rest == half && kept & 1 == 1);
    // A carry out of the mantissa is the right next exponent, up to infinity.
    sign | (kept + u32::from(up)) as u16
}

/// The width of the embedding is shared by the attention heads.
pub(crate) fn check_heads(embd: u32, heads: u32) -> Result<(), Error> {
    if heads == 0 || !embd.is_multiple_of(heads) {
        let rule = format!("a multiple of heads ({heads})");
        return Err(Error::Shape { what: "embd".to_owned(), value: embd.into(), rule });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact_where_known() {
        let cases = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65_504.0, 0x7bff),
            (65_520.0, 0x7c00),
            (1e9, 0x7c00),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (0.333_333_34, 0x3555),
            (1.000_488_3, 0x3c00),
            (1.001_464_8, 0x3c02),
            (f32::INFINITY, 0x7c00),
        ];
        for (value, bits) in cases {
            assert_eq!(f16_bits(value), bits, "{value}");
        }
    }

    #[test]
    fn a_q8_0_block_is_a_scale_and_32_integers() {
        let values: Vec<f32> = (0..32).map(|i| i as f32 - 16.0).collect();
        let block = q8_0_block(&values);
        assert_eq!(block.len(), 34);
        assert_eq!(block[..2], f16_bits(16.0 / 127.0).to_le_bytes());
        assert_eq!(block[2] as i8, -127);
        assert_eq!(block[2 + 16], 0);
        assert_eq!(q8_0_block(&[0.0; 32]), [0; 34]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let new = |dims: &[u64], kind| Tensor::new("t", dims, kind, [0.0; 48]);
        assert!(new(&[48], TensorType::Q8_0).unwrap_err().to_string().contains("multiple of 32"));
        assert!(new(&[47], TensorType::F32).is_err());
        assert!(new(&[], TensorType::F32).is_err());
        assert!(new(&[48, 1, 1, 1, 1], TensorType::F32).is_err());
        assert!(new(&[u64::MAX, 2], TensorType::F32).is_err());
        assert_eq!(new(&[16, 3], TensorType::F16).unwrap().data.len(), 96);
    }
}
