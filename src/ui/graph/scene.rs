//! The picture of a network: boxes and edges in their places, for one choice of collapsed blocks.
//!
//! An open block is a frame with a drawing of its own in it. Where an edge crosses a frame, the
//! frame has an entrance or an exit for its tensor, and so no edge runs through a frame.

use std::collections::{BTreeSet, HashMap, HashSet};

use egui::{Pos2, Rect, Vec2, pos2, vec2};

use super::blocks::Blocks;
use super::layout::{self, Arrow, Layout, LayoutEdge, LayoutNode, Piece, Pin};
use crate::model::{Graph, Layer, LayerId, NodeId, ValueId};

/// Height of the head of a frame.
pub(super) const HEADER: f32 = 24.0;
/// Space between the bottom of a frame and what is in it, and at its sides.
const FOOT: f32 = 12.0;
const SIDE: f32 = 14.0;
/// Width of an entrance or exit.
const PORT_WIDTH: f32 = 4.0;
/// Heights of boxes with one and with two lines of text.
const ONE_LINE: f32 = 24.0;
const TWO_LINES: f32 = 42.0;
/// Width of a character of the first and the second line, on average.
pub(super) const NAME_CHARACTER: f32 = 7.0;
const DETAIL_CHARACTER: f32 = 6.0;
/// Characters of the second line behind the operator: two widths and a value.
const DETAIL_LENGTH: usize = 24;
/// Characters of the second line of a collapsed block.
const BLOCK_DETAIL_LENGTH: usize = 30;
const WIDTHS: std::ops::RangeInclusive<f32> = 84.0..=250.0;

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ItemKind {
    /// A node.
    Node(NodeId),
    /// A collapsed block.
    Block(usize),
    /// An open block.
    Frame(usize),
    /// An input of the network.
    Input(ValueId),
    /// An output of the network.
    Output(ValueId),
}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    pub(super) rect: Rect,
    /// The frame around it.
    pub(super) parent: Option<u32>,
    /// What it is called here; the full name is the network's.
    pub(super) label: String,
    /// The layers in it.
    pub(super) layers: Vec<LayerId>,
}

impl Item {
    pub(super) fn is_frame(&self) -> bool {
        matches!(self.kind, ItemKind::Frame(_))
    }
}

/// Where an edge ends within its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Item(u32),
    /// Leaves this frame.
    Exit(Option<u32>),
}

/// An edge within one frame.
#[derive(Clone, Copy, Debug)]
struct Edge {
    value: ValueId,
    /// The item that it leaves; none where it comes in through the frame.
    from: Option<u32>,
    to: Target,
    last_piece: u32,
}

/// What is drawn of a network.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// Boxes; a frame comes before what is in it.
    pub(super) items: Vec<Item>,
    /// Parts of edges.
    pub(super) pieces: Vec<Piece>,
    pub(super) size: Vec2,
    edges: Vec<Edge>,
    item_of_layer: Vec<Option<u32>>,
}

impl Scene {
    /// Draws a network with these blocks collapsed.
    pub(super) fn new(
        graph: &Graph,
        layers: &[Layer],
        blocks: &Blocks,
        collapsed: &BTreeSet<usize>,
    ) -> Self {
        let mut layer_of = vec![None; graph.nodes().len()];
        for (id, layer) in (0..).map(LayerId).zip(layers) {
            if let Some(of_node) = layer_of.get_mut(layer.node.index()) {
                *of_node = Some(id);
            }
        }
        let mut builder = Builder {
            graph,
            blocks,
            collapsed,
            layer_of: &layer_of,
            levels: vec![Level::default(); blocks.all().len() + 1],
            known: HashSet::new(),
            scene: Self {
                item_of_layer: vec![None; layers.len()],
                ..Self::default()
            },
        };
        builder.place_items();
        builder.connect_items();
        builder.lay_out();
        let content = builder.content_size(0);
        builder.scene.size = content;
        builder.emit(0, Pos2::ZERO, None);
        builder.scene
    }

    /// The box that shows a layer: its own, or that of a collapsed block.
    pub(super) fn item_of_layer(&self, layer: LayerId) -> Option<u32> {
        self.item_of_layer.get(layer.index()).copied().flatten()
    }

    /// The box at a place, the innermost if there are several.
    pub(super) fn item_at(&self, place: Pos2) -> Option<u32> {
        let found = (0..)
            .zip(&self.items)
            .filter(|(_, item)| item.rect.contains(place));
        found.last().map(|(index, _)| index)
    }

