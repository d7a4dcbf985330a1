//! Constant tensors of a graph: weights, biases, shapes.

use std::io;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::ElementType;
use super::file_content::FileContent;

/// A constant tensor, whose elements stay in the model's file until they are used.
///
/// Shape and type are known at once. As in the engine, floats of every width are `F32`, integers
/// `I64` and booleans `U8`. Clones share the elements.
#[derive(Clone, Debug)]
pub struct Initializer {
    dims: Vec<usize>,
    dtype: DType,
    elements: Elements,
}

#[derive(Clone, Debug)]
enum Elements {
    Made(Tensor),
    Stored(Arc<Stored>),
}

/// Elements as they lie in a file: little-endian, in row-major order.
#[derive(Debug)]
struct Stored {
    content: FileContent,
    element_type: ElementType,
    tensor: OnceLock<Tensor>,
}

impl Initializer {
    /// A tensor whose elements are the bytes of `content`; `None` if these are too many or too few.
    pub(super) fn stored(
        content: FileContent,
        element_type: ElementType,
        dims: Vec<usize>,
    ) -> Option<Self> {
        let count = dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        let bytes = count.checked_mul(element_type.size_bytes())?;
        (bytes == content.bytes().len()).then(|| Self {
            dims,
            dtype: match element_type {
                ElementType::Bool => DType::U8,
                _ if element_type.is_float() => DType::F32,
                _ => DType::I64,
            },
            elements: Elements::Stored(Arc::new(Stored {
                content,
                element_type,
                tensor: OnceLock::new(),
            })),
        })
    }

    /// Whether the elements have been copied from the file.
    #[cfg(test)]
    pub(crate) fn is_made(&self) -> bool {
        match &self.elements {
            Elements::Made(_) => true,
            Elements::Stored(stored) => stored.tensor.get().is_some(),
        }
    }

    /// The same elements in another shape; `None` if that has more or fewer.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        match &self.elements {
            Elements::Made(tensor) => tensor.reshape(dims).ok().map(Self::from),
            Elements::Stored(stored) => {
                Self::stored(stored.content.clone(), stored.element_type, dims)
            }
        }
    }

    /// Length of every axis.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements.
    pub fn elem_count(&self) -> usize {
        self.dims.iter().product()
    }

    /// Type of the elements in the engine.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The elements as a tensor, which is made on first use and kept.
    ///
    /// # Errors
    /// The file was written to since the model was opened.
    pub fn tensor(&self) -> io::Result<&Tensor> {
        let stored = match &self.elements {
            Elements::Made(tensor) => return Ok(tensor),
            Elements::Stored(stored) => stored,
        };
        if let Some(tensor) = stored.tensor.get() {
            return Ok(tensor);
        }
        let made = stored
            .content
            .read(|bytes| tensor(bytes, stored.element_type, &self.dims))?
            .map_err(io::Error::other)?;
        Ok(stored.tensor.get_or_init(|| made))
    }

    /// A copy of the elements of a tensor of floats, which is not kept.
    ///
    /// # Errors
    /// The tensor is not one of floats; or as for [`Self::tensor`].
    pub fn to_floats(&self) -> io::Result<Vec<f32>> {
        if let Elements::Stored(stored) = &self.elements
            && stored.tensor.get().is_none()
            && stored.element_type.is_float()
        {
            return stored
                .content
                .read(|bytes| floats(bytes, stored.element_type));
        }
        let flat = self.tensor()?.flatten_all().and_then(|flat| flat.to_vec1());
        flat.map_err(io::Error::other)
    }

    /// How many floats are such; 0 where the elements are not floats. Nothing is copied from a file.
    pub(super) fn count_floats(&self, is_such: impl Fn(f32) -> bool) -> io::Result<usize> {
        if self.dtype != DType::F32 {
            return Ok(0);
        }
        match &self.elements {
            Elements::Made(_) => {
                let values = self.to_floats()?;
                Ok(values.into_iter().filter(|value| is_such(*value)).count())
            }
            Elements::Stored(stored) => stored
                .content
                .read(|bytes| count(bytes, stored.element_type, is_such)),
        }
    }
}

