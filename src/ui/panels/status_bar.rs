//! What runs, how far it is, and how to stop it.

use egui::{ProgressBar, RichText};

use crate::session::{Action, JobStatus, Session};
use crate::ui::commands::Command;
use crate::ui::{format, theme};

/// The line at the foot of the window.
pub(crate) fn status_bar_ui(
    ui: &mut egui::Ui,
    session: &Session,
    memory_bytes: Option<u64>,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        // From the right first, so that many jobs never push these out of the window.
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            log_button_ui(ui, session, commands);
            if let Some(bytes) = memory_bytes {
                ui.separator();
                ui.label(format!("Memory {}", format::bytes(bytes)))
                    .on_hover_text("Memory that the program occupies, activations that evaluations share included");
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                ui.set_clip_rect(ui.max_rect());
                jobs_ui(ui, session, actions);
            });
        });
    });
}

fn jobs_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let jobs = session.running_jobs();
    let Some(job) = jobs.first() else {
        ui.label(RichText::new(idle_text(session)).color(theme::palette(ui).weak));
        return;
    };
    if ui
        .small_button("Cancel jobs")
        .on_hover_text("Stop all jobs and keep what they found (Esc)")
        .clicked()
    {
        actions.push(Action::CancelJobs);
    }
    job_ui(ui, job);
    for job in jobs.iter().skip(1) {
        ui.separator();
        job_ui(ui, job);
    }
}

fn log_button_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    let messages = session.log().len();
    let text = match messages {
        0 => "No messages".to_owned(),
        1 => "1 message".to_owned(),
        _ => format!("{messages} messages"),
    };
    let response = ui
        .small_button(text)
        .on_hover_text(Command::Log.tooltip())
        .accessible_name("Message log");
    if response.clicked() {
        commands.push(Command::Log);
    }
}

fn job_ui(ui: &mut egui::Ui, job: &JobStatus) {
    ui.label(job.name);
    if job.total > 0 {
        let text = format!("{} of {}", job.done, job.total);
        let bar = ProgressBar::new(job.fraction)
            .desired_width(120.0)
            .desired_height(16.0)
            .text(RichText::new(text).small());
        ui.add(bar)
            .accessible_name(format!("Progress of {}", job.name));
    }
    let rest = if job.paused {
        "waits".to_owned()
    } else {
        job.eta_secs.map(format::eta).unwrap_or_default()
    };
    if !rest.is_empty() {
        ui.label(RichText::new(rest).color(theme::palette(ui).weak));
    }
}

fn idle_text(session: &Session) -> &'static str {
    match (session.model(), session.data()) {
        (None, _) => "Open a model to begin",
        (Some(_), None) => "Open a data folder to measure accuracy",
        (Some(_), Some(_)) => match session.result() {
            Some(result) if result.finished => "Ready",
            _ => "Stopped; press Run (F5) to measure the plan",
        },
    }
}
