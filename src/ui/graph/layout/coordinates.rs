//! Places from left to right: chains of vertices are aligned, the longest path first, and then moved
//! towards what they are linked to.

use std::collections::BTreeMap;

use super::layering::{Layered, Link};

/// Space between two nodes, and beside an edge that passes.
const NODE_GAP: f32 = 28.0;
const EDGE_GAP: f32 = 14.0;
/// Rounds of moving chains.
const ROUNDS: usize = 8;

/// The x of the centre of every vertex; the smallest left edge is 0.
pub(super) fn xs(layered: &Layered) -> Vec<f32> {
    let mut chains = Chains::new(layered);
    chains.pack(layered);
    for round in 0..ROUNDS {
        chains.improve(layered, round % 2 == 0);
    }
    let mut xs: Vec<f32> = (0..layered.vertices.len())
        .map(|vertex| chains.x(vertex))
        .collect();
    let left = layered
        .vertices
        .iter()
        .zip(&xs)
        .map(|(vertex, x)| x - vertex.width / 2.0)
        .fold(f32::INFINITY, f32::min);
    for x in &mut xs {
        *x -= left;
    }
    xs
}

/// Vertices that stand below one another.
struct Chains {
    /// The chain of each vertex, and how far right of the chain's x it stands.
    of_vertex: Vec<(usize, f32)>,
    members: Vec<Vec<u32>>,
    xs: Vec<f32>,
    /// Chains in an order in which a chain comes after all that stand left of it.
    order: Vec<usize>,
}

impl Chains {
    fn new(layered: &Layered) -> Self {
        let partners = partners(layered);
        let mut of_vertex = vec![(usize::MAX, 0.0); layered.vertices.len()];
        let mut members: Vec<Vec<u32>> = Vec::new();
        for vertex in layered.layers.iter().flatten() {
            let above = partners[*vertex as usize].map(|link| &layered.links[link as usize]);
            let (chain, shift) = if let Some(link) = above {
                let (chain, shift) = of_vertex[link.ends[0] as usize];
                (chain, shift + link.offsets[0] - link.offsets[1])
            } else {
                members.push(Vec::new());
                (members.len() - 1, 0.0)
            };
            of_vertex[*vertex as usize] = (chain, shift);
            members[chain].push(*vertex);
        }
        let order = left_to_right(layered, &of_vertex, members.len());
        Self {
            xs: vec![0.0; members.len()],
            of_vertex,
            members,
            order,
        }
    }

    fn x(&self, vertex: usize) -> f32 {
        let (chain, shift) = self.of_vertex[vertex];
        self.xs[chain] + shift
    }

    /// Puts every chain as far left as its neighbours allow.
    fn pack(&mut self, layered: &Layered) {
        for index in 0..self.order.len() {
            let chain = self.order[index];
            let [low, _] = self.slack(layered, chain);
            self.xs[chain] = if low.is_finite() { low } else { 0.0 };
        }
    }

    /// Smallest and largest x that the neighbours leave a chain.
    fn slack(&self, layered: &Layered, chain: usize) -> [f32; 2] {
        let mut slack = [f32::NEG_INFINITY, f32::INFINITY];
        for member in &self.members[chain] {
            let vertex = &layered.vertices[*member as usize];
            let shift = self.of_vertex[*member as usize].1;
            let layer = &layered.layers[vertex.layer];
            let left = vertex.position.checked_sub(1).and_then(|at| layer.get(at));
            if let Some(left) = left {
                let least = self.x(*left as usize) + distance(layered, *left, *member);
                slack[0] = slack[0].max(least - shift);
            }
            if let Some(right) = layer.get(vertex.position + 1) {
                let most = self.x(*right as usize) - distance(layered, *member, *right);
                slack[1] = slack[1].min(most - shift);
            }
        }
        slack
    }

