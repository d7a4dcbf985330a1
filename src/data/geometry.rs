//! Where a picture goes in the network's input: resizing, centre crop, letterbox.

use super::{Preprocess, picture::Pixels, resample};

/// Placement of a resized picture relative to the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    /// Width and height of the whole resized picture.
    scaled: (u64, u64),
    /// Left and top edge of the input in the resized picture; negative where the input begins before it.
    offset: (i64, i64),
    /// Value of the pixels outside the picture.
    fill: u8,
}

/// Brings `source` to `height` x `width` (both at least 1) after the rules of [`Preprocess`].
pub(super) fn apply(source: Pixels, preprocess: &Preprocess, height: u32, width: u32) -> Pixels {
    if (source.height, source.width) == (height, width)
        && preprocess.resize.is_none()
        && preprocess.crop.is_none()
    {
        return source;
    }
    let placement = placement((source.width, source.height), (width, height), preprocess);
    cut_out(&source, &placement, width, height)
}

/// `source` and `input` are width and height.
fn placement(source: (u32, u32), input: (u32, u32), preprocess: &Preprocess) -> Placement {
    if let Some(fill) = preprocess.letterbox {
        return letterbox(source, input, fill);
    }
    let scaled = match preprocess.resize {
        Some(side) => shorter_side(source, side),
        None if input.0 == input.1 => shorter_side(source, margin(input.0, preprocess)),
        None => cover(
            source,
            (margin(input.0, preprocess), margin(input.1, preprocess)),
        ),
    };
    let offset = (centre(scaled.0, input.0), centre(scaled.1, input.1));
    Placement {
        scaled,
        offset,
        fill: 0,
    }
}

/// The size before the centre is cut out: ImageNet's classifiers are tested on 224 pixels of 256.
fn margin(side: u32, preprocess: &Preprocess) -> u32 {
    if preprocess.is_imagenet() && side >= 64 {
        (f64::from(side) * 256.0 / 224.0).round() as u32
    } else {
        side
    }
}

/// torchvision's `Resize(side)`: the longer side is rounded down.
fn shorter_side((width, height): (u32, u32), side: u32) -> (u64, u64) {
    let long = |longer: u32, shorter: u32| {
        (u64::from(side) * u64::from(longer) / u64::from(shorter.max(1))).max(1)
    };
    if width <= height {
        (side.into(), long(height, width))
    } else {
        (long(width, height), side.into())
    }
}

/// The smallest size of the same shape that covers `area`.
fn cover((width, height): (u32, u32), area: (u32, u32)) -> (u64, u64) {
    let ratio = (f64::from(area.0) / f64::from(width)).max(f64::from(area.1) / f64::from(height));
    let side =
        |length: u32, least: u32| ((f64::from(length) * ratio).round() as u64).max(least.into());
    (side(width, area.0), side(height, area.1))
}

/// YOLOX's `preproc`: one ratio for both sides, lengths rounded down, top left corner.
fn letterbox((width, height): (u32, u32), input: (u32, u32), fill: u8) -> Placement {
    let ratio = (f64::from(input.0) / f64::from(width)).min(f64::from(input.1) / f64::from(height));
    let side = |length: u32, most: u32| ((f64::from(length) * ratio) as u64).clamp(1, most.into());
    Placement {
        scaled: (side(width, input.0), side(height, input.1)),
        offset: (0, 0),
        fill,
    }
}

/// Left or top edge of torchvision's `CenterCrop`: half of the rest, rounded half to even; the padding rounds down.
fn centre(scaled: u64, input: u32) -> i64 {
    let rest = scaled as i64 - i64::from(input);
    if rest < 0 {
        -(-rest / 2)
    } else {
        (rest as f64 / 2.0).round_ties_even() as i64
    }
}