impl From<Tensor> for Initializer {
    fn from(tensor: Tensor) -> Self {
        Self {
            dims: tensor.dims().to_vec(),
            dtype: tensor.dtype(),
            elements: Elements::Made(tensor),
        }
    }
}

fn tensor(bytes: &[u8], element_type: ElementType, dims: &[usize]) -> candle_core::Result<Tensor> {
    let device = &Device::Cpu;
    if element_type.is_float() {
        return Tensor::from_vec(floats(bytes, element_type), dims, device);
    }
    if element_type == ElementType::Bool {
        let flags = bytes.iter().map(|byte| u8::from(*byte != 0)).collect();
        return Tensor::from_vec(flags, dims, device);
    }
    Tensor::from_vec(integers(bytes, element_type), dims, device)
}

/// Empty for types that are not floats.
fn floats(bytes: &[u8], element_type: ElementType) -> Vec<f32> {
    fn all<const N: usize>(bytes: &[u8], float: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        words(bytes).map(float).collect()
    }
    match element_type {
        ElementType::F32 => all(bytes, f32::from_le_bytes),
        ElementType::F64 => all(bytes, |word| f64::from_le_bytes(word) as f32),
        ElementType::F16 => all(bytes, |word| f16::from_le_bytes(word).to_f32()),
        ElementType::BF16 => all(bytes, |word| bf16::from_le_bytes(word).to_f32()),
        _ => Vec::new(),
    }
}

/// 0 for types that are not floats.
fn count(bytes: &[u8], element_type: ElementType, is_such: impl Fn(f32) -> bool) -> usize {
    fn all<const N: usize>(bytes: &[u8], is_such: impl Fn([u8; N]) -> bool) -> usize {
        // A sum, because a filter would not be vectorised.
        words(bytes).map(|word| usize::from(is_such(word))).sum()
    }
    match element_type {
        ElementType::F32 => all(bytes, |word| is_such(f32::from_le_bytes(word))),
        ElementType::F64 => all(bytes, |word| is_such(f64::from_le_bytes(word) as f32)),
        ElementType::F16 => all(bytes, |word| is_such(f16::from_le_bytes(word).to_f32())),
        ElementType::BF16 => all(bytes, |word| is_such(bf16::from_le_bytes(word).to_f32())),
        _ => 0,
    }
}

