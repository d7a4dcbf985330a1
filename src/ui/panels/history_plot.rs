//! The plans that were measured: size, or the order of measuring, against accuracy.

use egui::Id;
use egui_plot::PlotPoint;

use crate::figure::{Axis, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::session::{Action, HistoryEntry, Session};
use crate::ui::format;
use crate::ui::plots::{PlotView, exact, plot_head_ui};

/// Screen distance in points within which a click hits a plan.
const HIT_DISTANCE: f32 = 12.0;

/// What stands below the plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HistoryAxis {
    /// Size of the plan.
    #[default]
    Size,
    /// The first plan that was measured, the second, and so on.
    Order,
}

impl HistoryAxis {
    fn text(self) -> &'static str {
        match self {
            Self::Size => "Size",
            Self::Order => "Time",
        }
    }

    fn axis(self) -> Axis {
        match self {
            Self::Size => Axis::new("size", "KiB"),
            Self::Order => Axis::new("order of measuring", ""),
        }
    }
}

/// A plan as a point of the plot.
struct Mark<'a> {
    index: usize,
    entry: &'a HistoryEntry,
    position: [f64; 2],
}

/// Accuracy in percent, or agreement or SQNR where there are no labels.
fn quality(entry: &HistoryEntry) -> Option<f64> {
    let percent = |share: f64| 100.0 * share;
    entry
        .metrics
        .top1()
        .map(percent)
        .or_else(|| entry.comparison.agreement().map(percent))
        .or_else(|| entry.comparison.sqnr_db().filter(|db| db.is_finite()))
}

fn quality_axis(session: &Session) -> Axis {
    match session.history().first() {
        Some(entry) if entry.metrics.top1().is_some() => Axis::new("top-1", "%"),
        Some(entry) if entry.comparison.agreement().is_some() => Axis::new("agreement", "%"),
        Some(_) => Axis::new("SQNR", "dB"),
        None => Axis::new("top-1", "%"),
    }
}

fn marks(history: &[HistoryEntry], axis: HistoryAxis) -> Vec<Mark<'_>> {
    history
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| {
            let x = match axis {
                HistoryAxis::Size => entry.cost.size_bytes as f64 / 1024.0,
                HistoryAxis::Order => (index + 1) as f64,
            };
            Some(Mark {
                index,
                entry,
                position: [x, quality(entry)?],
            })
        })
        .collect()
}

fn history_figure(session: &Session, axis: HistoryAxis, marks: &[Mark<'_>]) -> Figure {
    let current = session.plan_fingerprint();
    let points = |name: &str, ink: Ink, marker: Marker, is_current: bool| {
        let of_kind = marks
            .iter()
            .filter(|mark| (mark.entry.fingerprint == *current) == is_current);
        let of_kind: Vec<&Mark<'_>> = of_kind.collect();
        let pinned = of_kind.iter().enumerate();
        Series {
            name: name.to_owned(),
            ink,
            shape: Shape::Points {
                points: of_kind.iter().map(|mark| mark.position).collect(),
                marker,
                names: of_kind.iter().map(|mark| mark.entry.name.clone()).collect(),
                labelled: pinned
                    .filter(|(_, mark)| mark.entry.pinned)
                    .map(|(index, _)| index)
                    .collect(),
            },
        }
    };
    let mut series = Vec::new();
    if axis == HistoryAxis::Order && marks.len() > 1 {
        series.push(Series {
            name: "in order".to_owned(),
            ink: Ink::Weak,
            shape: Shape::Line {
                points: marks.iter().map(|mark| mark.position).collect(),
                marker: None,
            },
        });
    }
    series.push(points("measured", Ink::Series(0), Marker::Circle, false));
    series.push(points("current", Ink::Series(3), Marker::Diamond, true));
    let float = session
        .float()
        .and_then(|(reference, _)| reference.metrics.top1());
    series.extend(float.map(|float| Series {
        name: "float".to_owned(),
        ink: Ink::Series(1),
        shape: Shape::Level(100.0 * float),
    }));
    Figure {
        title: "Measured plans".to_owned(),
        note: String::new(),
        content: Content::Plot(Plot {
            x: axis.axis(),
            y: quality_axis(session),
            series,
        }),
    }
}

/// Every measured plan as a point; a click goes back to one.
pub(super) fn history_plot_ui(
    ui: &mut egui::Ui,
    session: &Session,
    axis: &mut HistoryAxis,
    actions: &mut Vec<Action>,
) {
    let marks_now = marks(session.history(), *axis);
    let figure = history_figure(session, *axis, &marks_now);
    let id = Id::unique(("measured plans", axis.text()));
    let mut chosen = *axis;
    plot_head_ui(ui, id, &figure.title, &figure, |ui| {
        for choice in [HistoryAxis::Size, HistoryAxis::Order] {
            ui.selectable_value(&mut chosen, choice, choice.text())
                .on_hover_text(format!("The axis below is the {}", choice.axis().label));
        }
    });
    *axis = chosen;
    if marks_now.is_empty() {
        ui.label("Every plan that is measured to the end becomes a point here");
        return;
    }
    let marks = marks_now;
    let current = session.plan_fingerprint();
    let hover = |series: &Series, index: usize| {
        let is_current = match series.name.as_str() {
            "measured" => false,
            "current" => true,
            _ => return None,
        };
        let mut of_kind = marks
            .iter()
            .filter(|mark| (mark.entry.fingerprint == *current) == is_current);
        Some(mark_text(of_kind.nth(index)?))
    };
    let view = PlotView {
        hover: Some(&hover),
        ..PlotView::new(id, &figure)
    };
    let shown = view.show(ui, move |plot| {
        let position = plot
            .response()
            .clicked()
            .then(|| plot.response().interact_pointer_pos())??;
        Some((position, *plot.transform()))
    });
    let clicked = shown.and_then(|shown| shown.inner);
    let Some((position, transform)) = clicked else {
        return;
    };
    let distance = |mark: &Mark<'_>| {
        let [x, y] = mark.position;
        let on_screen = transform.position_from_point(&PlotPoint::new(x, y));
        on_screen.distance(position)
    };
    let nearest = marks
        .iter()
        .map(|mark| (mark.index, distance(mark)))
        .filter(|(_, distance)| *distance <= HIT_DISTANCE)
        .min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((index, _)) = nearest {
        actions.push(Action::Restore(index));
    }
}

fn mark_text(mark: &Mark<'_>) -> String {
    let entry = mark.entry;
    let [_, quality] = mark.position;
    format!(
        "{}\n{}, {}\nmeasured {}\nclick to go back to it",
        entry.name,
        format::bytes(entry.cost.size_bytes),
        exact(quality),
        format::time_ago(entry.measured_secs),
    )
}
