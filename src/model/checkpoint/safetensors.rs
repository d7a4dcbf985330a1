//! Tensors of a `.safetensors` file.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::Tensors;
use crate::model::error::LoadErrorKind;

/// Floating-point tensors as `F32`; counters and masks of other types are left out.
pub(super) fn tensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        malformed(format!(
            "{error}; the file is damaged or cut off, download or save it again"
        ))
    })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let Some(values) = float_values(view.dtype(), view.data()) else {
            continue;
        };
        let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)
            .map_err(|error| malformed(format!("tensor {name:?}: {error}; save the file again")))?;
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

fn float_values(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    let values = match dtype {
        Dtype::F32 => words(data).map(f32::from_le_bytes).collect(),
        Dtype::F64 => words(data)
            .map(|word| f64::from_le_bytes(word) as f32)
            .collect(),
        Dtype::F16 => words(data)
            .map(|word| f16::from_le_bytes(word).to_f32())
            .collect(),
        Dtype::BF16 => words(data)
            .map(|word| bf16::from_le_bytes(word).to_f32())
            .collect(),
        _ => return None,
    };
    Some(values)
}

fn words<const BYTES: usize>(data: &[u8]) -> impl Iterator<Item = [u8; BYTES]> {
    data.as_chunks::<BYTES>().0.iter().copied()
}
