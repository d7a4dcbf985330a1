//! Panels side by side and in tabs: moved by their tabs, resized by their edges, hidden and reset.

use egui::{Color32, Margin, Stroke, Visuals, WidgetText};
use egui_tiles::{
    Behavior, Linear, LinearDir, ResizeState, SimplificationOptions, TabState, Tile, TileId, Tiles,
    Tree, UiResponse,
};

use super::panel::{Home, Panel};

/// Shares of the width for left, centre and right.
const SHARES: [f32; 3] = [0.34, 0.40, 0.26];
/// Least width and height of a panel in points.
const PANEL_MIN: f32 = 140.0;

/// Where every panel stands.
pub(crate) struct Dock {
    tree: Tree<Panel>,
}

impl std::fmt::Debug for Dock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dock").field("tree", &self.tree).finish()
    }
}

impl Default for Dock {
    fn default() -> Self {
        Self {
            tree: first_layout(),
        }
    }
}

fn first_layout() -> Tree<Panel> {
    let mut tiles = Tiles::default();
    let columns = [Home::Left, Home::Centre, Home::Right].map(|home| {
        let panes = Panel::ALL
            .iter()
            .filter(|panel| panel.home() == home)
            .map(|panel| tiles.insert_pane(*panel))
            .collect();
        tiles.insert_tab_tile(panes)
    });
    let mut row = Linear::new(LinearDir::Horizontal, columns.to_vec());
    for (column, share) in columns.into_iter().zip(SHARES) {
        row.shares.set_share(column, share);
    }
    let root = tiles.insert_container(row);
    Tree::new(egui::Id::unique("dock"), root, tiles)
}

impl Dock {
    /// All panels where they stood at first.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The layout as it is stored.
    pub(crate) fn stored(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&self.tree)
            .inspect_err(|error| tracing::warn!("the layout is not stored: {error}"))
            .ok()
    }

    /// Takes over a stored layout; panels that it does not know come to their first place.
    pub(crate) fn restore(&mut self, stored: serde_json::Value) {
        match serde_json::from_value::<Tree<Panel>>(stored) {
            Ok(tree) => {
                self.tree = tree;
                if !self.add_missing() {
                    self.reset();
                }
            }
            Err(error) => tracing::warn!("the stored layout is not read: {error}"),
        }
    }

    /// Puts panels that the layout lacks beside those of the same place; `false` if there is none.
    fn add_missing(&mut self) -> bool {
        let missing: Vec<Panel> = Panel::ALL
            .iter()
            .copied()
            .filter(|panel| self.tile(*panel).is_none())
            .collect();
        missing.into_iter().all(|panel| {
            let neighbour = Panel::ALL
                .iter()
                .filter(|other| other.home() == panel.home())
                .find_map(|other| self.tile(*other));
            let Some(parent) = neighbour.and_then(|tile| self.tree.tiles.parent_of(tile)) else {
                return false;
            };
            let tile = self.tree.tiles.insert_pane(panel);
            match self.tree.tiles.get_mut(parent) {
                Some(Tile::Container(container)) => {
                    container.add_child(tile);
                    true
                }
                _ => false,
            }
        })
    }

    fn tile(&self, panel: Panel) -> Option<TileId> {
        self.tree.tiles.find_pane(&panel)
    }

    /// Whether a panel is there, be it behind another tab.
    pub(crate) fn is_shown(&self, panel: Panel) -> bool {
        self.tile(panel)
            .is_some_and(|tile| self.tree.is_visible(tile))
    }

    /// Whether a panel is there and in front.
    pub(crate) fn is_in_front(&self, panel: Panel) -> bool {
        self.tile(panel)
            .is_some_and(|tile| self.tree.active_tiles().contains(&tile))
    }

    /// Shows a panel in front of the others of its place.
    pub(crate) fn show(&mut self, panel: Panel) {
        if let Some(tile) = self.tile(panel) {
            self.tree.set_visible(tile, true);
            self.tree.make_active(|id, _| id == tile);
        }
    }

    /// Hides a panel that is shown, and shows one that is hidden.
    pub(crate) fn toggle(&mut self, panel: Panel) {
        if !self.is_shown(panel) {
            self.show(panel);
        } else if let Some(tile) = self.tile(panel) {
            self.tree.set_visible(tile, false);
        }
    }

    /// Draws the panels that are in front; `true` if all are to come to their first place.
    pub(crate) fn ui(
        &mut self,
        ui: &mut egui::Ui,
        draw: &mut dyn FnMut(&mut egui::Ui, Panel),
    ) -> bool {
        let mut drawing = Drawing { draw, reset: false };
        self.tree.ui(&mut drawing, ui);
        let nothing = self.tree.active_tiles().is_empty();
        drawing.reset || (nothing && nothing_shown_ui(ui))
    }
}

