//! Whether data can be brought to the shape that a model takes.

use super::{DataError, Preprocess};

/// Most elements of one sample.
const SAMPLE_ELEMENTS_MAX: usize = 1 << 28;

/// Refuses rows of an array that do not have the model's shape.
pub(super) fn rows(row_shape: &[usize], sample_shape: &[usize]) -> Result<(), DataError> {
    if row_shape == sample_shape {
        return Ok(());
    }
    Err(DataError::Shape {
        found: format!("one row of inputs.npy has the shape {row_shape:?}"),
        expected: sample_shape.to_vec(),
        remedy: "Save the array as [samples, …] with the model's axes, or open the data that belongs to the model."
            .to_owned(),
    })
}

/// Height and width that pictures are brought to, if the model takes pictures of these channels.
pub(super) fn pictures(
    preprocess: &Preprocess,
    sample_shape: &[usize],
) -> Result<(u32, u32), DataError> {
    let fail = |found: String, remedy: &str| DataError::Shape {
        found,
        expected: sample_shape.to_vec(),
        remedy: remedy.to_owned(),
    };
    let &[channels, height, width] = sample_shape else {
        return Err(fail(
            "pictures have three axes [channels, height, width]".to_owned(),
            "Give the samples as inputs.npy instead.",
        ));
    };
    let given = preprocess.channels.count();
    if channels != given {
        return Err(fail(
            format!("the preprocessing gives pictures of {given} channels"),
            match channels {
                1 => "Add channels=gray to the preprocessing.",
                3 => "Set channels=rgb or channels=bgr in the preprocessing.",
                _ => "Pictures have 1 or 3 channels: give the samples as inputs.npy instead.",
            },
        ));
    }
    let elements = channels
        .checked_mul(height)
        .and_then(|n| n.checked_mul(width))
        .unwrap_or(usize::MAX);
    if elements == 0 || elements > SAMPLE_ELEMENTS_MAX {
        return Err(fail(
            format!("pictures can be brought to 1 to {SAMPLE_ELEMENTS_MAX} elements"),
            "Set a plausible input size.",
        ));
    }
    let size = (height as u32, width as u32);
    if preprocess.crop.is_some_and(|crop| crop != size) {
        return Err(size_error(
            "crop",
            preprocess,
            size,
            "the model's input size",
        ));
    }
    if preprocess
        .resize
        .is_some_and(|side| side < size.0.min(size.1))
    {
        return Err(size_error(
            "resize",
            preprocess,
            size,
            "at least the shorter side of the model's input",
        ));
    }
    Ok(size)
}

fn size_error(
    field: &str,
    preprocess: &Preprocess,
    (height, width): (u32, u32),
    expected: &str,
) -> DataError {
    DataError::Preprocess {
        field: field.to_owned(),
        value: preprocess.to_string(),
        expected: format!("{expected}, {height}x{width}"),
    }
}
