//! Names and constants while a network is written as code.

use std::collections::BTreeMap;

use super::paths::{ModulePaths, Variables, float, list, reached};
use crate::model::{ElementType, Graph, Node, Shapes, ValueId, fixed_batch, infer_shapes};

/// Why a node cannot be written.
pub(super) type Reason = String;

/// At most so many integers are written out where they are used.
const LITERAL_INTEGERS: usize = 64;

/// What the expressions of a network refer to.
pub(super) struct Scope<'a> {
    graph: &'a Graph,
    shapes: Shapes,
    variables: Variables,
    /// Modules and constants that have been named.
    pub(super) paths: ModulePaths,
    names: BTreeMap<ValueId, String>,
    /// Paths of the constants that expressions refer to.
    pub(super) constants: BTreeMap<ValueId, String>,
}

impl<'a> Scope<'a> {
    /// Nothing is named yet.
    pub(super) fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            shapes: infer_shapes(graph, fixed_batch(graph).unwrap_or(1)),
            variables: Variables::default(),
            paths: ModulePaths::default(),
            names: BTreeMap::new(),
            constants: BTreeMap::new(),
        }
    }

    /// A variable for a value, named like `wanted`.
    pub(super) fn declare(&mut self, id: ValueId, wanted: &str) -> String {
        let name = self.variables.fresh(wanted);
        self.names.insert(id, name.clone());
        name
    }

    /// Whether a value is a constant.
    pub(super) fn is_constant(&self, id: ValueId) -> bool {
        self.graph.is_initializer(id)
    }

    /// A value as a tensor.
    ///
    /// # Errors
    /// A value that nothing computes.
    pub(super) fn value(&mut self, id: ValueId) -> Result<String, Reason> {
        if let Some(name) = self.names.get(&id) {
            return Ok(name.clone());
        }
        let name = &self.graph.value(id).name;
        if !self.is_constant(id) {
            return Err(format!("nothing computes its input {name:?}"));
        }
        let path = match self.constants.get(&id) {
            Some(path) => path.clone(),
            None => self.paths.fresh(name),
        };
        let text = reached(&path);
        self.constants.insert(id, path);
        Ok(text)
    }

    /// An input as a tensor.
    ///
    /// # Errors
    /// It is absent.
    pub(super) fn tensor(&mut self, node: &Node, at: usize) -> Result<String, Reason> {
        let id = node
            .input(at)
            .ok_or_else(|| format!("its input {at} is missing"))?;
        self.value(id)
    }

    /// The first inputs as tensors.
    ///
    /// # Errors
    /// One of them is absent.
    pub(super) fn tensors<const N: usize>(&mut self, node: &Node) -> Result<[String; N], Reason> {
        let mut all = std::array::from_fn(|_| String::new());
        for (at, slot) in all.iter_mut().enumerate() {
            *slot = self.tensor(node, at)?;
        }
        Ok(all)
    }

    /// An input as a tensor or as a number where it is one constant number.
    ///
    /// # Errors
    /// It is absent.
    pub(super) fn operand(&mut self, node: &Node, at: usize) -> Result<String, Reason> {
        if let Some(integer) = self.known_integer(node, at) {
            return Ok(integer.to_string());
        }
        match self.known_float(node, at) {
            Some(number) => Ok(float(number)),
            None => self.tensor(node, at),
        }
    }

    /// An input that may be left out, as for [`Self::operand`]; `None` is Python's.
    ///
    /// # Errors
    /// A value that nothing computes.
    pub(super) fn optional(&mut self, node: &Node, at: usize) -> Result<String, Reason> {
        match node.input(at) {
            Some(_) => self.operand(node, at),
            None => Ok("None".to_owned()),
        }
    }

    /// An input of integers as a list or a tensor.
    ///
    /// # Errors
    /// It is absent.
    pub(super) fn integers(&mut self, node: &Node, at: usize) -> Result<String, Reason> {
        match self.known_integers(node, at) {
            Some(values) => Ok(list(values)),
            None => self.tensor(node, at),
        }
    }

    /// The elements of a constant of few integers.
    pub(super) fn known_integers(&self, node: &Node, at: usize) -> Option<Vec<i64>> {
        let id = node.input(at)?;
        let constant = self.graph.initializers().get(&id)?;
        if constant.elem_count() > LITERAL_INTEGERS || constant.dtype().is_float() {
            return None;
        }
        let flat = self.graph.initializer(id)?.flatten_all().ok()?;
        flat.to_vec1::<i64>().ok()
    }

    /// The only element of a constant integer without axes.
    pub(super) fn known_integer(&self, node: &Node, at: usize) -> Option<i64> {
        let id = node.input(at)?;
        let constant = self.graph.initializers().get(&id)?;
        match self.known_integers(node, at)?.as_slice() {
            [only] if constant.rank() == 0 => Some(*only),
            _ => None,
        }
    }

    /// The elements of a constant of few floats.
    pub(super) fn known_floats(&self, node: &Node, at: usize) -> Option<Vec<f32>> {
        let constant = self.graph.initializers().get(&node.input(at)?)?;
        let is_short = constant.elem_count() <= LITERAL_INTEGERS && constant.dtype().is_float();
        is_short.then(|| constant.to_floats().ok()).flatten()
    }

    fn known_float(&self, node: &Node, at: usize) -> Option<f32> {
        let constant = self.graph.initializers().get(&node.input(at)?)?;
        match self.known_floats(node, at)?.as_slice() {
            [only] if constant.rank() == 0 => Some(*only),
            _ => None,
        }
    }

    /// Number of axes of an input, where it is known.
    pub(super) fn rank(&self, node: &Node, at: usize) -> Option<usize> {
        self.dims(node, at).map(<[usize]>::len)
    }

    /// Shape of an input for a batch of one, where it is known.
    pub(super) fn dims(&self, node: &Node, at: usize) -> Option<&[usize]> {
        let id = node.input(at)?;
        let constant = self.graph.initializers().get(&id);
        constant
            .map(|constant| constant.dims())
            .or_else(|| self.shapes.get(id))
    }

    /// Whether an input is known to be of floats.
    pub(super) fn is_float(&self, node: &Node, at: usize) -> bool {
        let Some(id) = node.input(at) else {
            return false;
        };
        match self.graph.initializers().get(&id) {
            Some(constant) => constant.dtype().is_float(),
            None => self
                .graph
                .value(id)
                .element_type
                .is_some_and(ElementType::is_float),
        }
    }
}
