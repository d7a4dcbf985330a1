//! All colours, spacings and text sizes, for the light and the dark theme.

use egui::{Color32, CornerRadius, Margin, Stroke, Theme, Visuals, vec2};

use crate::figure;
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
    /// Ground of panels.
    panel: Color32,
    /// Ground of fields and plots.
    field: Color32,
    /// Ground of every other row, and of the bars of tabs.
    stripe: Color32,
    /// Ground of a button: at rest, under the pointer, pressed.
    buttons: [Color32; 3],
    /// Ground of what is selected.
    selection: Color32,
    /// Text on what is selected.
    on_selection: Color32,
    /// Text.
    text: Color32,
    /// Text of headings and of what the pointer is on.
    strong: Color32,
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
    panel: rgb(0xf5f7f9),
    field: rgb(0xffffff),
    stripe: rgb(0xebeef2),
    buttons: [rgb(0xe1e6ec), rgb(0xd3dae2), rgb(0xc3ccd7)],
    selection: rgb(0xb9d9f7),
    on_selection: rgb(0x052b52),
    text: rgb(0x1f2328),
    strong: rgb(0x000000),
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
    panel: rgb(0x1b1f24),
    field: rgb(0x14171b),
    stripe: rgb(0x20252b),
    buttons: [rgb(0x2f353d), rgb(0x3d4550), rgb(0x4a5460)],
    selection: rgb(0x1d4c78),
    on_selection: rgb(0xffffff),
    text: rgb(0xd8dee6),
    strong: rgb(0xffffff),
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
    visuals.panel_fill = palette.panel;
    visuals.window_fill = palette.card;
    visuals.extreme_bg_color = palette.field;
    visuals.faint_bg_color = palette.stripe;
    let widgets = &mut visuals.widgets;
    widgets.noninteractive.fg_stroke = Stroke::new(1.0, palette.text);
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, palette.card_edge);
    let [rest, hovered, pressed] = palette.buttons;
    for (widget, ground, text) in [
        (&mut widgets.inactive, rest, palette.text),
        (&mut widgets.hovered, hovered, palette.strong),
        (&mut widgets.active, pressed, palette.strong),
        (&mut widgets.open, hovered, palette.strong),
    ] {
        widget.bg_fill = ground;
        widget.weak_bg_fill = ground;
        widget.fg_stroke = Stroke::new(1.0, text);
    }
    // A field on a card has the colour of the card.
    widgets.inactive.bg_stroke = Stroke::new(1.0, pressed);
    widgets.hovered.fg_stroke.width = 1.5;
    visuals.weak_text_color = Some(palette.weak);
    visuals.hyperlink_color = palette.accent;
    visuals.error_fg_color = palette.bad;
    visuals.warn_fg_color = palette.warn;
    visuals.selection.bg_fill = palette.selection;
    visuals.selection.stroke = Stroke::new(1.0, palette.on_selection);
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

/// Frame of a hint.
pub(crate) fn hint(ui: &egui::Ui) -> egui::Frame {
    let palette = palette(ui);
    egui::Frame::new()
        .fill(palette.card)
        .stroke(Stroke::new(1.0, palette.accent))
        .corner_radius(6)
        .inner_margin(Margin::symmetric(8, 4))
}

/// Colour of a share in `0.0..=1.0`, dark to light.
pub(crate) fn scale_color(share: f64) -> Color32 {
    let [red, green, blue] = figure::scale_color(share);
    Color32::from_rgb(red, green, blue)
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

/// Relative luminance of WCAG 2.2.
fn luminance(color: Color32) -> f64 {
    let [red, green, blue] = [color.r(), color.g(), color.b()].map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// Share of light that an sRGB channel stands for.
fn linear(channel: u8) -> f64 {
    let channel = f64::from(channel) / 255.0;
    if channel <= 0.04045 {
        channel / 12.92
    } else {
        ((channel + 0.055) / 1.055).powf(2.4)
    }
}

/// Black or white, whichever is easier to read on a ground.
pub(crate) fn text_on(ground: Color32) -> Color32 {
    // At this luminance black and white have the same contrast (WCAG 2.2).
    if luminance(ground) > 0.179 {
        Color32::BLACK
    } else {
        Color32::WHITE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[track_caller]
    fn check(text: Color32, ground: Color32, least: f64) {
        let contrast = contrast(text, ground);
        assert!(contrast >= least, "{text:?} on {ground:?}: {contrast:.2}");
    }

    #[test]
    fn text_can_be_read_in_both_themes() {
        for palette in [LIGHT, DARK] {
            let texts = [
                palette.text,
                palette.strong,
                palette.weak,
                palette.accent,
                palette.good,
                palette.warn,
                palette.bad,
            ];
            let grounds = [palette.panel, palette.card, palette.stripe, palette.field];
            for ground in grounds {
                for text in texts {
                    check(text, ground, 4.5);
                }
                // Lines and marks of plots are no text.
                for series in palette.series {
                    check(series, ground, 3.0);
                }
            }
            for button in palette.buttons {
                check(palette.text, button, 4.5);
                check(palette.strong, button, 4.5);
            }
            check(palette.on_selection, palette.selection, 4.5);
            check(palette.weak, palette.empty_cell, 4.5);
        }
    }

    #[test]
    fn widgets_take_their_colours_from_the_tokens() {
        let mut visuals = Visuals::dark();
        set_visuals(&mut visuals, &DARK);
        for widget in [
            visuals.widgets.inactive,
            visuals.widgets.hovered,
            visuals.widgets.active,
            visuals.widgets.open,
        ] {
            check(widget.fg_stroke.color, widget.weak_bg_fill, 4.5);
            check(widget.fg_stroke.color, widget.bg_fill, 4.5);
        }
    }

    #[test]
    fn text_can_be_read_on_every_colour_of_the_scale() {
        for step in 0..=100 {
            let ground = scale_color(f64::from(step) / 100.0);
            check(text_on(ground), ground, 4.5);
        }
    }

    /// What a colour-blind reader sees, as linear light (Machado, Oliveira and Fernandes, 2009, severity 1).
    fn seen(color: Color32, matrix: [[f64; 3]; 3]) -> [f64; 3] {
        let light = [color.r(), color.g(), color.b()].map(linear);
        matrix.map(|row| {
            let sum: f64 = row.iter().zip(light).map(|(weight, x)| weight * x).sum();
            sum.clamp(0.0, 1.0)
        })
    }

    #[test]
    fn the_scale_grows_lighter_for_every_reader() {
        let normal = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let protanopia = [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ];
        let deuteranopia = [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ];
        for matrix in [normal, protanopia, deuteranopia] {
            let lightness: Vec<f64> = (0..=20)
                .map(|step| {
                    let [red, green, blue] = seen(scale_color(f64::from(step) / 20.0), matrix);
                    116.0 * (0.2126 * red + 0.7152 * green + 0.0722 * blue).cbrt() - 16.0
                })
                .collect();
            for pair in lightness.windows(2) {
                let step = pair[1] - pair[0];
                assert!((2.5..=5.0).contains(&step), "{step:.2} of {lightness:?}");
            }
        }
    }
}