/// Said where every panel is hidden.
fn nothing_shown_ui(ui: &mut egui::Ui) -> bool {
    let rect = ui.max_rect().shrink(16.0);
    ui.put(
        egui::Rect::from_min_size(rect.min, egui::vec2(320.0, 28.0)),
        egui::Button::new("All panels are hidden. Reset layout"),
    )
    .clicked()
}

struct Drawing<'a> {
    draw: &'a mut dyn FnMut(&mut egui::Ui, Panel),
    reset: bool,
}

impl Behavior<Panel> for Drawing<'_> {
    fn pane_ui(&mut self, ui: &mut egui::Ui, _tile: TileId, panel: &mut Panel) -> UiResponse {
        egui::Frame::new()
            .inner_margin(Margin::symmetric(8, 6))
            .show(ui, |ui| (self.draw)(ui, *panel));
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, panel: &Panel) -> WidgetText {
        panel.title().into()
    }

    fn on_tab_button(
        &mut self,
        tiles: &mut Tiles<Panel>,
        tile: TileId,
        response: egui::Response,
    ) -> egui::Response {
        response.context_menu(|ui| {
            if ui.button("Hide panel").clicked() {
                tiles.set_visible(tile, false);
            }
            if ui.button("Reset layout").clicked() {
                self.reset = true;
            }
        });
        response.on_hover_text("Drag to move the panel; right click to hide it")
    }

    fn simplification_options(&self) -> SimplificationOptions {
        // A panel alone keeps its tab, which is its title and its handle.
        SimplificationOptions {
            all_panes_must_have_tabs: true,
            ..SimplificationOptions::default()
        }
    }

    fn min_size(&self) -> f32 {
        PANEL_MIN
    }

    fn gap_width(&self, _style: &egui::Style) -> f32 {
        3.0
    }

    fn tab_bar_height(&self, style: &egui::Style) -> f32 {
        style.spacing.interact_size.y + 4.0
    }

    fn tab_bar_color(&self, visuals: &Visuals) -> Color32 {
        visuals.faint_bg_color
    }

    fn tab_text_color(
        &self,
        visuals: &Visuals,
        _tiles: &Tiles<Panel>,
        _tile: TileId,
        state: &TabState,
    ) -> Color32 {
        if state.active {
            visuals.strong_text_color()
        } else {
            visuals.weak_text_color()
        }
    }

    fn tab_outline_stroke(
        &self,
        visuals: &Visuals,
        _tiles: &Tiles<Panel>,
        _tile: TileId,
        state: &TabState,
    ) -> Stroke {
        if state.active {
            Stroke::new(1.0, visuals.widgets.noninteractive.bg_stroke.color)
        } else {
            Stroke::NONE
        }
    }

    fn resize_stroke(&self, style: &egui::Style, state: ResizeState) -> Stroke {
        match state {
            ResizeState::Idle => style.visuals.widgets.noninteractive.bg_stroke,
            ResizeState::Hovering => style.visuals.widgets.hovered.fg_stroke,
            ResizeState::Dragging => style.visuals.widgets.active.fg_stroke,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_panel_comes_back_in_front() {
        let mut dock = Dock::default();
        dock.show(Panel::Coverage);
        assert!(dock.is_in_front(Panel::Coverage) && !dock.is_in_front(Panel::Overview));
        dock.toggle(Panel::Coverage);
        assert!(!dock.is_shown(Panel::Coverage));
        dock.toggle(Panel::Coverage);
        assert!(dock.is_in_front(Panel::Coverage));
    }

    #[test]
    fn a_layout_survives_the_file_and_a_reset_brings_the_first_one_back() {
        let mut dock = Dock::default();
        dock.toggle(Panel::Inspector);
        dock.show(Panel::Sensitivity);
        let mut other = Dock::default();
        other.restore(dock.stored().unwrap());
        assert!(!other.is_shown(Panel::Inspector));
        assert!(other.is_in_front(Panel::Sensitivity));
        other.reset();
        assert!(Panel::ALL.iter().all(|panel| other.is_shown(*panel)));
    }

    #[test]
    fn a_panel_that_is_new_since_the_layout_was_stored_joins_its_neighbours() {
        let mut dock = Dock::default();
        let coverage = dock.tile(Panel::Coverage).unwrap();
        let parent = dock.tree.tiles.parent_of(coverage);
        dock.tree.remove_recursively(coverage);
        let mut restored = Dock::default();
        restored.restore(dock.stored().unwrap());
        let tile = restored.tile(Panel::Coverage).unwrap();
        assert_eq!(restored.tree.tiles.parent_of(tile), parent);
    }

    #[test]
    fn a_layout_that_cannot_be_read_changes_nothing() {
        let mut dock = Dock::default();
        dock.restore(serde_json::json!({"tiles": "none"}));
        assert!(Panel::ALL.iter().all(|panel| dock.is_shown(*panel)));
    }
}
