//! Layers by the longest path, and dummy vertices where edges pass through a layer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::{LayoutEdge, LayoutNode, Pin};

/// Width that an edge takes where it passes between nodes.
const DUMMY_WIDTH: f32 = 4.0;

/// A node, or a place where edges pass through a layer.
#[derive(Clone, Debug)]
pub(super) struct Vertex {
    pub(super) layer: usize,
    /// Place within the layer.
    pub(super) position: usize,
    pub(super) width: f32,
    pub(super) is_dummy: bool,
    /// Nodes on the longest way from here, this one included: from above, and to below.
    pub(super) longest: [u32; 2],
    /// Links to the layer above, and to the layer below.
    pub(super) links: [Vec<u32>; 2],
}

/// A part of edges between two neighbouring layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The upper vertex, and the lower.
    pub(super) ends: [u32; 2],
    /// Where the link is attached, right of the centres.
    pub(super) offsets: [f32; 2],
    /// The edge that ends here.
    pub(super) edge: Option<u32>,
    /// The edge runs upwards.
    pub(super) is_reversed: bool,
}

/// A graph whose links all go from one layer to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Layered {
    /// The nodes, in their order, and then the dummies.
    pub(super) vertices: Vec<Vertex>,
    pub(super) links: Vec<Link>,
    /// The vertices of each layer from left to right.
    pub(super) layers: Vec<Vec<u32>>,
}

/// An edge that points downwards.
struct Downward {
    edge: u32,
    ends: [usize; 2],
    offsets: [f32; 2],
    is_reversed: bool,
    /// Edges with the same key share dummies.
    bundle: (bool, u32),
}

impl Layered {
    pub(super) fn new(nodes: &[LayoutNode], edges: &[LayoutEdge]) -> Self {
        let edges: Vec<(u32, LayoutEdge)> = (0..)
            .zip(edges.iter().copied())
            .filter(|(_, edge)| {
                let pin = |node: usize| nodes.get(node).map(|node| node.pin);
                edge.from != edge.to
                    && pin(edge.from).is_some_and(|pin| pin != Pin::Last)
                    && pin(edge.to).is_some_and(|pin| pin != Pin::First)
            })
            .collect();
        let order = order(nodes, &edges);
        let downward: Vec<Downward> = edges
            .iter()
            .map(|(index, edge)| downward(*index, edge, &order.rank))
            .collect();
        let layer_of = longest_paths(nodes, &downward, &order);
        let mut layered = Self {
            vertices: nodes
                .iter()
                .zip(&layer_of)
                .map(|(node, layer)| Vertex {
                    layer: *layer,
                    position: 0,
                    width: node.size.x,
                    is_dummy: false,
                    longest: [0; 2],
                    links: Default::default(),
                })
                .collect(),
            ..Self::default()
        };
        layered.add_links(downward);
        layered.fill_layers(&order);
        layered.measure_paths(nodes);
        layered
    }

    /// Cuts edges at the layers that they pass; a bundle passes a layer once.
    fn add_links(&mut self, mut edges: Vec<Downward>) {
        // The chain of a bundle so far: the dummy in each layer below its node.
        let mut chains: HashMap<(usize, (bool, u32)), Vec<u32>> = HashMap::new();
        edges.sort_by_key(|edge| (edge.ends[0], edge.edge));
        for edge in edges {
            let [upper, lower] = edge.ends;
            let first = self.vertices[upper].layer + 1;
            let between = self.vertices[lower].layer - first;
            let chain = chains.entry((upper, edge.bundle)).or_default();
            while chain.len() < between {
                let dummy = self.vertices.len() as u32;
                self.vertices.push(Vertex {
                    layer: first + chain.len(),
                    position: 0,
                    width: DUMMY_WIDTH,
                    is_dummy: true,
                    longest: [0; 2],
                    links: Default::default(),
                });
                let (from, offset) = chain
                    .last()
                    .map_or((upper as u32, edge.offsets[0]), |dummy| (*dummy, 0.0));
                chain.push(dummy);
                self.links.push(Link {
                    ends: [from, dummy],
                    offsets: [offset, 0.0],
                    edge: None,
                    is_reversed: edge.is_reversed,
                });
            }
            let (from, offset) = between
                .checked_sub(1)
                .map_or((upper as u32, edge.offsets[0]), |last| (chain[last], 0.0));
            self.links.push(Link {
                ends: [from, lower as u32],
                offsets: [offset, edge.offsets[1]],
                edge: Some(edge.edge),
                is_reversed: edge.is_reversed,
            });
        }
        for (index, link) in (0..).zip(&self.links) {
            self.vertices[link.ends[0] as usize].links[1].push(index);
            self.vertices[link.ends[1] as usize].links[0].push(index);
        }
    }

    /// Puts the vertices into their layers in the order in which the network computes them.
    fn fill_layers(&mut self, order: &Order) {
        let count = self.vertices.iter().map(|vertex| vertex.layer + 1).max();
        self.layers = vec![Vec::new(); count.unwrap_or(0)];
        let dummies = order.nodes.len()..self.vertices.len();
        for vertex in order.nodes.iter().copied().chain(dummies) {
            self.layers[self.vertices[vertex].layer].push(vertex as u32);
        }
        self.number();
    }

