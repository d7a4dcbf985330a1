//! NumPy's `.npy` files: whole arrays, single rows, and writing.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3, little-endian, C
//! order. Lengths are checked against the file before anything is allocated.

mod header;
mod rows;
mod write;

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use half::f16;

pub(in crate::data) use self::header::NpyHeader;
pub use self::{
    header::NpyType,
    rows::NpyRows,
    write::{write_f32, write_i64},
};
use super::DataError;

/// Elements of an array; types without a variant are widened to the next that holds them exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyData {
    /// From 16- and 32-bit floats.
    F32(Vec<f32>),
    /// From 64-bit floats.
    F64(Vec<f64>),
    /// From signed integers up to 32 bits and unsigned 16-bit integers.
    I32(Vec<i32>),
    /// From 64-bit integers and unsigned 32-bit integers.
    I64(Vec<i64>),
    /// From bytes and booleans.
    U8(Vec<u8>),
}

impl NpyData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U8(v) => v.len(),
        }
    }

    /// Tells whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as `f32`, rounded to nearest where they need more precision.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(v) => v,
            Self::F64(v) => v.into_iter().map(|x| x as f32).collect(),
            Self::I32(v) => v.into_iter().map(|x| x as f32).collect(),
            Self::I64(v) => v.into_iter().map(|x| x as f32).collect(),
            Self::U8(v) => v.into_iter().map(f32::from).collect(),
        }
    }

    /// The elements as `i64`; `None` for floats.
    pub fn into_i64(self) -> Option<Vec<i64>> {
        match self {
            Self::F32(_) | Self::F64(_) => None,
            Self::I32(v) => Some(v.into_iter().map(i64::from).collect()),
            Self::I64(v) => Some(v),
            Self::U8(v) => Some(v.into_iter().map(i64::from).collect()),
        }
    }
}

/// An array read from a `.npy` file, elements in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// Length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements, as many as the product of `shape`.
    pub data: NpyData,
}

impl NpyArray {
    /// Reads a whole file.
    ///
    /// Bytes after the declared elements are ignored, as NumPy does.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Npy`] for a damaged file, Fortran order, big-endian or non-numeric elements.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let (mut reader, header) = open(path)?;
        let mut bytes = vec![0; header.data_bytes];
        reader
            .read_exact(&mut bytes)
            .map_err(|source| io_error("read the array", path, source))?;
        let data = decode(header.dtype, &bytes).map_err(|reason| npy_error(path, reason))?;
        Ok(Self {
            shape: header.shape,
            data,
        })
    }
}

