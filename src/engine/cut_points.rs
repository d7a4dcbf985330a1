//! Which activations are worth keeping under a memory budget.

use std::collections::BTreeSet;

use crate::model::{self, Graph, Layer, Shapes, ValueId};

/// Share of the budget that decoded inputs, and float outputs of layers, may take at most.
const SIDE_SHARE: usize = 4;
/// Share of what is left that the first batch may take beyond its even part.
const FIRST_BATCH_SHARE: usize = 4;

/// What is kept of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The decoded input.
    pub(super) input: bool,
    /// The float output of every layer.
    pub(super) float_layers: bool,
    /// Values under the plan.
    pub(super) values: Vec<ValueId>,
}

/// A place where the network can be taken up again: just before a layer.
#[derive(Clone, Debug)]
struct Cut {
    /// Values that were computed before and are read from there on.
    live: Vec<ValueId>,
    /// Multiply–accumulates of all layers before.
    macs_before: u64,
}

/// The cuts of a graph, the most useful ones first.
#[derive(Debug)]
pub(super) struct CutPoints {
    cuts: Vec<Cut>,
    /// Bytes of every value for `unit` samples; `None` where the shape is not known.
    bytes: Vec<Option<usize>>,
    unit: usize,
    inputs: Vec<ValueId>,
    layer_outputs: Vec<ValueId>,
}

impl CutPoints {
    /// Finds the cuts of a graph.
    pub(super) fn of(graph: &Graph, layers: &[Layer]) -> Self {
        let unit = model::fixed_batch(graph).unwrap_or(1).max(1);
        let shapes = model::infer_shapes(graph, unit);
        let bytes = bytes_by_value(graph, &shapes);
        let cuts = by_usefulness(&cuts(graph, layers), &bytes);
        Self {
            cuts,
            bytes,
            unit,
            inputs: graph.inputs().to_vec(),
            layer_outputs: layers.iter().map(|layer| layer.output).collect(),
        }
    }

    /// Divides a budget among batches of the given numbers of samples.
    ///
    /// Inputs and float layer outputs (of the first `error_batches`) come first, up to a share. Cuts
    /// are divided evenly, but the first batch has more, because its result is awaited; and where an
    /// even part is too small for any cut, the first batches have one each as far as the budget goes.
    pub(super) fn allot(
        &self,
        batches: &[usize],
        error_batches: usize,
        budget_bytes: usize,
    ) -> Vec<Kept> {
        let mut kept = vec![Kept::default(); batches.len()];
        let share = budget_bytes / SIDE_SHARE;
        let mut left = budget_bytes;
        let mut free = share;
        for (kept, samples) in kept.iter_mut().zip(batches) {
            kept.input = self.take(&self.inputs, *samples, &mut free);
        }
        left -= share - free;
        let mut free = share;
        for (kept, samples) in kept.iter_mut().zip(batches).take(error_batches) {
            kept.float_layers = self.take(&self.layer_outputs, *samples, &mut free);
        }
        left -= share - free;
        for (index, (kept, samples)) in kept.iter_mut().zip(batches).enumerate() {
            let even = left / (batches.len() - index);
            let allowance = match index {
                0 => even.max(left / FIRST_BATCH_SHARE),
                _ => even,
            };
            let (values, bytes) = match self.within(*samples, allowance) {
                (values, _) if values.is_empty() => self.smallest(*samples, left),
                found => found,
            };
            kept.values = values;
            left -= bytes;
        }
        kept
    }

    /// Takes the bytes of some values, if they are known and there is room for them.
    fn take(&self, values: &[ValueId], samples: usize, free: &mut usize) -> bool {
        let left = self
            .bytes_of(values.iter(), samples)
            .and_then(|bytes| free.checked_sub(bytes));
        if let Some(left) = left {
            *free = left;
        }
        left.is_some()
    }

    /// The most useful cuts that fit together, and their bytes.
    fn within(&self, samples: usize, allowance: usize) -> (Vec<ValueId>, usize) {
        let mut chosen = BTreeSet::new();
        let mut used = 0;
        for cut in &self.cuts {
            let added = cut.live.iter().filter(|id| !chosen.contains(*id));
            let Some(bytes) = self.bytes_of(added, samples) else {
                continue;
            };
            if used + bytes <= allowance {
                used += bytes;
                chosen.extend(&cut.live);
            }
        }
        (chosen.into_iter().collect(), used)
    }

    /// The cut that needs the least memory, if that fits.
    fn smallest(&self, samples: usize, allowance: usize) -> (Vec<ValueId>, usize) {
        self.cuts
            .iter()
            .filter_map(|cut| Some((self.bytes_of(cut.live.iter(), samples)?, cut)))
            .filter(|(bytes, _)| *bytes <= allowance)
            .min_by_key(|(bytes, _)| *bytes)
            .map_or_else(Default::default, |(bytes, cut)| (cut.live.clone(), bytes))
    }

    fn bytes_of<'a>(
        &self,
        values: impl Iterator<Item = &'a ValueId>,
        samples: usize,
    ) -> Option<usize> {
        let mut sum = 0;
        for id in values {
            sum += self.bytes[id.index()]?;
        }
        Some(sum * samples.div_ceil(self.unit))
    }
}

/// Bytes of every value; the engine holds most values as `f32`.
fn bytes_by_value(graph: &Graph, shapes: &Shapes) -> Vec<Option<usize>> {
    (0..graph.values().len() as u32)
        .map(|index| {
            let shape = shapes.get(ValueId(index))?;
            Some(shape.iter().product::<usize>() * size_of::<f32>())
        })
        .collect()
}

