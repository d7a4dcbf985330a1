//! How a picture becomes the numbers that a network was trained on.

use std::{fmt, str::FromStr};

use super::DataError;

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Largest side that a text may ask for.
const SIDE_MAX: u32 = 16_384;
const PRESETS: [(&str, Preprocess); 4] = [
    ("unit", Preprocess::UNIT),
    (
        "imagenet",
        Preprocess {
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            ..Preprocess::UNIT
        },
    ),
    (
        "signed",
        Preprocess {
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocess::UNIT
        },
    ),
    (
        "raw",
        Preprocess {
            scale: 1.0,
            ..Preprocess::UNIT
        },
    ),
];
const PRESET_NAMES: &str = "imagenet, unit, signed or raw";
const FIELD_NAMES: &str = "mean, std, scale, resize, crop, channels or letterbox";

/// Order and number of the channels handed to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma after ITU-R BT.601: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
    Gray,
}

impl Channels {
    /// Number of channels: 3, or 1 for grey.
    pub fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
        }
    }
}

/// Geometry and arithmetic between a decoded picture and the network's input.
///
/// Arithmetic, in `f32` and in this order, so that it agrees with NumPy bit for bit:
///
/// ```text
/// x = (pixel / scale - mean[c]) / std[c]        pixel in 0..=255, c in the order of `channels`
/// ```
///
/// Geometry, on 8-bit pixels, as torchvision does it on Pillow pictures (`Resize`, `CenterCrop`):
///
/// - a picture that already has the network's input size is left alone, unless `resize` or `crop` is given;
/// - else its shorter side is brought to `resize` with an antialiased triangle filter, and the centre is cut out,
///   padded with black where the picture is smaller; without `resize` the shorter side becomes the input size, or
///   `round(size * 256 / 224)` for the `imagenet` normalisation and inputs of 64 pixels and more;
/// - with `letterbox` the whole picture is fitted into the input, in the top left corner, and the rest is filled with
///   the given value, as YOLOX does.
///
/// As text, either a preset or fields separated by `;`, or a preset followed by fields:
///
/// ```
/// use quantscope::data::Preprocess;
///
/// let p: Preprocess = "imagenet;resize=256;crop=224".parse()?;
/// assert_eq!(p.mean, [0.485, 0.456, 0.406]);
/// assert_eq!(p.to_string(), "imagenet;resize=256;crop=224");
/// # Ok::<(), quantscope::data::DataError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Subtracted, per channel, after the division by `scale`; the first alone for grey.
    pub mean: [f32; 3],
    /// Divisor per channel, after the subtraction; the first alone for grey; positive.
    pub std: [f32; 3],
    /// Divisor of the 8-bit pixel value; positive.
    pub scale: f32,
    /// Length that the shorter side is brought to; `None` for the rule above.
    pub resize: Option<u32>,
    /// Height and width cut out of the centre; must be the network's input size.
    pub crop: Option<(u32, u32)>,
    /// Order and number of channels.
    pub channels: Channels,
    /// Fill value of a letterbox; `None` to cut the centre out instead.
    pub letterbox: Option<u8>,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self::UNIT
    }
}

impl Preprocess {
    /// Pixels to `0..=1`.
    pub const UNIT: Self = Self {
        mean: [0.0; 3],
        std: [1.0; 3],
        scale: 255.0,
        resize: None,
        crop: None,
        channels: Channels::Rgb,
        letterbox: None,
    };

    /// ImageNet's mean and standard deviation, as torchvision's classifiers expect.
    pub const IMAGENET: Self = Self {
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        ..Self::UNIT
    };

    /// The network's number for each 8-bit value of channel `channel` (in the order of `channels`).
    pub(super) fn table(&self, channel: usize) -> [f32; 256] {
        let mean = self.mean.get(channel).copied().unwrap_or(0.0);
        let std = self.std.get(channel).copied().unwrap_or(1.0);
        std::array::from_fn(|pixel| (pixel as f32 / self.scale - mean) / std)
    }

    /// Tells whether mean, deviation and scale are ImageNet's.
    pub(super) fn is_imagenet(&self) -> bool {
        self.same_arithmetic(&Self::IMAGENET)
    }

