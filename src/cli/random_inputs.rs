//! Random samples for a model, where there is no data.

use tempfile::TempDir;

use crate::data::write_f32;
use crate::model;
use crate::session::{OpenModel, SessionError};

/// A folder with `samples` random inputs of the model; it is there as long as the value lives.
///
/// # Errors
/// The model does not have one float input of known shape, or the folder cannot be written.
pub(super) fn random_inputs(
    model: &OpenModel,
    samples: usize,
    seed: u64,
) -> Result<TempDir, SessionError> {
    let graph = model.graph();
    let is_float = graph.inputs().iter().all(|id| {
        let declared = graph.value(*id).element_type;
        declared.is_none_or(model::ElementType::is_float)
    });
    let shape = model::input_shape(graph)
        .filter(|_| is_float)
        .ok_or_else(|| {
            SessionError::Missing(
                "Random inputs need a model with one float input whose shape is known but for the batch; give samples with --data DIR".to_owned(),
            )
        })?;
    let elements = samples * shape.iter().product::<usize>();
    let values: Vec<f32> = (0..elements as u64).map(|i| uniform(seed, i)).collect();
    let folder = tempfile::tempdir().map_err(|source| SessionError::Write {
        path: std::env::temp_dir(),
        source,
    })?;
    let shape = [&[samples], shape.as_slice()].concat();
    write_f32(&folder.path().join("inputs.npy"), &shape, &values)?;
    Ok(folder)
}

/// Uniform in `-2.0..2.0`, the range of normalised pictures.
///
/// The bits are those of SplitMix64 (Steele, Lea and Flood, 2014) at its `index`-th step.
fn uniform(seed: u64, index: u64) -> f32 {
    let mut bits = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 40) as f32 / (1u64 << 22) as f32 - 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_their_range_and_depend_on_the_seed() {
        let values: Vec<f32> = (0..4096).map(|index| uniform(7, index)).collect();
        assert!(values.iter().all(|value| (-2.0..2.0).contains(value)));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.1, "{mean}");
        assert!(values.iter().any(|value| *value < -1.9));
        assert!(values.iter().any(|value| *value > 1.9));
        assert_ne!(uniform(7, 0), uniform(8, 0));
    }
}
