//! The table of layers: what each is, and what the plan does with it.

use egui::{
    Align, Button, Label, Layout, RichText, Role, ScrollArea, Sense, TextEdit, TextWrapMode,
    WidgetInfo, vec2,
};
use egui_extras::{TableBuilder, TableRow};

use super::layer_columns::LayerColumns;
use super::layer_fill::{Fill, end_fill, row_at_edge};
use super::layer_keys::{KeyTarget, layer_keys};
use super::layer_menu::{MenuTarget, layer_menu_ui};
use super::layer_order::{LayerColumn, LayerOrder, local_sqnr_db};
use super::names::shortened;
use super::rounding_menu::{rounding_chip_ui, rounding_text};
use super::sparkline::sparkline_ui;
use super::width_menu::width_chip_ui;
use crate::model::{Layer, LayerId};
use crate::plan::{LayerPlan, layer_cost};
use crate::quant::{Granularity, NumberFormat};
use crate::session::{Action, LayerEdit, Session};
use crate::ui::plots::{point_at, pointed};
use crate::ui::{format, theme};

/// Space between two columns in points.
const COLUMN_SPACING: f32 = 4.0;

/// Looks of the layer table.
#[derive(Debug, Default)]
pub(crate) struct LayerTableView {
    order: LayerOrder,
    pub(crate) columns: LayerColumns,
    keys_set: KeyTarget,
    /// A width that is dragged over rows.
    fill: Option<Fill>,
    /// Where a range of rows begins.
    anchor: Option<LayerId>,
    /// The layer that was shown in the last frame, to follow it when it changes elsewhere.
    followed: Option<LayerId>,
    /// The layer that the pointer is on, here or in another view.
    pointed: Option<LayerId>,
}

impl LayerTableView {
    /// The layers that the filter shows, in their order.
    pub(crate) fn shown(&mut self, session: &Session) -> Vec<LayerId> {
        self.order.rows(session).to_vec()
    }
}

/// The table with its filter.
pub(crate) fn layer_table_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut LayerTableView,
    actions: &mut Vec<Action>,
) {
    let Some(model) = session.model() else {
        ui.label("Open a model to see its layers");
        return;
    };
    filter_ui(ui, session, view, model.layers().len());
    let rows = view.shown(session);
    view.pointed = pointed(ui);
    layer_keys(ui, session, &rows, view.keys_set, actions);
    hint_ui(ui, view, session);
    ScrollArea::horizontal()
        .id_salt("layer columns")
        .auto_shrink(false)
        .show(ui, |ui| {
            table_ui(ui, session, view, model.layers(), &rows, actions);
        });
    end_fill(ui, &mut view.fill, &rows, actions);
}

fn filter_ui(ui: &mut egui::Ui, session: &Session, view: &mut LayerTableView, all: usize) {
    ui.horizontal(|ui| {
        ui.strong("Layers");
        let width = (ui.available_width() - 150.0).max(80.0);
        ui.add(
            TextEdit::singleline(&mut view.order.filter)
                .hint_text("Filter by name or operator")
                .desired_width(width),
        )
        .on_hover_text("Text or regular expression, for example layer[12].*conv")
        .accessible_name("Filter layers");
        let shown = view.order.rows(session).len();
        let text = if view.order.filter.trim().is_empty() {
            format!("{all}")
        } else {
            format!("{shown} of {all}")
        };
        let response = ui.label(text);
        if view.order.filter_is_text() {
            response.on_hover_text("No regular expression: searched as text");
        }
        if !view.order.filter.is_empty() && ui.small_button("Clear").clicked() {
            view.order.filter.clear();
        }
    });
}

