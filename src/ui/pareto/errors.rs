//! What was predicted of every plan against what was measured.

use egui_plot::{HoverPosition, Line, LineStyle, Points};

use crate::session::Session;
use crate::ui::panels::{legend_ui, quiet_plot};
use crate::ui::{format, theme};

/// Height of the plot.
const HEIGHT: f32 = 170.0;

/// Predicted and measured harm as points around a diagonal, and how far they are apart.
pub(super) fn errors_ui(ui: &mut egui::Ui, session: &Session) {
    let Some(news) = session.search() else {
        return;
    };
    let Some(error) = news.state.prediction_error() else {
        return;
    };
    let palette = theme::palette(ui);
    let [point_color, line_color, ..] = palette.series;
    let is_classifier = news
        .state
        .measured
        .iter()
        .any(|plan| plan.score.classified > 0);
    let unit = if is_classifier {
        "KL in nat"
    } else {
        "noise over signal"
    };
    ui.add_space(6.0);
    ui.horizontal_wrapped(|ui| {
        ui.strong("Predicted against measured");
        legend_ui(ui, &[("plans", point_color), ("as predicted", line_color)]);
    });
    let mut parts = vec![format!(
        "Half of {} plans were within a factor of {:.2} of the prediction made before they were measured",
        error.plans, error.median_factor
    )];
    let agreement = error.median_agreement.map(|share| 100.0 * share);
    parts.extend(agreement.map(|points| format!("agreement within {points:.2} pt")));
    let rank = error.rank_correlation;
    parts.extend(rank.map(|rank| format!("rank correlation {rank:.3}")));
    ui.label(parts.join("; "));
    let points: Vec<[f64; 2]> = news
        .state
        .measured
        .iter()
        .map(|plan| [plan.predicted.harm, plan.score.harm()])
        .filter(|[predicted, measured]| *predicted > 0.0 && *measured > 0.0)
        .map(|point| point.map(f64::log10))
        .collect();
    let ends = points.iter().flatten().copied();
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    quiet_plot("prediction errors", palette)
        .height(HEIGHT)
        .x_axis_label(format!("predicted {unit}, power of ten"))
        .y_axis_label("measured, power of ten")
        .label_formatter(|position| match position {
            HoverPosition::NearDataPoint { position, .. } => Some(format!(
                "predicted {}\nmeasured {}",
                format::value(10f64.powf(position.x)),
                format::value(10f64.powf(position.y))
            )),
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            if low <= high {
                plot.line(
                    Line::new("as predicted", vec![[low, low], [high, high]])
                        .color(line_color)
                        .style(LineStyle::dashed_loose())
                        .allow_hover(false),
                );
            }
            plot.points(Points::new("plans", points).color(point_color).radius(3.0));
        });
}