    fn same_arithmetic(&self, other: &Self) -> bool {
        self.mean == other.mean && self.std == other.std && self.scale == other.scale
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), DataError> {
        let fail = |expected: &str| error(field, value, expected);
        match field {
            "mean" => {
                self.mean = three(value)
                    .ok_or_else(|| fail("one or three numbers, as in 0.485,0.456,0.406"))?;
            }
            "std" => {
                let legal = |std: &[f32; 3]| std.iter().all(|&x| x > 0.0);
                self.std = three(value).filter(legal).ok_or_else(|| {
                    fail("one or three positive numbers, as in 0.229,0.224,0.225")
                })?;
            }
            "scale" => {
                self.scale = number(value).filter(|&x| x > 0.0).ok_or_else(|| {
                    fail("a positive number that pixels are divided by, as in 255")
                })?;
            }
            "resize" => {
                self.resize = Some(side(value).ok_or_else(|| fail("pixels from 1 to 16384"))?);
            }
            "crop" => {
                let (height, width) = value.split_once('x').unwrap_or((value, value));
                self.crop = side(height).zip(side(width));
                if self.crop.is_none() {
                    return Err(fail("pixels from 1 to 16384, or HEIGHTxWIDTH"));
                }
            }
            "channels" => {
                self.channels = [Channels::Rgb, Channels::Bgr, Channels::Gray]
                    .into_iter()
                    .find(|channels| channels.name() == value)
                    .ok_or_else(|| fail("rgb, bgr or gray"))?;
            }
            "letterbox" => {
                self.letterbox = Some(
                    value
                        .parse()
                        .map_err(|_| fail("a grey value from 0 to 255, as in 114"))?,
                );
            }
            _ => {
                return Err(error(
                    field,
                    value,
                    &format!("one of the fields {FIELD_NAMES}"),
                ));
            }
        }
        Ok(())
    }
}

fn error(field: &str, value: &str, expected: &str) -> DataError {
    DataError::Preprocess {
        field: field.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

fn number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|x: &f32| x.is_finite())
}

fn three(text: &str) -> Option<[f32; 3]> {
    let numbers: Vec<f32> = text.split(',').map(number).collect::<Option<_>>()?;
    match numbers.as_slice() {
        [x] => Some([*x; 3]),
        [a, b, c] => Some([*a, *b, *c]),
        _ => None,
    }
}

fn side(text: &str) -> Option<u32> {
    text.trim()
        .parse()
        .ok()
        .filter(|side| (1..=SIDE_MAX).contains(side))
}

impl FromStr for Preprocess {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let mut result = Self::UNIT;
        for (place, part) in text.split(';').map(str::trim).enumerate() {
            match part.split_once('=') {
                Some((field, value)) => result.set(&field.trim().to_lowercase(), value.trim())?,
                None if place == 0 => {
                    let name = part.to_lowercase();
                    result = PRESETS
                        .iter()
                        .find(|(preset, _)| *preset == name)
                        .map(|(_, p)| *p)
                        .ok_or_else(|| {
                            error(
                                "preset",
                                part,
                                &format!(
                                    "{PRESET_NAMES}, or fields such as mean=0.5;std=0.5;scale=255"
                                ),
                            )
                        })?;
                }
                None if part.is_empty() => {}
                None => {
                    return Err(error(
                        part,
                        "",
                        &format!("FIELD=VALUE with one of the fields {FIELD_NAMES}"),
                    ));
                }
            }
        }
        if result.letterbox.is_some() && (result.resize.is_some() || result.crop.is_some()) {
            return Err(error(
                "letterbox",
                text,
                "no resize and no crop beside it, for it fits the whole picture in",
            ));
        }
        Ok(result)
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PRESETS
            .iter()
            .find(|(_, preset)| self.same_arithmetic(preset))
        {
            Some((name, _)) => f.write_str(name)?,
            None => write!(
                f,
                "mean={};std={};scale={}",
                Three(self.mean),
                Three(self.std),
                self.scale
            )?,
        }
        if let Some(side) = self.resize {
            write!(f, ";resize={side}")?;
        }
        match self.crop {
            Some((height, width)) if height == width => write!(f, ";crop={height}")?,
            Some((height, width)) => write!(f, ";crop={height}x{width}")?,
            None => {}
        }
        if self.channels != Channels::Rgb {
            write!(f, ";channels={}", self.channels.name())?;
        }
        if let Some(value) = self.letterbox {
            write!(f, ";letterbox={value}")?;
        }
        Ok(())
    }
}

