//! Named tensors of a checkpoint, without a graph.

use std::collections::BTreeMap;

use crate::model::Initializer;

/// Prefixes that wrappers put in front of every name.
const WRAPPER_PREFIXES: [&str; 3] = ["module.", "model.", "state_dict."];

/// Floating-point tensors by name, all as `F32`.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateDict {
    tensors: BTreeMap<String, Initializer>,
}

impl StateDict {
    /// Takes the tensors and drops prefixes that all names share (`module.` of `DataParallel`, …).
    pub(crate) fn new(tensors: BTreeMap<String, Initializer>) -> Self {
        let mut tensors = tensors;
        while let Some(prefix) = shared_prefix(&tensors) {
            tensors = tensors
                .into_iter()
                .map(|(name, tensor)| match name.strip_prefix(prefix) {
                    Some(rest) => (rest.to_owned(), tensor),
                    None => (name, tensor),
                })
                .collect();
        }
        Self { tensors }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Initializer> {
        self.tensors.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of a tensor; `None` if it is absent.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Initializer::dims)
    }

    /// Shape of the weight of a convolution over pictures, `[out, in / groups, kh, kw]`.
    pub(crate) fn conv_shape(&self, module: &str) -> Option<[usize; 4]> {
        self.shape(&format!("{module}.weight"))?.try_into().ok()
    }

    /// Shape of the weight of a linear layer, `[out, in]`.
    pub(crate) fn linear_shape(&self, module: &str) -> Option<[usize; 2]> {
        self.shape(&format!("{module}.weight"))?.try_into().ok()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Number of modules `{prefix}0`, `{prefix}1`, … that have tensors, without a gap.
    pub(crate) fn count_modules(&self, prefix: &str) -> usize {
        (0..self.len())
            .take_while(|index| self.has_module(&format!("{prefix}{index}")))
            .count()
    }

    fn has_module(&self, module: &str) -> bool {
        let prefix = format!("{module}.");
        self.tensors
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&prefix))
    }
}

fn shared_prefix(tensors: &BTreeMap<String, Initializer>) -> Option<&'static str> {
    WRAPPER_PREFIXES.into_iter().find(|prefix| {
        !tensors.is_empty()
            && tensors
                .keys()
                .all(|name| name.len() > prefix.len() && name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    fn names_of(names: &[&str]) -> Vec<String> {
        let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let tensors = names
            .iter()
            .map(|name| ((*name).to_owned(), zero.clone().into()))
            .collect();
        StateDict::new(tensors).names().map(str::to_owned).collect()
    }

    #[test]
    fn prefixes_are_dropped_only_when_all_share_them() {
        assert_eq!(names_of(&["module.a", "module.b"]), ["a", "b"]);
        assert_eq!(names_of(&["state_dict.model.a"]), ["a"]);
        assert_eq!(names_of(&["model.0.a", "fc.b"]), ["fc.b", "model.0.a"]);
        assert_eq!(names_of(&["module."]), ["module."]);
    }

    #[test]
    fn modules_are_counted_up_to_the_first_gap() {
        let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let names = ["layer1.0.a", "layer1.1.a", "layer1.10.a", "layer2.3.a"];
        let tensors = names.map(|name| (name.to_owned(), zero.clone().into()));
        let state = StateDict::new(tensors.into_iter().collect());
        assert_eq!(state.count_modules("layer1."), 2);
        assert_eq!(state.count_modules("layer2."), 0);
    }
}
