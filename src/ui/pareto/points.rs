//! Size or bit operations against quality: every measured plan, the front, the uniform plans by name.

use egui::Id;
use egui_plot::{PlotPoint, PlotTransform, PlotUi};

use super::Shown;
use super::slider::Preview;
use crate::figure::{self, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::search::{Axis, MeasuredPlan, Prediction, SearchState};
use crate::session::{Action, Session};
use crate::ui::format;
use crate::ui::plots::{PlotView, plot_head_ui};

/// Height of the plot.
const HEIGHT: f32 = 280.0;
/// Screen distance in points within which a plan is meant.
const HIT_DISTANCE: f32 = 12.0;

/// What stands below the plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PlotAxis {
    /// Bytes.
    #[default]
    Size,
    /// Bit operations.
    Bops,
}

impl PlotAxis {
    const ALL: [Self; 2] = [Self::Size, Self::Bops];

    pub(super) fn axis(self) -> Axis {
        match self {
            Self::Size => Axis::Bytes,
            Self::Bops => Axis::Bops,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Size => "Size",
            Self::Bops => "BOPs",
        }
    }

    fn figure_axis(self) -> figure::Axis {
        match self {
            Self::Size => figure::Axis::new("size", "KiB"),
            Self::Bops => figure::Axis::new("bit operations a sample", "millions"),
        }
    }

    /// An amount with its unit.
    pub(super) fn amount(self, amount: f64) -> String {
        match self {
            Self::Size => format::bytes(amount as u64),
            Self::Bops => format!("{} BOPs", format::count(amount as u64)),
        }
    }

    fn scaled(self, amount: f64) -> f64 {
        match self {
            Self::Size => amount / 1024.0,
            Self::Bops => amount / 1e6,
        }
    }
}

/// What stands beside the plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quality {
    /// Accuracy; agreement, or SQNR, where there are no labels, or no classes.
    #[default]
    Accuracy,
    Agreement,
    Sqnr,
}

impl Quality {
    const ALL: [Self; 3] = [Self::Accuracy, Self::Agreement, Self::Sqnr];

    fn text(self) -> &'static str {
        match self {
            Self::Accuracy => "Accuracy",
            Self::Agreement => "Agreement",
            Self::Sqnr => "SQNR",
        }
    }

    fn figure_axis(self) -> figure::Axis {
        match self {
            Self::Accuracy => figure::Axis::new("top-1", "%"),
            Self::Agreement => figure::Axis::new("agreement", "%"),
            Self::Sqnr => figure::Axis::new("SQNR", "dB"),
        }
    }

    fn measured(self, plan: &MeasuredPlan) -> Option<f64> {
        match self {
            Self::Accuracy => plan.score.metrics().top1().map(|share| 100.0 * share),
            Self::Agreement => {
                let agreement = plan.score.comparison().agreement();
                agreement.map(|share| 100.0 * share)
            }
            Self::Sqnr => plan
                .score
                .comparison()
                .sqnr_db()
                .filter(|db| db.is_finite()),
        }
    }

    fn predicted(self, prediction: &Prediction) -> Option<f64> {
        match self {
            Self::Accuracy => prediction.top1.map(|share| 100.0 * share),
            Self::Agreement => prediction.agreement.map(|share| 100.0 * share),
            Self::Sqnr => prediction.sqnr_db,
        }
    }

    /// This one, or the next that the plans have.
    fn available(self, state: Option<&SearchState>) -> Self {
        let Some(first) = state.and_then(|state| state.measured.first()) else {
            // Errors of single layers predict nothing else.
            return Self::Sqnr;
        };
        match self {
            Self::Accuracy if first.score.labelled > 0 => Self::Accuracy,
            Self::Accuracy | Self::Agreement if first.score.classified > 0 => Self::Agreement,
            _ => Self::Sqnr,
        }
    }
}

/// Looks of the plot.
#[derive(Debug, Default)]
pub(super) struct PointsView {
    axis: PlotAxis,
    quality: Quality,
    predictions: bool,
}

/// A measured plan as a point.
struct Mark<'a> {
    index: usize,
    plan: &'a MeasuredPlan,
    position: [f64; 2],
}

impl PointsView {
    pub(super) fn axis(&self) -> PlotAxis {
        self.axis
    }

