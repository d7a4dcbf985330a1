//! Size or bit operations against quality: every measured plan, the front, the uniform plans by name.

use egui::{Align2, Color32};
use egui_plot::{HLine, Line, LineStyle, MarkerShape, PlotPoint, PlotUi, Points, Text};

use super::Shown;
use super::slider::Preview;
use crate::search::{Axis, MeasuredPlan, Prediction, SearchState};
use crate::session::{Action, Session};
use crate::ui::panels::{legend_ui, quiet_plot};
use crate::ui::{format, theme};

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

    fn label(self) -> &'static str {
        match self {
            Self::Size => "size in KiB",
            Self::Bops => "bit operations a sample, in millions",
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

    fn label(self) -> &'static str {
        match self {
            Self::Accuracy => "top-1 in %",
            Self::Agreement => "agreement in %",
            Self::Sqnr => "SQNR in dB",
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
            return self;
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
        self.switches_ui(ui, quality, state);
        let marks = self.marks(state, quality);
        let frontier: Vec<[f64; 2]> = preview
            .into_iter()
            .flat_map(|preview| preview.frontier)
            .filter_map(|point| self.position(*point, quality))
            .collect();
        if marks.is_empty() && frontier.is_empty() {
            ui.label(match quality {
                Quality::Accuracy | Quality::Agreement => "Nothing to plot yet: Start search measures plans, each of which becomes a point. SQNR above shows what is predicted from single layers",
                Quality::Sqnr => "Nothing to plot yet: Start search measures plans, each of which becomes a point",
            });
            return None;
        }
        let solved = preview
            .and_then(|preview| preview.point)
            .and_then(|point| self.position(point, quality));
        let pointed = self.plot_ui(ui, session, quality, &marks, frontier, solved);
        let (index, is_clicked) = pointed?;
        let mark = marks.iter().find(|mark| mark.index == index)?;
        if is_clicked && let Some(plan) = session.searched_plan(index) {
            actions.push(Action::Adopt(plan));
        }
        Some(Shown {
            title: title(mark.plan, quality, mark.position[1]),
            widths: mark.plan.widths.clone(),
        })
    }

    fn switches_ui(&mut self, ui: &mut egui::Ui, quality: Quality, state: Option<&SearchState>) {
        let palette = theme::palette(ui);
        let [
            plan_color,
            front_color,
            uniform_color,
            current_color,
            predicted_color,
        ] = palette.series;
        ui.horizontal_wrapped(|ui| {
            ui.strong("Plans");
            for axis in PlotAxis::ALL {
                ui.selectable_value(&mut self.axis, axis, axis.text())
                    .on_hover_text(format!("The axis below is the {}", axis.label()));
            }
            ui.separator();
            for choice in Quality::ALL {
                let has = choice.available(state) == choice;
                let response = ui
                    .add_enabled_ui(has, |ui| {
                        ui.selectable_label(quality == choice, choice.text())
                            .on_hover_text(format!("The upright axis is {}", choice.label()))
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
            legend_ui(
                ui,
                &[
                    ("measured", plan_color),
                    ("front", front_color),
                    ("uniform", uniform_color),
                    ("current plan", current_color),
                    ("predicted", predicted_color),
                ],
            );
        });
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

    /// Draws; gives the plan under the pointer, and whether it was clicked.
    fn plot_ui(
        &self,
        ui: &mut egui::Ui,
        session: &Session,
        quality: Quality,
        marks: &[Mark<'_>],
        frontier: Vec<[f64; 2]>,
        solved: Option<[f64; 2]>,
    ) -> Option<(usize, bool)> {
        let [.., current_color, predicted_color] = theme::palette(ui).series;
        let state = session.search().map(|news| &*news.state);
        let current = session.search_point();
        let float = state
            .filter(|_| quality == Quality::Accuracy)
            .and_then(|state| state.float.metrics().top1());
        let ink = ui.visuals().text_color();
        let colors = theme::palette(ui).series;
        quiet_plot("pareto plans", theme::palette(ui))
            .height(HEIGHT)
            .x_axis_label(self.axis.label())
            .y_axis_label(quality.label())
            .label_formatter(|_| None)
            .show(ui, |plot| {
                if let Some(float) = float {
                    plot.hline(
                        HLine::new("float", 100.0 * float)
                            .color(ink)
                            .style(LineStyle::dashed_loose())
                            .allow_hover(false),
                    );
                }
                if !frontier.is_empty() {
                    let line = Line::new("predicted frontier", frontier);
                    let line = line.color(predicted_color).style(LineStyle::dotted_dense());
                    plot.line(line.allow_hover(false));
                }
                self.measured_plans(plot, state, quality, marks, colors);
                let here = marks.iter().find(|mark| Some(mark.index) == current);
                for (name, position, color) in [
                    (
                        "current plan",
                        here.map(|mark| mark.position),
                        current_color,
                    ),
                    ("within the budget", solved, predicted_color),
                ] {
                    let points = Points::new(name, position.into_iter().collect::<Vec<_>>());
                    plot.points(points.color(color).shape(MarkerShape::Diamond).radius(8.0));
                }
                for mark in marks {
                    if let Some(name) = &mark.plan.name {
                        let [x, y] = mark.position;
                        let text = Text::new("", PlotPoint::new(x, y), format!("  {name}"));
                        let text = text.color(ink).anchor(Align2::LEFT_CENTER);
                        plot.text(text.allow_hover(false));
                    }
                }
                pointed(plot, marks)
            })
            .inner
    }

    /// Front, plans, uniform plans, and what was predicted of all of them where asked.
    fn measured_plans(
        &self,
        plot: &mut PlotUi<'_>,
        state: Option<&SearchState>,
        quality: Quality,
        marks: &[Mark<'_>],
        [plan_color, front_color, uniform_color, _, predicted_color]: [Color32; 5],
    ) {
        let on_front = state.map_or_else(Vec::new, |state| state.front(self.axis.axis()));
        let front: Vec<[f64; 2]> = on_front
            .iter()
            .filter_map(|index| marks.iter().find(|mark| mark.index == *index))
            .map(|mark| mark.position)
            .collect();
        let line = Line::new("front", front.clone()).color(front_color);
        plot.line(line.width(1.5).allow_hover(false));
        if self.predictions {
            let predicted = marks.iter().filter_map(|mark| {
                let y = quality.predicted(&mark.plan.predicted)?;
                Some([mark.position[0], y])
            });
            let points = Points::new("predicted", predicted.collect::<Vec<_>>());
            let points = points.color(predicted_color).shape(MarkerShape::Cross);
            plot.points(points.radius(4.0));
        }
        let of = |is_uniform: bool| -> Vec<[f64; 2]> {
            let found = marks
                .iter()
                .filter(|mark| mark.plan.name.is_some() == is_uniform);
            found.map(|mark| mark.position).collect()
        };
        let points = Points::new("measured", of(false)).color(plan_color);
        plot.points(points.radius(3.0));
        plot.points(Points::new("front", front).color(front_color).radius(4.0));
        let points = Points::new("uniform", of(true)).color(uniform_color);
        plot.points(points.shape(MarkerShape::Square).radius(5.0));
    }
}

/// The plan under the pointer, and whether it was clicked.
fn pointed(plot: &PlotUi<'_>, marks: &[Mark<'_>]) -> Option<(usize, bool)> {
    let response = plot.response();
    let position = response
        .hover_pos()
        .or_else(|| response.interact_pointer_pos())?;
    let transform = *plot.transform();
    let distance = |mark: &Mark<'_>| {
        let [x, y] = mark.position;
        let on_screen = transform.position_from_point(&PlotPoint::new(x, y));
        on_screen.distance(position)
    };
    let near = marks.iter().map(|mark| (mark.index, distance(mark)));
    let nearest = near
        .filter(|(_, distance)| *distance <= HIT_DISTANCE)
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some((nearest.0, response.clicked()))
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
        quality.label(),
        plan.score.samples
    )
}
