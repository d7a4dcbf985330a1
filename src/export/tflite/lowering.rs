//! A graph as tensors and operators of a `TFLite` file.

use std::collections::BTreeMap;

use super::data_flow::live_nodes;
use super::edges::Edges;
use super::file::{Operator, Options, Tensor, TfliteFile};
use super::fusion::Fusion;
use super::grid::StoredGrid;
use super::kernels::KernelArithmetic;
use super::layout::{CHANNELS_FIRST, CHANNELS_LAST, Layout};
use super::role::has_kernel;
use super::schema::{Builtin, ElementKind, Fused};
use super::weights::{StoredBias, StoredWeight};
use super::{elements, movement, pools, products, windows};
use crate::export::insertion::Names;
use crate::export::quantized::QuantizedLayer;
use crate::model::{Graph, Layer, Node, NodeId, Op, Shapes, ValueId, infer_shapes};

/// A node that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the node.
    pub node: String,
    /// ONNX name of its operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

/// A constant operand as it is stored: the node and input that read it, and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredConstant {
    /// The node.
    pub node: NodeId,
    /// Which of its inputs.
    pub input: usize,
    /// The levels, in the order of the graph's constant.
    pub values: Vec<f32>,
}

/// Lengths and grid of a tensor in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub shape: Vec<usize>,
    /// Axes whose length the batch decides.
    pub free_axes: Vec<usize>,
    pub grid: Option<StoredGrid>,
}

impl Form {
    fn kind(&self) -> ElementKind {
        self.grid.map_or(ElementKind::F32, StoredGrid::kind)
    }
}

/// Where a value lies in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placed {
    tensor: usize,
    layout: Layout,
    grid: Option<StoredGrid>,
}

/// An operator to be added.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub builtin: Builtin,
    pub version: i32,
    pub inputs: Vec<usize>,
    pub options: Options,
}

/// Why a node is refused, in words.
pub(super) type Lowered<T> = Result<T, String>;

