//! The row of filters above the samples.

use egui::{ComboBox, RichText};

use super::rows::{Cell, Filter, Pair, Table};
use super::{SamplesView, Section};
use crate::plan::Fingerprint;
use crate::session::Session;
use crate::ui::theme;

/// Entries of the class list that are laid out; more would make the list slow.
const LISTED_CLASSES: usize = 2000;

/// Section, filters with their counts, and class.
pub(super) fn filters_ui(ui: &mut egui::Ui, session: &Session, view: &mut SamplesView) {
    let (have_labels, have_classes) = (view.rows.have_labels(), view.rows.have_classes());
    if !have_labels {
        view.section = Section::Pictures;
    }
    pair_ui(ui, session, view);
    if have_classes {
        ui.horizontal_wrapped(|ui| {
            if have_labels {
                sections_ui(ui, view);
            }
            if view.section == Section::Pictures {
                class_ui(ui, session, view);
            }
        });
        if view.section == Section::Pictures {
            ui.horizontal_wrapped(|ui| filter_buttons_ui(ui, view, have_labels));
        }
    }
    if view.section == Section::Pictures {
        cell_ui(ui, session, view);
    }
    notes_ui(ui, session, view);
}

fn sections_ui(ui: &mut egui::Ui, view: &mut SamplesView) {
    for (section, text) in [
        (Section::Pictures, "Pictures"),
        (Section::Confusion, "Confusion matrix"),
    ] {
        if ui.selectable_label(view.section == section, text).clicked() {
            view.section = section;
            view.large = None;
        }
    }
}

fn filter_buttons_ui(ui: &mut egui::Ui, view: &mut SamplesView, have_labels: bool) {
    let [first, second] = view.pair.words();
    for filter in Filter::ALL {
        if filter.needs_labels() && !have_labels {
            continue;
        }
        let text = format!("{} {}", filter.text(), view.rows.count(filter));
        let hover = match filter {
            Filter::All => "All samples, in the order in which they are measured".to_owned(),
            Filter::RightToWrong => format!("Right in {first}, wrong in {second}"),
            Filter::WrongToRight => format!("Wrong in {first}, right in {second}"),
            Filter::StillWrong => format!("Wrong in {first} and in {second}"),
            Filter::Changed => format!("{first} and {second} predict different classes"),
            Filter::LeastCertain => format!(
                "Less than 20 percentage points between the two best classes of {second}; the closest come first"
            ),
        };
        let chosen = view.choice.filter == filter;
        if ui
            .selectable_label(chosen, text)
            .on_hover_text(hover)
            .clicked()
        {
            view.choice.filter = filter;
            view.large = None;
        }
    }
}

fn class_ui(ui: &mut egui::Ui, session: &Session, view: &mut SamplesView) {
    let classes = class_count(session, view);
    let shown = view.choice.class.map_or_else(
        || "All classes".to_owned(),
        |class| class_name(session, class),
    );
    let before = view.choice.class;
    let response = ComboBox::from_id_salt("class of samples")
        .selected_text(shown)
        .width(110.0)
        .truncate()
        .show_ui(ui, |ui| {
            ui.selectable_value(&mut view.choice.class, None, "All classes");
            for class in (0..classes as u32).take(LISTED_CLASSES) {
                let name = class_name(session, class);
                ui.selectable_value(&mut view.choice.class, Some(class), name);
            }
        })
        .response;
    response
        .accessible_name("Class of the samples")
        .on_hover_text(
            "Samples with this label; without labels, those that the first of the two predicts so",
        );
    if view.choice.class != before {
        view.large = None;
    }
}

/// Classes of the network or of the data, whichever are more.
pub(super) fn class_count(session: &Session, view: &SamplesView) -> usize {
    let of_network = view
        .pair
        .predictions(session)
        .map_or(0, |(first, _)| first.classes());
    let of_data = session
        .data()
        .map_or(0, |data| data.dataset().classes.len());
    of_network.max(of_data)
}

/// Name of a class from the data, else its index; a name that is a mere number says what it counts.
pub(super) fn class_name(session: &Session, class: u32) -> String {
    session
        .data()
        .and_then(|data| data.dataset().classes.get(class as usize))
        .filter(|name| name.parse::<u32>().is_err() && !name.is_empty())
        .cloned()
        .unwrap_or_else(|| format!("class {class}"))
}

/// Which two plans are compared, if it is not float and the current plan.
fn pair_ui(ui: &mut egui::Ui, session: &Session, view: &mut SamplesView) {
    let Pair::Plans(a, b) = &view.pair else {
        return;
    };
    let name = |plan: &Fingerprint| {
        let entry = session
            .history()
            .iter()
            .find(|entry| entry.fingerprint == *plan);
        entry.map_or_else(|| plan.short().to_owned(), |entry| entry.name.clone())
    };
    let text = format!("Comparing A, {}, with B, {}", name(a), name(b));
    let mut back = false;
    ui.horizontal_wrapped(|ui| {
        ui.strong(text);
        back = ui.button("Back to float and plan").clicked();
    });
    if back {
        view.pair = Pair::FloatAndPlan;
        view.large = None;
    }
}

/// The cell of a confusion matrix that narrows the samples down.
fn cell_ui(ui: &mut egui::Ui, session: &Session, view: &mut SamplesView) {
    let Some(cell) = view.choice.cell else {
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.label(cell_text(session, view, cell));
        if ui.button("Show all cells").clicked() {
            view.choice.cell = None;
            view.large = None;
        }
    });
}

fn cell_text(session: &Session, view: &SamplesView, cell: Cell) -> String {
    let [first, second] = view.pair.words();
    let label = class_name(session, cell.label);
    let predicted = class_name(session, cell.predicted);
    match cell.table {
        Table::First => format!("Only {label} that {first} takes for {predicted}"),
        Table::Second => format!("Only {label} that {second} takes for {predicted}"),
        Table::Difference => {
            format!("Only {label} that either {first} or {second} takes for {predicted}, not both")
        }
    }
}

/// What the user should know of these samples.
fn notes_ui(ui: &mut egui::Ui, session: &Session, view: &SamplesView) {
    let note = |ui: &mut egui::Ui, text: &str| {
        ui.label(RichText::new(text).color(theme::palette(ui).weak));
    };
    if !view.rows.have_classes() {
        note(
            ui,
            "The network's first output is no list of classes: samples are shown as it sees them, without predictions",
        );
    } else if !view.rows.have_labels() {
        note(
            ui,
            "The data has no labels: samples can be filtered by agreement, and there is no confusion matrix",
        );
    }
    let scale = view
        .pair
        .predictions(session)
        .and_then(|(first, _)| first.scale());
    if scale == Some(crate::engine::OutputScale::Probabilities) {
        note(
            ui,
            "The network's outputs are probabilities already and are shown as they are",
        );
    }
}
