//! Blocks of a network: nodes whose names share a prefix, as in `/layer1/layer1.0/conv1/Conv`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Graph;

/// Items that are shown at once before blocks begin to be collapsed by themselves.
const COMFORTABLE_ITEMS: usize = 200;

/// Nodes that share the beginning of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What the names share, parts joined by `/`.
    pub(super) name: String,
    /// The name without that of the parent.
    pub(super) label: String,
    /// The block around it.
    pub(super) parent: Option<usize>,
    /// Indices of all nodes in it, those of inner blocks too, in topological order.
    pub(super) nodes: Vec<usize>,
    /// Number of blocks around it.
    pub(super) depth: usize,
}

/// The tree of blocks; a block comes after its parent.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    all: Vec<Block>,
    of_node: Vec<Option<usize>>,
    labels: Vec<String>,
}

impl Blocks {
    /// The blocks of a network.
    pub(super) fn of_graph(graph: &Graph) -> Self {
        let names: Vec<(&str, &str)> = graph
            .nodes()
            .iter()
            .map(|node| (node.name.as_str(), node.op.name()))
            .collect();
        let producers = graph.producers();
        let reads: Vec<Vec<usize>> = graph
            .nodes()
            .iter()
            .map(|node| {
                node.inputs
                    .iter()
                    .flatten()
                    .filter_map(|value| Some(producers.get(value.index())?.as_ref()?.index()))
                    .collect()
            })
            .collect();
        Self::new(&names, &reads)
    }

    /// Blocks of nodes given by name and operator in topological order, each with the nodes it reads.
    ///
    /// No block is made of a prefix that only one node has, that all nodes have, or that a path
    /// leaves and enters again: such a block could not be drawn as one box between its
    /// inputs and its outputs.
    pub(super) fn new(names: &[(&str, &str)], reads: &[Vec<usize>]) -> Self {
        let parts: Vec<Vec<&str>> = names.iter().map(|(name, _)| parts(name)).collect();
        let mut members: BTreeMap<&[&str], Vec<usize>> = BTreeMap::new();
        for (node, parts) in parts.iter().enumerate() {
            for length in 1..parts.len() {
                let prefix = parts.get(..length).unwrap_or_default();
                members.entry(prefix).or_default().push(node);
            }
        }
        members.retain(|_, nodes| {
            nodes.len() > 1 && nodes.len() < names.len() && is_convex(nodes, reads)
        });
        let mut blocks = Self {
            of_node: vec![None; names.len()],
            ..Self::default()
        };
        let mut prefixes: Vec<&[&str]> = Vec::new();
        let mut is_inner: BTreeMap<&[&str], usize> = BTreeMap::new();
        // A prefix sorts before those that it begins, so parents come first.
        for (prefix, nodes) in &members {
            let same_as_inner = members
                .range::<&[&str], _>(*prefix..)
                .skip(1)
                .take_while(|(longer, _)| longer.starts_with(prefix))
                .any(|(_, inner)| inner.len() == nodes.len());
            if same_as_inner {
                continue;
            }
            let parent = (1..prefix.len())
                .rev()
                .find_map(|length| is_inner.get(prefix.get(..length)?).copied());
            let known = parent
                .and_then(|parent| prefixes.get(parent))
                .map_or(0, |p| p.len());
            let index = blocks.all.len();
            let depth = parent
                .and_then(|parent| blocks.all.get(parent))
                .map_or(0, |parent| parent.depth + 1);
            let separator = nodes
                .first()
                .and_then(|node| names.get(*node))
                .map_or("/", |(name, _)| separator(name));
            blocks.all.push(Block {
                name: prefix.join(separator),
                label: prefix.get(known..).unwrap_or_default().join(separator),
                parent,
                nodes: nodes.clone(),
                depth,
            });
            prefixes.push(prefix);
            is_inner.insert(prefix, index);
            for node in nodes {
                if let Some(of_node) = blocks.of_node.get_mut(*node) {
                    *of_node = Some(index);
                }
            }
        }
        blocks.labels = (0..names.len())
            .map(|node| {
                let own = blocks.of_node(node).and_then(|block| prefixes.get(block));
                let rest = parts
                    .get(node)
                    .and_then(|parts| parts.get(own.map_or(0, |prefix| prefix.len())..));
                label(
                    rest.unwrap_or_default(),
                    names.get(node).map_or("", |(_, op)| op),
                )
            })
            .collect();
        blocks
    }

    /// All blocks.
    pub(super) fn all(&self) -> &[Block] {
        &self.all
    }

    /// A block by its index.
    pub(super) fn get(&self, index: usize) -> Option<&Block> {
        self.all.get(index)
    }

    /// The innermost block of a node.
    pub(super) fn of_node(&self, node: usize) -> Option<usize> {
        self.of_node.get(node).copied().flatten()
    }

    /// What a node is called within its block.
    pub(super) fn label(&self, node: usize) -> &str {
        self.labels.get(node).map_or("", String::as_str)
    }

    /// A block and those around it, innermost first.
    pub(super) fn upwards(&self, block: Option<usize>) -> impl Iterator<Item = usize> {
        std::iter::successors(block, |block| self.get(*block)?.parent)
    }

    /// The blocks to begin with collapsed: the outer ones stay open as far as the picture stays small.
    pub(super) fn collapsed_at_first(&self) -> BTreeSet<usize> {
        let deepest = self.all.iter().map(|block| block.depth + 1).max();
        let open = (0..=deepest.unwrap_or(0))
            .rev()
            .find(|depth| self.items_at(*depth) <= COMFORTABLE_ITEMS)
            .unwrap_or(0);
        self.all
            .iter()
            .enumerate()
            .filter(|(_, block)| block.depth >= open)
            .map(|(index, _)| index)
            .collect()
    }

