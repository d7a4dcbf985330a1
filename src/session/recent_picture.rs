//! The picture of a recent model as it is stored: hexadecimal digits, so that the store stays text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::data::Thumbnail;

/// Longest side of the picture in pixels.
pub(super) const SIDE: u32 = 40;

#[derive(Serialize, Deserialize)]
struct Stored {
    width: u32,
    height: u32,
    /// Six digits a pixel.
    rgb: String,
}

impl Stored {
    /// The picture; `None` where the digits are not those of its size.
    fn picture(&self) -> Option<Thumbnail> {
        let Self { width, height, rgb } = self;
        let fits = (1..=SIDE).contains(width) && (1..=SIDE).contains(height);
        if !fits
            || rgb.len() != (width * height * 6) as usize
            || !rgb.bytes().all(|digit| digit.is_ascii_hexdigit())
        {
            return None;
        }
        let mut rgba = Vec::with_capacity((width * height * 4) as usize);
        for pixel in rgb.as_bytes().chunks_exact(6) {
            let pixel = std::str::from_utf8(pixel).ok()?;
            let [_, red, green, blue] = u32::from_str_radix(pixel, 16).ok()?.to_be_bytes();
            rgba.extend([red, green, blue, u8::MAX]);
        }
        Some(Thumbnail {
            width: *width,
            height: *height,
            rgba,
        })
    }
}

#[expect(clippy::ref_option, reason = "serde calls it with the field")]
pub(super) fn serialize<S: Serializer>(
    picture: &Option<Thumbnail>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let stored = picture.as_ref().map(|picture| {
        let pixels = picture.rgba.chunks_exact(4);
        Stored {
            width: picture.width,
            height: picture.height,
            rgb: pixels
                .flat_map(|pixel| &pixel[..3])
                .flat_map(|byte| [byte >> 4, byte & 15])
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect(),
        }
    });
    stored.serialize(serializer)
}

/// What was stored; a picture that is damaged is no picture.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Thumbnail>, D::Error> {
    let stored = Option::<Stored>::deserialize(deserializer)?;
    Ok(stored.and_then(|stored| stored.picture()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Recent;

    #[test]
    fn a_picture_is_stored_and_read() {
        let picture = Thumbnail {
            width: 2,
            height: 1,
            rgba: vec![1, 2, 255, 255, 16, 0, 9, 255],
        };
        let recent = Recent {
            picture: Some(picture),
            ..Recent::of("net.onnx".into())
        };
        let text = serde_json::to_string(&recent).unwrap();
        assert!(text.contains("0102ff100009"), "{text}");
        assert_eq!(serde_json::from_str::<Recent>(&text).unwrap(), recent);
    }

    #[test]
    fn a_damaged_picture_is_left_out() {
        for picture in [
            r#"{"width":2,"height":1,"rgb":"010203"}"#,
            r#"{"width":0,"height":0,"rgb":""}"#,
            r#"{"width":1,"height":1,"rgb":"01020z"}"#,
            r#"{"width":1,"height":1,"rgb":"+10203"}"#,
            r#"{"width":100000,"height":100000,"rgb":""}"#,
            "null",
        ] {
            let text = format!(
                r#"{{"model":"a.onnx","data":null,"calibration":null,"picture":{picture}}}"#
            );
            let recent: Recent = serde_json::from_str(&text).unwrap();
            assert_eq!(recent, Recent::of("a.onnx".into()), "{picture}");
        }
    }
}