    /// Whether a frame lies around an item.
    fn contains(&self, frame: u32, item: u32) -> bool {
        let parent = |item: &u32| self.items.get(*item as usize)?.parent;
        std::iter::successors(parent(&item), parent).any(|around| around == frame)
    }

    /// Adds to `marked` the pieces that bring tensors to an item and take tensors away from it.
    pub(super) fn mark_edges_of(&self, item: u32, marked: &mut [bool]) {
        let values = |wanted: &dyn Fn(&Edge) -> bool| -> HashSet<ValueId> {
            let edges = self.edges.iter().filter(|edge| wanted(edge));
            edges.map(|edge| edge.value).collect()
        };
        let read = values(&|edge| edge.to == Target::Item(item));
        let written = values(&|edge| edge.from == Some(item));
        for edge in &self.edges {
            let leads_here = || match edge.to {
                Target::Item(other) => other == item || self.contains(other, item),
                Target::Exit(frame) => frame.is_some_and(|frame| !self.contains(frame, item)),
            };
            if written.contains(&edge.value) || (read.contains(&edge.value) && leads_here()) {
                let mut next = Some(edge.last_piece);
                while let Some(piece) = next {
                    if let Some(marked) = marked.get_mut(piece as usize) {
                        *marked = true;
                    }
                    next = self
                        .pieces
                        .get(piece as usize)
                        .and_then(|piece| piece.before);
                }
            }
        }
    }
}

/// A vertex of the drawing of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Item(ItemKind),
    Entrance(ValueId),
    Exit(ValueId),
}

/// The drawing within one frame; the first level is the network's.
#[derive(Clone, Debug, Default)]
struct Level {
    ends: Vec<End>,
    places: HashMap<End, usize>,
    edges: Vec<(usize, ValueId, usize)>,
    layout: Layout,
}

impl Level {
    fn place(&mut self, end: End) -> usize {
        *self.places.entry(end).or_insert_with(|| {
            self.ends.push(end);
            self.ends.len() - 1
        })
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    blocks: &'a Blocks,
    collapsed: &'a BTreeSet<usize>,
    layer_of: &'a [Option<LayerId>],
    /// The network's level, then those of the blocks.
    levels: Vec<Level>,
    known: HashSet<(usize, End, ValueId, End)>,
    scene: Scene,
}

impl Builder<'_> {
    /// The level around a level.
    fn parent(&self, level: usize) -> usize {
        level_of(self.blocks.get(level - 1).and_then(|block| block.parent))
    }

    fn depth(&self, level: usize) -> usize {
        let block = level
            .checked_sub(1)
            .and_then(|block| self.blocks.get(block));
        block.map_or(0, |block| block.depth + 1)
    }

    /// Where a node is seen: as itself, or as the outermost collapsed block around it.
    fn spot(&self, node: NodeId) -> (usize, End) {
        let innermost = self.blocks.of_node(node.index());
        let mut spot = (level_of(innermost), End::Item(ItemKind::Node(node)));
        for block in self.blocks.upwards(innermost) {
            if self.collapsed.contains(&block) {
                let parent = self.blocks.get(block).and_then(|block| block.parent);
                spot = (level_of(parent), End::Item(ItemKind::Block(block)));
            }
        }
        spot
    }

    fn place_items(&mut self) {
        for input in self.graph.inputs() {
            self.levels[0].place(End::Item(ItemKind::Input(*input)));
        }
        for node in self.graph.node_ids() {
            let (mut level, end) = self.spot(node);
            self.levels[level].place(end);
            while level > 0 {
                let around = self.parent(level);
                self.levels[around].place(End::Item(ItemKind::Frame(level - 1)));
                level = around;
            }
        }
        for output in self.graph.outputs() {
            self.levels[0].place(End::Item(ItemKind::Output(*output)));
        }
    }

    fn connect_items(&mut self) {
        let mut sources: Vec<Option<(usize, End)>> = vec![None; self.graph.values().len()];
        for input in self.graph.inputs() {
            sources[input.index()] = Some((0, End::Item(ItemKind::Input(*input))));
        }
        for node in self.graph.node_ids() {
            let spot = self.spot(node);
            for input in self.graph.node(node).inputs.iter().flatten() {
                if let Some(source) = sources[input.index()] {
                    self.connect(*input, source, spot);
                }
            }
            for output in &self.graph.node(node).outputs {
                sources[output.index()] = Some(spot);
            }
        }
        for output in self.graph.outputs() {
            if let Some(source) = sources[output.index()] {
                let target = (0, End::Item(ItemKind::Output(*output)));
                self.connect(*output, source, target);
            }
        }
    }

