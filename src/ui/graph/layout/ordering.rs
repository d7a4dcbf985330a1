//! The order within the layers: few crossings, by sweeps of barycentres that keep the best order.

use super::layering::Layered;

/// Sweeps down and up at most.
const SWEEPS: usize = 16;
/// Sweeps without an improvement after which no more is expected.
const PATIENCE: usize = 4;

/// Reorders the layers so that few links cross.
pub(super) fn reduce_crossings(layered: &mut Layered) {
    for layer in 1..layered.layers.len() {
        sort_layer(layered, layer, 0);
    }
    let mut best = (crossings(layered), layered.layers.clone());
    let mut in_vain = 0;
    for sweep in 0..SWEEPS {
        if best.0 == 0 || in_vain == PATIENCE {
            break;
        }
        if sweep % 2 == 0 {
            for layer in (0..layered.layers.len()).rev() {
                sort_layer(layered, layer, 1);
            }
        } else {
            for layer in 0..layered.layers.len() {
                sort_layer(layered, layer, 0);
            }
        }
        let now = crossings(layered);
        in_vain += 1;
        if now < best.0 {
            best = (now, layered.layers.clone());
            in_vain = 0;
        }
    }
    layered.layers = best.1;
    layered.number();
}

/// Sorts a layer by the mean place of what its vertices are linked to above (side 0) or below (side 1).
fn sort_layer(layered: &mut Layered, layer: usize, side: usize) {
    let order = &layered.layers[layer];
    if order.len() < 2 {
        return;
    }
    let mut keyed: Vec<(f32, u32)> = order
        .iter()
        .map(|vertex| (barycentre(layered, *vertex, side), *vertex))
        .collect();
    keep_unlinked_in_place(&mut keyed);
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let order: Vec<u32> = keyed.into_iter().map(|(_, vertex)| vertex).collect();
    for (position, vertex) in order.iter().enumerate() {
        layered.vertices[*vertex as usize].position = position;
    }
    layered.layers[layer] = order;
}

/// Mean place of the linked vertices; not a number if there are none.
fn barycentre(layered: &Layered, vertex: u32, side: usize) -> f32 {
    let links = &layered.vertices[vertex as usize].links[side];
    let sum: f32 = links
        .iter()
        .map(|link| {
            let link = &layered.links[*link as usize];
            place(layered, link.ends[side], link.offsets[side])
                // Where a vertex has many entrances, that of this link counts.
                - share(layered, link.ends[1 - side], link.offsets[1 - side])
        })
        .sum();
    sum / links.len() as f32
}

/// A vertex without links goes where its left neighbour goes.
fn keep_unlinked_in_place(keyed: &mut [(f32, u32)]) {
    let mut last = f32::NEG_INFINITY;
    for (key, _) in keyed {
        if key.is_nan() {
            *key = last;
        } else {
            last = *key;
        }
    }
}

/// Place of the end of a link in its layer, in vertices.
fn place(layered: &Layered, vertex: u32, offset: f32) -> f32 {
    layered.vertices[vertex as usize].position as f32 + share(layered, vertex, offset)
}

/// Where a link is attached, from −0.5 to 0.5 of the vertex's width.
fn share(layered: &Layered, vertex: u32, offset: f32) -> f32 {
    let width = layered.vertices[vertex as usize].width;
    if width > 0.0 {
        (offset / width).clamp(-0.5, 0.5)
    } else {
        0.0
    }
}

/// Number of pairs of links that cross.
pub(super) fn crossings(layered: &Layered) -> usize {
    let mut total = 0;
    let mut ends: Vec<(f32, f32)> = Vec::new();
    let mut inversions = Inversions::default();
    for layer in &layered.layers {
        ends.clear();
        for vertex in layer {
            for link in &layered.vertices[*vertex as usize].links[1] {
                let link = &layered.links[*link as usize];
                ends.push((
                    place(layered, link.ends[0], link.offsets[0]),
                    place(layered, link.ends[1], link.offsets[1]),
                ));
            }
        }
        if ends.len() > 1 {
            ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            total += inversions.count(&ends);
        }
    }
    total
}

/// Counts pairs in the wrong order with a tree of sums (Barth, Jünger and Mutzel, 2002).
#[derive(Default)]
struct Inversions {
    places: Vec<f32>,
    sums: Vec<usize>,
}

impl Inversions {
    fn count(&mut self, ends: &[(f32, f32)]) -> usize {
        self.places.clear();
        self.places.extend(ends.iter().map(|end| end.1));
        self.places.sort_by(f32::total_cmp);
        self.places.dedup();
        self.sums.clear();
        self.sums.resize(self.places.len() + 1, 0);
        let mut total = 0;
        for (before, (_, place)) in ends.iter().enumerate() {
            let rank = self.places.partition_point(|other| other < place) + 1;
            total += before - self.sum_to(rank);
            self.add(rank);
        }
        total
    }

    fn sum_to(&self, mut index: usize) -> usize {
        let mut sum = 0;
        while index > 0 {
            sum += self.sums[index];
            index &= index - 1;
        }
        sum
    }

    fn add(&mut self, mut index: usize) {
        while index < self.sums.len() {
            self.sums[index] += 1;
            index += index & index.wrapping_neg();
        }
    }
}