    /// Draws the plot; a click adopts a plan. Gives the plan under the pointer.
    pub(super) fn show_ui(
        &mut self,
        ui: &mut egui::Ui,
        session: &Session,
        preview: Option<&Preview<'_>>,
        actions: &mut Vec<Action>,
    ) -> Option<Shown> {
        let state = session.search().map(|news| &*news.state);
        let quality = self.quality.available(state);
        let marks = self.marks(state, quality);
        let figure = self.figure(session, quality, &marks, preview);
        let id = Id::unique(("pareto plans", self.axis.text(), quality.text()));
        plot_head_ui(ui, id, &figure.title, &figure, |ui| {
            self.switches_ui(ui, quality, state);
        });
        let is_empty = matches!(&figure.content, Content::Plot(plot) if plot.series.is_empty());
        if is_empty {
            ui.label(
                "Nothing to plot yet: Start search measures plans, each of which becomes a point",
            );
            return None;
        }
        let view = PlotView {
            height: HEIGHT,
            hover: Some(&|_, _| None),
            ..PlotView::new(id, &figure)
        };
        let shown = view.show(ui, |plot| pointer(plot))?;
        let (position, transform, is_clicked) = shown.inner?;
        let mark = nearest(&marks, position, &transform)?;
        if is_clicked && let Some(plan) = session.searched_plan(mark.index) {
            actions.push(Action::Adopt(plan));
        }
        Some(Shown {
            title: title(mark.plan, quality, mark.position[1]),
            widths: mark.plan.widths.clone(),
        })
    }

    fn switches_ui(&mut self, ui: &mut egui::Ui, quality: Quality, state: Option<&SearchState>) {
        for axis in PlotAxis::ALL {
            ui.selectable_value(&mut self.axis, axis, axis.text())
                .on_hover_text(format!(
                    "The axis below is the {}",
                    axis.figure_axis().label
                ));
        }
        ui.separator();
        for choice in Quality::ALL {
            let has = choice.available(state) == choice;
            let response = ui
                .add_enabled_ui(has, |ui| {
                    ui.selectable_label(quality == choice, choice.text())
                        .on_hover_text(format!(
                            "The upright axis is {}, on the samples of the search",
                            choice.figure_axis().text()
                        ))
                        .on_disabled_hover_text(
                            "The samples of the search have no labels, or the model no classes",
                        )
                })
                .inner;
            if response.clicked() {
                self.quality = choice;
            }
        }
        ui.separator();
        ui.toggle_value(&mut self.predictions, "Predictions")
            .on_hover_text("Also show what was predicted of each plan before it was measured");
    }

    fn marks<'a>(&self, state: Option<&'a SearchState>, quality: Quality) -> Vec<Mark<'a>> {
        let plans = state.into_iter().flat_map(|state| &state.measured);
        plans
            .enumerate()
            .filter_map(|(index, plan)| {
                let x = self.axis.scaled(plan.amount(self.axis.axis()));
                Some(Mark {
                    index,
                    plan,
                    position: [x, quality.measured(plan)?],
                })
            })
            .collect()
    }

    fn position(&self, point: (f64, Prediction), quality: Quality) -> Option<[f64; 2]> {
        let (amount, prediction) = point;
        Some([self.axis.scaled(amount), quality.predicted(&prediction)?])
    }

    fn figure(
        &self,
        session: &Session,
        quality: Quality,
        marks: &[Mark<'_>],
        preview: Option<&Preview<'_>>,
    ) -> Figure {
        let state = session.search().map(|news| &*news.state);
        let frontier: Vec<[f64; 2]> = preview
            .into_iter()
            .flat_map(|preview| preview.frontier)
            .filter_map(|point| self.position(*point, quality))
            .collect();
        let mut series = vec![line("predicted frontier", Ink::Series(4), frontier)];
        let on_front = state.map_or_else(Vec::new, |state| state.front(self.axis.axis()));
        let find = |index: &usize| marks.iter().find(|mark| mark.index == *index);
        let front = on_front.iter().filter_map(find);
        series.push(line(
            "front",
            Ink::Series(1),
            front.map(|mark| mark.position).collect(),
        ));
        if self.predictions {
            let predicted = marks.iter().filter_map(|mark| {
                let y = quality.predicted(&mark.plan.predicted)?;
                Some(([mark.position[0], y], mark.name()))
            });
            let name = "predicted before";
            series.push(points(name, Ink::Weak, Marker::Diamond, predicted, false));
        }
        let of = |is_uniform: bool| {
            let marks = marks
                .iter()
                .filter(move |mark| mark.plan.name.is_some() == is_uniform);
            marks.map(|mark| (mark.position, mark.name()))
        };
        let (ink, marker) = (Ink::Series(0), Marker::Circle);
        series.push(points("measured", ink, marker, of(false), false));
        let (ink, marker) = (Ink::Series(2), Marker::Square);
        series.push(points("uniform", ink, marker, of(true), true));
        let current = session.search_point();
        let here = marks.iter().filter(|mark| Some(mark.index) == current);
        let here = here.map(|mark| (mark.position, mark.name()));
        let (ink, marker) = (Ink::Series(3), Marker::Diamond);
        series.push(points("current plan", ink, marker, here, false));
        let solved = preview
            .and_then(|preview| preview.point)
            .and_then(|point| self.position(point, quality));
        let solved = solved.into_iter().map(|at| (at, String::new()));
        let name = "within the budget";
        series.push(points(name, Ink::Accent, Marker::Diamond, solved, false));
        let float = state.filter(|_| quality == Quality::Accuracy);
        let float = float.and_then(|state| state.float.metrics().top1());
        series.extend(float.map(|float| Series {
            name: "float".to_owned(),
            ink: Ink::Weak,
            shape: Shape::Level(100.0 * float),
        }));
        series.retain(|series| !is_empty(&series.shape));
        Figure {
            title: "Plans".to_owned(),
            note: String::new(),
            content: Content::Plot(Plot {
                x: self.axis.figure_axis(),
                y: quality.figure_axis(),
                series,
            }),
        }
    }
}