/// The cut before every layer, in the order of the network.
fn cuts(graph: &Graph, layers: &[Layer]) -> Vec<Cut> {
    let producers = graph.producers();
    let last_reader = last_readers(graph);
    let born = |value: usize| producers[value].map_or(0, |node| node.index() + 1);
    let mut macs_before = 0;
    layers
        .iter()
        .map(|layer| {
            let at = layer.node.index();
            let live = (0..graph.values().len())
                .filter(|value| born(*value) <= at && last_reader[*value] > at)
                .map(|value| ValueId(value as u32))
                .filter(|id| graph.initializer(*id).is_none())
                .collect();
            let cut = Cut { live, macs_before };
            // A layer whose work is not known still counts.
            macs_before += layer.macs.unwrap_or(0).max(1);
            cut
        })
        .collect()
}

/// One more than the last node that reads each value on a way to an output; 0 for values that none reads.
fn last_readers(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values().len()];
    for id in graph.outputs() {
        last[id.index()] = graph.nodes().len() + 1;
    }
    for index in (0..graph.nodes().len()).rev() {
        let node = &graph.nodes()[index];
        let is_used = node.outputs.iter().any(|id| last[id.index()] > 0);
        if !is_used {
            continue;
        }
        for id in node.inputs.iter().flatten() {
            last[id.index()] = last[id.index()].max(index + 1);
        }
    }
    last
}

/// Greedy order: each cut saves the most work per byte that it adds to those before it.
///
/// The work saved is that of one changed layer, any layer being as likely as any other: a cut before
/// layer `p` spares the layers between the cut before it and `p`, for every layer from `p` up to the
/// next cut.
fn by_usefulness(cuts: &[Cut], bytes: &[Option<usize>]) -> Vec<Cut> {
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    let mut values: BTreeSet<ValueId> = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let best = (0..cuts.len())
            .filter(|at| !chosen.contains(at))
            .filter_map(|at| {
                let added = cuts[at].live.iter().filter(|id| !values.contains(*id));
                let mut sum = 0;
                for id in added {
                    sum += bytes[id.index()]?;
                }
                let before = chosen.range(..at).next_back();
                let next = chosen.range(at..).next().copied().unwrap_or(cuts.len());
                let known = before.map_or(0, |before| cuts[*before].macs_before);
                let saved = (next - at) as f64 * (cuts[at].macs_before - known) as f64;
                (saved > 0.0).then(|| (saved / (sum.max(1) as f64), at))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, at)) = best else {
            return order
                .into_iter()
                .map(|at: usize| cuts[at].clone())
                .collect();
        };
        chosen.insert(at);
        values.extend(&cuts[at].live);
        order.push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts before four layers of equal work in a chain; value `k` is the input of layer `k`.
    fn chain(bytes: [usize; 4]) -> CutPoints {
        let cuts: Vec<Cut> = (0..4)
            .map(|at| Cut {
                live: vec![ValueId(at)],
                macs_before: 100 * u64::from(at),
            })
            .collect();
        let bytes: Vec<Option<usize>> = bytes.into_iter().map(Some).collect();
        CutPoints {
            cuts: by_usefulness(&cuts, &bytes),
            inputs: vec![ValueId(0)],
            layer_outputs: (1..4).map(ValueId).collect(),
            bytes,
            unit: 1,
        }
    }

    fn values(kept: &[Kept]) -> Vec<Vec<u32>> {
        kept.iter()
            .map(|kept| kept.values.iter().map(|id| id.0).collect())
            .collect()
    }

    #[test]
    fn the_cut_that_saves_most_per_byte_comes_first() {
        // Two of four layers lie behind the middle, and half of the work before it.
        let first = |bytes| chain(bytes).cuts[0].live[0].0;
        assert_eq!(first([1, 1, 1, 1]), 2);
        assert_eq!(first([1, 1, 9, 1]), 3);
        assert_eq!(first([1, 1, 9, 9]), 1);
    }

    #[test]
    fn the_budget_is_divided_and_the_first_batch_has_more() {
        let points = chain([10, 10, 10, 10]);
        let cases = [
            // Room for everything: inputs, float layers of the first batch, and every cut.
            (4000, 1, [true, true], true, [vec![1, 2, 3], vec![1, 2, 3]]),
            // What the first batch leaves of its part goes to the next.
            (60, 0, [true, false], false, [vec![2, 3], vec![1, 2, 3]]),
            (40, 0, [true, false], false, [vec![2], vec![2, 3]]),
            // Too little for both: the first batch has a cut rather than none.
            (15, 0, [false, false], false, [vec![2], vec![]]),
            (0, 1, [false, false], false, [vec![], vec![]]),
        ];
        for (budget, error_batches, inputs, float_layers, expected) in cases {
            let kept = points.allot(&[1, 1], error_batches, budget);
            assert_eq!(kept[0].float_layers, float_layers, "{budget}");
            assert_eq!(values(&kept), expected, "{budget}");
            assert_eq!([kept[0].input, kept[1].input], inputs, "{budget}");
        }
        let many = values(&points.allot(&[1; 6], 0, 100));
        assert_eq!(many[..3], [vec![2, 3], vec![2], vec![2]]);
    }

    #[test]
    fn values_of_unknown_size_are_not_kept() {
        let mut points = chain([10; 4]);
        points.bytes[2] = None;
        assert_eq!(points.within(1, 100).0, [ValueId(1), ValueId(3)]);
        assert!(!points.allot(&[1], 1, 1000)[0].float_layers);
    }
}