/// Opens a file and checks its head; the reader stands at the first element.
fn open(path: &Path) -> Result<(BufReader<File>, NpyHeader), DataError> {
    let file = File::open(path).map_err(|source| io_error("open the array", path, source))?;
    let file_bytes = file
        .metadata()
        .map_err(|source| io_error("open the array", path, source))?
        .len();
    let mut reader = BufReader::new(file);
    let header = header::read(&mut reader, file_bytes).map_err(|reason| npy_error(path, reason))?;
    Ok((reader, header))
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> DataError {
    DataError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

fn npy_error(path: &Path, reason: String) -> DataError {
    DataError::Npy {
        path: path.to_path_buf(),
        reason,
    }
}

/// Little-endian elements to numbers; the only failure is an unsigned 64-bit value beyond `i64`.
fn decode(dtype: NpyType, bytes: &[u8]) -> Result<NpyData, String> {
    Ok(match dtype {
        NpyType::Bool | NpyType::U8 => NpyData::U8(bytes.to_vec()),
        NpyType::I8 => NpyData::I32(values(bytes, |b| i8::from_le_bytes(b).into())),
        NpyType::I16 => NpyData::I32(values(bytes, |b| i16::from_le_bytes(b).into())),
        NpyType::U16 => NpyData::I32(values(bytes, |b| u16::from_le_bytes(b).into())),
        NpyType::I32 => NpyData::I32(values(bytes, i32::from_le_bytes)),
        NpyType::U32 => NpyData::I64(values(bytes, |b| u32::from_le_bytes(b).into())),
        NpyType::I64 => NpyData::I64(values(bytes, i64::from_le_bytes)),
        NpyType::U64 => NpyData::I64(
            values(bytes, |b| i64::try_from(u64::from_le_bytes(b)))
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|_| "an unsigned 64-bit element is larger than 2^63 - 1".to_owned())?,
        ),
        NpyType::F16 => NpyData::F32(values(bytes, |b| f16::from_le_bytes(b).to_f32())),
        NpyType::F32 => NpyData::F32(values(bytes, f32::from_le_bytes)),
        NpyType::F64 => NpyData::F64(values(bytes, f64::from_le_bytes)),
    })
}

fn values<const N: usize, V>(bytes: &[u8], read: impl Fn([u8; N]) -> V) -> Vec<V> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| read(*chunk))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file with the given header text (padded) and data.
    fn file(version: u8, text: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        if version == 1 {
            bytes.extend((text.len() as u16).to_le_bytes());
        } else {
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<NpyArray, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        fs::write(&path, bytes).unwrap();
        NpyArray::read(&path)
    }

    #[test]
    fn every_element_type_is_read() {
        let cases: [(&str, &[u8], NpyData); 13] = [
            ("<f4", &1.5_f32.to_le_bytes(), NpyData::F32(vec![1.5])),
            ("<f2", &[0x00, 0x3e], NpyData::F32(vec![1.5])),
            ("<f8", &(-2.25_f64).to_le_bytes(), NpyData::F64(vec![-2.25])),
            ("|i1", &[0xff], NpyData::I32(vec![-1])),
            ("<i2", &[0xfe, 0xff], NpyData::I32(vec![-2])),
            ("<u2", &[0xfe, 0xff], NpyData::I32(vec![65534])),
            ("<i4", &7_i32.to_le_bytes(), NpyData::I32(vec![7])),
            (
                "<u4",
                &u32::MAX.to_le_bytes(),
                NpyData::I64(vec![4294967295]),
            ),
            ("<i8", &(-9_i64).to_le_bytes(), NpyData::I64(vec![-9])),
            ("<u8", &9_u64.to_le_bytes(), NpyData::I64(vec![9])),
            ("|u1", &[200], NpyData::U8(vec![200])),
            (">u1", &[200], NpyData::U8(vec![200])),
            ("|b1", &[1], NpyData::U8(vec![1])),
        ];
        for (descr, data, expected) in cases {
            for version in 1..=3 {
                let text =
                    format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}   \n");
                let array = read_bytes(&file(version, &text, data)).unwrap();
                assert_eq!(
                    (array.shape.as_slice(), &array.data),
                    ([1].as_slice(), &expected),
                    "{descr} v{version}"
                );
            }
        }
    }

    #[test]
    fn shapes_and_spellings_of_headers() {
        let cases: [(&str, &[usize]); 5] = [
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
                &[2, 3],
            ),
            (
                "{\"shape\": (2,3,), \"descr\": \"<f4\", \"fortran_order\": False}",
                &[2, 3],
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", &[]),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (6L,)}",
                &[6],
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5)}",
                &[0, 5],
            ),
        ];
        for (text, shape) in cases {
            let array = read_bytes(&file(1, text, &[0; 24])).unwrap();
            assert_eq!(array.shape, shape, "{text}");
            assert_eq!(array.data.len(), shape.iter().product::<usize>(), "{text}");
        }
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}";
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}";
        let large = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}";
        let cases: [(Vec<u8>, &str); 13] = [
            (b"\x93NUM".to_vec(), "ends within its header"),
            (
                b"PK\x03\x04aaaaaaaaaaaa".to_vec(),
                "does not begin as a .npy",
            ),
            (file(9, good, &[0; 8]), "version 9"),
            (
                file(1, good, &[0; 7]),
                "needs 8 bytes, and the file holds 7",
            ),
            (file(2, huge, &[0; 8]), "larger than any memory"),
            (file(2, large, &[0; 8]), "cut short"),
            (
                b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(),
                "claims 4294967295 bytes",
            ),
            (
                file(
                    1,
                    &good.replace("False", "True").replace("(2,)", "(2, 1)"),
                    &[0; 8],
                ),
                "ascontiguousarray",
            ),
            (file(1, &good.replace("<f4", ">f4"), &[0; 8]), "big-endian"),
            (
                file(1, &good.replace("<f4", "|O"), &[0; 8]),
                "\"|O\" is not supported",
            ),
            (
                file(1, &good.replace("'<f4'", "[('a', '<f4')]"), &[0; 8]),
                "named fields",
            ),
            (
                file(1, &good.replace("(2,)", "(-2,)"), &[0; 8]),
                "cannot be understood",
            ),
            (file(1, "{'descr': '<f4'}", &[0; 8]), "lacks"),
        ];
        for (bytes, expected) in cases {
            let message = read_bytes(&bytes).unwrap_err().to_string();
            assert!(
                message.contains(expected),
                "{message:?} should contain {expected:?}"
            );
            assert!(message.contains("a.npy"), "{message:?} names the file");
        }
        assert!(matches!(
            NpyArray::read(Path::new("no-such.npy")),
            Err(DataError::Io { .. })
        ));
        let too_large = file(
            1,
            &good.replace("<f4", "<u8").replace("(2,)", "(1,)"),
            &[0xff; 8],
        );
        assert!(
            read_bytes(&too_large)
                .unwrap_err()
                .to_string()
                .contains("2^63")
        );
    }

    #[test]
    fn header_parser_survives_any_cut() {
        let whole = file(
            1,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
            &[0; 4],
        );
        for end in 0..whole.len() {
            assert!(read_bytes(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn conversions() {
        assert_eq!(NpyData::I64(vec![3]).into_f32(), [3.0]);
        assert_eq!(NpyData::U8(vec![3]).into_i64(), Some(vec![3]));
        assert_eq!(NpyData::F64(vec![3.0]).into_i64(), None);
        assert!(NpyData::U8(vec![]).is_empty());
    }
}