/// Collects the file while the graph is walked.
pub(super) struct Lowering<'a> {
    pub graph: &'a Graph,
    pub fusion: Fusion,
    pub shapes: Shapes,
    /// Shapes for two samples, to tell which lengths the batch decides.
    shapes_of_two: Shapes,
    layers: BTreeMap<NodeId, (&'a Layer, &'a QuantizedLayer)>,
    /// Grids of the values; `None` where everything is computed in float.
    edges: Option<&'a Edges>,
    pub file: TfliteFile,
    names: Names,
    placed: BTreeMap<ValueId, Placed>,
    /// The same values in other layouts and grids.
    views: Vec<(ValueId, Placed)>,
    /// The node that is being written.
    at: NodeId,
    pub constants: Vec<StoredConstant>,
    pub kernels: KernelArithmetic,
    pub refusals: Vec<Refusal>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        layers: &'a [Layer],
        quantized: &'a [QuantizedLayer],
        edges: Option<&'a Edges>,
    ) -> Self {
        let live = live_nodes(graph);
        Self {
            graph,
            fusion: Fusion::of(graph, &live),
            shapes: infer_shapes(graph, 1),
            shapes_of_two: infer_shapes(graph, if fixes_batch(graph, &live) { 1 } else { 2 }),
            layers: layers
                .iter()
                .zip(quantized)
                .map(|(layer, one)| (layer.node, (layer, one)))
                .collect(),
            edges,
            file: TfliteFile::default(),
            names: Names::default(),
            placed: BTreeMap::new(),
            views: Vec::new(),
            at: NodeId(0),
            constants: Vec::new(),
            kernels: KernelArithmetic::default(),
            refusals: Vec::new(),
        }
    }

    /// Walks through the graph; nodes that cannot be written are collected.
    pub(super) fn run(&mut self) {
        for id in self.graph.inputs() {
            if let Some(rank) = self.shapes.get(*id).map(<[usize]>::len) {
                let tensor = self.place(*id, image_layout(rank));
                self.file.inputs.push(tensor);
            }
        }
        for id in live_nodes(self.graph) {
            if self.fusion.contains(id) {
                continue;
            }
            let node = self.graph.node(id);
            self.at = id;
            if let Err(reason) = self.lower(id, node) {
                self.refusals.push(Refusal {
                    node: node.name.clone(),
                    op: node.op.name().to_owned(),
                    reason,
                });
                self.place_refused(id, node);
            }
        }
        for id in self.graph.outputs() {
            if let Some(placed) = self.placed.get(id) {
                self.file.outputs.push(placed.tensor);
            }
        }
    }

    /// Which outputs have their channels last, in the order of the graph.
    pub(super) fn output_layouts(&self) -> Vec<Layout> {
        let outputs = self.graph.outputs().iter();
        outputs
            .map(|id| {
                self.placed
                    .get(id)
                    .map_or(Layout::AsInGraph, |placed| placed.layout)
            })
            .collect()
    }

    /// Later nodes are still looked at, so that all reasons are found at once.
    fn place_refused(&mut self, id: NodeId, node: &Node) {
        let result = self.fusion.result(id, node).map(|(_, output)| output);
        for output in result.iter().chain(node.outputs.iter().skip(1)) {
            let rank = self.shapes.get(*output).map_or(0, <[usize]>::len);
            self.place(*output, image_layout(rank));
        }
    }

    fn lower(&mut self, id: NodeId, node: &'a Node) -> Lowered<()> {
        if !has_kernel(self.graph, node) {
            return Err("TFLite kernels of integers are not written for it".to_owned());
        }
        if let Some(unknown) = node
            .outputs
            .iter()
            .find(|id| self.shapes.get(**id).is_none())
        {
            let name = &self.graph.value(*unknown).name;
            return Err(format!("the shape of {name:?} is not known"));
        }
        match &node.op {
            Op::Conv(conv) => windows::conv(self, id, node, conv),
            Op::ConvTranspose(transpose) => windows::conv_transpose(self, id, node, transpose),
            Op::BatchNormalization { epsilon } => windows::normalization(self, id, node, *epsilon),
            Op::Gemm { .. } | Op::MatMul => products::fully_connected(self, id, node),
            Op::MaxPool(pool) => pools::max_pool(self, id, node, pool),
            Op::AveragePool(pool) => pools::average_pool(self, id, node, pool),
            Op::GlobalAveragePool => pools::global_average(self, id, node),
            Op::GlobalMaxPool => pools::global_max(self, id, node),
            Op::Reduce { keep_dims, .. } => pools::mean(self, id, node, *keep_dims),
            Op::Binary(_) | Op::Variadic(_) => elements::binary(self, id, node),
            Op::Unary(_) | Op::Clip => elements::unary(self, id, node),
            Op::Softmax { axis, coerce_to_2d } => {
                elements::softmax(self, id, node, *axis, *coerce_to_2d)
            }
            Op::Concat { axis } => movement::concat(self, id, node, *axis),
            Op::Slice => movement::slice(self, id, node),
            Op::Pad { .. } => movement::pad(self, id, node),
            Op::Resize(resize) => movement::resize(self, id, node, *resize),
            Op::Transpose { perm } => movement::transpose(self, id, node, perm.as_deref()),
            _ => movement::reshape(self, id, node),
        }
    }

    /// The layer at a node.
    pub(super) fn layer(&self, id: NodeId) -> Option<(&'a Layer, &'a QuantizedLayer)> {
        self.layers.get(&id).copied()
    }

    /// The activation of a node and the value that it gives.
    pub(super) fn result(&self, id: NodeId, node: &Node) -> Lowered<(Fused, ValueId)> {
        let result = self.fusion.result(id, node);
        result.ok_or_else(|| "it has no output".to_owned())
    }

    /// Lengths of a value in the graph.
    pub(super) fn shape(&self, id: ValueId) -> Lowered<Vec<usize>> {
        let shape = self.shapes.get(id).map(<[usize]>::to_vec);
        shape.ok_or_else(|| {
            let name = &self.graph.value(id).name;
            format!("the shape of {name:?} is not known")
        })
    }

    /// Lengths `[batch, channels, height, width]` of an image.
    pub(super) fn image(&self, id: ValueId) -> Lowered<[usize; 4]> {
        let shape = self.shape(id)?;
        let rank = shape.len();
        shape
            .try_into()
            .map_err(|_| format!("its input has {rank} axes, and images of 4 are written"))
    }

    /// How a value lies in the file now.
    pub(super) fn layout(&self, id: ValueId) -> Layout {
        let placed = self.placed.get(&id);
        placed.map_or(Layout::AsInGraph, |placed| placed.layout)
    }

    /// Axes of a value whose length the batch decides.
    pub(super) fn free_axes(&self, id: ValueId) -> Vec<usize> {
        let (one, two) = (self.shapes.get(id), self.shapes_of_two.get(id));
        let (one, two) = (one.unwrap_or_default(), two.unwrap_or_default());
        let pairs = one.iter().zip(two).enumerate();
        pairs
            .filter(|(_, (one, two))| one != two)
            .map(|(axis, _)| axis)
            .collect()
    }

    /// The form of a value in a layout, on a grid.
    pub(super) fn form(&self, id: ValueId, layout: Layout, grid: Option<StoredGrid>) -> Form {
        let shape = self.shapes.get(id).unwrap_or_default();
        let free = self.free_axes(id);
        Form {
            shape: layout.lengths(shape),
            free_axes: free.into_iter().map(|axis| layout.axis(axis)).collect(),
            grid,
        }
    }

    /// The grid that readers of a value find; `None` in float.
    pub(super) fn grid(&self, id: ValueId) -> Option<StoredGrid> {
        self.edges?.read(id)
    }

    /// The grid that the operator of a value writes; `None` in float.
    pub(super) fn written(&self, id: ValueId) -> Option<StoredGrid> {
        self.edges?.written(id)
    }

    /// The grid that a kernel reads an input on, to write an output: both have the same width.
    pub(super) fn operand_grid(&self, input: ValueId, output: ValueId) -> Option<StoredGrid> {
        let wide = self.written(output).is_some_and(|grid| grid.wide);
        let own = self.grid(input)?;
        Some(if wide && !own.wide { own.lifted() } else { own })
    }

    /// Type of the numbers that the operator of a value computes with.
    pub(super) fn kind(&self, output: ValueId) -> ElementKind {
        self.written(output)
            .map_or(ElementKind::F32, StoredGrid::kind)
    }

    /// The tensor of a value in a layout and on a grid; operators that bring it there are added once.
    pub(super) fn read(
        &mut self,
        id: ValueId,
        layout: Layout,
        grid: Option<StoredGrid>,
    ) -> Lowered<usize> {
        let name = self.graph.value(id).name.clone();
        let mut at = *self
            .placed
            .get(&id)
            .ok_or_else(|| format!("its input {name:?} is no tensor of the file"))?;
        if at.grid != grid {
            if let (Some(from), Some(to)) = (at.grid, grid) {
                let noted = self.kernels.requantize_for(self.at, id, (from, to));
                noted.map_err(|error| error.to_string())?;
            }
            let form = self.form(id, at.layout, grid);
            let call = Call {
                builtin: Builtin::Quantize,
                version: quantize_version(grid),
                inputs: vec![at.tensor],
                options: Options::Empty,
            };
            at = self.view(id, at.layout, &form, &format!("{name}_requantized"), |_| {
                call
            });
        }
        if at.layout != layout {
            let axes = match layout {
                Layout::AsInGraph => CHANNELS_FIRST,
                Layout::ChannelsLast => CHANNELS_LAST,
            };
            let form = self.form(id, layout, at.grid);
            let kind = form.kind();
            let from = at.tensor;
            at = self.view(
                id,
                layout,
                &form,
                &format!("{name}_transposed"),
                |lowering| {
                    let axes = lowering.integers(&format!("{name}_axes"), &[4], &axes);
                    Call {
                        builtin: Builtin::Transpose,
                        version: by_kind(kind, [1, 2, 5]),
                        inputs: vec![from, axes],
                        options: Options::Empty,
                    }
                },
            );
        }
        Ok(at.tensor)
    }

    fn view(
        &mut self,
        id: ValueId,
        layout: Layout,
        form: &Form,
        name: &str,
        call: impl FnOnce(&mut Self) -> Call,
    ) -> Placed {
        let is_same = |(other, placed): &&(ValueId, Placed)| {
            *other == id && placed.layout == layout && placed.grid == form.grid
        };
        if let Some((_, placed)) = self.views.iter().find(is_same) {
            return *placed;
        }
        let call = call(self);
        let placed = Placed {
            tensor: self.add(call, name, form),
            layout,
            grid: form.grid,
        };
        self.views.push((id, placed));
        placed
    }

    /// Notes how the kernel of a layer sums up and rounds to its output.
    pub(super) fn note_sums(
        &mut self,
        builtin: Builtin,
        (node, output): (NodeId, ValueId),
        input: Option<StoredGrid>,
        (weight, bias): (&StoredWeight, &StoredBias),
    ) {
        let has_channels = self.shapes.get(output).is_none_or(|shape| shape.len() != 3);
        let (Some(from), Some(to), true) = (input, self.written(output), has_channels) else {
            return;
        };
        if !from.wide {
            self.kernels.product(builtin, output, (from, to), weight);
            return;
        }
        self.kernels.sum(builtin, node, (from, to), (weight, bias));
        // The bias is added to the integers.
        let has_bias = self.graph.node(node).input(2).is_some();
        if has_bias {
            self.constants.push(StoredConstant {
                node,
                input: 2,
                values: vec![0.0; bias.codes.len()],
            });
        }
    }

    /// Adds a tensor for a value on the grid that readers find.
    fn place(&mut self, id: ValueId, layout: Layout) -> usize {
        let name = self.graph.value(id).name.clone();
        let form = self.form(id, layout, self.grid(id));
        let tensor = self.computed(&name, &form);
        let grid = form.grid;
        self.placed.insert(
            id,
            Placed {
                tensor,
                layout,
                grid,
            },
        );
        tensor
    }

    /// Adds an operator that writes a value, and what brings that to the grid that readers find.
    pub(super) fn emit(&mut self, call: Call, output: ValueId, layout: Layout) {
        let (read, written) = (self.grid(output), self.written(output));
        if read == written {
            let tensor = self.place(output, layout);
            self.push(call, tensor);
            return;
        }
        let name = format!("{}_before_requantizing", self.graph.value(output).name);
        let form = self.form(output, layout, written);
        let between = self.add(call, &name, &form);
        let tensor = self.place(output, layout);
        let call = Call {
            builtin: Builtin::Quantize,
            version: quantize_version(read),
            inputs: vec![between],
            options: Options::Empty,
        };
        self.push(call, tensor);
    }

    /// Makes a value another name of the same tensor.
    pub(super) fn alias(&mut self, id: ValueId, of: ValueId) {
        if let Some(placed) = self.placed.get(&of).copied() {
            self.placed.insert(id, placed);
        }
    }

    /// Adds an operator that writes a new tensor, and gives the tensor.
    pub(super) fn add(&mut self, call: Call, name: &str, form: &Form) -> usize {
        let tensor = self.computed(name, form);
        self.push(call, tensor);
        tensor
    }

    fn push(&mut self, call: Call, output: usize) {
        self.file.operators.push(Operator {
            builtin: call.builtin,
            version: call.version,
            inputs: call.inputs.into_iter().map(Some).collect(),
            outputs: vec![output],
            options: call.options,
        });
    }

    fn computed(&mut self, name: &str, form: &Form) -> usize {
        let name = self.names.fresh(name);
        self.file.tensor(Tensor {
            name,
            shape: form.shape.clone(),
            free_axes: form.free_axes.clone(),
            kind: form.kind(),
            quantization: form.grid.map(StoredGrid::quantization),
            data: None,
        })
    }

    /// Adds a constant under a name that is made unique.
    pub(super) fn constant(&mut self, tensor: Tensor) -> usize {
        let name = self.names.fresh(&tensor.name);
        self.file.tensor(Tensor { name, ..tensor })
    }

    /// Adds a constant of `int32`.
    pub(super) fn integers(&mut self, name: &str, shape: &[usize], values: &[usize]) -> usize {
        let values: Vec<i32> = values.iter().map(|value| *value as i32).collect();
        self.signed_integers(name, shape, &values)
    }

    /// Adds a constant of `int32` with signs.
    pub(super) fn signed_integers(&mut self, name: &str, shape: &[usize], values: &[i32]) -> usize {
        self.constant(Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            free_axes: Vec::new(),
            kind: ElementKind::I32,
            quantization: None,
            data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        })
    }

    /// The elements of a constant input, if it is there.
    ///
    /// # Errors
    /// The input is computed, or cannot be read.
    pub(super) fn constant_integers(&self, node: &Node, index: usize) -> Lowered<Option<Vec<i64>>> {
        let Some(id) = node.input(index) else {
            return Ok(None);
        };
        let name = &self.graph.value(id).name;
        let constant = self.graph.initializers().get(&id);
        let constant = constant.ok_or_else(|| format!("its input {name:?} is computed"))?;
        let tensor = constant.tensor().map_err(|error| error.to_string())?;
        let values = tensor
            .flatten_all()
            .and_then(|flat| flat.to_dtype(candle_core::DType::I64))
            .and_then(|flat| flat.to_vec1());
        values.map(Some).map_err(|error| error.to_string())
    }

    /// The elements of a constant input of floats.
    ///
    /// # Errors
    /// The input is missing, computed, or cannot be read.
    pub(super) fn constant_floats(&self, node: &Node, index: usize) -> Lowered<Vec<f32>> {
        let id = input(node, index)?;
        let name = &self.graph.value(id).name;
        let constant = self.graph.initializers().get(&id);
        let constant = constant.ok_or_else(|| format!("its input {name:?} is computed"))?;
        constant.to_floats().map_err(|error| error.to_string())
    }
}

/// Whether an operator is told the shape of its output, batch included.
fn fixes_batch(graph: &Graph, live: &[NodeId]) -> bool {
    live.iter()
        .any(|id| matches!(graph.node(*id).op, Op::ConvTranspose(_)))
}

/// Images have their channels last from the beginning.
fn image_layout(rank: usize) -> Layout {
    if rank == 4 {
        Layout::ChannelsLast
    } else {
        Layout::AsInGraph
    }
}

/// The version for `f32`, `int8` and `int16`.
pub(super) fn by_kind(kind: ElementKind, versions: [i32; 3]) -> i32 {
    let [float, narrow, wide] = versions;
    match kind {
        ElementKind::I8 | ElementKind::I4 => narrow,
        ElementKind::I16 => wide,
        _ => float,
    }
}

fn quantize_version(grid: Option<StoredGrid>) -> i32 {
    if grid.is_some_and(|grid| grid.wide) {
        2
    } else {
        1
    }
}

/// The data input of a node.
pub(super) fn input(node: &Node, index: usize) -> Lowered<ValueId> {
    let input = node.input(index);
    input.ok_or_else(|| format!("input {index} is missing"))
}
