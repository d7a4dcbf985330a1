//! All colours, spacings and text sizes, for the light and the dark theme.

use egui::{Color32, CornerRadius, Margin, Stroke, Theme, Visuals, vec2};

use crate::quant::NumberFormat;

/// Height of a table row in points.
pub(crate) const ROW_HEIGHT: f32 = 22.0;
/// Height of a plot among other things in points.
pub(crate) const PLOT_HEIGHT: f32 = 190.0;
/// SQNR that the colour scale ends at, in dB; a layer above it is hardly touched.
pub(crate) const SQNR_FULL_DB: f64 = 50.0;

/// Colours by meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    /// Text of lesser weight, still readable (contrast of 4.5 and more).
    pub(crate) weak: Color32,
    /// What is selected or leads.
    pub(crate) accent: Color32,
    /// Better, or done.
    pub(crate) good: Color32,
    /// Worth a look.
    pub(crate) warn: Color32,
    /// Worse, or failed.
    pub(crate) bad: Color32,
    /// Ground of a card.
    pub(crate) card: Color32,
    /// Edge of a card.
    pub(crate) card_edge: Color32,
    /// Ground of a cell without a value.
    pub(crate) empty_cell: Color32,
    /// Series of a plot: first, second, third.
    pub(crate) series: [Color32; 5],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

const LIGHT: Palette = Palette {
    weak: rgb(0x57606a),
    accent: rgb(0x0b5cad),
    good: rgb(0x177531),
    warn: rgb(0x8f5a00),
    bad: rgb(0xb42318),
    card: rgb(0xffffff),
    card_edge: rgb(0xd5dae1),
    empty_cell: rgb(0xe4e8ed),
    // Okabe and Ito's colours, darkened where they would be pale on white.
    series: [
        rgb(0x0072b2),
        rgb(0xc44e00),
        rgb(0x008460),
        rgb(0xa34b82),
        rgb(0x8a6d00),
    ],
};

const DARK: Palette = Palette {
    weak: rgb(0xa4adb8),
    accent: rgb(0x5bb0ff),
    good: rgb(0x56d364),
    warn: rgb(0xe3b341),
    bad: rgb(0xff8a80),
    card: rgb(0x22272e),
    card_edge: rgb(0x3a424c),
    empty_cell: rgb(0x2d333b),
    series: [
        rgb(0x56b4e9),
        rgb(0xf08a3c),
        rgb(0x2fc394),
        rgb(0xe08fc0),
        rgb(0xf0e442),
    ],
};

/// The colours of the theme in use.
pub(crate) fn palette(ui: &egui::Ui) -> &'static Palette {
    if ui.visuals().dark_mode {
        &DARK
    } else {
        &LIGHT
    }
}

/// Sets styles for both themes; called once, before the first frame.
pub fn apply(ctx: &egui::Context) {
    ctx.all_styles_mut(|style| {
        style.spacing.item_spacing = vec2(8.0, 5.0);
        style.spacing.button_padding = vec2(8.0, 3.0);
        style.spacing.interact_size.y = 22.0;
        style.spacing.combo_width = 70.0;
        if let Some(small) = style.text_styles.get_mut(&egui::TextStyle::Small) {
            small.size = 11.0;
        }
        style.interaction.tooltip_delay = 0.35;
        style.visuals.indent_has_left_vline = false;
        for widget in [
            &mut style.visuals.widgets.noninteractive,
            &mut style.visuals.widgets.inactive,
            &mut style.visuals.widgets.hovered,
            &mut style.visuals.widgets.active,
            &mut style.visuals.widgets.open,
        ] {
            widget.corner_radius = CornerRadius::same(4);
        }
    });
    ctx.style_mut_of(Theme::Light, |style| {
        set_visuals(&mut style.visuals, &LIGHT);
    });
    ctx.style_mut_of(Theme::Dark, |style| set_visuals(&mut style.visuals, &DARK));
}

