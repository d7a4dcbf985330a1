//! Cheap scores against measured harm: which of them can be trusted on this network.

use egui::{Grid, Id, RichText};
use egui_plot::PlotPoint;

use super::quantity::{self, Quantity, Source};
use super::{SensitivityView, controls, note, width_ui};
use crate::figure::{Axis, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::model::LayerId;
use crate::quant::{NumberFormat, rank_correlation};
use crate::session::{Action, Session};
use crate::ui::format;
use crate::ui::plots::{PlotView, exact, plot_head_ui};

/// Screen distance in points within which a click hits a layer.
const HIT_DISTANCE: f32 = 14.0;

/// A number that is there before a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Score {
    At(Quantity),
    Kurtosis,
    Outliers,
    RangeSpread,
}

impl Score {
    const ALL: [Self; 6] = [
        Self::At(Quantity::WeightSqnr),
        Self::Kurtosis,
        Self::Outliers,
        Self::RangeSpread,
        Self::At(Quantity::LocalSqnr),
        Self::At(Quantity::SecondOrder),
    ];

    fn text(self) -> &'static str {
        match self {
            Self::At(quantity) => quantity.text(),
            Self::Kurtosis => "Kurtosis",
            Self::Outliers => "Outliers",
            Self::RangeSpread => "Range spread",
        }
    }

    /// The quantity and its unit.
    fn axis(self) -> (&'static str, &'static str) {
        match self {
            Self::At(quantity) => quantity.axis(),
            Self::Kurtosis => ("kurtosis of the weight", ""),
            Self::Outliers => ("outliers of the weight", "%"),
            Self::RangeSpread => ("range spread of the channels", ""),
        }
    }

    fn value(self, session: &Session, id: LayerId, width: NumberFormat) -> Option<f64> {
        let screen = || session.screens()?.layers.get(id.index())?.weight;
        let value = match self {
            Self::At(quantity) => quantity.value_at(session, id, width)?,
            Self::Kurtosis => screen()?.kurtosis,
            Self::Outliers => 100.0 * screen()?.outlier_ratio,
            Self::RangeSpread => screen()?.range_spread,
        };
        value.is_finite().then_some(value)
    }

    /// More is worse.
    fn harm(self, value: f64) -> f64 {
        match self {
            Self::At(quantity) => quantity.harm(value),
            Self::Kurtosis | Self::Outliers | Self::RangeSpread => value,
        }
    }
}

/// What the plot compares.
#[derive(Debug)]
pub(super) struct BridgeView {
    score: Score,
    harm: Quantity,
}

impl Default for BridgeView {
    fn default() -> Self {
        Self {
            score: Score::At(Quantity::LocalSqnr),
            harm: Quantity::Kl,
        }
    }
}

/// The harms that a sweep measures.
fn harms() -> impl Iterator<Item = Quantity> {
    let all = Quantity::ALL.into_iter();
    all.filter(|quantity| quantity.source() == Source::Sweep)
}

pub(super) fn bridge_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    let Some(sweep) = session.sensitivity().filter(|sweep| sweep.samples > 0) else {
        ui.label("Scores are compared with what a sweep measures: press Run sweep");
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.strong("Rank correlation with the sweep");
        width_ui(ui, session, view, Quantity::Kl);
    });
    let Some(width) = view.width_among(&sweep.request.widths) else {
        return;
    };
    table_ui(ui, session, &mut view.bridge, width);
    if quantity::scores(session).is_none() {
        let runs = session
            .running_jobs()
            .iter()
            .any(|job| job.name == "Second-order score");
        ui.label(controls::why_no_scores(session, runs));
    }
    plot_ui(ui, session, &view.bridge, width, actions);
}

/// Score and harm of every layer that has both.
fn pairs(
    session: &Session,
    score: Score,
    harm: Quantity,
    width: NumberFormat,
) -> Vec<(LayerId, f64, f64)> {
    let layers = session.model().map_or(0, |model| model.layers().len());
    (0..layers as u32)
        .map(LayerId)
        .filter_map(|id| {
            let value = score.value(session, id, width)?;
            let harm = harm
                .value_at(session, id, width)
                .filter(|h| h.is_finite())?;
            Some((id, value, harm))
        })
        .collect()
}

fn correlation(
    session: &Session,
    score: Score,
    harm: Quantity,
    width: NumberFormat,
) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = pairs(session, score, harm, width)
        .into_iter()
        .map(|(_, value, measured)| (score.harm(value), harm.harm(measured)))
        .collect();
    rank_correlation(&pairs)
}