/// Which width the keys set, and which keys there are.
fn hint_ui(ui: &mut egui::Ui, view: &mut LayerTableView, session: &Session) {
    ui.horizontal(|ui| {
        let weak = theme::palette(ui).weak;
        ui.label(RichText::new("Keys set").small().color(weak));
        for target in KeyTarget::ALL {
            let text = RichText::new(target.text()).small();
            ui.selectable_value(&mut view.keys_set, target, text)
                .on_hover_text(target.name())
                .accessible_name(target.name());
        }
        let hint = format!(
            "of {} selected: 1–9 bits, 0 = 16, f, h, b; Shift: the other",
            session.selection().len()
        );
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            view.columns.menu_ui(ui);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(Label::new(RichText::new(hint).small().color(weak)).truncate())
                    .on_hover_text("1 to 9 set that many bits, 0 sets 16, f sets f32, h f16, b bf16.\nWith Shift, W sets A and A sets W.\nArrows move the selection, Shift with arrows extends it.");
            });
        });
    });
}

fn table_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut LayerTableView,
    layers: &[Layer],
    rows: &[LayerId],
    actions: &mut Vec<Action>,
) {
    ui.spacing_mut().item_spacing = vec2(COLUMN_SPACING, 2.0);
    let mut body = ui.available_rect_before_wrap();
    body.min.y += theme::ROW_HEIGHT;
    let at_edge = row_at_edge(ui, &mut view.fill, rows, body);
    let scroll_to = at_edge.or_else(|| row_to_follow(session, view, rows));
    let name_room = view.columns.name_room(ui.available_width(), COLUMN_SPACING);
    let mut table = TableBuilder::new(ui)
        .id_salt("layers")
        .striped(true)
        .sense(Sense::click())
        .auto_shrink(false)
        .cell_layout(Layout::left_to_right(Align::Center));
    let columns = view.columns.shown();
    for column in &columns {
        table = table.column(view.columns.layout(*column, name_room));
    }
    if view.columns.take_reset() {
        table.reset();
    }
    if let Some(row) = scroll_to {
        table = table
            .scroll_to_row(row, None)
            .animate_scrolling(at_edge.is_none());
    }
    table
        .header(theme::ROW_HEIGHT, |mut header| {
            for column in &columns {
                header.col(|ui| header_ui(ui, view, *column));
            }
        })
        .body(|body| {
            view.columns.remember(&columns, body.widths());
            let filled = view.fill.and_then(|fill| Some((fill, fill.span(rows)?)));
            body.rows(theme::ROW_HEIGHT, rows.len(), |mut row| {
                let Some(id) = rows.get(row.index()).copied() else {
                    return;
                };
                if let (Some(layer), Some(choice)) =
                    (layers.get(id.index()), session.plan().layer(id))
                {
                    let cells = Cells {
                        id,
                        layer,
                        choice,
                        session,
                        fill: filled
                            .as_ref()
                            .filter(|(_, span)| span.contains(&row.index()))
                            .map(|(fill, _)| *fill),
                    };
                    cells.row_ui(&mut row, view, (rows, &columns), actions);
                }
            });
        });
}

/// The row to scroll to when another view selected a layer.
fn row_to_follow(session: &Session, view: &mut LayerTableView, rows: &[LayerId]) -> Option<usize> {
    let shown = session.selection().first().copied();
    if shown == view.followed {
        return None;
    }
    view.followed = shown;
    rows.iter().position(|id| Some(*id) == shown)
}

fn header_ui(ui: &mut egui::Ui, view: &mut LayerTableView, column: LayerColumn) {
    let (sorted_by, ascending) = view.order.sort;
    let is_sorted = sorted_by == column && column != LayerColumn::Name;
    ui.spacing_mut().button_padding = vec2(0.0, 0.0);
    ui.spacing_mut().item_spacing.x = 2.0;
    let title = Button::new(RichText::new(column.title()).strong()).frame(false);
    let response = ui
        .add(title.wrap_mode(TextWrapMode::Extend))
        .on_hover_text(format!("{}. Click to sort", column.tooltip()))
        .accessible_name(format!("Sort by {}", column.title()));
    if is_sorted {
        sort_mark_ui(ui, ascending);
    }
    if response.clicked() {
        view.order.sort_by(column);
    }
}

