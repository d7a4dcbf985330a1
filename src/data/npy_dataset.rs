//! `inputs.npy` with optional `labels.npy` and `classes.txt`.

use std::path::Path;

use super::{
    DataError, Dataset, DatasetKind, NpyArray, NpyRows, Sample, dataset::read_classes, fingerprint,
    folder::Folder,
};

pub(super) fn open(root: &Path, top: &Folder) -> Result<Dataset, DataError> {
    let path = root.join("inputs.npy");
    let rows = NpyRows::open(&path)?;
    if rows.is_empty() || rows.row_bytes() == 0 {
        let shape = [&[rows.len()], rows.row_shape()].concat();
        let reason = format!("its shape {shape:?} holds no element; expected [samples, …]");
        return Err(DataError::Npy { path, reason });
    }
    let labels = if top.has_file("labels.npy") {
        Some(read_labels(root, rows.len())?)
    } else {
        None
    };
    let samples = (0..rows.len())
        .map(|row| Sample {
            name: format!("inputs.npy[{row}]"),
            label: labels.as_ref().and_then(|labels| labels.get(row).copied()),
            size_bytes: rows.row_bytes() as u64,
        })
        .collect();
    Ok(Dataset {
        root: root.to_path_buf(),
        kind: DatasetKind::Npy,
        samples,
        classes: read_classes(root, top)?.unwrap_or_default(),
        skipped: Vec::new(),
        content_digest: Some(fingerprint::array(&path, &rows)?),
        rows: Some(rows),
    })
}

/// One class index a row; axes of length 1 after the first are allowed.
fn read_labels(root: &Path, rows: usize) -> Result<Vec<u32>, DataError> {
    let path = root.join("labels.npy");
    let array = NpyArray::read(&path)?;
    let fail = |reason: String| DataError::Labels {
        path: path.clone(),
        reason,
    };
    if array.data.len() != rows || array.shape.first() != Some(&rows) {
        return Err(fail(format!(
            "its shape is {:?}, and inputs.npy has {rows} rows; expected [{rows}]. Move the file away to run without \
             labels",
            array.shape
        )));
    }
    let labels = array.data.into_i64().ok_or_else(|| {
        fail("it holds floats; expected integers. Save it again with numpy.save(path, labels.astype(\"<i8\"))".into())
    })?;
    labels
        .into_iter()
        .enumerate()
        .map(|(row, label)| {
            u32::try_from(label)
                .ok()
                .filter(|&label| label < super::labels_csv::CLASSES_MAX)
                .ok_or_else(|| {
                    fail(format!(
                        "the label of row {row} is {label}; expected a class index from 0 to {}",
                        super::labels_csv::CLASSES_MAX - 1
                    ))
                })
        })
        .collect()
}
