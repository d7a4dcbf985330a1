//! Small networks for tests.

use super::{Layer, NodeId, ValueId};

/// Layers with these names and otherwise equal shapes: 3×3 convolutions, 4 → 8 channels.
pub(crate) fn layers_named(names: &[&str]) -> Vec<Layer> {
    (0u32..)
        .zip(names)
        .map(|(index, name)| Layer {
            node: NodeId(index),
            name: (*name).to_owned(),
            op: "Conv".to_owned(),
            weight: ValueId(index),
            weight_shape: vec![8, 4, 3, 3],
            channel_axis: 0,
            groups: 1,
            bias: None,
            input: ValueId(index),
            output: ValueId(index + 1),
            parameters: 8 * 4 * 9,
            weight_elements: 8 * 4 * 9,
            macs: Some(288 * 64),
            output_shape: Some(vec![1, 8, 8, 8]),
        })
        .collect()
}
