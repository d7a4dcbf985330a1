//! Concrete shapes of all values for a given batch size.

use super::graph::{Dim, Graph, NodeId, ValueId};

/// Shapes of the values of one graph.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    by_value: Vec<Option<Vec<usize>>>,
    /// Nodes whose inputs contradict their definition, with the numbers.
    pub problems: Vec<(NodeId, String)>,
}

impl Shapes {
    /// The shape of a value, if it is known.
    pub fn get(&self, id: ValueId) -> Option<&[usize]> {
        self.by_value.get(id.index())?.as_deref()
    }
}

/// Infers the shape of every value when the batch axis has length `batch`.
///
/// A symbolic first axis of a graph input is the batch; an input with another symbolic axis has no
/// shape, and neither has what depends on it.
pub fn infer_shapes(graph: &Graph, batch: usize) -> Shapes {
    let mut by_value = vec![None; graph.values().len()];
    for (id, tensor) in graph.initializers() {
        by_value[id.index()] = Some(tensor.dims().to_vec());
    }
    for id in graph.inputs() {
        by_value[id.index()] = declared_shape(graph, *id, batch);
    }
    Shapes {
        by_value,
        problems: Vec::new(),
    }
}

fn declared_shape(graph: &Graph, id: ValueId, batch: usize) -> Option<Vec<usize>> {
    let dims = graph.value(id).shape.as_ref()?;
    dims.iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Fixed(length) => Some(*length),
            Dim::Symbol(_) if axis == 0 => Some(batch),
            Dim::Symbol(_) => None,
        })
        .collect()
}

/// The batch size that the file fixes: the first axis of the first input, if it is not symbolic.
pub fn fixed_batch(graph: &Graph) -> Option<usize> {
    let input = graph.inputs().first()?;
    match graph.value(*input).shape.as_ref()?.first()? {
        Dim::Fixed(length) => Some(*length),
        Dim::Symbol(_) => None,
    }
}

/// The shape of one sample, without the batch axis, when the graph has a single input of known shape.
pub fn input_shape(graph: &Graph) -> Option<Vec<usize>> {
    let [input] = graph.inputs() else {
        return None;
    };
    let shape = declared_shape(graph, *input, 1)?;
    shape.get(1..).map(<[usize]>::to_vec)
}