    /// Moves every chain to the median of the places that its links wish for.
    fn improve(&mut self, layered: &Layered, from_the_right: bool) {
        let mut wishes = Vec::new();
        for index in 0..self.order.len() {
            let index = if from_the_right {
                self.order.len() - 1 - index
            } else {
                index
            };
            let chain = self.order[index];
            self.collect_wishes(layered, chain, &mut wishes);
            if wishes.is_empty() {
                continue;
            }
            wishes.sort_by(f32::total_cmp);
            let middle = wishes.len() / 2;
            let wish = if wishes.len() % 2 == 0 {
                f32::midpoint(wishes[middle - 1], wishes[middle])
            } else {
                wishes[middle]
            };
            let [low, high] = self.slack(layered, chain);
            // Rounding may leave the bounds crossed by a hair.
            self.xs[chain] = wish.min(high).max(low);
        }
    }

    fn collect_wishes(&self, layered: &Layered, chain: usize, wishes: &mut Vec<f32>) {
        wishes.clear();
        for member in &self.members[chain] {
            let shift = self.of_vertex[*member as usize].1;
            let vertex = &layered.vertices[*member as usize];
            for side in [0, 1] {
                for link in &vertex.links[side] {
                    let link = &layered.links[*link as usize];
                    let other = link.ends[side] as usize;
                    if self.of_vertex[other].0 != chain {
                        let there = self.x(other) + link.offsets[side];
                        wishes.push(there - link.offsets[1 - side] - shift);
                    }
                }
            }
        }
    }
}

/// Distance of the centres of two neighbours at least.
fn distance(layered: &Layered, left: u32, right: u32) -> f32 {
    let (left, right) = (
        &layered.vertices[left as usize],
        &layered.vertices[right as usize],
    );
    let gap = if left.is_dummy || right.is_dummy {
        EDGE_GAP
    } else {
        NODE_GAP
    };
    f32::midpoint(left.width, right.width) + gap
}

/// For each vertex the link to the vertex above that it is aligned with.
///
/// Links on the longest path of nodes are served first, so that the trunk of a network is straight;
/// aligned links do not cross.
fn partners(layered: &Layered) -> Vec<Option<u32>> {
    let mut partners = vec![None; layered.vertices.len()];
    let mut is_taken = vec![false; layered.vertices.len()];
    let mut links: Vec<(u32, bool, u32)> = Vec::new();
    let mut served: BTreeMap<usize, usize> = BTreeMap::new();
    for layer in &layered.layers {
        links.clear();
        served.clear();
        for vertex in layer {
            for link in &layered.vertices[*vertex as usize].links[1] {
                let ends = &layered.links[*link as usize].ends;
                let [upper, lower] = ends.map(|end| &layered.vertices[end as usize]);
                let length = upper.longest[0] + lower.longest[1];
                links.push((length, upper.is_dummy && lower.is_dummy, *link));
            }
        }
        links.sort_by_key(|(length, passes, link)| (std::cmp::Reverse((*length, *passes)), *link));
        for (_, _, index) in &links {
            let Link { ends, .. } = &layered.links[*index as usize];
            let [upper, lower] = ends.map(|end| layered.vertices[end as usize].position);
            let left = served.range(..upper).next_back();
            let right = served.range(upper..).next();
            let crosses = left.is_some_and(|(_, other)| *other >= lower)
                || right.is_some_and(|(at, other)| *at == upper || *other <= lower);
            if !crosses && !is_taken[ends[0] as usize] && partners[ends[1] as usize].is_none() {
                is_taken[ends[0] as usize] = true;
                partners[ends[1] as usize] = Some(*index);
                served.insert(upper, lower);
            }
        }
    }
    partners
}

/// Chains so that each comes after those with a member directly left of one of its own.
fn left_to_right(layered: &Layered, of_vertex: &[(usize, f32)], count: usize) -> Vec<usize> {
    let mut right_of = vec![Vec::new(); count];
    let mut waiting = vec![0u32; count];
    for layer in &layered.layers {
        for pair in layer.windows(2) {
            let [left, right] = [pair[0], pair[1]].map(|vertex| of_vertex[vertex as usize].0);
            right_of[left].push(right);
            waiting[right] += 1;
        }
    }
    let mut order: Vec<usize> = (0..count).filter(|chain| waiting[*chain] == 0).collect();
    let mut next = 0;
    while let Some(chain) = order.get(next).copied() {
        next += 1;
        for other in &right_of[chain] {
            waiting[*other] -= 1;
            if waiting[*other] == 0 {
                order.push(*other);
            }
        }
    }
    order
}
