//! Two plans as a whole: accuracy, size, and the samples on which they differ.

use egui::RichText;

use crate::plan::Fingerprint;
use crate::session::{HistoryEntry, Session};
use crate::ui::samples::{Filter, Pair, PlanDifference};
use crate::ui::{format, theme};

/// One quantity of both plans, and their difference where it is told.
type Line = (&'static str, [Option<String>; 3]);

/// Accuracy, size and cost of both, and B minus A.
pub(super) fn summary_ui(ui: &mut egui::Ui, a: &HistoryEntry, b: &HistoryEntry) {
    egui::Grid::new("comparison of plans")
        .num_columns(4)
        .spacing([18.0, 4.0])
        .striped(true)
        .show(ui, |ui| {
            ui.label("");
            for title in ["A", "B", "B − A"] {
                ui.strong(title);
            }
            ui.end_row();
            for (name, values) in lines(a, b) {
                ui.label(name);
                for value in values {
                    ui.label(value.unwrap_or_else(|| "–".to_owned()));
                }
                ui.end_row();
            }
        });
}

fn lines(a: &HistoryEntry, b: &HistoryEntry) -> Vec<Line> {
    let shares = |of: fn(&HistoryEntry) -> Option<f64>| {
        let (a, b) = (of(a), of(b));
        let difference = a.zip(b).map(|(a, b)| format::points(b - a));
        [a.map(format::percent), b.map(format::percent), difference]
    };
    let level = |entry: &HistoryEntry| entry.comparison.sqnr_db();
    let levels = level(a).zip(level(b)).map(|(a, b)| format::db(b - a));
    let ratio = b.cost.size_bytes as f64 / a.cost.size_bytes.max(1) as f64;
    let bits = |entry: &HistoryEntry| {
        format!(
            "W {:.2}  A {:.2}",
            entry.cost.average_weight_bits, entry.cost.average_activation_bits
        )
    };
    let bops = |entry: &HistoryEntry| format!("{}BOPs", format::count(entry.cost.bops));
    let bops_ratio = b.cost.bops as f64 / a.cost.bops.max(1) as f64;
    vec![
        ("Accuracy (top-1)", shares(|entry| entry.metrics.top1())),
        (
            "Agreement with float",
            shares(|entry| entry.comparison.agreement()),
        ),
        (
            "Output SQNR",
            [level(a).map(format::db), level(b).map(format::db), levels],
        ),
        (
            "Size",
            [
                Some(format::bytes(a.cost.size_bytes)),
                Some(format::bytes(b.cost.size_bytes)),
                Some(format!("×{ratio:.3}")),
            ],
        ),
        ("Average bits", [Some(bits(a)), Some(bits(b)), None]),
        (
            "Bit operations",
            [
                Some(bops(a)),
                Some(bops(b)),
                (a.cost.bops > 0).then(|| format!("×{bops_ratio:.3}")),
            ],
        ),
    ]
}

/// The difference of two plans on the samples, counted once.
#[derive(Debug, Default)]
pub(super) struct Counted {
    key: Option<(Fingerprint, Fingerprint, [usize; 2])>,
    difference: PlanDifference,
}

/// How many samples differ, and a way to see them.
pub(super) fn samples_ui(
    ui: &mut egui::Ui,
    session: &Session,
    counted: &mut Counted,
    a: &Fingerprint,
    b: &Fingerprint,
) -> Option<(Pair, Filter)> {
    let (Some(first), Some(second)) = (session.record(a), session.record(b)) else {
        ui.label(
            RichText::new("The single samples of one of these plans are not kept: restore the plan to measure them again")
                .color(theme::palette(ui).weak),
        );
        return None;
    };
    let seen = [first.predictions.len(), second.predictions.len()];
    let key = Some((a.clone(), b.clone(), seen));
    if counted.key != key {
        counted.difference = PlanDifference::of(&first.predictions, &second.predictions);
        counted.key = key;
    }
    if first.predictions.classes() == 0 {
        return None;
    }
    let difference = counted.difference;
    let mut shown = None;
    ui.horizontal_wrapped(|ui| {
        ui.label(format!(
            "{} of {} samples differ",
            difference.changed, difference.samples
        ));
        for (filter, count, text) in [
            (Filter::Changed, difference.changed, "changed"),
            (
                Filter::RightToWrong,
                difference.right_to_wrong,
                "right to wrong",
            ),
            (
                Filter::WrongToRight,
                difference.wrong_to_right,
                "wrong to right",
            ),
        ] {
            let button = egui::Button::new(format!("Show {count} {text}"));
            let response = ui
                .add_enabled(count > 0, button)
                .on_hover_text("On the Samples tab, with the predictions of A and B")
                .on_disabled_hover_text("There is none");
            if response.clicked() {
                shown = Some((Pair::Plans(a.clone(), b.clone()), filter));
            }
        }
    });
    shown
}
