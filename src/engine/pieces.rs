//! Cutting a batch into pieces that go through the network on one thread each.

use std::ops::Range;

use super::activations::Activations;
use super::kernels::parallel::is_divided;
use crate::model::{Graph, NodeId, Shapes, ValueId, fixed_batch, infer_shapes};

/// Bytes that a node may read and write for a piece: what a second-level cache holds.
const PIECE_BYTES: usize = 1 << 20;

/// Pieces that give every thread of a common processor equally much to do.
const FEWEST_PIECES: usize = 8;

/// How the values of a graph depend on the batch.
#[derive(Debug)]
pub(super) struct BatchAxis {
    /// Whether a value's first axis runs over samples, indexed by [`ValueId`].
    first: Vec<bool>,
    /// Bytes that each node reads and writes for one sample, indexed by [`NodeId`]; empty where nothing
    /// is cut.
    node_bytes: Vec<usize>,
    /// The most of them.
    sample_bytes: usize,
    /// Bytes of all computed values of one sample, or of the batch that the graph fixes.
    computed_bytes: usize,
    /// Bytes of the inputs of one sample, or of the batch that the graph fixes.
    input_bytes: usize,
}

impl BatchAxis {
    /// Compares the shapes of a batch of two with those of a batch of three; nothing is cut in a
    /// graph that fixes the batch.
    pub(super) fn of(graph: &Graph) -> Self {
        let (two, three) = (infer_shapes(graph, 2), infer_shapes(graph, 3));
        if fixed_batch(graph).is_some() {
            return Self {
                first: vec![false; graph.values().len()],
                node_bytes: Vec::new(),
                sample_bytes: 0,
                computed_bytes: bytes_of(computed(graph), &two),
                input_bytes: bytes_of(graph.inputs(), &two),
            };
        }
        let is_first = |id: ValueId| match (two.get(id), three.get(id)) {
            (Some([2, two @ ..]), Some([3, three @ ..])) => two == three,
            _ => false,
        };
        let ids = || (0..graph.values().len() as u32).map(ValueId);
        let bytes = |id: ValueId| {
            two.get(id).map_or(0, |shape| {
                shape.iter().product::<usize>() / 2 * size_of::<f32>()
            })
        };
        let node_bytes = graph.nodes().iter().map(|node| {
            let ends = node.inputs.iter().flatten().chain(&node.outputs);
            let computed = ends.filter(|id| !graph.is_initializer(**id));
            computed.map(|id| bytes(*id)).sum::<usize>()
        });
        let node_bytes: Vec<usize> = node_bytes.collect();
        Self {
            first: ids().map(is_first).collect(),
            sample_bytes: node_bytes.iter().copied().max().unwrap_or(0),
            node_bytes,
            computed_bytes: bytes_of(computed(graph), &two) / 2,
            input_bytes: bytes_of(graph.inputs(), &two) / 2,
        }
    }

    /// Most bytes of values that are held at once when `threads` keep all that the pieces of a batch
    /// compute, with the batch itself.
    pub(super) fn held_bytes(&self, batch: usize, threads: usize) -> usize {
        if self.sample_bytes == 0 {
            return self.computed_bytes + self.input_bytes;
        }
        let largest = self.fixed_pieces(batch).iter().map(Range::len).max();
        let at_once = (largest.unwrap_or(0) * threads).min(batch);
        at_once * self.computed_bytes + batch * self.input_bytes
    }

    /// Whether all values of a run can be cut, and the number of samples if so.
    pub(super) fn samples(
        &self,
        graph: &Graph,
        fed: &Activations,
        wanted: &[ValueId],
    ) -> Option<usize> {
        if !wanted.iter().all(|id| self.first[id.index()]) {
            return None;
        }
        let mut samples = None;
        for (id, value) in fed.iter() {
            if graph.is_initializer(id) {
                continue;
            }
            let own = *value.dims().first()?;
            if !self.first[id.index()] || samples.is_some_and(|samples| samples != own) {
                return None;
            }
            samples = Some(own);
        }
        samples
    }

    /// How many samples may go through some nodes together, so that a cache holds what each node reads and
    /// writes; `None` where samples cannot be put behind one another in all of `values`.
    pub(super) fn samples_at_once<'a>(
        &self,
        nodes: &[NodeId],
        mut values: impl Iterator<Item = &'a ValueId>,
    ) -> Option<usize> {
        let bytes = nodes
            .iter()
            .filter_map(|id| self.node_bytes.get(id.index()));
        let most = bytes.copied().max().unwrap_or(0);
        let fits = values.all(|id| self.first[id.index()]);
        (fits && !self.node_bytes.is_empty()).then(|| PIECE_BYTES / most.max(1))
    }

    /// The pieces of a batch; `None` where its nodes are better split themselves.
    pub(super) fn pieces(&self, samples: usize) -> Option<Vec<Range<usize>>> {
        let threads = rayon::current_num_threads();
        if !is_divided() || samples < threads {
            return None;
        }
        let largest = (PIECE_BYTES / self.sample_bytes.max(1)).max(1);
        let count = samples
            .div_ceil(largest)
            .next_multiple_of(threads)
            .min(samples);
        if count < 4 * threads && !count.is_multiple_of(threads) {
            return None;
        }
        Some(cut(samples, count))
    }

    /// The pieces of a batch whose results are merged: they do not depend on the number of threads.
    pub(super) fn fixed_pieces(&self, samples: usize) -> Vec<Range<usize>> {
        let largest = (PIECE_BYTES / self.sample_bytes.max(1)).max(1);
        // A multiple, so that no thread is left without work at the end.
        let count = samples.div_ceil(largest).next_multiple_of(FEWEST_PIECES);
        cut(samples, count.clamp(1, samples.max(1)))
    }
}

fn computed(graph: &Graph) -> impl Iterator<Item = &ValueId> {
    graph.nodes().iter().flat_map(|node| &node.outputs)
}

/// Bytes of values as `f32`; those of unknown shape count nothing.
fn bytes_of<'a>(values: impl IntoIterator<Item = &'a ValueId>, shapes: &Shapes) -> usize {
    let shapes = values.into_iter().filter_map(|id| shapes.get(*id));
    shapes
        .map(|shape| shape.iter().product::<usize>() * size_of::<f32>())
        .sum()
}

/// Cuts `0..samples` into `count` ranges of about the same length.
fn cut(samples: usize, count: usize) -> Vec<Range<usize>> {
    (0..count)
        .map(|piece| piece * samples / count..(piece + 1) * samples / count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn every_sample_is_in_one_piece() {
        for (samples, count) in [(1, 1), (7, 3), (100, 16), (5, 5)] {
            let pieces = cut(samples, count);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            let all: Vec<usize> = pieces.into_iter().flatten().collect();
            assert_eq!(all, (0..samples).collect::<Vec<_>>());
        }
    }
}
