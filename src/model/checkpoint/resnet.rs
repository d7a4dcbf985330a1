//! Residual networks: He et al. 2015, as in torchvision and in the usual CIFAR variants.

use super::builder::{Built, Feature, NetBuilder};
use super::state_dict::StateDict;
use crate::model::graph::GraphBuilder;

/// A residual network that was recognised from tensor names and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Blocks per stage.
    blocks: Vec<usize>,
    /// Three convolutions a block instead of two.
    has_bottlenecks: bool,
    /// Groups of the middle convolution of a bottleneck (`ResNeXt`).
    groups: usize,
    /// Output channels of the middle convolution of the first bottleneck, per group.
    width_per_group: usize,
    /// 7×7 stem with stride 2 and a max pool for pictures of 224×224, or a 3×3 stem for 32×32.
    is_for_imagenet: bool,
    /// Name of the classifier, `fc` or `linear`.
    head: &'static str,
    channels: usize,
}

/// Recognises the names `conv1`, `layer1.0.conv1`, … and `fc` or `linear`.
pub(crate) fn recognise(state: &StateDict) -> Option<Spec> {
    let [_, channels, kernel, _] = state.conv_shape("conv1")?;
    let head = ["fc", "linear"]
        .into_iter()
        .find(|head| state.linear_shape(head).is_some())?;
    let blocks: Vec<usize> = (1..=4)
        .map(|stage| state.count_modules(&format!("layer{stage}.")))
        .take_while(|blocks| *blocks > 0)
        .collect();
    let is_for_imagenet = match (kernel, blocks.len()) {
        (7, 4) => true,
        (3, 3 | 4) => false,
        _ => return None,
    };
    // Without a BatchNorm or bias after the stem it is another order of layers (pre-activation).
    if !state.has("bn1.running_mean") && !state.has("conv1.bias") {
        return None;
    }
    let has_bottlenecks = state.conv_shape("layer1.0.conv3").is_some();
    let [width, ..] = state.conv_shape("layer1.0.conv1")?;
    let [_, per_group, ..] = state.conv_shape("layer1.0.conv2")?;
    if per_group == 0 {
        return None;
    }
    Some(Spec {
        blocks,
        has_bottlenecks,
        groups: width / per_group,
        width_per_group: per_group,
        is_for_imagenet,
        head,
        channels,
    })
}

impl Spec {
    /// Name for people, for example `ResNet-20 (CIFAR)`.
    pub(crate) fn name(&self) -> String {
        let convolutions = if self.has_bottlenecks { 3 } else { 2 };
        let depth = self.blocks.iter().sum::<usize>() * convolutions + 2;
        let (groups, width) = (self.groups, self.width_per_group);
        match (self.is_for_imagenet, self.has_bottlenecks) {
            (false, _) => format!("ResNet-{depth} (CIFAR)"),
            (true, true) if groups > 1 => format!("ResNeXt-{depth} {groups}x{width}d"),
            (true, true) if width > 64 => format!("Wide ResNet-{depth}-{}", width / 64),
            _ => format!("ResNet-{depth}"),
        }
    }

    pub(crate) fn build(&self, state: &StateDict) -> Built<GraphBuilder> {
        let side = if self.is_for_imagenet { 224 } else { 32 };
        let (mut net, input) = NetBuilder::new(state, self.channels, side);
        let stem_stride = if self.is_for_imagenet { 2 } else { 1 };
        let mut x = net.conv_bn("conv1", "bn1", input, stem_stride)?;
        x = net.relu("relu", x)?;
        if self.is_for_imagenet {
            x = net.max_pool("maxpool", x, 3, 2, 1);
        }
        for (stage, blocks) in (1..).zip(&self.blocks) {
            for block in 0..*blocks {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                x = self.block(&mut net, state, &format!("layer{stage}.{block}"), x, stride)?;
            }
        }
        let pooled = net.global_average("avgpool", x);
        let logits = net.linear(self.head, pooled, x.channels)?;
        Ok(net.finish(logits))
    }

    fn block(
        &self,
        net: &mut NetBuilder<'_>,
        state: &StateDict,
        name: &str,
        x: Feature,
        stride: usize,
    ) -> Built<Feature> {
        let relu = format!("{name}.relu");
        // Bottlenecks stride in the 3×3 convolution, as torchvision does.
        let strides: &[usize] = if self.has_bottlenecks {
            &[1, stride, 1]
        } else {
            &[stride, 1]
        };
        let mut y = x;
        for (index, stride) in (1..).zip(strides) {
            let (conv, bn) = (format!("{name}.conv{index}"), format!("{name}.bn{index}"));
            y = net.conv_bn(&conv, &bn, y, *stride)?;
            if index < strides.len() {
                y = net.relu(&relu, y)?;
            }
        }
        let shortcut = self.shortcut(net, state, name, x, stride, y.channels)?;
        let sum = net.add(&format!("{name}.add"), y, shortcut)?;
        net.relu(&relu, sum)
    }

    /// The identity, a 1×1 convolution, or option A where networks for CIFAR store no convolution.
    fn shortcut(
        &self,
        net: &mut NetBuilder<'_>,
        state: &StateDict,
        name: &str,
        x: Feature,
        stride: usize,
        channels: usize,
    ) -> Built<Feature> {
        let module = ["downsample", "shortcut"]
            .into_iter()
            .find(|module| state.conv_shape(&format!("{name}.{module}.0")).is_some());
        if module.is_none() && stride == 1 && channels == x.channels {
            return Ok(x);
        }
        if module.is_none() && self.blocks.len() == 3 && !self.has_bottlenecks {
            let shortcut = format!("{name}.shortcut");
            return net.subsample_and_widen(&shortcut, x, stride, channels);
        }
        let module = module.unwrap_or("downsample");
        let (conv, bn) = (format!("{name}.{module}.0"), format!("{name}.{module}.1"));
        net.conv_bn(&conv, &bn, x, stride)
    }
}
