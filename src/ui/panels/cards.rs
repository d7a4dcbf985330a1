//! The numbers at the top of the overview.

use egui::{Color32, RichText, vec2};

use crate::engine::Classification;
use crate::session::{Basis, Session, Standing};
use crate::ui::{format, theme};

/// Least width of a card in points.
const CARD_WIDTH: f32 = 148.0;
/// Least height of a card's content in points.
const CARD_HEIGHT: f32 = 56.0;
/// Space between the lines of a card in points.
const LINE_SPACING: f32 = 2.0;

const COST_HOVER: &str = "MACs × weight bits × activation bits, per sample.\nBelow: estimated latency per sample, for comparing plans, not a measurement. It is the least time on one Arm Cortex-A76 core at 2.4 GHz, the sum of the layers' rooflines: layers whose weights and activations have at most 8 bits compute with 8-bit dot products, layers of at most 16 bits twice as fast as f32; weights are read once at 8 GB/s";

/// One number with its name and a line below it.
struct Card {
    title: &'static str,
    value: String,
    detail: String,
    hover: &'static str,
    color: Option<Color32>,
}

/// The cards in as many columns as fit.
pub(super) fn cards_ui(ui: &mut egui::Ui, session: &Session) {
    let cards = cards(ui, session);
    let spacing = ui.spacing().item_spacing.x;
    let width = ui.available_width();
    let columns = columns_for(width, spacing, cards.len());
    let card_width = (width - spacing * (columns - 1) as f32) / columns as f32;
    for row in cards.chunks(columns) {
        let inner = (card_width - theme::card(ui).total_margin().sum().x).max(40.0);
        let heights = row.iter().map(|card| content_height(ui, card, inner));
        let height = heights.fold(CARD_HEIGHT, f32::max);
        ui.horizontal(|ui| {
            for card in row {
                card_ui(ui, card, vec2(inner, height));
            }
        });
    }
}

/// As many columns as fit, but no more than fill the rows evenly.
fn columns_for(width: f32, spacing: f32, cards: usize) -> usize {
    let fit = ((width + spacing) / (CARD_WIDTH + spacing)).floor() as usize;
    let fit = fit.clamp(1, cards.max(1));
    cards.div_ceil(cards.div_ceil(fit).max(1)).max(1)
}

/// Height in points of a card's content where its lines are as wide as the card at most.
fn content_height(ui: &egui::Ui, card: &Card, width: f32) -> f32 {
    let small = egui::TextStyle::Small.resolve(ui.style());
    let height = |text: &str, font: egui::FontId| {
        let color = Color32::PLACEHOLDER;
        let galley = ui.painter().layout(text.to_owned(), font, color, width);
        galley.size().y
    };
    height(card.title, small.clone())
        + height(&card.value, value_font(ui, card, width))
        + height(&card.detail, small)
        + 2.0 * LINE_SPACING
}

/// The largest of a few sizes in which the value fits.
fn value_font(ui: &egui::Ui, card: &Card, width: f32) -> egui::FontId {
    let sizes = [20.0, 18.0, 16.0, 14.0].map(egui::FontId::proportional);
    let fits = |font: &egui::FontId| {
        let (text, color) = (card.value.clone(), Color32::PLACEHOLDER);
        let galley = ui.painter().layout_no_wrap(text, font.clone(), color);
        galley.size().x <= width
    };
    let last = egui::FontId::proportional(14.0);
    sizes.into_iter().find(fits).unwrap_or(last)
}

fn card_ui(ui: &mut egui::Ui, card: &Card, size: egui::Vec2) {
    let weak = theme::palette(ui).weak;
    let value_font = value_font(ui, card, size.x);
    theme::card(ui)
        .show(ui, |ui| {
            ui.set_width(size.x);
            ui.set_height(size.y);
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing = vec2(4.0, LINE_SPACING);
                ui.add(egui::Label::new(RichText::new(card.title).small().color(weak)).wrap());
                let mut value = RichText::new(card.value.as_str()).font(value_font).strong();
                if let Some(color) = card.color {
                    value = value.color(color);
                }
                ui.add(egui::Label::new(value).truncate());
                ui.add(
                    egui::Label::new(RichText::new(card.detail.as_str()).small().color(weak))
                        .wrap(),
                );
            });
        })
        .response
        .on_hover_text(card.hover);
}

fn cards(ui: &egui::Ui, session: &Session) -> Vec<Card> {
    let mut cards = Vec::new();
    if has_labels(session) {
        cards.extend([
            float_card(session),
            plan_card(session),
            difference_card(ui, session),
        ]);
    }
    cards.extend(cost_cards(session));
    cards.extend(comparison_cards(session));
    cards.extend(rounding_card(ui, session));
    cards
}

