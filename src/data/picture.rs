//! Decoding pictures within limits, and their 8-bit pixels.

use std::{
    fs::File,
    io::{Cursor, Read as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use image::{DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

/// Longest side that is decoded.
const SIDE_MAX: u32 = 32_768;
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Most memory that decoding one picture may take.
const DECODE_BYTES_MAX: u64 = 256 << 20;

/// 8-bit pixels, rows from the top, channels side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 3 for red, green, blue; 1 for grey.
    pub(super) channels: usize,
    /// `height * width * channels` values.
    pub(super) data: Vec<u8>,
}

/// Decodes a picture to red, green and blue, or to grey.
///
/// The format is told by the content, else by the extension. Of an animation the first frame is taken. Transparency is
/// dropped, 16-bit values are brought to 8 bits, and a stored rotation is not applied, as Pillow does on loading.
/// The error is a phrase that says why the picture cannot be used.
pub(super) fn decode(path: &Path, gray: bool) -> Result<Pixels, String> {
    let bytes = read_file(path)?;
    let format = image::guess_format(&bytes)
        .ok()
        .or_else(|| ImageFormat::from_path(path).ok());
    if format == Some(ImageFormat::Jpeg) && !jpeg_has_end(&bytes) {
        return Err("it cannot be decoded: the JPEG data was cut short".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes));
    if let Some(format) = format {
        reader.set_format(format);
    }
    reader.limits(limits());
    // Decoders are given files of any origin; a defect in one must cost a picture, not the run.
    let picture = catch_unwind(AssertUnwindSafe(|| reader.decode()))
        .map_err(|_| "its decoder failed on it".to_owned())?
        .map_err(|e| reason(&e))?;
    Ok(if gray {
        to_gray(picture)
    } else {
        to_rgb(picture)
    })
}

/// Width and height from the head of the file.
pub(super) fn dimensions(path: &Path) -> Result<(u32, u32), String> {
    let opened = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = opened.map_err(|e| format!("it cannot be read: {e}"))?;
    reader.limits(limits());
    catch_unwind(AssertUnwindSafe(|| reader.into_dimensions()))
        .map_err(|_| "its decoder failed on it".to_owned())?
        .map_err(|e| reason(&e))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("it cannot be read: {e}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "the file is larger than {} MiB",
            FILE_BYTES_MAX >> 20
        ));
    }
    Ok(bytes)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    limits
}

/// Tells whether the end marker follows the first scan; the decoder itself fills what is missing with grey.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or(&[]);
    // Segments before the scan are stepped over, for an embedded preview has an end marker of its own.
    while let [0xff, marker, tail @ ..] = rest {
        rest = match (marker, tail) {
            (0xff, _) => rest.get(1..).unwrap_or(&[]),
            (0xda, _) => return tail.windows(2).any(|pair| pair == [0xff, 0xd9]),
            (0x01 | 0xd0..=0xd8, _) => tail,
            (_, [high, low, ..]) => tail
                .get(usize::from(u16::from_be_bytes([*high, *low]))..)
                .unwrap_or(&[]),
            _ => &[],
        };
    }
    false
}

fn reason(error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => {
            format!(
                "larger than {SIDE_MAX} pixels a side or {} MiB decoded",
                DECODE_BYTES_MAX >> 20
            )
        }
        other => format!("it cannot be decoded: {other}"),
    }
}

fn to_rgb(picture: DynamicImage) -> Pixels {
    let picture = picture.into_rgb8();
    Pixels {
        width: picture.width(),
        height: picture.height(),
        channels: 3,
        data: picture.into_raw(),
    }
}