/// A triangle that points to where the largest values are.
fn sort_mark_ui(ui: &mut egui::Ui, ascending: bool) {
    let (rect, _) = ui.allocate_exact_size(vec2(8.0, 8.0), Sense::hover());
    let rect = rect.shrink(1.0);
    let corners = if ascending {
        vec![rect.left_top(), rect.right_top(), rect.center_bottom()]
    } else {
        vec![rect.left_bottom(), rect.center_top(), rect.right_bottom()]
    };
    let color = ui.visuals().strong_text_color();
    let mark = egui::Shape::convex_polygon(corners, color, egui::Stroke::NONE);
    ui.painter().add(mark);
}

/// The cells of one layer.
struct Cells<'a> {
    id: LayerId,
    layer: &'a Layer,
    choice: &'a LayerPlan,
    session: &'a Session,
    /// The width that is dragged over this row.
    fill: Option<Fill>,
}

impl Cells<'_> {
    fn row_ui(
        &self,
        row: &mut TableRow<'_, '_>,
        view: &mut LayerTableView,
        (rows, columns): (&[LayerId], &[LayerColumn]),
        actions: &mut Vec<Action>,
    ) {
        row.set_selected(self.session.selection().contains(&self.id));
        if self.fill.is_some() || view.pointed == Some(self.id) {
            row.set_hovered(true);
        }
        for column in columns {
            row.col(|ui| self.cell_ui(ui, view, *column, actions));
        }
        let response = row.response();
        let (pointer, modifiers) = response
            .ctx
            .input(|input| (input.pointer.latest_pos(), input.modifiers));
        if let (Some(fill), Some(pointer)) = (&mut view.fill, pointer)
            && response.rect.y_range().contains(pointer.y)
        {
            fill.over = self.id;
        }
        if response.contains_pointer() {
            point_at(&response.ctx, self.id);
        }
        if response.clicked() {
            actions.push(Action::Select(self.clicked(view, rows, modifiers)));
        }
        response.container_context_menu(|ui| {
            let target = MenuTarget {
                id: self.id,
                layer: self.layer,
                choice: self.choice,
                layers: self.with_selection(),
            };
            layer_menu_ui(ui, self.session, &target, actions);
        });
    }

    fn cell_ui(
        &self,
        ui: &mut egui::Ui,
        view: &mut LayerTableView,
        column: LayerColumn,
        actions: &mut Vec<Action>,
    ) {
        let layer = self.layer;
        match column {
            LayerColumn::Name => name_ui(ui, &layer.name),
            LayerColumn::WeightBits => self.width_ui(ui, view, KeyTarget::Weights, actions),
            LayerColumn::ActivationBits => self.width_ui(ui, view, KeyTarget::Activations, actions),
            LayerColumn::Sqnr => sqnr_bar_ui(ui, local_sqnr_db(self.session, self.id)),
            LayerColumn::Size => {
                let size_bytes = layer_cost(layer, self.choice).size_bytes;
                number_ui(ui, &format::bytes(size_bytes));
            }
            LayerColumn::Lock => self.lock_ui(ui, actions),
            LayerColumn::Sensitivity => sparkline_ui(ui, self.session, self.id, &layer.name),
            LayerColumn::Rounding => self.rounding_ui(ui, actions),
            LayerColumn::Op => text_ui(ui, &layer.op),
            LayerColumn::Shape => text_ui(ui, &format::shape(&layer.weight_shape)),
            LayerColumn::Parameters => number_ui(ui, &format::count(layer.parameters)),
            LayerColumn::Macs => {
                let macs = layer.macs.map_or_else(|| "–".to_owned(), format::count);
                number_ui(ui, &macs);
            }
            LayerColumn::Scheme => text_ui(ui, &scheme_text(self.choice)),
        }
    }

    /// The selection after a click; the clicked layer comes first.
    fn clicked(
        &self,
        view: &mut LayerTableView,
        rows: &[LayerId],
        modifiers: egui::Modifiers,
    ) -> Vec<LayerId> {
        let selected = self.session.selection();
        let selection = if modifiers.shift {
            let anchor = view.anchor.or(selected.first().copied());
            range(rows, anchor, self.id)
        } else if modifiers.command {
            toggled(selected, self.id)
        } else {
            vec![self.id]
        };
        if !modifiers.shift {
            view.anchor = Some(self.id);
        }
        view.followed = selection.first().copied();
        selection
    }

    fn width_ui(
        &self,
        ui: &mut egui::Ui,
        view: &mut LayerTableView,
        target: KeyTarget,
        actions: &mut Vec<Action>,
    ) {
        let (current, what) = match target {
            KeyTarget::Activations => (self.choice.activation.format, "Activation"),
            _ => (self.choice.weight.format, "Weight"),
        };
        let name = format!("{what} bits of {}", self.layer.name);
        // While a width is dragged over the row, its chip shows what it would become.
        let fill = self.fill.filter(|fill| fill.target == target);
        let shown = fill.map_or(current, |fill| fill.format);
        let (response, chosen) = ui
            .push_id((self.id.0, what), |ui| width_chip_ui(ui, &name, shown))
            .inner;
        if response.drag_started_by(egui::PointerButton::Primary) {
            view.fill = Some(Fill {
                from: self.id,
                over: self.id,
                target,
                format: current,
                scrolled_at: 0.0,
            });
        }
        if response.clicked() {
            view.keys_set = target;
        }
        if let Some(format) = chosen {
            let edit = match target {
                KeyTarget::Activations => LayerEdit::ActivationFormat(format),
                _ => LayerEdit::WeightFormat(format),
            };
            actions.push(Action::Edit {
                layers: self.with_selection(),
                edit,
            });
        }
    }

    fn rounding_ui(&self, ui: &mut egui::Ui, actions: &mut Vec<Action>) {
        let text = rounding_text(self.choice);
        if self.choice.weight.format == NumberFormat::F32 {
            text_ui(ui, &text);
            return;
        }
        let name = format!("Rounding of {}", self.layer.name);
        let chosen = ui
            .push_id((self.id.0, "rounding"), |ui| {
                rounding_chip_ui(ui, &name, &text, self.choice)
            })
            .inner;
        if let Some(edit) = chosen {
            actions.push(Action::Edit {
                layers: self.with_selection(),
                edit,
            });
        }
    }

    fn lock_ui(&self, ui: &mut egui::Ui, actions: &mut Vec<Action>) {
        let mut locked = self.choice.locked;
        let response = ui
            .push_id(self.id.0, |ui| ui.checkbox(&mut locked, ""))
            .inner
            .on_hover_text("Locked layers are left alone by presets and searches")
            .accessible_name(format!("Lock {}", self.layer.name));
        if response.changed() {
            actions.push(Action::Edit {
                layers: self.with_selection(),
                edit: LayerEdit::Locked(locked),
            });
        }
    }

    /// An edit in a selected row is meant for the whole selection.
    fn with_selection(&self) -> Vec<LayerId> {
        let selected = self.session.selection();
        if selected.contains(&self.id) {
            selected.to_vec()
        } else {
            vec![self.id]
        }
    }
}

