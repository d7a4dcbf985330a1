//! The Samples tab: what the network sees, what float and plan make of it, and where they differ.

mod confusion;
mod confusion_map;
mod filters;
mod grid;
mod large_view;
mod marks;
mod rows;
mod textures;

use egui::{Key, Modifiers};

pub(crate) use self::rows::{Filter, Pair, PlanDifference};
use self::{
    confusion::Confusion,
    rows::{Choice, SampleRows, Table},
    textures::Textures,
};
use super::commands::Command;
use super::theme;
use crate::plan::Fingerprint;
use crate::session::{Action, Session};

/// What the tab shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Pictures,
    Confusion,
}

/// The sample that is shown large.
#[derive(Clone, Copy, Debug)]
struct LargeView {
    sample: usize,
    /// Its place among the samples that are shown, as long as it is one of them.
    place: usize,
}

/// Looks of the Samples tab.
#[derive(Debug, Default)]
pub(crate) struct SamplesView {
    pair: Pair,
    section: Section,
    choice: Choice,
    rows: SampleRows,
    /// The data that the textures belong to.
    data: Option<Fingerprint>,
    thumbnails: Textures,
    pictures: Textures,
    large: Option<LargeView>,
    /// A place that the grid scrolls to.
    scroll_to: Option<usize>,
    table: Table,
    confusion: Confusion,
}

impl SamplesView {
    /// Sets two evaluated plans side by side, and shows the samples of a filter.
    pub(crate) fn show(&mut self, pair: Pair, filter: Filter) {
        self.pair = pair;
        self.section = Section::Pictures;
        self.choice = Choice {
            filter,
            ..Choice::default()
        };
        self.large = None;
    }

    /// While a sample is shown large: arrows go to the next one, Escape closes it.
    ///
    /// Takes these keys out of the input, so it is called before anything else reads them.
    pub(crate) fn take_keys(&mut self, ui: &egui::Ui) {
        if self.large.is_none()
            || ui.ctx().text_edit_focused()
            || egui::Popup::is_any_open(ui.ctx())
        {
            return;
        }
        let [back, forward, close] = ui.input_mut(|input| {
            [Key::ArrowLeft, Key::ArrowRight, Key::Escape]
                .map(|key| input.consume_key(Modifiers::NONE, key))
        });
        if forward {
            self.step(true);
        } else if back {
            self.step(false);
        }
        if close {
            self.close_large();
        }
    }

    fn step(&mut self, forward: bool) {
        let Some(large) = self.large else {
            return;
        };
        let place = match self.rows.place_of(large.sample) {
            Some(place) if forward => place + 1,
            Some(place) => place.saturating_sub(1),
            // The sample left the filter; its neighbours are where it was.
            None if forward => large.place,
            None => large.place.saturating_sub(1),
        };
        let place = place.min(self.rows.len().saturating_sub(1));
        if let Some(row) = self.rows.get(place) {
            self.large = Some(LargeView {
                sample: row.sample(),
                place,
            });
        }
    }

    fn close_large(&mut self) {
        if let Some(large) = self.large.take() {
            self.scroll_to = self.rows.place_of(large.sample);
        }
    }

    /// Forgets what belongs to data that is no longer open.
    fn follow(&mut self, session: &Session) {
        let data = session.data().map(|data| &data.fingerprint);
        if data != self.data.as_ref() {
            self.thumbnails.clear();
            self.pictures.clear();
            self.large = None;
            // What Compare chose before the tab was ever drawn belongs to the data that is open.
            if self.data.is_some() {
                self.choice = Choice::default();
                self.pair = Pair::FloatAndPlan;
            }
            self.data = data.cloned();
        }
        self.thumbnails.begin();
        self.pictures.begin();
        self.rows.follow(session, &self.pair, self.choice);
    }
}

/// The Samples tab.
pub(crate) fn samples_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SamplesView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    view.follow(session);
    if session.data().is_none() {
        no_data_ui(ui, session, commands);
        return;
    }
    if view.rows.all().is_empty() {
        ui.label(match view.pair {
            Pair::FloatAndPlan => {
                "The samples appear batch by batch as soon as the float network is measured. If nothing runs, press Run"
            }
            Pair::Plans(..) => "The samples of these plans are no longer kept: restore a plan to measure it again",
        });
        if matches!(view.pair, Pair::Plans(..)) && ui.button("Back to float and plan").clicked() {
            view.pair = Pair::FloatAndPlan;
        }
        return;
    }
    filters::filters_ui(ui, session, view);
    // Counts are shown in the frame in which the filter was chosen.
    view.rows.follow(session, &view.pair, view.choice);
    ui.add_space(2.0);
    match (view.section, view.large) {
        (Section::Confusion, _) => confusion_map::confusion_ui(ui, session, view),
        (Section::Pictures, Some(large)) => {
            large_view::large_ui(ui, session, view, large, actions);
        }
        (Section::Pictures, None) => grid::grid_ui(ui, session, view, actions),
    }
}

fn no_data_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.strong("Samples need data");
        ui.label(
            "Open a folder of samples: they are shown here as the network sees them, with what float and plan predict for each.",
        );
        if Command::OpenData.button_ui(ui, session) {
            commands.push(Command::OpenData);
        }
    });
}