/// Grey pictures as they are, colours by Pillow's weights (see [`Channels::Gray`](super::Channels::Gray)).
fn to_gray(picture: DynamicImage) -> Pixels {
    if !picture.color().has_color() {
        let picture = picture.into_luma8();
        return Pixels {
            width: picture.width(),
            height: picture.height(),
            channels: 1,
            data: picture.into_raw(),
        };
    }
    let rgb = to_rgb(picture);
    let luma = |[r, g, b]: &[u8; 3]| {
        ((u32::from(*r) * 19595 + u32::from(*g) * 38470 + u32::from(*b) * 7471 + 0x8000) >> 16)
            as u8
    };
    let data = rgb.data.as_chunks::<3>().0.iter().map(luma).collect();
    Pixels {
        channels: 1,
        data,
        ..rgb
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{
        Frame, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage, codecs::gif::GifEncoder,
    };

    use super::*;

    fn saved(
        picture: &DynamicImage,
        name: &str,
        format: ImageFormat,
    ) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        picture.save_with_format(&path, format).unwrap();
        (dir, path)
    }

    fn colours() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8 * 100, y as u8 * 200, 50]))
    }

    #[test]
    fn lossless_formats_give_the_same_pixels() {
        let expected = colours().into_raw();
        for format in [
            ImageFormat::Png,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
            ImageFormat::WebP,
        ] {
            let name = format!("a.{}", format.extensions_str()[0]);
            let (_dir, path) = saved(&colours().into(), &name, format);
            assert_eq!(decode(&path, false).unwrap().data, expected, "{format:?}");
            assert_eq!(dimensions(&path), Ok((3, 2)), "{format:?}");
        }
    }

    #[test]
    fn the_content_tells_the_format() {
        let (_dir, path) = saved(&colours().into(), "really-png.jpg", ImageFormat::Png);
        assert_eq!(decode(&path, false).unwrap().data, colours().into_raw());
    }

    #[test]
    fn pixel_types_become_what_is_asked() {
        let alpha = RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 0]));
        let wide: ImageBuffer<Rgb<u16>, Vec<u16>> =
            ImageBuffer::from_pixel(1, 1, Rgb([65535, 257 * 7, 0]));
        let gray = ImageBuffer::from_pixel(1, 1, Luma([9_u8]));
        let gray_alpha = ImageBuffer::from_pixel(1, 1, LumaA([9_u8, 3]));
        let wide_gray: ImageBuffer<Luma<u16>, Vec<u16>> =
            ImageBuffer::from_pixel(1, 1, Luma([257 * 200]));
        let cases: [(DynamicImage, [u8; 3], u8); 5] = [
            (alpha.into(), [10, 20, 30], 18),
            (wide.into(), [255, 7, 0], 80),
            (gray.into(), [9, 9, 9], 9),
            (gray_alpha.into(), [9, 9, 9], 9),
            (wide_gray.into(), [200, 200, 200], 200),
        ];
        for (picture, rgb, gray) in cases {
            let (_dir, path) = saved(&picture, "a.png", ImageFormat::Png);
            assert_eq!(
                decode(&path, false).unwrap().data,
                rgb,
                "{:?}",
                picture.color()
            );
            assert_eq!(
                decode(&path, true).unwrap().data,
                [gray],
                "{:?}",
                picture.color()
            );
        }
    }

    #[test]
    fn the_first_frame_of_an_animation_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        let frame = |value| {
            Frame::new(RgbaImage::from_pixel(
                2,
                2,
                Rgba([value, value, value, 255]),
            ))
        };
        GifEncoder::new(File::create(&path).unwrap())
            .encode_frames([frame(255), frame(0)])
            .unwrap();
        assert_eq!(decode(&path, true).unwrap().data, [255; 4]);
    }

    #[test]
    fn unusable_files_give_reasons() {
        let (dir, whole) = saved(
            &RgbImage::from_pixel(64, 64, Rgb([1, 2, 3])).into(),
            "a.png",
            ImageFormat::Png,
        );
        let bytes = fs::read(&whole).unwrap();
        let mut huge = bytes.clone();
        // Width and height of the header chunk; its checksum follows the 13 bytes of the chunk.
        huge[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
        let sum = crc32(&huge[12..29]);
        huge[29..33].copy_from_slice(&sum.to_be_bytes());
        let cases: [(&str, &[u8], &str); 4] = [
            ("cut.png", &bytes[..bytes.len() / 2], "cannot be decoded"),
            ("text.png", b"this is not a picture", "cannot be decoded"),
            ("empty.jpg", b"", "cannot be decoded"),
            ("huge.png", &huge, "larger than 32768"),
        ];
        for (name, content, expected) in cases {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            let message = decode(&path, false).unwrap_err();
            assert!(message.contains(expected), "{name}: {message}");
        }
        assert!(
            decode(&dir.path().join("missing.png"), false)
                .unwrap_err()
                .contains("cannot be read")
        );
    }

    #[test]
    fn a_jpeg_cut_short_is_refused() {
        let noisy = RgbImage::from_fn(64, 64, |x, y| {
            Rgb([(x * 37 + y * y) as u8, (x * y) as u8, (y * 91) as u8])
        });
        let (dir, whole) = saved(&noisy.into(), "a.jpg", ImageFormat::Jpeg);
        assert_eq!(decode(&whole, false).unwrap().data.len(), 64 * 64 * 3);
        let bytes = fs::read(&whole).unwrap();
        for keep in [bytes.len() / 2, bytes.len() - 40, 300, 20] {
            let path = dir.path().join("cut.jpg");
            fs::write(&path, &bytes[..keep]).unwrap();
            assert!(
                decode(&path, false).is_err(),
                "{keep} of {} bytes",
                bytes.len()
            );
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                if c & 1 == 1 {
                    (c >> 1) ^ 0xedb8_8320
                } else {
                    c >> 1
                }
            })
        })
    }
}