impl Mark<'_> {
    fn name(&self) -> String {
        let name = self.plan.name.clone();
        name.unwrap_or_else(|| self.plan.origin.text().to_owned())
    }
}

fn line(name: &str, ink: Ink, points: Vec<[f64; 2]>) -> Series {
    Series {
        name: name.to_owned(),
        ink,
        shape: Shape::Line {
            points,
            marker: None,
        },
    }
}

fn points(
    name: &str,
    ink: Ink,
    marker: Marker,
    named: impl Iterator<Item = ([f64; 2], String)>,
    is_labelled: bool,
) -> Series {
    let (points, names): (Vec<[f64; 2]>, Vec<String>) = named.unzip();
    let labelled = if is_labelled {
        (0..points.len()).collect()
    } else {
        Vec::new()
    };
    Series {
        name: name.to_owned(),
        ink,
        shape: Shape::Points {
            points,
            marker,
            names,
            labelled,
        },
    }
}

fn is_empty(shape: &Shape) -> bool {
    match shape {
        Shape::Line { points, .. } | Shape::Points { points, .. } => points.is_empty(),
        _ => false,
    }
}

/// Where the pointer is on the screen, how places become values, and whether it was clicked.
fn pointer(plot: &PlotUi<'_>) -> Option<(egui::Pos2, PlotTransform, bool)> {
    let response = plot.response();
    let position = response
        .hover_pos()
        .or_else(|| response.interact_pointer_pos())?;
    Some((position, *plot.transform(), response.clicked()))
}

/// The plan under the pointer.
fn nearest<'a, 'b>(
    marks: &'a [Mark<'b>],
    position: egui::Pos2,
    transform: &PlotTransform,
) -> Option<&'a Mark<'b>> {
    let distance = |mark: &Mark<'_>| {
        let [x, y] = mark.position;
        let on_screen = transform.position_from_point(&PlotPoint::new(x, y));
        on_screen.distance(position)
    };
    let near = marks.iter().map(|mark| (distance(mark), mark));
    near.filter(|(distance, _)| *distance <= HIT_DISTANCE)
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, mark)| mark)
}

/// A measured plan in words.
fn title(plan: &MeasuredPlan, quality: Quality, measured: f64) -> String {
    let name = plan.name.as_deref().unwrap_or(plan.origin.text());
    let predicted = quality
        .predicted(&plan.predicted)
        .map_or_else(String::new, |value| format!(", predicted {value:.2}"));
    format!(
        "{name}: {}, {} {measured:.2}{predicted} on the {} samples of the search; click to make it the plan",
        format::bytes(plan.size_bytes),
        quality.figure_axis().text(),
        plan.score.samples
    )
}