/// Whether accuracy can be told; `true` while that is not known.
pub(super) fn has_labels(session: &Session) -> bool {
    match session.float() {
        Some((reference, _)) => reference.samples == 0 || reference.metrics.labelled > 0,
        None => true,
    }
}

fn float_card(session: &Session) -> Card {
    let (metrics, samples) = session.float().map_or_else(
        || (Classification::default(), 0),
        |(reference, _)| (reference.metrics, reference.samples),
    );
    let total = session.data().map_or(0, |data| data.evaluation.len());
    Card {
        title: "Float accuracy (top-1)",
        value: accuracy(&metrics),
        detail: detail(&metrics, samples, total),
        hover: "Share of samples whose label is the largest output of the float network, with its 95 % Wilson interval",
        color: None,
    }
}

fn plan_card(session: &Session) -> Card {
    let standing = session.plan_top1();
    let total = session.data().map_or(0, |data| data.evaluation.len());
    let measured = session.result().map_or_else(
        || detail(&Classification::default(), 0, total),
        |result| {
            let evaluation = &result.evaluation;
            detail(&evaluation.plan, evaluation.samples, evaluation.total)
        },
    );
    Card {
        title: "Plan accuracy (top-1)",
        value: number(standing, format::percent),
        detail: estimate_detail(standing).unwrap_or(measured),
        hover: "Share of samples whose label is the largest output under the current plan, with its 95 % Wilson interval. Until the first samples are measured, an estimate: the drops of single layers from the last sensitivity sweep add up",
        color: None,
    }
}

fn difference_card(ui: &egui::Ui, session: &Session) -> Card {
    let palette = theme::palette(ui);
    let standing = session.plan_top1();
    let difference = difference(session, standing);
    let color = difference.map(|difference| match difference {
        difference if difference >= -0.005 => palette.good,
        difference if difference >= -0.02 => palette.warn,
        _ => palette.bad,
    });
    Card {
        title: "Plan − float",
        value: number(
            difference
                .zip(standing)
                .map(|(value, standing)| Standing { value, ..standing }),
            format::points,
        ),
        detail: estimate_detail(standing).unwrap_or_else(|| match session.result() {
            Some(result) if !result.finished => "on the same samples, so far".to_owned(),
            _ => "on the same samples".to_owned(),
        }),
        hover: "Difference of the two accuracies in percentage points",
        color,
    }
}

/// Plan minus float: both on the samples measured so far, or both as they stand for all samples.
fn difference(session: &Session, plan: Option<Standing>) -> Option<f64> {
    let plan = plan?;
    let float = if plan.is_predicted() {
        session.float()?.0.metrics
    } else {
        session.result()?.evaluation.float
    };
    Some(plan.value - float.top1()?)
}

fn cost_cards(session: &Session) -> Vec<Card> {
    let Some(cost) = session.cost() else {
        return Vec::new();
    };
    vec![
        Card {
            title: "Size",
            value: format::bytes(cost.size_bytes),
            detail: format!(
                "{:.2}× smaller than {}",
                cost.compression(),
                format::bytes(cost.float_size_bytes)
            ),
            hover: "Packed weights with scales, zero points and biases; what no layer owns counts as f32",
            color: None,
        },
        Card {
            title: "Average bits",
            value: format!(
                "W {:.2}  A {:.2}",
                cost.average_weight_bits, cost.average_activation_bits
            ),
            detail: "32 is float".to_owned(),
            hover: "Mean width of the weights, and of the layers' inputs weighted by MACs",
            color: None,
        },
        Card {
            title: "Bit operations",
            value: format!("{}BOPs", format::count(cost.bops)),
            detail: format!("≈ {} (estimate)", format::seconds(cost.latency_secs)),
            hover: COST_HOVER,
            color: None,
        },
    ]
}

fn comparison_cards(session: &Session) -> Vec<Card> {
    let comparison = session.result().map(|result| result.evaluation.comparison);
    let sqnr_db = session.plan_sqnr_db();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    vec![
        Card {
            title: "Agreement with float",
            value: or_dash(comparison.and_then(|c| c.agreement()).map(format::percent)),
            detail: "same largest output".to_owned(),
            hover: "Share of samples on which plan and float predict the same class; needs no labels",
            color: None,
        },
        Card {
            title: "KL divergence",
            value: or_dash(
                comparison
                    .and_then(|c| c.kl())
                    .map(|kl| format!("{} nat", format::value(kl.max(0.0)))),
            ),
            detail: "mean over samples".to_owned(),
            hover: "KL(float ‖ plan) of the softmax outputs; 0 is identical",
            color: None,
        },
        Card {
            title: "Output SQNR",
            value: number(sqnr_db, format::db),
            detail: estimate_detail(sqnr_db).unwrap_or_else(|| "raw outputs".to_owned()),
            hover: "10·log10(Σy² / Σ(y − ŷ)²) over all raw outputs; higher is better. Until the first samples are measured, an estimate: the noise of single layers adds up",
            color: None,
        },
    ]
}