fn cut_out(source: &Pixels, placement: &Placement, width: u32, height: u32) -> Pixels {
    // The part of the input that the picture reaches, as a range of the resized picture.
    let span = |offset: i64, input: u32, scaled: u64| {
        let start = offset.max(0);
        let end = (offset + i64::from(input)).min(scaled as i64).max(start);
        start as u64..end as u64
    };
    let columns = span(placement.offset.0, width, placement.scaled.0);
    let rows = span(placement.offset.1, height, placement.scaled.1);
    let left = (columns.start as i64 - placement.offset.0) as usize;
    let top = (rows.start as i64 - placement.offset.1) as usize;
    let part = resample::window(source, placement.scaled, columns, rows);
    if (part.width, part.height) == (width, height) {
        return part;
    }
    let channels = source.channels;
    let row_len = width as usize * channels;
    let mut data = vec![placement.fill; row_len * height as usize];
    let part_rows = part
        .data
        .chunks_exact((part.width as usize * channels).max(1));
    for (row, out) in part_rows.zip(data.chunks_exact_mut(row_len).skip(top)) {
        for (pixel, &x) in out.iter_mut().skip(left * channels).zip(row) {
            *pixel = x;
        }
    }
    Pixels {
        width,
        height,
        channels,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(source: (u32, u32), input: (u32, u32), text: &str) -> ((u64, u64), (i64, i64)) {
        let placement = placement(source, input, &text.parse().unwrap());
        (placement.scaled, placement.offset)
    }

    #[test]
    fn placements() {
        let cases = [
            // The numbers of torchvision's Resize(256) and CenterCrop(224).
            ((500, 375), (224, 224), "imagenet", ((341, 256), (58, 16))),
            ((375, 500), (224, 224), "imagenet", ((256, 341), (16, 58))),
            ((256, 257), (224, 224), "imagenet", ((256, 257), (16, 16))),
            ((256, 259), (224, 224), "imagenet", ((256, 259), (16, 18))),
            ((500, 375), (224, 224), "unit", ((298, 224), (37, 0))),
            (
                (500, 375),
                (224, 224),
                "unit;resize=300",
                ((400, 300), (88, 38)),
            ),
            ((96, 64), (32, 32), "imagenet", ((48, 32), (8, 0))),
            (
                (100, 50),
                (224, 224),
                "unit;resize=100",
                ((200, 100), (-12, -62)),
            ),
            ((101, 50), (8, 8), "unit;resize=5", ((10, 5), (1, -1))),
            // A wide input is covered.
            ((100, 100), (64, 32), "unit", ((64, 64), (0, 16))),
            (
                (640, 427),
                (416, 416),
                "raw;letterbox=114",
                ((416, 277), (0, 0)),
            ),
            (
                (100, 200),
                (416, 416),
                "raw;letterbox=114",
                ((208, 416), (0, 0)),
            ),
            (
                (10000, 1),
                (416, 416),
                "raw;letterbox=114",
                ((416, 1), (0, 0)),
            ),
        ];
        for (source, input, text, expected) in cases {
            assert_eq!(
                placed(source, input, text),
                expected,
                "{source:?} to {input:?}, {text}"
            );
        }
    }

    fn ramp(width: u32, height: u32) -> Pixels {
        let data = (0..width * height).map(|i| i as u8).collect();
        Pixels {
            width,
            height,
            channels: 1,
            data,
        }
    }

    #[test]
    fn a_picture_of_the_right_size_is_left_alone_unless_asked() {
        let apply_text = |text: &str| apply(ramp(4, 4), &text.parse().unwrap(), 4, 4).data;
        assert_eq!(apply_text("imagenet"), ramp(4, 4).data);
        assert_eq!(apply_text("raw;letterbox=9"), ramp(4, 4).data);
        assert_eq!(apply_text("unit;crop=4"), ramp(4, 4).data);
        assert_ne!(apply_text("unit;resize=8"), ramp(4, 4).data);
    }

    #[test]
    fn padding_surrounds_or_follows_the_picture() {
        let centred = apply(ramp(2, 2), &"unit;resize=2".parse().unwrap(), 4, 5);
        assert_eq!(
            centred.data,
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0]
        );
        let boxed = apply(ramp(2, 1), &"unit;letterbox=7".parse().unwrap(), 2, 2);
        assert_eq!(boxed.data, [0, 1, 7, 7]);
    }

    #[test]
    fn extreme_shapes_stay_cheap() {
        let thin = Pixels {
            width: 1,
            height: 32768,
            channels: 1,
            data: vec![5; 32768],
        };
        let out = apply(thin, &"unit".parse().unwrap(), 224, 224);
        assert_eq!((out.data.len(), out.data[0]), (224 * 224, 5));
    }
}
