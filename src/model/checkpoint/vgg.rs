//! VGG (Simonyan and Zisserman 2014) under torchvision's names, with or without `BatchNormalization`.

use super::builder::{Built, NetBuilder};
use super::state_dict::StateDict;
use crate::model::graph::GraphBuilder;

/// One convolution of `features`, by its index in the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConvAt {
    index: usize,
    has_batch_norm: bool,
    /// A 2×2 max pool follows.
    is_pooled: bool,
}

/// A VGG that was recognised from tensor names and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    convs: Vec<ConvAt>,
    /// Names of the linear layers.
    linears: Vec<String>,
    /// Length of the picture that the classifier sees.
    final_side: usize,
    channels: usize,
}

/// Recognises `features.N` of 3×3 convolutions and `classifier` or `classifier.N` of linear layers.
///
/// Pools have no tensors: they are where the index skips one more module than the activation.
pub(crate) fn recognise(state: &StateDict) -> Option<Spec> {
    let [_, channels, ..] = state.conv_shape("features.0")?;
    let indices: Vec<usize> = (0..state.len())
        .filter(|index| state.conv_shape(&format!("features.{index}")).is_some())
        .collect();
    let mut convs = Vec::with_capacity(indices.len());
    for (position, index) in indices.iter().enumerate() {
        let [_, _, 3, 3] = state.conv_shape(&format!("features.{index}"))? else {
            return None;
        };
        let has_batch_norm = state.has(&format!("features.{}.running_mean", index + 1));
        let next_without_pool = index + 2 + usize::from(has_batch_norm);
        let is_pooled = match indices.get(position + 1) {
            Some(next) if *next == next_without_pool => false,
            Some(next) if *next == next_without_pool + 1 => true,
            Some(_) => return None,
            None => true,
        };
        convs.push(ConvAt {
            index: *index,
            has_batch_norm,
            is_pooled,
        });
    }
    let mut linears: Vec<String> = (0..16)
        .map(|index| format!("classifier.{index}"))
        .filter(|name| state.linear_shape(name).is_some())
        .collect();
    if linears.is_empty() && state.linear_shape("classifier").is_some() {
        linears.push("classifier".to_owned());
    }
    let [_, features] = state.linear_shape(linears.first()?)?;
    let [last_channels, ..] = state.conv_shape(&format!("features.{}", indices.last()?))?;
    let final_side = (1..=7).find(|side| side * side * last_channels == features)?;
    Some(Spec {
        convs,
        linears,
        final_side,
        channels,
    })
}

impl Spec {
    pub(crate) fn name(&self) -> String {
        let depth = self.convs.len() + self.linears.len();
        let suffix = if self.convs.iter().any(|conv| conv.has_batch_norm) {
            "-BN"
        } else {
            ""
        };
        if self.final_side == 1 {
            return format!(
                "VGG-{}{suffix} (CIFAR)",
                self.convs.len() + self.linears.len().max(3)
            );
        }
        format!("VGG-{depth}{suffix}")
    }

    pub(crate) fn build(&self, state: &StateDict) -> Built<GraphBuilder> {
        let pools = self.convs.iter().filter(|conv| conv.is_pooled).count();
        let side = self.final_side << pools.min(8);
        let (mut net, mut x) = NetBuilder::new(state, self.channels, side);
        for conv in &self.convs {
            let name = |index: usize| format!("features.{index}");
            let activation = conv.index + 1 + usize::from(conv.has_batch_norm);
            x = if conv.has_batch_norm {
                net.conv_bn(&name(conv.index), &name(conv.index + 1), x, 1)?
            } else {
                net.conv(&name(conv.index), x, 1)?
            };
            x = net.relu(&name(activation), x)?;
            if conv.is_pooled {
                x = net.max_pool(&name(activation + 1), x, 2, 2, 0);
            }
        }
        let mut features = x.channels * self.final_side * self.final_side;
        let mut y = net.flatten("flatten", x.value);
        for (index, linear) in self.linears.iter().enumerate() {
            if index > 0 {
                y = net.relu_vector(&format!("{linear}.relu"), y);
            }
            y = net.linear(linear, y, features)?;
            features = state.linear_shape(linear).map_or(0, |[outputs, _]| outputs);
        }
        Ok(net.finish(y))
    }
}
