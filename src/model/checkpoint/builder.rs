//! A small vocabulary to build networks from a state dict.
//!
//! Nodes are named after modules (`layer1.0.conv1`), tensors as in the state dict.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};

use super::state_dict::StateDict;
use crate::model::Initializer;
use crate::model::error::LoadErrorKind;
use crate::model::graph::{Dim, ElementType, GraphBuilder, ValueId};
use crate::model::op::{Binary, Conv, Op, PadMode, Padding, Pool, Unary};

/// `eps` of PyTorch's `BatchNorm2d`, which state dicts do not store.
const BATCH_NORM_EPSILON: f32 = 1e-5;

/// A picture-shaped activation: its value and number of channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feature {
    pub(crate) value: ValueId,
    pub(crate) channels: usize,
}

/// Activation function after a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Relu,
    Relu6,
    LeakyRelu(f32),
}

pub(crate) type Built<T> = Result<T, LoadErrorKind>;

/// Builds the graph of one architecture.
#[derive(Debug)]
pub(crate) struct NetBuilder<'a> {
    state: &'a StateDict,
    graph: GraphBuilder,
    names: BTreeSet<String>,
}

impl<'a> NetBuilder<'a> {
    /// Starts with the input `[N, 3, side, side]`.
    pub(crate) fn new(state: &'a StateDict, channels: usize, side: usize) -> (Self, Feature) {
        let mut graph = GraphBuilder::new();
        let shape = vec![
            Dim::Symbol("N".to_owned()),
            Dim::Fixed(channels),
            Dim::Fixed(side),
            Dim::Fixed(side),
        ];
        let value = graph.input("input", ElementType::F32, shape);
        let builder = Self {
            state,
            graph,
            names: BTreeSet::new(),
        };
        (builder, Feature { value, channels })
    }

    /// Declares the only output and returns the nodes.
    pub(crate) fn finish(mut self, logits: ValueId) -> GraphBuilder {
        self.graph.output(logits);
        self.graph
    }

    /// `Conv` with half the kernel as padding; the groups follow from the channel counts.
    pub(crate) fn conv(&mut self, module: &str, x: Feature, stride: usize) -> Built<Feature> {
        let weight_name = format!("{module}.weight");
        let weight = self.tensor(&weight_name)?;
        let &[channels, in_per_group, kh, kw] = weight.dims() else {
            return mismatch(&weight_name, weight.dims(), "[out, in / groups, kh, kw]");
        };
        if in_per_group == 0 || channels == 0 || !x.channels.is_multiple_of(in_per_group) {
            let expected = format!("the weight of a convolution of {} channels", x.channels);
            return mismatch(&weight_name, weight.dims(), &expected);
        }
        let op = Op::Conv(Conv {
            strides: vec![stride; 2],
            padding: Padding::Explicit(vec![kh / 2, kw / 2, kh / 2, kw / 2]),
            dilations: vec![1; 2],
            groups: x.channels / in_per_group,
        });
        let mut inputs = vec![x.value, self.graph.initializer(&weight_name, weight)];
        inputs.extend(self.optional_vector(&format!("{module}.bias"), channels)?);
        let value = self.node(module, op, &inputs);
        Ok(Feature { value, channels })
    }

