//! A grid for every value between integer kernels.
//!
//! A value that a layer reads has the grid of the plan. Others get one from the range that was observed:
//! int8, or int16 where what is computed from them has 16 bits. Values around an operator that moves
//! numbers without computing share one grid; where two grids of the plan meet at such an operator, the
//! file converts between them.

use std::collections::BTreeMap;

use super::data_flow::{data_inputs, live_nodes};
use super::fusion::Fusion;
use super::grid::StoredGrid;
use super::role::{Role, is_whole_window, role};
use crate::engine::Ranges;
use crate::export::error::ExportError;
use crate::export::quantized::QuantizedLayer;
use crate::model::{Graph, Layer, Node, NodeId, Op, Shapes, ValueId};
use crate::quant::{ActivationQuantizer, QuantSpec, Range, Scheme, calibrate};

/// The grids of all stored values.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges {
    /// What readers find.
    read: BTreeMap<ValueId, StoredGrid>,
    /// What the operator writes, where that is another grid.
    written: BTreeMap<ValueId, StoredGrid>,
}

impl Edges {
    /// The grid that readers of a value find.
    pub(super) fn read(&self, id: ValueId) -> Option<StoredGrid> {
        self.read.get(&id).copied()
    }

    /// The grid that the value's operator writes.
    pub(super) fn written(&self, id: ValueId) -> Option<StoredGrid> {
        self.written.get(&id).copied().or_else(|| self.read(id))
    }

    /// Values with the grid that is written, where it is another one, and the grid that is read.
    pub(super) fn all(&self) -> impl Iterator<Item = (ValueId, Option<StoredGrid>, StoredGrid)> {
        let read = self.read.iter();
        read.map(|(id, read)| (*id, self.written.get(id).copied(), *read))
    }
}

/// Values that are stored between operators, for which ranges must be observed.
pub(super) fn stored_values(graph: &Graph) -> Vec<ValueId> {
    let live = live_nodes(graph);
    let fusion = Fusion::of(graph, &live);
    let mut values: Vec<ValueId> = graph.inputs().to_vec();
    for id in &live {
        let node = graph.node(*id);
        values.extend(node.outputs.iter().filter(|output| fusion.stores(**output)));
    }
    values
}

/// Chooses the grids.
///
/// # Errors
/// A value whose range was not observed.
pub(super) fn edges(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    ranges: &Ranges,
    shapes: &Shapes,
) -> Result<Edges, ExportError> {
    let live = live_nodes(graph);
    let fusion = Fusion::of(graph, &live);
    let steps = steps(graph, &live, &fusion, shapes);
    let mut planner = Planner {
        graph,
        steps,
        classes: Classes::new(graph.values().len()),
        given: BTreeMap::new(),
        wide: vec![None; graph.values().len()],
    };
    for (layer, one) in layers.iter().zip(quantized) {
        if let ActivationQuantizer::Affine(grid) = &one.activation {
            planner.given.insert(layer.input, StoredGrid::of(grid));
        }
    }
    planner.choose_widths();
    planner.join();
    planner.resolve(ranges, &stored_values(graph))
}

/// An operator with the activation behind it.
struct Step {
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    role: Role,
}

fn steps(graph: &Graph, live: &[NodeId], fusion: &Fusion, shapes: &Shapes) -> Vec<Step> {
    live.iter()
        .filter(|id| !fusion.contains(**id))
        .map(|id| {
            let node = graph.node(*id);
            let result = fusion.result(*id, node).map(|(_, output)| output);
            let more = node.outputs.iter().skip(1).copied();
            Step {
                inputs: data_inputs(graph, node),
                outputs: result.into_iter().chain(more).collect(),
                role: role(node, averages_everything(node, shapes)),
            }
        })
        .collect()
}

