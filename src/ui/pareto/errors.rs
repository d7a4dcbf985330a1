//! What was predicted of every plan against what was measured.

use egui::Id;

use crate::figure::{Axis, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::search::{PredictionError, SearchState};
use crate::session::Session;
use crate::ui::plots::{PlotView, plot_head_ui};

/// Predicted and measured harm as points around a diagonal, and how far they are apart.
pub(super) fn errors_ui(ui: &mut egui::Ui, session: &Session) {
    let Some(news) = session.search() else {
        return;
    };
    let Some(error) = news.state.prediction_error() else {
        return;
    };
    ui.add_space(6.0);
    let figure = figure(&news.state, &error);
    let id = Id::unique("prediction errors");
    plot_head_ui(ui, id, &figure.title, &figure, |_| {});
    PlotView::new(id, &figure).show(ui, |_| {});
}

fn figure(state: &SearchState, error: &PredictionError) -> Figure {
    let is_classifier = state.measured.iter().any(|plan| plan.score.classified > 0);
    let quantity = if is_classifier {
        "log₁₀ of KL in nat"
    } else {
        "log₁₀ of noise over signal"
    };
    let plans = state
        .measured
        .iter()
        .filter(|plan| plan.predicted.harm > 0.0 && plan.score.harm() > 0.0);
    let (points, names): (Vec<[f64; 2]>, Vec<String>) = plans
        .map(|plan| {
            let point = [plan.predicted.harm, plan.score.harm()].map(f64::log10);
            let name = plan.name.clone();
            (point, name.unwrap_or_else(|| plan.origin.text().to_owned()))
        })
        .unzip();
    let ends = points.iter().flatten().copied();
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    Figure {
        title: "Predicted against measured".to_owned(),
        note: in_words(error),
        content: Content::Plot(Plot {
            x: Axis::new(format!("predicted {quantity}"), ""),
            y: Axis::new(format!("measured {quantity}"), ""),
            series: vec![
                Series {
                    name: "as predicted".to_owned(),
                    ink: Ink::Weak,
                    shape: Shape::Line {
                        points: vec![[low, low], [high, high]],
                        marker: None,
                    },
                },
                Series {
                    name: "plans".to_owned(),
                    ink: Ink::Series(0),
                    shape: Shape::Points {
                        points,
                        marker: Marker::Circle,
                        names,
                        labelled: Vec::new(),
                    },
                },
            ],
        }),
    }
}

fn in_words(error: &PredictionError) -> String {
    let mut parts = vec![format!(
        "half of {} plans were within a factor of {:.2} of the prediction made before they were measured",
        error.plans, error.median_factor
    )];
    let agreement = error.median_agreement.map(|share| 100.0 * share);
    parts.extend(agreement.map(|points| format!("agreement within {points:.2} pt")));
    let rank = error.rank_correlation;
    parts.extend(rank.map(|rank| format!("rank correlation {rank:.3}")));
    parts.join("; ")
}
