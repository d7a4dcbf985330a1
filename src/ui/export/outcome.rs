//! How an export ended: a failure, or files and what the runtime made of them; a question where files
//! are in the way.

use egui::{Grid, Label, RichText};

use crate::engine::Classification;
use crate::export::{Level, RuntimeOutcome, RuntimeResult, SecondOpinion, Verification};
use crate::session::{Action, ExportEnd, ExportOrder, ExportReport, Session};
use crate::ui::{format, theme};

/// How the last export ended, if it came to an end.
pub(super) fn outcome_ui(ui: &mut egui::Ui, session: &Session) {
    match session.export_end() {
        Some(ExportEnd::Failed(why)) => {
            ui.separator();
            ui.strong("Nothing was exported");
            ui.add(Label::new(RichText::new(why).color(theme::palette(ui).bad)).wrap());
        }
        Some(ExportEnd::Written(report)) => {
            ui.separator();
            report_ui(ui, session, report);
        }
        Some(ExportEnd::Exists(..)) | None => {}
    }
}

/// Whether files of an earlier export are to be replaced, where some are in the way.
pub(super) fn question_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let Some(ExportEnd::Exists(order, path)) = session.export_end() else {
        return;
    };
    let text = format!("{} is there already", path.display());
    ui.add(Label::new(RichText::new(text).color(theme::palette(ui).warn)).wrap());
    ui.horizontal(|ui| {
        if ui
            .button("Replace the files")
            .on_hover_text("Write over the files of an earlier export to this folder")
            .clicked()
        {
            actions.push(Action::Export(ExportOrder {
                replace: true,
                ..ExportOrder::clone(order)
            }));
        }
        if ui
            .button("Keep them")
            .on_hover_text("Leave the files as they are; choose another folder above")
            .clicked()
        {
            actions.push(Action::ForgetExportEnd);
        }
    });
}

fn report_ui(ui: &mut egui::Ui, session: &Session, report: &ExportReport) {
    let palette = theme::palette(ui);
    let exported = &report.exported;
    ui.label(
        RichText::new(format!(
            "Written for {}: {}, of which constants {}{}",
            report.profile.label,
            format::bytes(exported.size_bytes),
            format::bytes(exported.constant_bytes),
            exported
                .opset
                .map_or_else(String::new, |opset| format!("; opset {opset}"))
        ))
        .strong(),
    );
    if report.plan != *session.plan_fingerprint() {
        let text = "The plan was changed since";
        ui.label(RichText::new(text).color(palette.warn));
    }
    for file in &exported.files {
        let text = file.display().to_string();
        ui.add(Label::new(RichText::new(&text).small()).truncate())
            .on_hover_text(text);
    }
    for note in &exported.notes {
        ui.add(Label::new(RichText::new(note).small().color(palette.weak)).wrap());
    }
    if let Some(why) = &report.unverified {
        ui.strong("The file was written, but not verified");
        ui.add(Label::new(RichText::new(why).color(palette.bad)).wrap());
    }
    if let Some(verification) = &report.verification {
        verification_ui(ui, verification);
    }
}

/// Accuracy, agreement and differences of the runtime beside the simulation.
fn verification_ui(ui: &mut egui::Ui, verification: &Verification) {
    ui.add_space(4.0);
    match &verification.runtime {
        RuntimeOutcome::Ran(result) => runtime_ui(ui, verification, result),
        RuntimeOutcome::Absent(why) => {
            let text = RichText::new(why).color(theme::palette(ui).bad);
            ui.add(Label::new(text).wrap());
        }
    }
    let text = match &verification.second_opinion {
        SecondOpinion::Ran(opinion) => format!(
            "rten, the runtime inside this program: agreement {}, SQNR {}",
            opinion
                .comparison
                .agreement()
                .map_or_else(dash, format::percent),
            opinion.comparison.sqnr_db().map_or_else(dash, format::db)
        ),
        SecondOpinion::Unable(why) => why.clone(),
    };
    ui.add(Label::new(RichText::new(text).small().color(theme::palette(ui).weak)).wrap());
}

fn runtime_ui(ui: &mut egui::Ui, verification: &Verification, found: &RuntimeResult) {
    let weak = theme::palette(ui).weak;
    ui.strong(format!(
        "{} {} on {} samples",
        found.runtime.package(),
        found.version,
        verification.samples
    ));
    let top1 = |counts: &Classification| counts.top1().map_or_else(dash, format::percent);
    Grid::new("verification")
        .num_columns(4)
        .spacing([14.0, 2.0])
        .show(ui, |ui| {
            for heading in ["", "top-1", "agreement", "SQNR"] {
                ui.label(RichText::new(heading).small().color(weak));
            }
            ui.end_row();
            row_ui(
                ui,
                "simulated here",
                [top1(&verification.simulated), dash(), dash()],
            );
            for result in &found.levels {
                let comparison = &result.comparison;
                let cells = [
                    top1(&result.accuracy),
                    comparison.agreement().map_or_else(dash, format::percent),
                    comparison.sqnr_db().map_or_else(dash, format::db),
                ];
                row_ui(ui, level_text(result.level), cells);
                for one in &result.outputs {
                    let text = format!(
                        "{}: relative difference {:.1e}, largest {:.1e}",
                        one.name,
                        one.relative(),
                        one.largest
                    );
                    ui.label("");
                    ui.add(Label::new(RichText::new(text).small().color(weak)).extend());
                    ui.end_row();
                }
            }
            let spread = &found.own_spread;
            let cells = [
                dash(),
                spread.agreement().map_or_else(dash, format::percent),
                spread.sqnr_db().map_or_else(dash, format::db),
            ];
            row_ui(ui, "runtime against itself", cells);
        });
    let text = "Agreement and SQNR are those of the runtime against the simulation on the same samples. The last row runs the runtime against itself with every weight scale moved to the next number: no simulation can be nearer than that";
    ui.add(Label::new(RichText::new(text).small().color(weak)).wrap());
    for level in &found.levels {
        if let Some(kernels) = &level.kernels {
            let text = format!("{}: {kernels}", level_text(level.level));
            ui.add(Label::new(RichText::new(text).small().color(weak)).wrap());
        }
    }
}

fn row_ui(ui: &mut egui::Ui, name: &str, cells: [String; 3]) {
    ui.label(name);
    for cell in cells {
        ui.label(cell);
    }
    ui.end_row();
}

fn level_text(level: Level) -> &'static str {
    match level {
        Level::Plain => "graph as written",
        Level::Kept => "optimised, nothing quantized beyond the file",
        Level::Optimized => "graph optimised",
    }
}

fn dash() -> String {
    "–".to_owned()
}
