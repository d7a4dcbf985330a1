//! Colours on white paper.

use super::figure::{Ink, Ramp};

/// Red, green and blue, sRGB.
pub(super) type Rgb = [u8; 3];

pub(super) const WHITE: Rgb = [0xff; 3];
pub(super) const BLACK: Rgb = [0; 3];
/// Text that stands back; contrast of 6 on white.
pub(super) const GRAY: Rgb = rgb(0x57606a);
/// Lines of the grid.
pub(super) const GRID: Rgb = rgb(0xdde1e6);
/// A cell that holds nothing, or no difference.
pub(super) const EMPTY: Rgb = rgb(0xe4e8ed);

/// Okabe and Ito's colours (2008), darkened where they would be pale on white.
const SERIES: [Rgb; 5] = [
    rgb(0x0072b2),
    rgb(0xc44e00),
    rgb(0x008460),
    rgb(0xa34b82),
    rgb(0x8a6d00),
];

/// Viridis (Smith and van der Walt, 2015): uniform to the eye and safe for colour-blind readers.
const VIRIDIS: [Rgb; 9] = [
    rgb(0x440154),
    rgb(0x472d7b),
    rgb(0x3b528b),
    rgb(0x2c728e),
    rgb(0x21918c),
    rgb(0x28ae80),
    rgb(0x5ec962),
    rgb(0xaddc30),
    rgb(0xfde725),
];

const fn rgb(hex: u32) -> Rgb {
    [(hex >> 16) as u8, (hex >> 8) as u8, hex as u8]
}

impl Ink {
    pub(super) fn on_paper(self) -> Rgb {
        match self {
            Self::Series(index) => SERIES[index % SERIES.len()],
            Self::Accent => rgb(0x0b5cad),
            Self::Weak => rgb(0x8a939d),
            Self::Warn => rgb(0xb06f00),
        }
    }
}

impl Ramp {
    /// Colour of a shade; what is not a number has none.
    pub(super) fn on_paper(self, shade: f64) -> Rgb {
        match self {
            _ if shade.is_nan() => EMPTY,
            Self::Sequential => scale_color(shade),
            Self::Diverging if shade == 0.0 => EMPTY,
            Self::Diverging => {
                let hue = SERIES[usize::from(shade < 0.0)];
                mix(EMPTY, hue, 0.3 + 0.7 * shade.abs().min(1.0))
            }
        }
    }
}

/// Red, green and blue of a share in `0.0..=1.0`, dark to light.
pub fn scale_color(share: f64) -> [u8; 3] {
    let position = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let below = (position.floor() as usize).min(VIRIDIS.len() - 2);
    mix(VIRIDIS[below], VIRIDIS[below + 1], position - below as f64)
}

fn mix(from: Rgb, to: Rgb, share: f64) -> Rgb {
    let channel = |index: usize| {
        let (from, to) = (f64::from(from[index]), f64::from(to[index]));
        (from + (to - from) * share).round() as u8
    };
    [channel(0), channel(1), channel(2)]
}

/// Black or white, whichever is easier to read on a ground (luminance of WCAG 2.2).
pub(super) fn text_on(ground: Rgb) -> Rgb {
    let linear = ground.map(|channel| {
        let channel = f64::from(channel) / 255.0;
        if channel <= 0.04045 {
            channel / 12.92
        } else {
            ((channel + 0.055) / 1.055).powf(2.4)
        }
    });
    let luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    if luminance > 0.179 { BLACK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_run_from_dark_to_light() {
        assert_eq!(scale_color(0.0), rgb(0x440154));
        assert_eq!(scale_color(7.0), rgb(0xfde725));
        assert_eq!(text_on(scale_color(0.0)), WHITE);
        assert_eq!(text_on(scale_color(1.0)), BLACK);
        assert_eq!(Ramp::Diverging.on_paper(0.0), EMPTY);
        assert_eq!(Ramp::Sequential.on_paper(f64::NAN), EMPTY);
    }
}
