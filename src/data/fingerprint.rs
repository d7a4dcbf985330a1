//! Fingerprints of datasets, to tell whether a result belongs to the data at hand.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{DataError, Dataset, NpyRows};

/// A larger array is sampled: this many blocks at equal distances, and its end.
const BLOCKS: u64 = 256;
const BLOCK_BYTES: u64 = 4096;

/// See [`Dataset::fingerprint`].
pub(super) fn dataset(dataset: &Dataset) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"dataset 1\n");
    text(&mut hasher, dataset.kind.description());
    text(&mut hasher, dataset.content_digest.as_deref().unwrap_or(""));
    for sample in &dataset.samples {
        text(&mut hasher, &sample.name);
        hasher.update(sample.size_bytes.to_le_bytes());
        hasher.update(sample.label.map_or(-1, i64::from).to_le_bytes());
    }
    hex(hasher)
}

/// Digest of an array's type, shape, length and a fixed selection of its bytes.
pub(super) fn array(path: &Path, rows: &NpyRows) -> Result<String, DataError> {
    let failed = |source| DataError::Io {
        action: "read the array",
        path: path.to_path_buf(),
        source,
    };
    let mut hasher = Sha256::new();
    text(
        &mut hasher,
        &format!("{:?} {} {:?}", rows.dtype(), rows.len(), rows.row_shape()),
    );
    let mut file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    hasher.update(file_bytes.to_le_bytes());
    let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
    for offset in block_offsets(file_bytes) {
        block.clear();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        (&mut file)
            .take(BLOCK_BYTES)
            .read_to_end(&mut block)
            .map_err(failed)?;
        hasher.update(&block);
    }
    Ok(hex(hasher))
}

/// Every block of a small file; of a large one [`BLOCKS`] at equal distances and the last.
fn block_offsets(file_bytes: u64) -> Vec<u64> {
    let stride = (file_bytes / BLOCKS).max(BLOCK_BYTES);
    let mut offsets: Vec<u64> = (0..file_bytes).step_by(stride as usize).collect();
    offsets.push(file_bytes.saturating_sub(BLOCK_BYTES));
    offsets
}

/// Length first, so that two texts cannot be taken for one.
fn text(hasher: &mut Sha256, text: &str) {
    hasher.update((text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn hex(hasher: Sha256) -> String {
    format!("{:x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read_whole_and_large_ones_in_part() {
        assert_eq!(block_offsets(0), [0]);
        assert_eq!(block_offsets(10_000), [0, 4096, 8192, 5904]);
        let large = block_offsets(1 << 30);
        assert_eq!(large.len() as u64, BLOCKS + 1);
        assert_eq!(large.last(), Some(&((1 << 30) - BLOCK_BYTES)));
    }
}
