//! Writing `.npy` files.

use std::{
    io::{BufWriter, Write as _},
    path::Path,
};

use tempfile::NamedTempFile;

use super::{io_error, npy_error};
use crate::data::DataError;

/// Writes 32-bit floats; the file appears whole or not at all.
///
/// # Errors
/// [`DataError::Npy`] if `shape` does not hold as many elements as `data`; [`DataError::Io`].
pub fn write_f32(path: &Path, shape: &[usize], data: &[f32]) -> Result<(), DataError> {
    write(
        path,
        "<f4",
        shape,
        data.len(),
        data.iter().map(|x| x.to_le_bytes()),
    )
}

/// Writes 64-bit integers; the file appears whole or not at all.
///
/// # Errors
/// [`DataError::Npy`] if `shape` does not hold as many elements as `data`; [`DataError::Io`].
pub fn write_i64(path: &Path, shape: &[usize], data: &[i64]) -> Result<(), DataError> {
    write(
        path,
        "<i8",
        shape,
        data.len(),
        data.iter().map(|x| x.to_le_bytes()),
    )
}

fn write<const N: usize>(
    path: &Path,
    descr: &str,
    shape: &[usize],
    len: usize,
    elements: impl Iterator<Item = [u8; N]>,
) -> Result<(), DataError> {
    if shape
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        != Some(len)
    {
        return Err(npy_error(
            path,
            format!("{len} elements do not fill the shape {shape:?}"),
        ));
    }
    let failed = |source| io_error("write the array", path, source);
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let file = temporary_file(folder).map_err(failed)?;
    let mut writer = BufWriter::new(file);
    writer.write_all(&header(descr, shape)).map_err(failed)?;
    for element in elements {
        writer.write_all(&element).map_err(failed)?;
    }
    let file = writer.into_inner().map_err(|e| failed(e.into_error()))?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// A temporary file that, once persisted, has the access rights of any new file.
fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
        builder.permissions(Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Magic, version 1 (2 for very long shapes) and the dictionary, padded so that the data begins at a multiple of 64.
fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let comma = if shape.len() == 1 { "," } else { "" };
    let dims = shape
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ")
        + comma;
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let (version, prefix_bytes) = if u16::try_from(padded).is_ok() {
        (1, 10)
    } else {
        (2, 12)
    };
    let text_bytes = (prefix_bytes + text.len() + 1).next_multiple_of(64) - prefix_bytes;
    text.extend(std::iter::repeat_n(' ', text_bytes - 1 - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text_bytes as u16).to_le_bytes()),
        _ => bytes.extend((text_bytes as u32).to_le_bytes()),
    }
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{
        super::{NpyArray, NpyData},
        *,
    };

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npy");
        for shape in [&[][..], &[1], &[1, 1, 1]] {
            write_f32(&path, shape, &[-0.1]).unwrap();
            let array = NpyArray::read(&path).unwrap();
            assert_eq!(
                (array.shape.as_slice(), array.data),
                (shape, NpyData::F32(vec![-0.1]))
            );
        }
        write_i64(&path, &[2, 3], &[1, 2, 3, 4, 5, i64::MIN]).unwrap();
        let array = NpyArray::read(&path).unwrap();
        assert_eq!(
            array,
            NpyArray {
                shape: vec![2, 3],
                data: NpyData::I64(vec![1, 2, 3, 4, 5, i64::MIN])
            }
        );
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn headers_are_those_of_numpy() {
        let text =
            |shape: &[usize]| String::from_utf8(header("<f4", shape)[10..].to_vec()).unwrap();
        assert!(text(&[]).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (), }"));
        assert!(
            text(&[4]).starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }")
        );
        assert!(
            text(&[4, 2])
                .starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }")
        );
        for shape in [&[1_usize; 0][..], &[7; 20], &vec![7; 30000]] {
            let bytes = header("<f4", shape);
            assert_eq!((bytes.len() % 64, bytes.last()), (0, Some(&b'\n')));
        }
    }

    #[test]
    fn a_wrong_shape_or_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            write_f32(&dir.path().join("x.npy"), &[3], &[0.0]),
            Err(DataError::Npy { .. })
        ));
        assert!(matches!(
            write_i64(&dir.path().join("no/x.npy"), &[1], &[0]),
            Err(DataError::Io { .. })
        ));
    }
}