/// Integers above the largest `i64` become that. Empty for types that are not integers.
fn integers(bytes: &[u8], element_type: ElementType) -> Vec<i64> {
    fn all<const N: usize>(bytes: &[u8], integer: impl Fn([u8; N]) -> i64) -> Vec<i64> {
        words(bytes).map(integer).collect()
    }
    match element_type {
        ElementType::I8 => all(bytes, |word| i64::from(i8::from_le_bytes(word))),
        ElementType::I16 => all(bytes, |word| i64::from(i16::from_le_bytes(word))),
        ElementType::I32 => all(bytes, |word| i64::from(i32::from_le_bytes(word))),
        ElementType::I64 => all(bytes, i64::from_le_bytes),
        ElementType::U8 => all(bytes, |word| i64::from(u8::from_le_bytes(word))),
        ElementType::U16 => all(bytes, |word| i64::from(u16::from_le_bytes(word))),
        ElementType::U32 => all(bytes, |word| i64::from(u32::from_le_bytes(word))),
        ElementType::U64 => all(bytes, |word| {
            i64::try_from(u64::from_le_bytes(word)).unwrap_or(i64::MAX)
        }),
        _ => Vec::new(),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use prost::bytes::Bytes;

    use super::*;

    fn stored(bytes: &[u8], element_type: ElementType, dims: &[usize]) -> Option<Initializer> {
        let content = FileContent::from(Bytes::copy_from_slice(bytes));
        Initializer::stored(content, element_type, dims.to_vec())
    }

    #[test]
    fn floats_of_every_width_become_f32() {
        let expected = [0.5f32, -2.0, f32::INFINITY, 0.0, 1.0, f32::NAN];
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let bytes_of = |element_type| -> Vec<u8> {
            let bytes = expected.iter().map(|value| match element_type {
                ElementType::F64 => f64::from(*value).to_le_bytes().to_vec(),
                ElementType::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
                ElementType::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            });
            bytes.flatten().collect()
        };
        for element_type in [
            ElementType::F32,
            ElementType::F64,
            ElementType::F16,
            ElementType::BF16,
        ] {
            let name = element_type.name();
            let initializer = stored(&bytes_of(element_type), element_type, &[2, 3]).expect(name);
            assert_eq!(initializer.dims(), [2, 3], "{name}");
            assert_eq!(
                (initializer.dtype(), initializer.elem_count()),
                (DType::F32, 6),
                "{name}"
            );
            assert_eq!(initializer.count_floats(f32::is_nan).unwrap(), 1, "{name}");
            assert_eq!(
                initializer.count_floats(|v| !v.is_finite()).unwrap(),
                2,
                "{name}"
            );
            assert_eq!(
                bits(&initializer.to_floats().unwrap()),
                bits(&expected),
                "{name}"
            );
            assert!(!initializer.is_made(), "{name}: looking makes no tensor");
            let shared = initializer.clone();
            let tensor = shared.tensor().unwrap();
            assert_eq!(tensor.dims(), [2, 3], "{name}");
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(bits(&values), bits(&expected), "{name}");
            assert!(initializer.is_made(), "{name}: clones share the tensor");
            assert_eq!(initializer.count_floats(f32::is_nan).unwrap(), 1, "{name}");
        }
    }

    #[test]
    fn integers_become_i64_and_booleans_u8() {
        let cases: [(ElementType, &[u8], [i64; 2]); 8] = [
            (ElementType::I8, &[1, 0xff], [1, -1]),
            (ElementType::U8, &[1, 0xff], [1, 255]),
            (ElementType::I16, &[1, 0, 0xff, 0xff], [1, -1]),
            (ElementType::U16, &[1, 0, 0xff, 0xff], [1, 65535]),
            (
                ElementType::I32,
                &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
                [1, -1],
            ),
            (
                ElementType::U32,
                &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
                [1, 4294967295],
            ),
            (
                ElementType::I64,
                &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x80],
                [1, i64::MIN + 2],
            ),
            (
                ElementType::U64,
                &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x80],
                [1, i64::MAX],
            ),
        ];
        for (element_type, bytes, expected) in cases {
            let name = element_type.name();
            let initializer = stored(bytes, element_type, &[2]).expect(name);
            assert_eq!(initializer.dtype(), DType::I64, "{name}");
            let values: Vec<i64> = initializer.tensor().unwrap().to_vec1().unwrap();
            assert_eq!(values, expected, "{name}");
            assert_eq!(initializer.count_floats(|_| true).unwrap(), 0, "{name}");
            assert!(initializer.to_floats().is_err(), "{name}");
        }
        let flags = stored(&[0, 7], ElementType::Bool, &[2]).unwrap();
        assert_eq!(flags.tensor().unwrap().to_vec1::<u8>().unwrap(), [0, 1]);
    }

    #[test]
    fn shape_and_bytes_must_agree() {
        let bytes = 1.0f32.to_le_bytes().repeat(6);
        for (dims, fits) in [
            (&[6][..], true),
            (&[2, 3, 1], true),
            (&[5], false),
            (&[7], false),
            (&[], false),
            (&[usize::MAX, 2], false),
            (&[1 << 62, 6], false),
        ] {
            let made = stored(&bytes, ElementType::F32, dims);
            assert_eq!(made.is_some(), fits, "{dims:?}");
            let reshaped = stored(&bytes, ElementType::F32, &[3, 2])
                .unwrap()
                .reshaped(dims.to_vec());
            assert_eq!(reshaped.is_some(), fits, "{dims:?}");
            if let Some(reshaped) = reshaped {
                assert_eq!(reshaped.tensor().unwrap().dims(), dims);
            }
        }
        assert!(
            stored(&[], ElementType::F32, &[0, 3])
                .unwrap()
                .tensor()
                .is_ok()
        );
    }
}
