//! Tensors of a `.safetensors` file.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::Tensors;
use crate::model::error::LoadErrorKind;
use crate::model::file_content::FileContent;
use crate::model::{ElementType, Initializer};

/// Floating-point tensors as `F32`; counters and masks of other types are left out.
pub(super) fn tensors(content: &FileContent) -> Tensors {
    let bytes = content.bytes();
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        malformed(format!(
            "{error}; the file is damaged or cut off, download or save it again"
        ))
    })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let Some(element_type) = float_type(view.dtype()) else {
            continue;
        };
        let part = content.part(bytes.slice_ref(view.data()));
        let tensor =
            Initializer::stored(part, element_type, view.shape().to_vec()).ok_or_else(|| {
                malformed(format!(
                    "tensor {name:?} of shape {:?} does not fit its {} bytes; save the file again",
                    view.shape(),
                    view.data().len()
                ))
            })?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn malformed(reason: String) -> LoadErrorKind {
    LoadErrorKind::Malformed {
        format: "safetensors",
        reason,
    }
}

fn float_type(dtype: Dtype) -> Option<ElementType> {
    match dtype {
        Dtype::F32 => Some(ElementType::F32),
        Dtype::F64 => Some(ElementType::F64),
        Dtype::F16 => Some(ElementType::F16),
        Dtype::BF16 => Some(ElementType::BF16),
        _ => None,
    }
}
