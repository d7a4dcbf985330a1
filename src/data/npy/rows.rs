//! Single rows of a large `.npy` file.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::{NpyHeader, NpyType, decode, io_error, npy_error, open};
use crate::data::DataError;

/// A `.npy` file whose rows (slices along the first axis) are read on demand.
///
/// Only the header is held in memory, so the file may be larger than that.
#[derive(Clone, Debug)]
pub struct NpyRows {
    path: PathBuf,
    header: NpyHeader,
}

impl NpyRows {
    /// Opens a file and checks its header and length.
    ///
    /// # Errors
    /// As [`NpyArray::read`](super::NpyArray::read); [`DataError::Npy`] for a single number, which has no rows.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let (_, header) = open(path)?;
        if header.shape.is_empty() {
            return Err(npy_error(
                path,
                "it holds a single number; expected an array [samples, …]".to_owned(),
            ));
        }
        Ok(Self {
            path: path.to_path_buf(),
            header,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.header.shape.first().copied().unwrap_or(0)
    }

    /// Tells whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of one row: the array's without its first axis.
    pub fn row_shape(&self) -> &[usize] {
        self.header.shape.get(1..).unwrap_or(&[])
    }

    /// Element type in the file.
    pub fn dtype(&self) -> NpyType {
        self.header.dtype
    }

    /// Bytes of one row in the file.
    pub fn row_bytes(&self) -> usize {
        self.header.data_bytes.checked_div(self.len()).unwrap_or(0)
    }

    /// Reads the given rows, one after the other, as `f32` (see [`NpyData::into_f32`](super::NpyData::into_f32)).
    ///
    /// # Errors
    /// [`DataError::Index`] for a row that does not exist; [`DataError::Io`].
    pub fn read_f32(&self, rows: &[usize]) -> Result<Vec<f32>, DataError> {
        let failed = |source| io_error("read rows of the array", &self.path, source);
        let (mut reader, header) = open(&self.path)?;
        if header != self.header {
            return Err(npy_error(
                &self.path,
                "it has changed since it was opened. Open the data again".to_owned(),
            ));
        }
        let row_bytes = self.row_bytes();
        let mut bytes = vec![0; row_bytes];
        let mut data = Vec::with_capacity(rows.len() * row_bytes / self.header.dtype.size_bytes());
        for &row in rows {
            if row >= self.len() {
                return Err(DataError::Index {
                    index: row,
                    len: self.len(),
                });
            }
            let offset = self.header.data_offset + row as u64 * row_bytes as u64;
            reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
            reader.read_exact(&mut bytes).map_err(failed)?;
            let values = decode(self.header.dtype, &bytes)
                .map_err(|reason| npy_error(&self.path, reason))?;
            data.extend(values.into_f32());
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::write_f32, *};

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let data: Vec<f32> = (0..24_u8).map(f32::from).collect();
        write_f32(&path, &[4, 2, 3], &data).unwrap();
        let rows = NpyRows::open(&path).unwrap();
        assert_eq!(
            (rows.len(), rows.row_shape(), rows.row_bytes()),
            (4, [2, 3].as_slice(), 24)
        );
        let picked = rows.read_f32(&[3, 0]).unwrap();
        assert_eq!(
            picked,
            [18., 19., 20., 21., 22., 23., 0., 1., 2., 3., 4., 5.]
        );
        assert!(matches!(
            rows.read_f32(&[4]),
            Err(DataError::Index { index: 4, len: 4 })
        ));
        write_f32(&path, &[2, 3], &data[..6]).unwrap();
        assert!(
            rows.read_f32(&[0])
                .unwrap_err()
                .to_string()
                .contains("has changed")
        );
    }

    #[test]
    fn degenerate_arrays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        write_f32(&path, &[], &[1.0]).unwrap();
        assert!(NpyRows::open(&path).is_err());
        write_f32(&path, &[0, 3], &[]).unwrap();
        let empty = NpyRows::open(&path).unwrap();
        assert!(empty.is_empty());
        assert_eq!((empty.row_bytes(), empty.row_shape()), (0, [3].as_slice()));
        assert!(empty.read_f32(&[]).unwrap().is_empty());
    }
}