/// The name; one that is too long loses its beginning, which it shares with others.
fn name_ui(ui: &mut egui::Ui, name: &str) {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let text = shortened(ui, name, &font, ui.available_width());
    let is_whole = text == name;
    let response = ui.add(Label::new(text).selectable(false));
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("Layer {name}")));
    if !is_whole {
        response.on_hover_text(name);
    }
}

fn text_ui(ui: &mut egui::Ui, text: &str) {
    ui.add(Label::new(text).truncate().selectable(false));
}

fn number_ui(ui: &mut egui::Ui, text: &str) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add(Label::new(text).selectable(false));
    });
}

/// The SQNR as a bar on the colour scale, with its number.
fn sqnr_bar_ui(ui: &mut egui::Ui, sqnr_db: Option<f64>) {
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
    if !ui.is_rect_visible(rect) {
        return;
    }
    let palette = theme::palette(ui);
    let text_color = ui.visuals().text_color();
    let painter = ui.painter();
    let Some(sqnr_db) = sqnr_db else {
        painter.text(
            rect.left_center() + vec2(4.0, 0.0),
            egui::Align2::LEFT_CENTER,
            "–",
            egui::FontId::proportional(12.0),
            palette.weak,
        );
        return;
    };
    let share = (sqnr_db / theme::SQNR_FULL_DB).clamp(0.0, 1.0);
    painter.rect_filled(rect, 2, palette.empty_cell);
    // The bar is a strip below the number, so that the number is read on one ground.
    let mut bar =
        egui::Rect::from_min_max(rect.left_bottom() - vec2(0.0, 4.0), rect.right_bottom());
    bar.set_width(rect.width() * share as f32);
    painter.rect_filled(bar, 1, theme::scale_color(share));
    painter.text(
        rect.right_top() + vec2(-4.0, -1.0),
        egui::Align2::RIGHT_TOP,
        format::db(sqnr_db),
        egui::FontId::proportional(12.0),
        text_color,
    );
}

