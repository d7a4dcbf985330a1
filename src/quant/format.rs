//! Number formats: integers of 1 to 16 bits and the floating-point formats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::QuantError;

/// Width of an integer format in bits, 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct BitWidth(u8);

impl BitWidth {
    /// The narrowest width, 1 bit.
    pub const MIN: Self = Self(1);
    /// The widest width, 16 bits.
    pub const MAX: Self = Self(16);

    /// Checks a width.
    ///
    /// # Errors
    /// [`QuantError::BitWidth`] outside `1..=16`.
    pub fn new(bits: u8) -> Result<Self, QuantError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&bits) {
            Ok(Self(bits))
        } else {
            Err(QuantError::BitWidth(u32::from(bits)))
        }
    }

    /// The width in bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number of codes, `2^bits`.
    pub const fn levels(self) -> u32 {
        1 << self.0
    }

    /// All widths from the narrowest to the widest.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (Self::MIN.0..=Self::MAX.0).map(Self)
    }
}

impl TryFrom<u8> for BitWidth {
    type Error = QuantError;

    fn try_from(bits: u8) -> Result<Self, QuantError> {
        Self::new(bits)
    }
}

impl From<BitWidth> for u8 {
    fn from(bits: BitWidth) -> Self {
        bits.0
    }
}

impl fmt::Display for BitWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How one number is stored.
///
/// Written `8`, `4`, … for integers of that width, and `f16`, `bf16`, `f32` (or `f` for short).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NumberFormat {
    /// Integer codes on a [`Grid`](super::Grid).
    Int(BitWidth),
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single.
    BF16,
    /// IEEE 754 single precision, left as it is.
    F32,
}

impl NumberFormat {
    /// The integer format of a width.
    ///
    /// # Errors
    /// [`QuantError::BitWidth`] outside `1..=16`.
    pub fn int(bits: u8) -> Result<Self, QuantError> {
        BitWidth::new(bits).map(Self::Int)
    }

    /// Bits that one stored number takes.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int(bits) => bits.get() as u32,
            Self::F16 | Self::BF16 => 16,
            Self::F32 => 32,
        }
    }

    /// True for the formats that need no grid.
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::Int(_))
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(bits) => bits.fmt(f),
            Self::F16 => f.pad("f16"),
            Self::BF16 => f.pad("bf16"),
            Self::F32 => f.pad("f32"),
        }
    }
}

impl FromStr for NumberFormat {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Self, QuantError> {
        match text {
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            "f32" | "f" => Ok(Self::F32),
            _ => {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let bits = text.parse::<u32>().ok().filter(|_| digits);
                let bits = bits.ok_or_else(|| QuantError::Parse {
                    what: "number format",
                    text: text.to_owned(),
                    expected: "1 to 16, f16, bf16 or f32",
                })?;
                let narrow = u8::try_from(bits).ok().and_then(|b| BitWidth::new(b).ok());
                narrow.map(Self::Int).ok_or(QuantError::BitWidth(bits))
            }
        }
    }
}

impl TryFrom<String> for NumberFormat {
    type Error = QuantError;

    fn try_from(text: String) -> Result<Self, QuantError> {
        text.parse()
    }
}

impl From<NumberFormat> for String {
    fn from(format: NumberFormat) -> Self {
        format.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_written_alike() {
        for text in ["1", "4", "8", "16", "f16", "bf16", "f32"] {
            let format = text.parse::<NumberFormat>().unwrap();
            assert_eq!(format.to_string(), text);
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<NumberFormat>(&json).unwrap(), format);
        }
        assert_eq!("f".parse(), Ok(NumberFormat::F32));
        assert_eq!("08".parse(), NumberFormat::int(8));
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for text in ["", "int8", "+8", "-1", " 8", "F16", "4.0", "99999999999"] {
            let result = text.parse::<NumberFormat>();
            assert!(
                matches!(result, Err(QuantError::Parse { .. })),
                "{text:?} gave {result:?}"
            );
        }
        for (text, bits) in [("0", 0), ("17", 17), ("256", 256)] {
            assert_eq!(
                text.parse::<NumberFormat>(),
                Err(QuantError::BitWidth(bits))
            );
        }
        assert!(serde_json::from_str::<BitWidth>("0").is_err());
        assert!(serde_json::from_str::<NumberFormat>("\"17\"").is_err());
    }

    #[test]
    fn storage_bits_follow_the_format() {
        assert_eq!(NumberFormat::int(3).unwrap().bits(), 3);
        assert_eq!(NumberFormat::BF16.bits(), 16);
        assert_eq!(NumberFormat::F32.bits(), 32);
        assert!(NumberFormat::F16.is_float());
        assert!(!NumberFormat::int(16).unwrap().is_float());
        assert_eq!(
            BitWidth::all().map(BitWidth::get).collect::<Vec<_>>(),
            (1..=16).collect::<Vec<_>>()
        );
    }
}