    /// Boxes that are seen when the blocks of this depth and those within them are collapsed.
    fn items_at(&self, depth: usize) -> usize {
        let nodes = self.of_node.iter().filter(|block| {
            block
                .and_then(|block| self.get(block))
                .is_none_or(|block| block.depth < depth)
        });
        let collapsed = self.all.iter().filter(|block| block.depth == depth);
        nodes.count() + collapsed.count()
    }
}

/// What separates the parts of a name: slashes from exporters, points in state dicts.
fn separator(name: &str) -> &'static str {
    if name.contains('/') { "/" } else { "." }
}

fn parts(name: &str) -> Vec<&str> {
    name.split(separator(name))
        .filter(|part| !part.is_empty())
        .collect()
}

/// The rest of a name behind its block; the operator at its end says nothing new.
fn label(parts: &[&str], op: &str) -> String {
    match parts.split_last() {
        Some((last, rest)) if *last == op && !rest.is_empty() => rest.join("/"),
        _ => parts.join("/"),
    }
}

/// Whether no path leaves the nodes and comes back.
fn is_convex(nodes: &[usize], reads: &[Vec<usize>]) -> bool {
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
        return true;
    };
    let mut inside = nodes.iter().copied().peekable();
    // For each node from the first to the last: is it in the block, is it outside but behind it?
    let mut state: Vec<(bool, bool)> = Vec::with_capacity(last - first + 1);
    for node in *first..=*last {
        let is_inside = inside.next_if_eq(&node).is_some();
        let of = |read: &usize| {
            read.checked_sub(*first)
                .and_then(|offset| state.get(offset))
                .copied()
        };
        let read: Vec<(bool, bool)> = reads
            .get(node)
            .map(|reads| reads.iter().filter_map(of).collect())
            .unwrap_or_default();
        let after_leaving = read.iter().any(|(_, behind)| *behind);
        if is_inside && after_leaving {
            return false;
        }
        let behind = !is_inside && (after_leaving || read.iter().any(|(inside, _)| *inside));
        state.push((is_inside, behind));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a chain of nodes.
    fn chain(names: &[(&str, &str)]) -> Blocks {
        let reads: Vec<Vec<usize>> = (0..names.len())
            .map(|node| node.checked_sub(1).into_iter().collect())
            .collect();
        Blocks::new(names, &reads)
    }

    fn names(blocks: &Blocks) -> Vec<&str> {
        blocks
            .all()
            .iter()
            .map(|block| block.name.as_str())
            .collect()
    }

    #[test]
    fn blocks_are_shared_prefixes() {
        let blocks = chain(&[
            ("/conv1/Conv", "Conv"),
            ("/layer1/layer1.0/conv1/Conv", "Conv"),
            ("/layer1/layer1.0/Relu", "Relu"),
            ("/layer1/layer1.1/conv1/Conv", "Conv"),
            ("/layer1/layer1.1/conv2/Conv", "Conv"),
            ("/fc/Gemm", "Gemm"),
        ]);
        assert_eq!(
            names(&blocks),
            ["layer1", "layer1/layer1.0", "layer1/layer1.1"]
        );
        assert_eq!(blocks.get(1).unwrap().label, "layer1.0");
        assert_eq!(blocks.get(1).unwrap().parent, Some(0));
        assert_eq!(blocks.get(0).unwrap().nodes, [1, 2, 3, 4]);
        let labels: Vec<&str> = (0..6).map(|node| blocks.label(node)).collect();
        assert_eq!(labels, ["conv1", "conv1", "Relu", "conv1", "conv2", "fc"]);
    }

    #[test]
    fn names_of_state_dicts_are_separated_by_points() {
        let blocks = chain(&[
            ("layer1.0.conv1", "Conv"),
            ("layer1.0.conv2", "Conv"),
            ("fc", "Gemm"),
        ]);
        assert_eq!(names(&blocks), ["layer1.0"]);
        assert_eq!(blocks.label(1), "conv2");
    }

    #[test]
    fn a_prefix_of_all_nodes_or_of_one_makes_no_block() {
        let blocks = chain(&[("model/a/Conv", "Conv"), ("model/b/Relu", "Relu")]);
        assert!(blocks.all().is_empty());
        assert_eq!(blocks.label(0), "model/a");
    }

    #[test]
    fn a_module_that_is_called_twice_makes_no_block() {
        // The path from one call to the other goes through a convolution outside.
        let blocks = chain(&[
            ("/stem/Conv", "Conv"),
            ("/relu/Relu", "Relu"),
            ("/conv/Conv", "Conv"),
            ("/relu/Relu_1", "Relu"),
        ]);
        assert!(blocks.all().is_empty(), "{:?}", names(&blocks));
    }

    #[test]
    fn large_networks_begin_collapsed() {
        let names: Vec<String> = (0..1000)
            .map(|node| format!("/stage{}/block{}/op{node}/Conv", node / 100, node / 10))
            .collect();
        let names: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "Conv")).collect();
        let blocks = chain(&names);
        assert_eq!(blocks.all().len(), 110);
        let collapsed = blocks.collapsed_at_first();
        assert_eq!(collapsed.len(), 100, "the inner blocks");
        assert!(chain(&names[..50]).collapsed_at_first().is_empty());
    }
}
