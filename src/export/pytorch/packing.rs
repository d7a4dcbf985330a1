//! Integer codes of any width, packed bit by bit.

/// How codes of a weight are stored.
///
/// Codes of 8 and of 16 bits are numbers of that size in the shape of the weight. Others are fields of
/// as many bits that lie one after the other across bytes, the lowest bit first, row-major, up to a whole
/// byte at the end; then `code = field · step + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeFields {
    /// Bits of a field.
    pub(super) bits: u8,
    /// Whether codes are below zero too.
    pub(super) signed: bool,
}

impl CodeFields {
    /// Distance of the codes of neighbouring fields: two for 1 bit with a sign, whose codes are −1 and 1.
    pub(super) fn step(self) -> i32 {
        if self.bits == 1 && self.signed { 2 } else { 1 }
    }

    /// The code of field 0.
    pub(super) fn offset(self) -> i32 {
        match (self.signed, self.is_packed(), self.bits) {
            (false, _, _) | (true, false, _) => 0,
            (true, true, 1) => -1,
            (true, true, bits) => -(1 << (bits - 1)),
        }
    }

    /// Whether fields share bytes.
    pub(super) fn is_packed(self) -> bool {
        !matches!(self.bits, 8 | 16)
    }

    /// The bytes of codes.
    pub(super) fn bytes(self, codes: &[i32]) -> Vec<u8> {
        match self.bits {
            8 => codes.iter().map(|code| *code as u8).collect(),
            16 => codes
                .iter()
                .flat_map(|code| (*code as u16).to_le_bytes())
                .collect(),
            _ => self.packed(codes),
        }
    }

    fn packed(self, codes: &[i32]) -> Vec<u8> {
        let bits = usize::from(self.bits);
        let mut bytes = vec![0u8; (codes.len() * bits).div_ceil(8)];
        for (index, code) in codes.iter().enumerate() {
            let field = ((code - self.offset()) / self.step()) as u32;
            for bit in 0..bits {
                let place = index * bits + bit;
                if field >> bit & 1 == 1 {
                    bytes[place / 8] |= 1 << (place % 8);
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_as_the_layout_says() {
        struct Case {
            bits: u8,
            signed: bool,
            codes: &'static [i32],
            bytes: &'static [u8],
        }
        for case in [
            Case {
                bits: 1,
                signed: true,
                codes: &[1, -1, 1],
                bytes: &[0b101],
            },
            Case {
                bits: 2,
                signed: true,
                codes: &[-1, 0, 1, -1, 1],
                bytes: &[0b01_11_10_01, 0b11],
            },
            Case {
                bits: 3,
                signed: false,
                codes: &[1, 2, 7],
                bytes: &[0b11_010_001, 0b1],
            },
            Case {
                bits: 4,
                signed: true,
                codes: &[-7, 7, 0],
                bytes: &[0xF1, 0x08],
            },
            Case {
                bits: 8,
                signed: true,
                codes: &[-127, 3],
                bytes: &[0x81, 3],
            },
            Case {
                bits: 12,
                signed: false,
                codes: &[0xABC, 0x123],
                bytes: &[0xBC, 0x3A, 0x12],
            },
            Case {
                bits: 16,
                signed: false,
                codes: &[0x1234, 0xFFFF],
                bytes: &[0x34, 0x12, 0xFF, 0xFF],
            },
        ] {
            let fields = CodeFields {
                bits: case.bits,
                signed: case.signed,
            };
            assert_eq!(fields.bytes(case.codes), case.bytes, "{fields:?}");
        }
    }
}