    /// Leads a tensor out of the frames around its source and into those around its target.
    fn connect(&mut self, value: ValueId, source: (usize, End), target: (usize, End)) {
        if source == target {
            return;
        }
        let ((mut out, mut from), (mut into, mut to)) = (source, target);
        while out != into {
            if self.depth(out) >= self.depth(into) {
                self.link(out, from, value, End::Exit(value));
                from = End::Item(ItemKind::Frame(out - 1));
                out = self.parent(out);
            } else {
                self.link(into, End::Entrance(value), value, to);
                to = End::Item(ItemKind::Frame(into - 1));
                into = self.parent(into);
            }
        }
        self.link(out, from, value, to);
    }

    fn link(&mut self, level: usize, from: End, value: ValueId, to: End) {
        if self.known.insert((level, from, value, to)) {
            let level = &mut self.levels[level];
            let edge = (level.place(from), value, level.place(to));
            level.edges.push(edge);
        }
    }

    /// Lays out every frame, the inner ones first, because they decide on the size of the outer ones.
    fn lay_out(&mut self) {
        for index in (0..self.levels.len()).rev() {
            let level = &self.levels[index];
            if level.ends.is_empty() {
                continue;
            }
            let nodes: Vec<LayoutNode> = level.ends.iter().map(|end| self.node(*end)).collect();
            let edges: Vec<LayoutEdge> = level
                .edges
                .iter()
                .map(|(from, value, to)| LayoutEdge {
                    from: *from,
                    from_x: self.port_x(level.ends[*from], End::Exit(*value)),
                    to: *to,
                    to_x: self.port_x(level.ends[*to], End::Entrance(*value)),
                    bundle: value.0,
                })
                .collect();
            self.levels[index].layout = layout::layout(&nodes, &edges);
        }
    }

    fn node(&self, end: End) -> LayoutNode {
        let (size, pin) = match end {
            End::Entrance(_) => (vec2(PORT_WIDTH, HEADER), Pin::First),
            End::Exit(_) => (vec2(PORT_WIDTH, FOOT), Pin::Last),
            End::Item(ItemKind::Frame(block)) => (self.frame_size(block), Pin::Free),
            End::Item(kind) => (self.box_size(kind), Pin::Free),
        };
        LayoutNode { size, pin }
    }

    /// Where a frame has an entrance or exit, right of its centre; other boxes have theirs in the middle.
    fn port_x(&self, end: End, port: End) -> f32 {
        let End::Item(ItemKind::Frame(block)) = end else {
            return 0.0;
        };
        let level = &self.levels[block + 1];
        level.places.get(&port).map_or(0.0, |place| {
            level.layout.centers[*place].x - level.layout.size.x / 2.0
        })
    }

    /// Size of the drawing of a level with the room for a head and a foot.
    fn content_size(&self, level: usize) -> Vec2 {
        let level = &self.levels[level];
        let (head, foot) = level.margins();
        level.layout.size + vec2(0.0, head + foot)
    }

    fn frame_size(&self, block: usize) -> Vec2 {
        let label = self.blocks.get(block).map_or("", |block| &block.label);
        let content = self.content_size(block + 1);
        let least = label.chars().count() as f32 * NAME_CHARACTER + 40.0;
        vec2((content.x + 2.0 * SIDE).max(least), content.y)
    }

    fn box_size(&self, kind: ItemKind) -> Vec2 {
        let label = self.label(kind).chars().count() as f32 * NAME_CHARACTER;
        let (second, height) = match kind {
            ItemKind::Node(node) if self.layer_of[node.index()].is_some() => (
                self.graph.node(node).op.name().len() + DETAIL_LENGTH,
                TWO_LINES,
            ),
            ItemKind::Block(_) => (BLOCK_DETAIL_LENGTH, TWO_LINES + 4.0),
            _ => (0, ONE_LINE),
        };
        let width = label.max(second as f32 * DETAIL_CHARACTER) + 22.0;
        vec2(width.clamp(*WIDTHS.start(), *WIDTHS.end()), height)
    }

