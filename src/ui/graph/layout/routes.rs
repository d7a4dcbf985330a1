//! Heights of the layers, and the ways of the edges between them.

use egui::{Pos2, pos2, vec2};

use super::layering::{Layered, Link};
use super::{Arrow, Layout, LayoutEdge, LayoutNode, Piece, Pin};

/// Space between two layers at least, less beside entrances and exits, and how much more there is for edges that go far to the side.
const LAYER_GAP: f32 = 26.0;
const PORT_GAP: f32 = 10.0;
const SLOPE: f32 = 0.14;
const STEEPEST_GAP: f32 = 90.0;
/// A node so little lower than its layer that edges may bend beside its neighbours.
const NEARLY_FULL: f32 = 6.0;
/// Two x that count as the same.
const SAME: f32 = 0.25;

/// Upper and lower edge of a layer.
#[derive(Clone, Copy, Debug)]
struct Band {
    top: f32,
    bottom: f32,
}

pub(super) fn finish(
    nodes: &[LayoutNode],
    edges: &[LayoutEdge],
    layered: &Layered,
    xs: &[f32],
) -> Layout {
    let bands = bands(nodes, layered, xs);
    let centers: Vec<Pos2> = nodes
        .iter()
        .zip(&layered.vertices)
        .zip(xs)
        .map(|((_, vertex), x)| {
            let band = bands[vertex.layer];
            pos2(*x, f32::midpoint(band.top, band.bottom))
        })
        .collect();
    let width = layered
        .vertices
        .iter()
        .zip(xs)
        .map(|(vertex, x)| x + vertex.width / 2.0)
        .fold(0.0, f32::max);
    let size = vec2(width, bands.last().map_or(0.0, |band| band.bottom));
    let mut router = Router {
        layered,
        nodes,
        xs,
        bands: &bands,
        centers: &centers,
        pieces: Vec::new(),
        last_pieces: vec![None; edges.len()],
    };
    for vertex in 0..nodes.len() {
        router.leave(vertex);
    }
    let Router {
        pieces,
        last_pieces,
        ..
    } = router;
    Layout {
        centers,
        pieces,
        last_pieces,
        size,
    }
}

fn bands(nodes: &[LayoutNode], layered: &Layered, xs: &[f32]) -> Vec<Band> {
    let mut top = 0.0;
    let mut bands = Vec::with_capacity(layered.layers.len());
    for (index, layer) in layered.layers.iter().enumerate() {
        let height = layer
            .iter()
            .filter_map(|vertex| nodes.get(*vertex as usize))
            .map(|node| node.size.y)
            .fold(0.0, f32::max);
        let bottom = top + height;
        bands.push(Band { top, bottom });
        let widest = layer
            .iter()
            .flat_map(|vertex| &layered.vertices[*vertex as usize].links[1])
            .map(|link| {
                let [from, to] = ends(&layered.links[*link as usize], xs);
                (from - to).abs()
            })
            .fold(0.0, f32::max);
        let has_ports = |layer: &[u32]| {
            let node = layer.iter().find_map(|vertex| nodes.get(*vertex as usize));
            node.is_some_and(|node| node.pin != Pin::Free)
        };
        let next = layered.layers.get(index + 1);
        let least = if has_ports(layer) || next.is_some_and(|next| has_ports(next)) {
            PORT_GAP
        } else {
            LAYER_GAP
        };
        top = bottom + (least + SLOPE * widest).min(STEEPEST_GAP);
    }
    bands
}

/// The x of the two ends of a link.
fn ends(link: &Link, xs: &[f32]) -> [f32; 2] {
    [0, 1].map(|side| xs[link.ends[side] as usize] + link.offsets[side])
}

struct Router<'a> {
    layered: &'a Layered,
    nodes: &'a [LayoutNode],
    xs: &'a [f32],
    bands: &'a [Band],
    centers: &'a [Pos2],
    pieces: Vec<Piece>,
    last_pieces: Vec<Option<u32>>,
}

