//! Names of nodes and values in a file.

use std::collections::BTreeSet;

use super::proto::{GraphProto, NodeProto};

/// A distinct name for every node.
pub(crate) fn node_names(nodes: &[NodeProto]) -> Vec<String> {
    let wanted: Vec<&str> = nodes.iter().map(wanted_name).collect();
    let reserved: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut next_suffix = std::collections::BTreeMap::new();
    wanted
        .into_iter()
        .map(|name| {
            let mut unique = name.to_owned();
            let suffix = next_suffix.entry(name).or_insert(0usize);
            while taken.contains(&unique) || (*suffix > 0 && reserved.contains(unique.as_str())) {
                *suffix += 1;
                unique = format!("{name}_{suffix}");
            }
            taken.insert(unique.clone());
            unique
        })
        .collect()
}

/// `wanted`, or `wanted_1`, `wanted_2`, … if it is taken; the name is taken afterwards.
pub(super) fn free_name(taken: &mut BTreeSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut suffix = 0;
    while !taken.insert(name.clone()) {
        suffix += 1;
        name = format!("{wanted}_{suffix}");
    }
    name
}

/// The node's own name, else that of its first output, else that of its operator.
fn wanted_name(node: &NodeProto) -> &str {
    if !node.name.is_empty() {
        return &node.name;
    }
    let output = node.output.iter().find(|output| !output.is_empty());
    output.unwrap_or(&node.op_type)
}

/// Every value that a node reads or the graph returns.
pub(super) fn used_values(graph: &GraphProto) -> BTreeSet<&str> {
    let read = graph.node.iter().flat_map(|node| {
        let inputs = node.input.iter().map(String::as_str);
        inputs.chain(captured_values(node))
    });
    let returned = graph.output.iter().map(|output| output.name.as_str());
    read.chain(returned).collect()
}

/// What the subgraphs of a node read, including names that they define themselves.
pub(crate) fn captured_values(node: &NodeProto) -> Vec<&str> {
    let subgraphs = node
        .attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    subgraphs.flat_map(used_values).collect()
}