fn set_visuals(visuals: &mut Visuals, palette: &Palette) {
    let (panel, text, strong) = if visuals.dark_mode {
        (rgb(0x1b1f24), rgb(0xd8dee6), rgb(0xffffff))
    } else {
        (rgb(0xf5f7f9), rgb(0x1f2328), rgb(0x000000))
    };
    visuals.panel_fill = panel;
    visuals.window_fill = palette.card;
    visuals.extreme_bg_color = if visuals.dark_mode {
        rgb(0x14171b)
    } else {
        rgb(0xffffff)
    };
    visuals.faint_bg_color = if visuals.dark_mode {
        rgb(0x20252b)
    } else {
        rgb(0xebeef2)
    };
    visuals.widgets.noninteractive.fg_stroke = Stroke::new(1.0, text);
    visuals.widgets.noninteractive.bg_stroke = Stroke::new(1.0, palette.card_edge);
    visuals.widgets.inactive.fg_stroke = Stroke::new(1.0, text);
    visuals.widgets.hovered.fg_stroke = Stroke::new(1.5, strong);
    visuals.weak_text_color = Some(palette.weak);
    visuals.hyperlink_color = palette.accent;
    visuals.error_fg_color = palette.bad;
    visuals.warn_fg_color = palette.warn;
    let (fill, on_fill) = if visuals.dark_mode {
        (rgb(0x1d4c78), rgb(0xffffff))
    } else {
        (rgb(0xb9d9f7), rgb(0x052b52))
    };
    visuals.selection.bg_fill = fill;
    visuals.selection.stroke = Stroke::new(1.0, on_fill);
}

/// Frame of a card.
pub(crate) fn card(ui: &egui::Ui) -> egui::Frame {
    let palette = palette(ui);
    egui::Frame::new()
        .fill(palette.card)
        .stroke(Stroke::new(1.0, palette.card_edge))
        .corner_radius(6)
        .inner_margin(Margin::symmetric(10, 8))
}

/// Viridis (Smith and van der Walt, 2015): uniform to the eye and safe for colour-blind readers.
const SCALE: [Color32; 9] = [
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

/// Colour of a share in `0.0..=1.0`, dark to light.
pub(crate) fn scale_color(share: f64) -> Color32 {
    let position = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let below = (position.floor() as usize).min(SCALE.len() - 2);
    SCALE[below].lerp_to_gamma(SCALE[below + 1], (position - below as f64) as f32)
}

/// Colour of a change in `-1.0..=1.0`: less in one hue, more in another, none in neither.
pub(crate) fn difference_color(palette: &Palette, share: f64) -> Color32 {
    let [more, less, ..] = palette.series;
    if share == 0.0 {
        return palette.empty_cell;
    }
    let hue = if share > 0.0 { more } else { less };
    let strength = 0.3 + 0.7 * share.abs().min(1.0);
    palette.empty_cell.lerp_to_gamma(hue, strength as f32)
}

/// Colour of a width: dark for few bits, light for many; `None` for float, which has no place on the scale.
pub(crate) fn width_color(format: NumberFormat) -> Option<Color32> {
    match format {
        NumberFormat::Int(bits) if bits.get() <= 8 => {
            Some(scale_color(f64::from(bits.get() - 1) / 8.0))
        }
        NumberFormat::Int(_) => Some(scale_color(1.0)),
        _ => None,
    }
}

/// Black or white, whichever is easier to read on a ground.
pub(crate) fn text_on(ground: Color32) -> Color32 {
    let channel = |value: u8| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    let luminance =
        0.2126 * channel(ground.r()) + 0.7152 * channel(ground.g()) + 0.0722 * channel(ground.b());
    // At this luminance black and white have the same contrast (WCAG 2.2).
    if luminance > 0.179 {
        Color32::BLACK
    } else {
        Color32::WHITE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(color: Color32) -> f64 {
        let channel = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(color.r()) + 0.7152 * channel(color.g()) + 0.0722 * channel(color.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_in_both_themes() {
        for (palette, visuals) in [(LIGHT, Visuals::light()), (DARK, Visuals::dark())] {
            let mut visuals = visuals;
            set_visuals(&mut visuals, &palette);
            for ground in [visuals.panel_fill, palette.card, visuals.faint_bg_color] {
                for color in [
                    palette.weak,
                    palette.accent,
                    palette.good,
                    palette.warn,
                    palette.bad,
                ] {
                    let contrast = contrast(color, ground);
                    assert!(contrast >= 4.5, "{color:?} on {ground:?}: {contrast}");
                }
            }
        }
    }

    #[test]
    fn text_can_be_read_on_every_colour_of_the_scale() {
        for step in 0..=100 {
            let ground = scale_color(f64::from(step) / 100.0);
            assert!(contrast(text_on(ground), ground) >= 4.5, "{ground:?}");
        }
    }
}