/// Every score against every harm; a click shows the pair below.
fn table_ui(ui: &mut egui::Ui, session: &Session, view: &mut BridgeView, width: NumberFormat) {
    Grid::new("rank correlations").striped(true).show(ui, |ui| {
        ui.label("");
        for harm in harms() {
            ui.label(RichText::new(harm.text()).strong());
        }
        ui.end_row();
        for score in Score::ALL {
            ui.label(score.text());
            for harm in harms() {
                let found = correlation(session, score, harm, width);
                let text = found.map_or_else(
                    || "–".to_owned(),
                    |found| format!("{found:+.2}").replace('-', "−"),
                );
                let chosen = view.score == score && view.harm == harm;
                let response = ui
                    .selectable_label(chosen, text)
                    .on_hover_text("Spearman's rank correlation over the layers: +1 orders them as the sweep does, 0 tells nothing. Click to see the layers");
                if response.clicked() {
                    view.score = score;
                    view.harm = harm;
                }
                response.accessible_name(format!("{} against {}", score.text(), harm.text()));
            }
            ui.end_row();
        }
    });
}

type Pair = (LayerId, f64, f64);

fn plot_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &BridgeView,
    width: NumberFormat,
    actions: &mut Vec<Action>,
) {
    let pairs = pairs(session, view.score, view.harm, width);
    let is_selected = |pair: &&Pair| session.selection().contains(&pair.0);
    let (selected, others): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(is_selected);
    let figure = figure(session, view, width, [&others, &selected]);
    let id = Id::unique("score against harm");
    plot_head_ui(ui, id, &figure.title, &figure, |_| {});
    let hover = |series: &Series, index: usize| {
        let of_series = if series.name == SELECTED {
            &selected
        } else {
            &others
        };
        let (id, score, harm) = of_series.get(index)?;
        Some(format!(
            "{}\n{} {}\n{} {}",
            session.model()?.layers().get(id.index())?.name,
            view.score.axis().0,
            exact(*score),
            view.harm.axis().0,
            exact(view.harm.in_units(*harm)),
        ))
    };
    let plot = PlotView {
        height: (ui.available_height() - 8.0).max(160.0),
        hover: Some(&hover),
        ..PlotView::new(id, &figure)
    };
    let shown = plot.show(ui, |plot| {
        let response = plot.response();
        let at = response
            .clicked()
            .then(|| response.interact_pointer_pos())??;
        Some((at, *plot.transform()))
    });
    let Some((at, transform)) = shown.and_then(|shown| shown.inner) else {
        return;
    };
    let distance = |pair: &Pair| {
        let [x, y] = position(view, pair);
        let on_screen = transform.position_from_point(&PlotPoint::new(x, y));
        on_screen.distance(at)
    };
    let nearest = pairs
        .iter()
        .map(|pair| (pair.0, distance(pair)))
        .filter(|(_, distance)| *distance <= HIT_DISTANCE)
        .min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((id, _)) = nearest {
        actions.push(Action::Select(vec![id]));
    }
}

const SELECTED: &str = "selected";

fn position(view: &BridgeView, pair: &Pair) -> [f64; 2] {
    [pair.1, view.harm.in_units(pair.2)]
}

fn figure(
    session: &Session,
    view: &BridgeView,
    width: NumberFormat,
    [others, selected]: [&[&Pair]; 2],
) -> Figure {
    let name = |pair: &&Pair| {
        let layer = session.model()?.layers().get(pair.0.index())?;
        Some(layer.name.clone())
    };
    let series = |title: &str, pairs: &[&Pair], ink: Ink, marker: Marker| Series {
        name: title.to_owned(),
        ink,
        shape: Shape::Points {
            points: pairs.iter().map(|pair| position(view, pair)).collect(),
            marker,
            names: pairs.iter().filter_map(name).collect(),
            labelled: Vec::new(),
        },
    };
    let (score, harm) = (view.score.axis(), view.harm.axis());
    let correlation = correlation(session, view.score, view.harm, width);
    let correlation = correlation.map_or_else(String::new, |found| {
        format!("rank correlation {found:+.2}, ").replace('-', "−")
    });
    Figure {
        title: format!("{} against {}", score.0, harm.0),
        note: format!(
            "{correlation}{}, {}",
            format::width(width),
            note(session, view.harm)
        ),
        content: Content::Plot(Plot {
            x: Axis::new(score.0, score.1),
            y: Axis::new(harm.0, harm.1),
            series: vec![
                series("layers", others, Ink::Series(0), Marker::Circle),
                series(SELECTED, selected, Ink::Series(3), Marker::Diamond),
            ],
        }),
    }
}