    fn label(&self, kind: ItemKind) -> String {
        match kind {
            ItemKind::Node(node) => {
                let label = self.blocks.label(node.index());
                let op = self.graph.node(node).op.name();
                let is_layer = self.layer_of[node.index()].is_some();
                if is_layer || label.to_lowercase().contains(&op.to_lowercase()) {
                    label.to_owned()
                } else {
                    format!("{label} · {op}")
                }
            }
            ItemKind::Block(block) | ItemKind::Frame(block) => self
                .blocks
                .get(block)
                .map_or_else(String::new, |block| block.label.clone()),
            ItemKind::Input(value) => format!("Input {}", self.graph.value(value).name),
            ItemKind::Output(value) => format!("Output {}", self.graph.value(value).name),
        }
    }

    fn layers_in(&self, kind: ItemKind) -> Vec<LayerId> {
        let of_node = |node: usize| self.layer_of.get(node).copied().flatten();
        match kind {
            ItemKind::Node(node) => of_node(node.index()).into_iter().collect(),
            ItemKind::Block(block) | ItemKind::Frame(block) => {
                let nodes = self.blocks.get(block).map(|block| block.nodes.as_slice());
                let nodes = nodes.unwrap_or_default().iter();
                nodes.filter_map(|node| of_node(*node)).collect()
            }
            ItemKind::Input(_) | ItemKind::Output(_) => Vec::new(),
        }
    }

    /// Puts a level and all in it to its final place.
    fn emit(&mut self, index: usize, origin: Pos2, parent: Option<u32>) {
        let level = std::mem::take(&mut self.levels[index]);
        let origin = origin + vec2(0.0, level.margins().0);
        let mut items: Vec<Option<u32>> = Vec::with_capacity(level.ends.len());
        for (end, center) in level.ends.iter().zip(&level.layout.centers) {
            let End::Item(kind) = *end else {
                items.push(None);
                continue;
            };
            let center = *center + origin.to_vec2();
            let size = self.node(*end).size;
            let item = self.scene.items.len() as u32;
            items.push(Some(item));
            let layers = self.layers_in(kind);
            if !matches!(kind, ItemKind::Frame(_)) {
                for layer in &layers {
                    self.scene.item_of_layer[layer.index()] = Some(item);
                }
            }
            self.scene.items.push(Item {
                kind,
                rect: Rect::from_center_size(center, size),
                parent,
                label: self.label(kind),
                layers,
            });
            if let ItemKind::Frame(block) = kind {
                let left = center.x - self.content_size(block + 1).x / 2.0;
                self.emit(block + 1, pos2(left, center.y - size.y / 2.0), Some(item));
            }
        }
        let first_piece = self.scene.pieces.len() as u32;
        self.scene
            .pieces
            .extend(level.layout.pieces.iter().map(|piece| Piece {
                from: piece.from + origin.to_vec2(),
                to: piece.to + origin.to_vec2(),
                before: piece.before.map(|before| before + first_piece),
                arrow: piece.arrow,
            }));
        for ((from, value, to), last) in level.edges.iter().zip(&level.layout.last_pieces) {
            if let Some(last) = last {
                let is_frame = matches!(level.ends[*to], End::Item(ItemKind::Frame(_)));
                if is_frame
                    && let Some(piece) = self.scene.pieces.get_mut((last + first_piece) as usize)
                    && piece.arrow == Arrow::End
                {
                    // The edge goes on to a box within the frame, which has the arrow.
                    piece.arrow = Arrow::None;
                }
                self.scene.edges.push(Edge {
                    value: *value,
                    from: items[*from],
                    to: items[*to].map_or(Target::Exit(parent), Target::Item),
                    last_piece: last + first_piece,
                });
            }
        }
    }
}

impl Level {
    /// Room above and below the drawing where no entrance and no exit make it.
    fn margins(&self) -> (f32, f32) {
        let has = |wanted: fn(&End) -> bool| self.ends.iter().any(wanted);
        let entrances = has(|end| matches!(end, End::Entrance(_)));
        let exits = has(|end| matches!(end, End::Exit(_)));
        (
            if entrances { 0.0 } else { HEADER + 8.0 },
            if exits { 0.0 } else { FOOT },
        )
    }
}

