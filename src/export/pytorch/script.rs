//! The script that builds a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::calls::{call, layer_call, layer_class};
use super::paths::{quoted, reached, tuple};
use super::scope::{Reason, Scope};
use crate::export::ExportError;
use crate::export::quantized::QuantizedLayer;
use crate::model::{Graph, Layer, Node, NodeId, ValueId};
use crate::quant::{ActivationQuantizer, HalfFormat, NumberFormat};

/// Classes of layers and the reader of the weights.
const SUPPORT: &str = include_str!("support.py");
/// Functions for operators; a script has those that it calls.
const FUNCTIONS: &str = include_str!("functions.py");
/// Loading, and what the script does when it is run by itself.
const USE: &str = include_str!("use.py");

/// A script, and what it expects in the file of weights.
#[derive(Debug)]
pub(super) struct Script {
    /// The code.
    pub(super) text: String,
    /// Path of every layer; `None` for one that no output depends on.
    pub(super) layer_paths: Vec<Option<String>>,
    /// Paths of constants that no layer owns.
    pub(super) constants: BTreeMap<ValueId, String>,
}

impl Script {
    /// Writes a network.
    ///
    /// # Errors
    /// All nodes that cannot be written, each with its reason.
    pub(super) fn of(
        graph: &Graph,
        layers: &[Layer],
        quantized: &[QuantizedLayer],
    ) -> Result<Self, ExportError> {
        let mut body = Body::new(graph, layers, quantized);
        for id in live_nodes(graph) {
            body.node(id);
        }
        let returned = body.returned();
        if !body.refused.is_empty() {
            return Err(ExportError::Message(format!(
                "PyTorch cannot compute these nodes as the network does; export for ONNX Runtime instead:\n{}",
                body.refused.join("\n")
            )));
        }
        let constants = body.scope.constants.clone();
        let text = body.text(&returned, &constants);
        Ok(Self {
            text,
            layer_paths: body.layer_paths,
            constants,
        })
    }
}

/// Nodes that an output depends on, in order.
fn live_nodes(graph: &Graph) -> Vec<NodeId> {
    let mut needed: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
    let mut live: Vec<NodeId> = graph.node_ids().collect();
    live.reverse();
    live.retain(|id| {
        let node = graph.node(*id);
        let is_live = node.outputs.iter().any(|output| needed.contains(output));
        if is_live {
            needed.extend(node.inputs.iter().flatten());
        }
        is_live
    });
    live.reverse();
    live
}

struct Body<'a> {
    graph: &'a Graph,
    scope: Scope<'a>,
    layers: BTreeMap<NodeId, (usize, &'a Layer, &'a QuantizedLayer)>,
    layer_paths: Vec<Option<String>>,
    parameters: Vec<String>,
    modules: Vec<String>,
    lines: Vec<String>,
    refused: Vec<String>,
}

