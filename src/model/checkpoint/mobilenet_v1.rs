//! `MobileNetV1` (Howard et al. 2017) under the names of common PyTorch versions.

use super::builder::{Activation, Built, Feature, NetBuilder};
use super::state_dict::StateDict;
use crate::model::graph::GraphBuilder;

/// Depthwise-separable blocks of the network for ImageNet.
const IMAGENET_BLOCKS: usize = 13;

/// Module names of one convolution with its `BatchNormalization`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConvNames {
    conv: String,
    batch_norm: String,
    activation: String,
}

impl ConvNames {
    fn new(parent: &str, conv: &str, batch_norm: &str, activation: &str) -> Self {
        Self {
            conv: format!("{parent}{conv}"),
            batch_norm: format!("{parent}{batch_norm}"),
            activation: format!("{parent}{activation}"),
        }
    }
}

/// A `MobileNetV1` that was recognised from tensor names and shapes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    stem: ConvNames,
    /// Depthwise and pointwise convolution of each block.
    blocks: Vec<[ConvNames; 2]>,
    activation: Activation,
    /// Stem with stride 2 for pictures of 224×224, or with stride 1 for 32×32.
    is_for_imagenet: bool,
    head: &'static str,
    channels: usize,
}

/// Recognises a stem, blocks of a depthwise and a pointwise convolution, and a linear head.
pub(crate) fn recognise(state: &StateDict) -> Option<Spec> {
    let spec = [staged, sequential, named, layered]
        .into_iter()
        .find_map(|layout| layout(state))?;
    let is_separable = spec.blocks.iter().all(|[depthwise, pointwise]| {
        matches!(state.conv_shape(&depthwise.conv), Some([_, 1, 3, 3]))
            && matches!(state.conv_shape(&pointwise.conv), Some([_, _, 1, 1]))
    });
    (is_separable && !spec.blocks.is_empty()).then_some(spec)
}

/// `stage1.0.0`, `stage1.1.{0,1,3,4}`, … with `LeakyRelu`: the `RetinaFace` backbone.
fn staged(state: &StateDict) -> Option<Spec> {
    let [_, channels, ..] = state.conv_shape("stage1.0.0")?;
    let blocks = (1..=3).flat_map(|stage| {
        let first = usize::from(stage == 1);
        let prefix = format!("stage{stage}.");
        (first..state.count_modules(&prefix)).map(move |block| numbered_block(&prefix, block))
    });
    Some(Spec {
        stem: ConvNames::new("stage1.0.", "0", "1", "2"),
        blocks: blocks.collect(),
        activation: Activation::LeakyRelu(0.1),
        is_for_imagenet: true,
        head: head(state)?,
        channels,
    })
}

/// `model.0.0`, `model.1.{0,1,3,4}`, … with `Relu`.
fn sequential(state: &StateDict) -> Option<Spec> {
    let [_, channels, ..] = state.conv_shape("model.0.0")?;
    let blocks = 1..state.count_modules("model.");
    Some(Spec {
        stem: ConvNames::new("model.0.", "0", "1", "2"),
        blocks: blocks
            .map(|block| numbered_block("model.", block))
            .collect(),
        activation: Activation::Relu,
        is_for_imagenet: true,
        head: head(state)?,
        channels,
    })
}

fn numbered_block(prefix: &str, block: usize) -> [ConvNames; 2] {
    let parent = format!("{prefix}{block}.");
    [
        ConvNames::new(&parent, "0", "1", "2"),
        ConvNames::new(&parent, "3", "4", "5"),
    ]
}

/// `conv1`, `blocks.0.{depthwise,bn1,pointwise,bn2}`, …
fn named(state: &StateDict) -> Option<Spec> {
    let blocks = state.count_modules("blocks.");
    let block = |block| {
        let parent = format!("blocks.{block}.");
        [
            ConvNames::new(&parent, "depthwise", "bn1", "relu1"),
            ConvNames::new(&parent, "pointwise", "bn2", "relu2"),
        ]
    };
    with_flat_stem(
        state,
        (0..blocks).map(block).collect(),
        blocks == IMAGENET_BLOCKS,
    )
}

/// `conv1`, `layers.0.{conv1,bn1,conv2,bn2}`, …: the usual CIFAR version.
fn layered(state: &StateDict) -> Option<Spec> {
    let block = |block| {
        let parent = format!("layers.{block}.");
        [
            ConvNames::new(&parent, "conv1", "bn1", "relu1"),
            ConvNames::new(&parent, "conv2", "bn2", "relu2"),
        ]
    };
    let blocks = 0..state.count_modules("layers.");
    with_flat_stem(state, blocks.map(block).collect(), false)
}

fn with_flat_stem(
    state: &StateDict,
    blocks: Vec<[ConvNames; 2]>,
    is_for_imagenet: bool,
) -> Option<Spec> {
    let [_, channels, ..] = state.conv_shape("conv1")?;
    let [first, _] = blocks.first()?;
    state.conv_shape(&first.conv)?;
    Some(Spec {
        stem: ConvNames::new("", "conv1", "bn1", "relu"),
        blocks,
        activation: Activation::Relu,
        is_for_imagenet,
        head: head(state)?,
        channels,
    })
}

fn head(state: &StateDict) -> Option<&'static str> {
    ["fc", "linear", "classifier"]
        .into_iter()
        .find(|head| state.linear_shape(head).is_some())
}

impl Spec {
    pub(crate) fn name(&self) -> String {
        let side = if self.is_for_imagenet { 224 } else { 32 };
        format!("MobileNetV1, {} blocks ({side}×{side})", self.blocks.len())
    }

    pub(crate) fn build(&self, state: &StateDict) -> Built<GraphBuilder> {
        let (side, stem_stride) = if self.is_for_imagenet {
            (224, 2)
        } else {
            (32, 1)
        };
        let (mut net, input) = NetBuilder::new(state, self.channels, side);
        let mut x = self.conv(&mut net, &self.stem, input, stem_stride)?;
        for (index, [depthwise, pointwise]) in self.blocks.iter().enumerate() {
            let widened = state
                .conv_shape(&pointwise.conv)
                .is_some_and(|[channels, ..]| channels > x.channels);
            // Strides are not stored. In all versions a block halves the picture where it widens
            // the channels, but for the first.
            let stride = if widened && index > 0 { 2 } else { 1 };
            x = self.conv(&mut net, depthwise, x, stride)?;
            x = self.conv(&mut net, pointwise, x, 1)?;
        }
        let pooled = net.global_average("avg", x);
        let logits = net.linear(self.head, pooled, x.channels)?;
        Ok(net.finish(logits))
    }

    fn conv(
        &self,
        net: &mut NetBuilder<'_>,
        names: &ConvNames,
        x: Feature,
        stride: usize,
    ) -> Built<Feature> {
        let y = net.conv_bn(&names.conv, &names.batch_norm, x, stride)?;
        net.activation(&names.activation, y, self.activation)
    }
}