/// The level of what is in a block, or directly in the network.
fn level_of(block: Option<usize>) -> usize {
    block.map_or(0, |block| block + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GraphBuilder, Metadata, ModelFormat, Op, Unary, Variadic};

    /// Two blocks in a row, the input skipping the first of them; nodes are named `a/0`, `a/1`, `b/0`, `b/1`.
    fn network() -> Graph {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", crate::model::ElementType::F32, Vec::new());
        let relu = || Op::Unary(Unary::Relu);
        let a0 = builder.node("a/0", relu(), &[x], "a0");
        let a1 = builder.node("a/1", relu(), &[a0], "a1");
        let b0 = builder.node("b/0", relu(), &[a1], "b0");
        let b1 = builder.node("b/1", Op::Variadic(Variadic::Sum), &[b0, x], "b1");
        builder.output(b1);
        builder
            .finish(Metadata {
                name: "test.onnx".to_owned(),
                format: ModelFormat::Onnx,
                sha256: String::new(),
                producer: None,
                opset: None,
                architecture: None,
            })
            .unwrap()
    }

    fn scene(collapsed: &[usize]) -> Scene {
        let graph = network();
        let blocks = Blocks::of_graph(&graph);
        let collapsed = collapsed.iter().copied().collect();
        Scene::new(&graph, &[], &blocks, &collapsed)
    }

    fn item(scene: &Scene, label: &str) -> u32 {
        let found = scene
            .items
            .iter()
            .position(|item| item.label.starts_with(label));
        found.unwrap() as u32
    }

    fn rect(scene: &Scene, label: &str) -> Rect {
        scene.items[item(scene, label) as usize].rect
    }

    #[test]
    fn open_blocks_are_frames_around_their_nodes() {
        let scene = scene(&[]);
        let labels: Vec<&str> = scene.items.iter().map(|item| item.label.as_str()).collect();
        assert_eq!(
            labels,
            [
                "Input x",
                "a",
                "0 · Relu",
                "1 · Relu",
                "b",
                "0 · Relu",
                "1 · Sum",
                "Output b1"
            ]
        );
        assert!(rect(&scene, "a").contains_rect(rect(&scene, "1 · Relu")));
        assert!(rect(&scene, "b").contains_rect(rect(&scene, "1 · Sum")));
        assert!(rect(&scene, "a").bottom() < rect(&scene, "b").top());
        assert!(rect(&scene, "Input").bottom() < rect(&scene, "a").top());
    }

    #[test]
    fn a_collapsed_block_is_one_box() {
        let scene = scene(&[0, 1]);
        let kinds: Vec<ItemKind> = scene.items.iter().map(|item| item.kind).collect();
        let [_, ItemKind::Block(0), ItemKind::Block(1), _] = kinds.as_slice() else {
            panic!("{kinds:?}");
        };
    }

    #[test]
    fn edges_run_around_frames() {
        let scene = scene(&[]);
        let frame = rect(&scene, "a").shrink(1.0);
        let inner = scene.items.iter().filter(|item| !item.is_frame());
        let inner: Vec<Rect> = inner.map(|item| item.rect.shrink(1.0)).collect();
        for piece in &scene.pieces {
            let space = Rect::from_two_pos(piece.from, piece.to);
            assert!(
                inner.iter().all(|node| !node.intersects(space)),
                "{piece:?}"
            );
            // Only what belongs to the block is in its frame.
            assert!(!frame.intersects(space) || frame.expand(2.0).contains_rect(space));
        }
    }

    #[test]
    fn the_edges_of_a_node_lead_through_the_frames() {
        let scene = scene(&[]);
        let marked_of = |label: &str| {
            let mut marked = vec![false; scene.pieces.len()];
            scene.mark_edges_of(item(&scene, label), &mut marked);
            let marked = scene
                .pieces
                .iter()
                .zip(marked)
                .filter(|(_, marked)| *marked);
            marked.map(|(piece, _)| *piece).collect::<Vec<_>>()
        };
        let of_sum = marked_of("1 · Sum");
        let begins = |rect: Rect| {
            of_sum
                .iter()
                .any(|piece| (piece.from - rect.center_bottom()).length() < 1.0)
        };
        assert!(
            begins(rect(&scene, "Input")),
            "the skip comes from the input"
        );
        assert!(
            of_sum
                .iter()
                .all(|piece| !rect(&scene, "0 · Relu").contains(piece.to))
        );
        assert!(
            of_sum
                .iter()
                .any(|piece| piece.to.y >= rect(&scene, "Output").top() - 1.0)
        );
    }
}
