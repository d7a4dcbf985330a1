//! `MobileNetV2` (Sandler et al. 2018) under torchvision's names, any width.

use super::builder::{Activation, Built, Feature, NetBuilder};
use super::state_dict::StateDict;
use crate::model::graph::GraphBuilder;

/// Stride of each inverted residual block (table 2 of the paper, for 224×224).
const STRIDES: [usize; 17] = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

/// A `MobileNetV2` that was recognised from tensor names and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    channels: usize,
    /// Output channels of the last convolution before the classifier.
    last_channels: usize,
    /// Output channels of the stem, 32 at width 1.
    stem_channels: usize,
}

/// Recognises `features.0.0`, `features.1.conv.…` to `features.18.0` and `classifier.1`.
pub(crate) fn recognise(state: &StateDict) -> Option<Spec> {
    let [stem_channels, channels, ..] = state.conv_shape("features.0.0")?;
    let [last_channels, ..] = state.conv_shape("features.18.0")?;
    let has_all_blocks = (1..=STRIDES.len()).all(|block| {
        state
            .conv_shape(&format!("features.{block}.conv.0.0"))
            .is_some()
    });
    let [_, features] = state.linear_shape("classifier.1")?;
    (has_all_blocks && features == last_channels).then_some(Spec {
        channels,
        last_channels,
        stem_channels,
    })
}

impl Spec {
    pub(crate) fn name(&self) -> String {
        match self.stem_channels {
            32 => "MobileNetV2".to_owned(),
            channels => format!("MobileNetV2, width {}", channels as f64 / 32.0),
        }
    }

    pub(crate) fn build(&self, state: &StateDict) -> Built<GraphBuilder> {
        let (mut net, input) = NetBuilder::new(state, self.channels, 224);
        let mut x = conv_bn_relu(&mut net, "features.0", input, 2)?;
        for (block, stride) in (1..).zip(STRIDES) {
            x = inverted_residual(&mut net, state, &format!("features.{block}"), x, stride)?;
        }
        x = conv_bn_relu(&mut net, "features.18", x, 1)?;
        let pooled = net.global_average("avgpool", x);
        let logits = net.linear("classifier.1", pooled, self.last_channels)?;
        Ok(net.finish(logits))
    }
}

fn conv_bn_relu(
    net: &mut NetBuilder<'_>,
    module: &str,
    x: Feature,
    stride: usize,
) -> Built<Feature> {
    let y = net.conv_bn(&format!("{module}.0"), &format!("{module}.1"), x, stride)?;
    net.activation(&format!("{module}.2"), y, Activation::Relu6)
}

/// Expansion (absent at factor 1), depthwise convolution, linear projection, and the shortcut.
fn inverted_residual(
    net: &mut NetBuilder<'_>,
    state: &StateDict,
    name: &str,
    x: Feature,
    stride: usize,
) -> Built<Feature> {
    let has_expansion = state.conv_shape(&format!("{name}.conv.1.0")).is_some();
    let mut y = x;
    if has_expansion {
        y = conv_bn_relu(net, &format!("{name}.conv.0"), y, 1)?;
    }
    let depthwise = usize::from(has_expansion);
    y = conv_bn_relu(net, &format!("{name}.conv.{depthwise}"), y, stride)?;
    let (conv, bn) = (depthwise + 1, depthwise + 2);
    y = net.conv_bn(
        &format!("{name}.conv.{conv}"),
        &format!("{name}.conv.{bn}"),
        y,
        1,
    )?;
    if stride == 1 && y.channels == x.channels {
        return net.add(&format!("{name}.add"), x, y);
    }
    Ok(y)
}