impl Router<'_> {
    /// Draws all that leaves a node downwards.
    fn leave(&mut self, vertex: usize) {
        let mut open: Vec<Step> = Vec::new();
        let layered = self.layered;
        let bottom = self.bands[layered.vertices[vertex].layer].bottom;
        let node_bottom = self.edge_of(vertex, 1);
        for link in &layered.vertices[vertex].links[1] {
            let [x, _] = ends(&layered.links[*link as usize], self.xs);
            let mut step = Step {
                link: *link,
                before: None,
                at: pos2(x, node_bottom),
                is_alone: true,
            };
            if bottom - node_bottom > NEARLY_FULL {
                let end = pos2(x, bottom);
                step.before = Some(self.push(&step, end));
                step.at = end;
            }
            open.push(step);
        }
        while let Some(step) = open.pop() {
            self.follow(step, &mut open);
        }
    }

    /// Draws one link, and notes what passes on from there.
    fn follow(&mut self, mut step: Step, open: &mut Vec<Step>) {
        let link = self.layered.links[step.link as usize];
        let [_, x] = ends(&link, self.xs);
        let lower = link.ends[1] as usize;
        let vertex = &self.layered.vertices[lower];
        let band = self.bands[vertex.layer];
        let target = if vertex.is_dummy {
            band.bottom
        } else {
            self.edge_of(lower, 0)
        };
        let is_direct = target - band.top <= NEARLY_FULL;
        let bend = (!is_direct).then_some(band.top);
        for y in bend.into_iter().chain([target]) {
            let end = pos2(x, y);
            step.before = Some(self.push(&step, end));
            step.at = end;
            step.is_alone = true;
        }
        if vertex.is_dummy {
            let is_alone = vertex.links[1].len() == 1;
            open.extend(vertex.links[1].iter().map(|link| Step {
                link: *link,
                is_alone,
                ..step
            }));
        } else if let Some(last) = step.before {
            self.arrive(link, last);
        }
    }

    fn arrive(&mut self, link: Link, last: u32) {
        if link.is_reversed {
            let mut first = last;
            while let Some(before) = self.pieces[first as usize].before {
                first = before;
            }
            self.pieces[first as usize].arrow = Arrow::Start;
        } else if self.nodes[link.ends[1] as usize].pin != Pin::Last {
            self.pieces[last as usize].arrow = Arrow::End;
        }
        if let Some(edge) = link.edge {
            self.last_pieces[edge as usize] = Some(last);
        }
    }

    /// Upper (0) or lower (1) edge of a node where edges are attached; they run through entrances and exits.
    fn edge_of(&self, vertex: usize, side: usize) -> f32 {
        let (center, half) = (self.centers[vertex].y, self.nodes[vertex].size.y / 2.0);
        let is_passed = self.nodes[vertex].pin != Pin::Free;
        if (side == 0) == is_passed {
            center + half
        } else {
            center - half
        }
    }

    /// Adds a piece, or lengthens the one before where both are one straight line that no other leaves.
    fn push(&mut self, step: &Step, to: Pos2) -> u32 {
        let is_straight = |from: Pos2, to: Pos2| (from.x - to.x).abs() < SAME;
        if let Some(before) = step.before.filter(|_| step.is_alone)
            && let Some(piece) = self.pieces.get_mut(before as usize)
            && is_straight(piece.from, piece.to)
            && is_straight(piece.from, to)
        {
            piece.to = to;
            return before;
        }
        self.pieces.push(Piece {
            from: step.at,
            to,
            before: step.before,
            arrow: Arrow::None,
        });
        (self.pieces.len() - 1) as u32
    }
}

/// How far a way has come.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The link to follow next.
    link: u32,
    /// The piece that ends here.
    before: Option<u32>,
    at: Pos2,
    /// Nothing else goes on from the piece before.
    is_alone: bool,
}