/// Three numbers, or one if they are equal.
struct Three([f32; 3]);

impl fmt::Display for Three {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        if a == b && b == c {
            write!(f, "{a}")
        } else {
            write!(f, "{a},{b},{c}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_in_their_shortest_form() {
        for (text, shortest) in [
            ("imagenet", "imagenet"),
            ("unit", "unit"),
            ("Signed", "signed"),
            ("raw", "raw"),
            ("scale=255", "unit"),
            ("mean=0.5,0.5,0.5;std=.5", "signed"),
            (
                "mean=0.485,0.456,0.406;std=0.229,0.224,0.225;scale=255",
                "imagenet",
            ),
            (
                " imagenet ; resize = 256 ; crop = 224 ;",
                "imagenet;resize=256;crop=224",
            ),
            (
                "raw;letterbox=114;channels=bgr",
                "raw;channels=bgr;letterbox=114",
            ),
            (
                "mean=0.1307;std=0.3081;channels=gray",
                "mean=0.1307;std=0.3081;scale=255;channels=gray",
            ),
            (
                "mean=103.94,116.78,123.68;std=57.5;scale=1;crop=200x300",
                "mean=103.94,116.78,123.68;std=57.5;scale=1;crop=200x300",
            ),
            ("unit;mean=-1e-7", "mean=-0.0000001;std=1;scale=255"),
        ] {
            let parsed: Preprocess = text.parse().unwrap();
            assert_eq!(parsed.to_string(), shortest);
            assert_eq!(shortest.parse::<Preprocess>().unwrap(), parsed);
        }
    }

    #[test]
    fn errors_name_the_field_and_the_legal_values() {
        for (text, field, expected) in [
            ("", "\"preset\"", "imagenet, unit, signed or raw"),
            ("image", "\"image\"", "imagenet, unit, signed or raw"),
            ("mean=1,2", "\"mean\"", "one or three numbers"),
            ("mean=a", "\"mean\"", "one or three numbers"),
            ("mean=nan", "\"mean\"", "one or three numbers"),
            ("std=0", "\"std\"", "positive"),
            ("std=1,-1,1", "\"std\"", "positive"),
            ("scale=inf", "\"scale\"", "positive number"),
            ("scale=0", "\"scale\"", "positive number"),
            ("resize=0", "\"resize\"", "1 to 16384"),
            ("resize=224.5", "\"resize\"", "1 to 16384"),
            ("crop=224x", "\"crop\"", "HEIGHTxWIDTH"),
            ("channels=rgba", "\"channels\"", "rgb, bgr or gray"),
            ("letterbox=256", "\"letterbox\"", "0 to 255"),
            ("letterbox=114;resize=4", "\"letterbox\"", "no resize"),
            (
                "imagenet;rezise=4",
                "\"rezise\"",
                "mean, std, scale, resize, crop",
            ),
            ("resize=4;imagenet", "\"imagenet\"", "FIELD=VALUE"),
        ] {
            let message = text.parse::<Preprocess>().unwrap_err().to_string();
            assert!(
                message.contains(field) && message.contains(expected),
                "{text:?}: {message}"
            );
        }
    }

    #[test]
    fn tables_divide_in_the_stated_order() {
        let table = Preprocess::IMAGENET.table(1);
        for pixel in [0_u8, 1, 100, 255] {
            let expected = (f32::from(pixel) / 255.0 - 0.456) / 0.224;
            assert_eq!(table[usize::from(pixel)].to_bits(), expected.to_bits());
        }
        // numpy: (np.float32(200) / np.float32(255) - np.float32(0.485)) / np.float32(0.229)
        assert_eq!(Preprocess::IMAGENET.table(0)[200].to_bits(), 0x3fa7_4d4f);
        assert_eq!(PRESETS[2].1.table(0)[255], 1.0);
        assert_eq!(PRESETS[3].1.table(2)[255], 255.0);
    }
}