/// What rounding on calibration data gains over the nearest levels; none for a plan that does without.
fn rounding_card(ui: &egui::Ui, session: &Session) -> Option<Card> {
    if !session.plan().is_tuned() || session.data().is_none() {
        return None;
    }
    let palette = theme::palette(ui);
    let now = session.result().filter(|result| result.finished);
    let pair = session.counterpart().zip(now);
    let top1 = pair
        .and_then(|(nearest, now)| Some([nearest.metrics.top1()?, now.evaluation.plan.top1()?]));
    let sqnr_db = pair.and_then(|(nearest, now)| {
        let now = now.evaluation.comparison.sqnr_db()?;
        Some([nearest.comparison.sqnr_db()?, now])
    });
    let value = match (top1, sqnr_db) {
        (Some([nearest, now]), _) => format::points(now - nearest),
        (None, Some([nearest, now])) => format!("{:+.1} dB", now - nearest),
        (None, None) => "–".to_owned(),
    };
    let gain = top1.or(sqnr_db).map(|[nearest, now]| now - nearest);
    let detail = match (top1, sqnr_db) {
        (Some([nearest, _]), Some([nearest_db, now_db])) => format!(
            "nearest {}, {}; now {}",
            format::percent(nearest),
            format::db(nearest_db),
            format::db(now_db)
        ),
        (None, Some([nearest_db, _])) => format!("nearest {}", format::db(nearest_db)),
        _ if session.tuned().is_none() => "weights are not rounded yet".to_owned(),
        _ => "nearest is measured after the plan".to_owned(),
    };
    Some(Card {
        title: "Gain by rounding",
        value,
        detail,
        hover: "Accuracy of the plan minus that of the same widths with the nearest levels, both measured on all samples; SQNR of the outputs of both",
        color: gain.map(|gain| {
            if gain < 0.0 {
                palette.bad
            } else {
                palette.good
            }
        }),
    })
}

/// A number of the plan; an estimate is marked.
fn number(standing: Option<Standing>, show: impl Fn(f64) -> String) -> String {
    match standing {
        Some(standing) if standing.is_predicted() => format!("≈ {}", show(standing.value)),
        Some(standing) => show(standing.value),
        None => "–".to_owned(),
    }
}

/// What an estimate stands on; `None` for what was measured or is not known.
fn estimate_detail(standing: Option<Standing>) -> Option<String> {
    match standing?.basis {
        Basis::Predicted { known, parts } if known == parts => Some("estimate".to_owned()),
        Basis::Predicted { known, parts } => Some(format!("estimate, {known} of {parts} known")),
        Basis::Measured { .. } => None,
    }
}

fn accuracy(metrics: &Classification) -> String {
    metrics
        .top1()
        .map_or_else(|| "–".to_owned(), format::percent)
}

/// The interval and how many samples it stands on.
fn detail(metrics: &Classification, samples: usize, total: usize) -> String {
    let samples = if samples < total || samples == 0 {
        format!("{samples} of {total}")
    } else {
        format!("{samples} samples")
    };
    match metrics.top1_interval() {
        Some((low, high)) => format!("{:.1}–{:.1} %, {samples}", 100.0 * low, 100.0 * high),
        None => samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_cards_are_filled_evenly() {
        for (width, expected) in [(1200.0, 5), (500.0, 3), (330.0, 2), (100.0, 1), (2000.0, 9)] {
            assert_eq!(columns_for(width, 8.0, 9), expected, "{width}");
        }
    }

    #[test]
    fn an_estimate_is_marked_and_tells_what_it_stands_on() {
        let standing = |basis| Some(Standing { value: 0.5, basis });
        let show = |value: f64| format!("{value}");
        let partly = standing(Basis::Predicted {
            known: 20,
            parts: 40,
        });
        assert_eq!(number(partly, show), "≈ 0.5");
        assert_eq!(
            estimate_detail(partly).as_deref(),
            Some("estimate, 20 of 40 known")
        );
        let measured = standing(Basis::Measured {
            samples: 16,
            total: 400,
        });
        assert_eq!(number(measured, show), "0.5");
        assert_eq!(estimate_detail(measured), None);
        assert_eq!(number(None, show), "–");
    }

    #[test]
    fn the_detail_tells_interval_and_samples() {
        let metrics = Classification {
            labelled: 100,
            top1_hits: 90,
            ..Classification::default()
        };
        assert_eq!(detail(&metrics, 100, 400), "82.6–94.5 %, 100 of 400");
        assert_eq!(detail(&metrics, 400, 400), "82.6–94.5 %, 400 samples");
        assert_eq!(detail(&Classification::default(), 0, 400), "0 of 400");
    }
}