/// Whether a node is an average over the whole image.
pub(super) fn averages_everything(node: &Node, shapes: &Shapes) -> bool {
    let spatial = node.input(0).and_then(|id| shapes.get(id)?.get(2..));
    match (&node.op, spatial) {
        (Op::AveragePool(pool), Some(spatial)) => is_whole_window(pool, spatial),
        _ => false,
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    steps: Vec<Step>,
    classes: Classes,
    /// Grids that the plan or a kernel gives.
    given: BTreeMap<ValueId, StoredGrid>,
    /// Whether a value is stored in 16 bits.
    wide: Vec<Option<bool>>,
}

impl Planner<'_> {
    /// A value is wide where what is computed from it is; an output of the network is as wide as what it
    /// is computed from.
    fn choose_widths(&mut self) {
        for (id, grid) in &self.given {
            self.wide[id.index()] = Some(grid.wide);
        }
        for step in self.steps.iter().rev() {
            let wide = step.outputs.iter().filter_map(|id| self.wide[id.index()]);
            let Some(wide) = wide.reduce(|a, b| a || b) else {
                continue;
            };
            for id in step.inputs.iter().filter(|id| !self.given.contains_key(id)) {
                let slot = &mut self.wide[id.index()];
                *slot = Some(slot.unwrap_or(false) || wide);
            }
        }
        for step in &self.steps {
            let mut inputs = step.inputs.iter();
            let wide = inputs.any(|id| self.wide[id.index()] == Some(true));
            for id in &step.outputs {
                self.wide[id.index()].get_or_insert(wide);
            }
        }
        for id in self.graph.inputs() {
            self.wide[id.index()].get_or_insert(false);
        }
    }

    /// Joins values that share a grid, as far as no two given grids meet.
    fn join(&mut self) {
        for step in &self.steps {
            for output in &step.outputs {
                let wide = self.wide[output.index()] == Some(true);
                if let Some(fixed) = step.role.fixed(wide) {
                    self.given.entry(*output).or_insert(fixed);
                }
            }
        }
        for (id, grid) in &self.given {
            self.classes.give(*id, *grid);
        }
        for step in &self.steps {
            let joins = match step.role {
                Role::Keeps => true,
                Role::Averages => step.outputs.iter().all(|id| !self.given.contains_key(id)),
                Role::Computes | Role::Fixed { .. } => false,
            };
            if joins {
                for (input, output) in step
                    .inputs
                    .iter()
                    .flat_map(|input| step.outputs.iter().map(move |output| (*input, *output)))
                {
                    self.classes.join(input, output);
                }
            }
        }
    }

    fn resolve(self, ranges: &Ranges, values: &[ValueId]) -> Result<Edges, ExportError> {
        let mut members: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
        for id in values {
            members.entry(self.classes.root(*id)).or_default().push(*id);
        }
        let mut edges = Edges::default();
        for (root, ids) in &members {
            let grid = if let Some(grid) = self.classes.grid(*root) {
                grid
            } else {
                let wide = ids.iter().any(|id| self.wide[id.index()] == Some(true));
                self.observed(ids, wide, ranges)?
            };
            for id in ids {
                edges.read.insert(*id, grid);
            }
        }
        for step in &self.steps {
            for output in &step.outputs {
                let written = written(step, *output, &edges);
                if let Some(written) = written.filter(|grid| edges.read(*output) != Some(*grid)) {
                    edges.written.insert(*output, written);
                }
            }
        }
        Ok(edges)
    }

    /// A grid over everything that was seen of some values.
    fn observed(
        &self,
        ids: &[ValueId],
        wide: bool,
        ranges: &Ranges,
    ) -> Result<StoredGrid, ExportError> {
        let mut all: Option<Range> = None;
        for id in ids {
            let name = &self.graph.value(*id).name;
            let observer = ranges.observer(*id).ok_or_else(|| {
                ExportError::node(name, "its range was not observed; give calibration data with --calib DIR or --data DIR")
            })?;
            let mut spec = QuantSpec::activation(crate::quant::NumberFormat::F32);
            if wide {
                spec.scheme = Scheme::Symmetric;
            }
            let range = calibrate(observer, &spec)
                .map_err(|error| ExportError::node(name, error.to_string()))?;
            all = Some(match all {
                None => range,
                Some(known) => {
                    let (min, max) = (known.min().min(range.min()), known.max().max(range.max()));
                    Range::new(min, max)
                        .map_err(|error| ExportError::node(name, error.to_string()))?
                }
            });
        }
        let range = all.unwrap_or(Range::ZERO);
        StoredGrid::over(range, wide).map_err(|error| ExportError::Message(error.to_string()))
    }
}

/// The grid that a kernel writes.
fn written(step: &Step, output: ValueId, edges: &Edges) -> Option<StoredGrid> {
    let read = edges.read(output)?;
    let inputs = step.inputs.iter().filter_map(|id| edges.read(*id));
    let wide = inputs.clone().any(|grid| grid.wide);
    match step.role {
        Role::Fixed { .. } => step.role.fixed(read.wide || wide),
        Role::Computes if wide && !read.wide => Some(read.refined()),
        Role::Computes => Some(read),
        // Several inputs are brought to the grid of the output before they are joined.
        Role::Keeps | Role::Averages => match *step.inputs {
            [only] => edges.read(only),
            _ => Some(read),
        },
    }
}

/// Sets of values with one grid.
struct Classes {
    parents: Vec<usize>,
    grids: BTreeMap<usize, StoredGrid>,
}

impl Classes {
    fn new(count: usize) -> Self {
        Self {
            parents: (0..count).collect(),
            grids: BTreeMap::new(),
        }
    }

    fn root(&self, id: ValueId) -> usize {
        let mut at = id.index();
        while let Some(parent) = self.parents.get(at).filter(|parent| **parent != at) {
            at = *parent;
        }
        at
    }

    fn grid(&self, root: usize) -> Option<StoredGrid> {
        self.grids.get(&root).copied()
    }

    fn give(&mut self, id: ValueId, grid: StoredGrid) {
        let root = self.root(id);
        self.grids.insert(root, grid);
    }

    /// Joins two values unless they have different grids.
    fn join(&mut self, one: ValueId, other: ValueId) {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return;
        }
        let grid = match (self.grid(one), self.grid(other)) {
            (Some(a), Some(b)) if a != b => return,
            (a, b) => a.or(b),
        };
        self.parents[other] = one;
        self.grids.remove(&other);
        if let Some(grid) = grid {
            self.grids.insert(one, grid);
        }
    }
}
