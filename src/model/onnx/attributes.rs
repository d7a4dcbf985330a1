//! Attributes of a node, taken one by one so that none is overlooked.

use std::collections::BTreeMap;

use super::proto::{AttributeProto, NodeProto, TensorProto, attribute_type};

/// Why a node cannot be run; shown in the coverage list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

/// The attributes of a node that no one has asked for yet.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    remaining: BTreeMap<&'a str, &'a AttributeProto>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(node: &'a NodeProto) -> Self {
        Self {
            remaining: node
                .attribute
                .iter()
                .map(|attribute| (attribute.name.as_str(), attribute))
                .collect(),
        }
    }

    /// Takes an attribute, which must be of the given type if the file states one.
    fn take(&mut self, name: &str, kind: i32) -> Result<Option<&'a AttributeProto>, Refusal> {
        match self.remaining.remove(name) {
            Some(found) if found.kind != kind && found.kind != attribute_type::UNDEFINED => {
                Err(Refusal(format!(
                    "attribute {name:?} has type {}, expected type {kind}",
                    found.kind
                )))
            }
            found => Ok(found),
        }
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.take(name, attribute_type::INT)?.map(|found| found.i))
    }

    pub(super) fn int_or(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that stands for a truth value.
    pub(super) fn flag_or(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        Ok(self.take(name, attribute_type::FLOAT)?.map(|found| found.f))
    }

    pub(super) fn float_or(&mut self, name: &str, default: f32) -> Result<f32, Refusal> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<&'a [i64]>, Refusal> {
        let found = self.take(name, attribute_type::INTS)?;
        Ok(found.map(|found| found.ints.as_slice()))
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<&'a [f32]>, Refusal> {
        let found = self.take(name, attribute_type::FLOATS)?;
        Ok(found.map(|found| found.floats.as_slice()))
    }

    /// A list of lengths; empty if the attribute is absent.
    pub(super) fn lengths(&mut self, name: &str) -> Result<Vec<usize>, Refusal> {
        let values = self.ints(name)?.unwrap_or_default();
        let lengths: Result<_, _> = values.iter().map(|value| usize::try_from(*value)).collect();
        lengths.map_err(|_negative| {
            Refusal(format!(
                "attribute {name:?} is {values:?}; negative values are not supported"
            ))
        })
    }

    pub(super) fn string_or(&mut self, name: &str, default: &str) -> Result<String, Refusal> {
        match self.take(name, attribute_type::STRING)? {
            None => Ok(default.to_owned()),
            Some(found) => Ok(String::from_utf8_lossy(&found.s).into_owned()),
        }
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<&'a TensorProto>, Refusal> {
        let found = self.take(name, attribute_type::TENSOR)?;
        Ok(found.and_then(|found| found.t.as_ref()))
    }

    /// Takes an attribute that does not change the result.
    pub(super) fn ignore(&mut self, name: &str) {
        self.remaining.remove(name);
    }

    /// Refuses the node if an attribute was not asked for.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.remaining.into_values().next() {
            None => Ok(()),
            Some(attribute) => Err(Refusal(format!(
                "attribute {:?} is not supported{}",
                attribute.name,
                shown_value(attribute)
            ))),
        }
    }
}

fn shown_value(attribute: &AttributeProto) -> String {
    match attribute.kind {
        attribute_type::FLOAT => format!(" (value {})", attribute.f),
        attribute_type::INT => format!(" (value {})", attribute.i),
        attribute_type::STRING => format!(" (value {:?})", String::from_utf8_lossy(&attribute.s)),
        attribute_type::INTS => format!(" (value {:?})", attribute.ints),
        _ => String::new(),
    }
}