    /// `Conv` and `BatchNormalization`; the latter is left out if it was folded into the former.
    pub(crate) fn conv_bn(
        &mut self,
        conv: &str,
        batch_norm: &str,
        x: Feature,
        stride: usize,
    ) -> Built<Feature> {
        let y = self.conv(conv, x, stride)?;
        let is_folded = !self.state.has(&format!("{batch_norm}.running_mean"))
            && self.state.has(&format!("{conv}.bias"));
        if is_folded {
            return Ok(y);
        }
        let mut inputs = vec![y.value];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.vector(&format!("{batch_norm}.{part}"), y.channels)?);
        }
        let op = Op::BatchNormalization {
            epsilon: BATCH_NORM_EPSILON,
        };
        let value = self.node(batch_norm, op, &inputs);
        Ok(Feature { value, ..y })
    }

    pub(crate) fn activation(
        &mut self,
        name: &str,
        x: Feature,
        activation: Activation,
    ) -> Built<Feature> {
        let value = match activation {
            Activation::Relu => self.node(name, Op::Unary(Unary::Relu), &[x.value]),
            Activation::LeakyRelu(alpha) => {
                self.node(name, Op::Unary(Unary::LeakyRelu { alpha }), &[x.value])
            }
            Activation::Relu6 => {
                let min = self.scalar("relu6.min", 0.0)?;
                let max = self.scalar("relu6.max", 6.0)?;
                self.node(name, Op::Clip, &[x.value, min, max])
            }
        };
        Ok(Feature { value, ..x })
    }

    pub(crate) fn relu(&mut self, name: &str, x: Feature) -> Built<Feature> {
        self.activation(name, x, Activation::Relu)
    }

    /// `a + b`, which must have the same number of channels.
    pub(crate) fn add(&mut self, name: &str, a: Feature, b: Feature) -> Built<Feature> {
        if a.channels != b.channels {
            return Err(LoadErrorKind::UnknownArchitecture(format!(
                "block {name:?} adds {} channels to {}; export the model to ONNX instead",
                b.channels, a.channels
            )));
        }
        let value = self.node(name, Op::Binary(Binary::Add), &[a.value, b.value]);
        Ok(Feature { value, ..a })
    }

    pub(crate) fn max_pool(
        &mut self,
        name: &str,
        x: Feature,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Feature {
        let op = Op::MaxPool(Pool {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            padding: Padding::Explicit(vec![padding; 4]),
            dilations: Vec::new(),
            ceil_mode: false,
            count_include_pad: false,
        });
        let value = self.node(name, op, &[x.value]);
        Feature { value, ..x }
    }

    /// Every second pixel, with zero channels before and after (option A of He et al. 2015, 4.2).
    pub(crate) fn subsample_and_widen(
        &mut self,
        name: &str,
        x: Feature,
        stride: usize,
        channels: usize,
    ) -> Built<Feature> {
        let mut value = x.value;
        if stride > 1 {
            let starts = self.integers(&format!("{name}.starts"), &[0, 0])?;
            let ends = self.integers(&format!("{name}.ends"), &[i64::MAX, i64::MAX])?;
            let axes = self.integers(&format!("{name}.axes"), &[2, 3])?;
            let steps = self.integers(&format!("{name}.steps"), &[stride as i64; 2])?;
            let inputs = [value, starts, ends, axes, steps];
            value = self.node(&format!("{name}.slice"), Op::Slice, &inputs);
        }
        if channels > x.channels {
            let before = ((channels - x.channels) / 2) as i64;
            let after = (channels - x.channels) as i64 - before;
            let pads = [0, before, 0, 0, 0, after, 0, 0];
            let pads = self.integers(&format!("{name}.pads"), &pads)?;
            let mode = PadMode::Constant;
            value = self.node(&format!("{name}.pad"), Op::Pad { mode }, &[value, pads]);
        }
        Ok(Feature { value, channels })
    }

    /// Mean over the picture, as a vector `[N, channels]`.
    pub(crate) fn global_average(&mut self, name: &str, x: Feature) -> ValueId {
        let pooled = self.node(name, Op::GlobalAveragePool, &[x.value]);
        self.flatten("flatten", pooled)
    }

    pub(crate) fn flatten(&mut self, name: &str, x: ValueId) -> ValueId {
        self.node(name, Op::Flatten { axis: 1 }, &[x])
    }

    pub(crate) fn relu_vector(&mut self, name: &str, x: ValueId) -> ValueId {
        self.node(name, Op::Unary(Unary::Relu), &[x])
    }

    pub(crate) fn linear(&mut self, module: &str, x: ValueId, features: usize) -> Built<ValueId> {
        let weight_name = format!("{module}.weight");
        let weight = self.tensor(&weight_name)?;
        let outputs = match weight.dims() {
            [outputs, inputs] if *inputs == features => *outputs,
            dims => return mismatch(&weight_name, dims, &format!("[out, {features}]")),
        };
        let mut operands = vec![x, self.graph.initializer(&weight_name, weight)];
        operands.extend(self.optional_vector(&format!("{module}.bias"), outputs)?);
        let op = Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: true,
        };
        Ok(self.node(module, op, &operands))
    }

    fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let mut unique = name.to_owned();
        let mut repetition = 1;
        while !self.names.insert(unique.clone()) {
            unique = format!("{name}_{repetition}");
            repetition += 1;
        }
        let output = format!("{unique}.output");
        self.graph.node(&unique, op, inputs, &output)
    }

    fn tensor(&self, name: &str) -> Built<Initializer> {
        self.state.get(name).cloned().ok_or_else(|| {
            LoadErrorKind::UnknownArchitecture(format!(
                "tensor {name:?} is missing; save the complete state dict again, or export the model to ONNX"
            ))
        })
    }

    fn vector(&mut self, name: &str, length: usize) -> Built<ValueId> {
        let tensor = self.tensor(name)?;
        if tensor.dims() != [length] {
            return mismatch(name, tensor.dims(), &format!("[{length}]"));
        }
        Ok(self.graph.initializer(name, tensor))
    }

    fn optional_vector(&mut self, name: &str, length: usize) -> Built<Option<ValueId>> {
        if self.state.has(name) {
            self.vector(name, length).map(Some)
        } else {
            Ok(None)
        }
    }

    fn integers(&mut self, name: &str, data: &[i64]) -> Built<ValueId> {
        self.constant(name, Tensor::new(data, &Device::Cpu))
    }

    fn scalar(&mut self, name: &str, value: f32) -> Built<ValueId> {
        self.constant(name, Tensor::new(value, &Device::Cpu))
    }

    fn constant(&mut self, name: &str, tensor: candle_core::Result<Tensor>) -> Built<ValueId> {
        match tensor {
            Ok(tensor) => Ok(self.graph.initializer(name, tensor)),
            Err(error) => Err(LoadErrorKind::UnknownArchitecture(format!(
                "constant {name:?} cannot be made: {error}"
            ))),
        }
    }
}

fn mismatch<T>(tensor: &str, found: &[usize], expected: &str) -> Built<T> {
    Err(LoadErrorKind::UnknownArchitecture(format!(
        "tensor {tensor:?} has the shape {found:?}, expected {expected}; export the model to ONNX instead"
    )))
}