    /// Tells every vertex its place.
    pub(super) fn number(&mut self) {
        for layer in &self.layers {
            for (position, vertex) in layer.iter().enumerate() {
                self.vertices[*vertex as usize].position = position;
            }
        }
    }

    fn measure_paths(&mut self, nodes: &[LayoutNode]) {
        let counts: Vec<u32> = (0..self.vertices.len())
            .map(|vertex| u32::from(nodes.get(vertex).is_some_and(|node| node.pin == Pin::Free)))
            .collect();
        for layer in 0..self.layers.len() {
            self.measure_layer(layer, 0, &counts);
        }
        for layer in (0..self.layers.len()).rev() {
            self.measure_layer(layer, 1, &counts);
        }
    }

    fn measure_layer(&mut self, layer: usize, side: usize, counts: &[u32]) {
        for vertex in self.layers[layer].clone() {
            let vertex = vertex as usize;
            let before = self.vertices[vertex].links[side]
                .iter()
                .map(|link| {
                    let other = self.links[*link as usize].ends[side];
                    self.vertices[other as usize].longest[side]
                })
                .max();
            self.vertices[vertex].longest[side] = before.unwrap_or(0) + counts[vertex];
        }
    }
}

/// Nodes in an order that most edges follow.
struct Order {
    nodes: Vec<usize>,
    /// Place of each node in the order.
    rank: Vec<usize>,
}

/// A topological order; in a cycle the node that comes first in the list goes first.
fn order(nodes: &[LayoutNode], edges: &[(u32, LayoutEdge)]) -> Order {
    let mut next = vec![Vec::new(); nodes.len()];
    let mut waiting = vec![0u32; nodes.len()];
    for (_, edge) in edges {
        next[edge.from].push(edge.to);
        waiting[edge.to] += 1;
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len())
        .filter(|node| waiting[*node] == 0)
        .map(Reverse)
        .collect();
    let mut rank = vec![usize::MAX; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    let mut unplaced = 0;
    while let Some(Reverse(node)) = ready.pop().or_else(|| {
        // An exit waits for all that leads to it.
        while rank
            .get(unplaced)
            .is_some_and(|rank| *rank != usize::MAX || nodes[unplaced].pin == Pin::Last)
        {
            unplaced += 1;
        }
        (unplaced < nodes.len()).then_some(Reverse(unplaced))
    }) {
        if rank[node] != usize::MAX {
            continue;
        }
        rank[node] = order.len();
        order.push(node);
        for other in &next[node] {
            waiting[*other] = waiting[*other].saturating_sub(1);
            if waiting[*other] == 0 && rank[*other] == usize::MAX {
                ready.push(Reverse(*other));
            }
        }
    }
    Order { nodes: order, rank }
}

fn downward(index: u32, edge: &LayoutEdge, rank: &[usize]) -> Downward {
    let is_reversed = rank[edge.from] > rank[edge.to];
    if is_reversed {
        Downward {
            edge: index,
            ends: [edge.to, edge.from],
            offsets: [edge.to_x, edge.from_x],
            is_reversed,
            bundle: (true, index),
        }
    } else {
        Downward {
            edge: index,
            ends: [edge.from, edge.to],
            offsets: [edge.from_x, edge.to_x],
            is_reversed,
            bundle: (false, edge.bundle),
        }
    }
}

/// The layer of each node: below all that lead to it; a source stands above its first reader.
fn longest_paths(nodes: &[LayoutNode], edges: &[Downward], order: &Order) -> Vec<usize> {
    let mut below = vec![Vec::new(); nodes.len()];
    let mut is_source = vec![true; nodes.len()];
    for edge in edges {
        below[edge.ends[0]].push(edge.ends[1]);
        is_source[edge.ends[1]] = false;
    }
    let has = |pin| nodes.iter().any(|node| node.pin == pin);
    let top = usize::from(has(Pin::First));
    let mut layers: Vec<usize> = nodes
        .iter()
        .map(|node| if node.pin == Pin::First { 0 } else { top })
        .collect();
    for node in &order.nodes {
        for other in &below[*node] {
            layers[*other] = layers[*other].max(layers[*node] + 1);
        }
    }
    if has(Pin::Last) {
        let bottom = nodes
            .iter()
            .zip(&layers)
            .map(|(node, layer)| layer + usize::from(node.pin != Pin::Last))
            .max()
            .unwrap_or(0);
        for (node, layer) in nodes.iter().zip(&mut layers) {
            if node.pin == Pin::Last {
                *layer = bottom;
            }
        }
    }
    for node in order.nodes.iter().rev() {
        if is_source[*node] && nodes[*node].pin == Pin::Free {
            let nearest = below[*node].iter().map(|other| layers[*other]).min();
            if let Some(nearest) = nearest {
                layers[*node] = nearest - 1;
            }
        }
    }
    layers
}
