//! Bytes that quantized weights take.

use serde::{Deserialize, Serialize};

use super::{NumberFormat, QuantSpec, Scheme};

/// Bytes of a weight, by what they hold.
#[expect(clippy::struct_field_names, reason = "names carry their unit")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightStorage {
    /// The packed weights.
    pub weight_bytes: u64,
    /// The scales of the grids, 4 bytes each.
    pub scale_bytes: u64,
    /// The zero points of the grids, where the scheme has them.
    pub zero_point_bytes: u64,
}

impl WeightStorage {
    /// The bytes of a weight of so many elements and grids.
    ///
    /// Weights are packed bit by bit and the tensor ends on a whole byte. Scales are `f32`. Zero
    /// points are stored by the asymmetric scheme only, in whole bytes that hold one code.
    /// Floating-point formats have neither.
    pub fn new(elements: u64, grids: u64, spec: &QuantSpec) -> Self {
        let (scale_bytes, zero_point_bytes) = match (spec.format, spec.scheme) {
            (NumberFormat::Int(_), Scheme::Symmetric) => (4, 0),
            (NumberFormat::Int(bits), Scheme::Asymmetric) => (4, u64::from(bits.get()).div_ceil(8)),
            (NumberFormat::F16 | NumberFormat::BF16 | NumberFormat::F32, _) => (0, 0),
        };
        Self {
            weight_bytes: packed_weight_bytes(elements, spec.format),
            scale_bytes: grids.saturating_mul(scale_bytes),
            zero_point_bytes: grids.saturating_mul(zero_point_bytes),
        }
    }

    /// All bytes together.
    pub fn total_bytes(&self) -> u64 {
        self.weight_bytes
            .saturating_add(self.scale_bytes)
            .saturating_add(self.zero_point_bytes)
    }
}

/// Bytes of so many weights packed bit by bit, up to a whole byte at the end of the tensor.
pub fn packed_weight_bytes(elements: u64, format: NumberFormat) -> u64 {
    let bits = u128::from(elements) * u128::from(format.bits());
    u64::try_from(bits.div_ceil(8)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_to_the_end_of_the_tensor() {
        let cases = [
            ("8", 10, 10),
            ("4", 11, 6),
            ("3", 11, 5),
            ("1", 9, 2),
            ("16", 3, 6),
            ("f16", 3, 6),
            ("f32", 3, 12),
            ("5", 0, 0),
        ];
        for (format, elements, bytes) in cases {
            assert_eq!(
                packed_weight_bytes(elements, format.parse().unwrap()),
                bytes,
                "{elements} of {format}"
            );
        }
        assert_eq!(packed_weight_bytes(u64::MAX, NumberFormat::F32), u64::MAX);
    }

    #[test]
    fn grids_take_room_where_they_are_stored() {
        let symmetric = QuantSpec::weight("4".parse().unwrap());
        let asymmetric = QuantSpec {
            scheme: Scheme::Asymmetric,
            ..symmetric
        };
        let wide = QuantSpec {
            format: "9".parse().unwrap(),
            ..asymmetric
        };
        let half = QuantSpec {
            format: NumberFormat::F16,
            ..asymmetric
        };
        let total = |spec| WeightStorage::new(100, 10, &spec).total_bytes();
        assert_eq!(
            [symmetric, asymmetric, wide, half].map(total),
            [50 + 40, 50 + 40 + 10, 113 + 40 + 20, 200]
        );
    }
}