impl<'a> Body<'a> {
    fn new(graph: &'a Graph, layers: &'a [Layer], quantized: &'a [QuantizedLayer]) -> Self {
        let mut scope = Scope::new(graph);
        let inputs = graph.inputs().iter();
        let parameters = inputs
            .map(|id| scope.declare(*id, &graph.value(*id).name))
            .collect();
        let by_node = layers
            .iter()
            .zip(quantized)
            .enumerate()
            .map(|(index, (layer, one))| (layer.node, (index, layer, one)))
            .collect();
        Self {
            graph,
            scope,
            layers: by_node,
            layer_paths: vec![None; layers.len()],
            parameters,
            modules: Vec::new(),
            lines: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let expression = match self.layers.get(&id).copied() {
            Some((index, layer, one)) => self.layer(node, index, layer, one),
            None => call(&mut self.scope, node),
        };
        let expression = expression.unwrap_or_else(|reason| {
            self.refused
                .push(format!("{} {:?}: {reason}", node.op.name(), node.name));
            String::new()
        });
        let targets: Vec<String> = node
            .outputs
            .iter()
            .map(|output| self.scope.declare(*output, &node.name))
            .collect();
        let targets = match targets.as_slice() {
            // A pooling's second output is refused, and others have none that is left out.
            [only] if matches!(node.op, crate::model::Op::Split { .. }) => format!("({only},)"),
            all => all.join(", "),
        };
        self.lines.push(format!("{targets} = {expression}"));
    }

    fn layer(
        &mut self,
        node: &Node,
        index: usize,
        layer: &Layer,
        one: &QuantizedLayer,
    ) -> Result<String, Reason> {
        let (class, attributes) = layer_class(node)?;
        let path = self.scope.paths.fresh(&layer.name);
        let attributes = if attributes.is_empty() {
            attributes
        } else {
            format!(", {attributes}")
        };
        let formats = format!(
            "weight {}, input {}",
            weight_format(one),
            input_format(&one.activation)
        );
        self.modules.push(format!(
            "self.add({}, {class}{attributes})  # {formats}",
            quoted(&path)
        ));
        let call = layer_call(&mut self.scope, node, &reached(&path), layer.bias.is_some());
        if let Some(slot) = self.layer_paths.get_mut(index) {
            *slot = Some(path);
        }
        call
    }

    fn returned(&mut self) -> String {
        let outputs = self.graph.outputs().iter();
        let names: Vec<String> = outputs
            .filter_map(|id| match self.scope.value(*id) {
                Ok(name) => Some(name),
                Err(reason) => {
                    self.refused.push(reason);
                    None
                }
            })
            .collect();
        match names.as_slice() {
            [only] => only.clone(),
            all => tuple(all),
        }
    }

    fn text(&self, returned: &str, constants: &BTreeMap<ValueId, String>) -> String {
        let mut network = String::from("class Network(Group):\n");
        network.push_str("    \"\"\"The network: a module for each layer, and what is computed with them.\"\"\"\n\n");
        network.push_str("    def __init__(self, store):\n        super().__init__()\n        self.store = store\n");
        let constants = constants
            .values()
            .map(|path| format!("self.add_constant({})", quoted(path)));
        for line in self.modules.iter().cloned().chain(constants) {
            writeln!(network, "        {line}").ok();
        }
        network.push_str("        del self.store\n\n");
        let parameters = self.parameters.join(", ");
        writeln!(network, "    def forward(self, {parameters}):").ok();
        for line in &self.lines {
            writeln!(network, "        {line}").ok();
        }
        writeln!(network, "        return {returned}").ok();
        let metadata = self.graph.metadata();
        let model = metadata.architecture.as_ref().unwrap_or(&metadata.name);
        let functions = functions_in(&network);
        format!(
            "{HEAD}\nMODEL = {}\n\n\n{SUPPORT}\n\n{functions}{network}\n\n{USE}",
            quoted(model)
        )
    }
}

/// What stands before the code.
const HEAD: &str = r#""""A quantized network as a module of PyTorch, written by Quantscope.

The .safetensors file of the same name beside this script holds the integer weights, scales and zero
points. Needs torch, and numpy where it is run by itself. Layers compute with the codes, or in float with
what the codes stand for, as the simulation does; integer kernels are up to PyTorch's own quantizers (see
the script that ends in .requantize.py).

    network = load()
    outputs = network(inputs)  # float32, preprocessed as for the model

python SCRIPT inputs.npy --labels labels.npy --out outputs.npy
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
"#;

/// The functions that a text calls, and those that they call.
fn functions_in(text: &str) -> String {
    let blocks: Vec<&str> = FUNCTIONS.trim_end().split("\n\n\n").collect();
    let name = |block: &str| -> String {
        let rest = block.trim_start().strip_prefix("def ").unwrap_or_default();
        rest.split('(').next().unwrap_or_default().to_owned()
    };
    let mut taken = vec![false; blocks.len()];
    loop {
        let mut grew = false;
        for at in 0..blocks.len() {
            let called = |caller: &str| calls_function(caller, &name(blocks[at]));
            let by_taken = blocks
                .iter()
                .zip(&taken)
                .enumerate()
                .any(|(other, (block, taken))| *taken && other != at && called(block));
            if !taken[at] && (called(text) || by_taken) {
                taken[at] = true;
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let mut text = String::new();
    for (block, _) in blocks.iter().zip(&taken).filter(|(_, taken)| **taken) {
        text.push_str(block.trim());
        text.push_str("\n\n\n");
    }
    text
}

/// Whether a text has a call of this name, and not of one that ends like it.
fn calls_function(text: &str, name: &str) -> bool {
    let call = format!("{name}(");
    text.match_indices(&call).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))
    })
}

fn weight_format(one: &QuantizedLayer) -> String {
    match one.weight_spec.format {
        NumberFormat::Int(bits) => format!("int{bits} {}", one.weight_spec.granularity),
        float => float.to_string(),
    }
}

fn input_format(quantizer: &ActivationQuantizer) -> String {
    match quantizer {
        ActivationQuantizer::Identity => "f32".to_owned(),
        ActivationQuantizer::Half(HalfFormat::F16) => "f16".to_owned(),
        ActivationQuantizer::Half(HalfFormat::BF16) => "bf16".to_owned(),
        ActivationQuantizer::Affine(grid) => {
            let bits = (grid.levels() - 1).ilog2() + 1;
            let kind = if grid.q_min() < 0 { "int" } else { "uint" };
            format!("{kind}{bits}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_functions_that_it_calls() {
        assert_eq!(functions_in("x = F.relu(y)\nz = y.reshape(2)"), "");
        let text = functions_in("y = softmax_from(x, 1, F.softmax)");
        assert!(
            text.contains("def softmax_from(") && text.contains("def flatten_from("),
            "{text}"
        );
        assert!(!text.contains("def gather("), "{text}");
        let every: Vec<&str> = FUNCTIONS
            .lines()
            .filter(|line| line.starts_with("def "))
            .collect();
        for line in every {
            let name = line.trim_start_matches("def ").split('(').next().unwrap();
            assert!(functions_in(&format!(" {name}(")).contains(line), "{line}");
        }
    }
}