/// Scheme and granularity of a weight in short.
fn scheme_text(choice: &LayerPlan) -> String {
    if choice.weight.format.is_float() {
        return "–".to_owned();
    }
    let granularity = match choice.weight.granularity {
        Granularity::PerTensor => "tensor".to_owned(),
        Granularity::PerChannel => "channel".to_owned(),
        Granularity::PerGroup(size) => format!("group {size}"),
    };
    format!("{}, {granularity}", choice.weight.scheme)
}

/// The rows from one layer to another, the latter first.
fn range(rows: &[LayerId], from: Option<LayerId>, to: LayerId) -> Vec<LayerId> {
    let position = |id: LayerId| rows.iter().position(|row| *row == id);
    let Some((start, end)) = from.and_then(position).zip(position(to)) else {
        return vec![to];
    };
    let between = rows
        .get(start.min(end)..=start.max(end))
        .unwrap_or_default();
    let mut selection = vec![to];
    selection.extend(between.iter().filter(|id| **id != to));
    selection
}

/// The selection with a layer added in front, or taken out.
fn toggled(selection: &[LayerId], id: LayerId) -> Vec<LayerId> {
    let mut others: Vec<LayerId> = selection
        .iter()
        .copied()
        .filter(|other| *other != id)
        .collect();
    if others.len() == selection.len() {
        others.insert(0, id);
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Vec<LayerId> {
        ids.iter().copied().map(LayerId).collect()
    }

    #[test]
    fn a_range_follows_the_rows_and_shows_the_clicked_layer() {
        let rows = ids(&[5, 1, 3, 2]);
        assert_eq!(range(&rows, Some(LayerId(1)), LayerId(2)), ids(&[2, 1, 3]));
        assert_eq!(range(&rows, Some(LayerId(3)), LayerId(5)), ids(&[5, 1, 3]));
        assert_eq!(range(&rows, None, LayerId(3)), ids(&[3]));
        assert_eq!(range(&rows, Some(LayerId(9)), LayerId(3)), ids(&[3]));
    }

    #[test]
    fn a_layer_is_added_in_front_and_taken_out_again() {
        assert_eq!(toggled(&ids(&[1, 2]), LayerId(7)), ids(&[7, 1, 2]));
        assert_eq!(toggled(&ids(&[1, 2]), LayerId(1)), ids(&[2]));
    }
}
