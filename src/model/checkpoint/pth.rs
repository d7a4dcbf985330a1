//! Tensors of a PyTorch checkpoint: a zip archive of a pickle and one file per storage.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use prost::bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Object, ObjectId, Pickle};
use super::{EXPORT_HINT, Tensors};
use crate::model::error::LoadErrorKind;
use crate::model::file_content::FileContent;
use crate::model::{ElementType, Initializer};

/// Keys under which training scripts keep the state dict, in the order in which they are tried.
const STATE_DICT_KEYS: [&str; 7] = [
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "ema",
    "model_ema",
    "params",
];

/// Start of the format before PyTorch 1.6: protocol 2 and the magic number 0x1950a86a20f9469cfc6c.
const LEGACY_START: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];

/// A view of a storage: elements, not bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TensorInfo {
    storage: String,
    element: Element,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F32,
    F64,
    F16,
    BF16,
    /// Integers and Booleans: counters and masks, which are left out.
    NotFloat,
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
            "Float" => Some(Self::F32),
            "Double" => Some(Self::F64),
            "Half" => Some(Self::F16),
            "BFloat16" => Some(Self::BF16),
            "Long" | "Int" | "Short" | "Char" | "Byte" | "Bool" => Some(Self::NotFloat),
            _ => None,
        }
    }

    /// `None` for what is left out.
    fn float_type(self) -> Option<ElementType> {
        match self {
            Self::F32 => Some(ElementType::F32),
            Self::F64 => Some(ElementType::F64),
            Self::F16 => Some(ElementType::F16),
            Self::BF16 => Some(ElementType::BF16),
            Self::NotFloat => None,
        }
    }

    fn size_bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::NotFloat => 1,
        }
    }

    fn decode(self, bytes: &[u8]) -> Option<f32> {
        match self {
            Self::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?)),
            Self::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?) as f32),
            Self::F16 => Some(f16::from_le_bytes(bytes.try_into().ok()?).to_f32()),
            Self::BF16 => Some(bf16::from_le_bytes(bytes.try_into().ok()?).to_f32()),
            Self::NotFloat => None,
        }
    }
}

/// Floating-point tensors as `F32`; counters and masks of other types are left out.
pub(super) fn tensors(content: &FileContent) -> Tensors {
    let bytes = content.bytes();
    if bytes.starts_with(&LEGACY_START) {
        return malformed(
            "it was written by PyTorch before 1.6 or without zip; load and save it again: \
             torch.save(torch.load(\"x.th\"), \"x.pth\")",
        );
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes.as_ref())).or_else(|error| {
        malformed(format!(
            "{error}; save the state dict again: torch.save(model.state_dict(), \"x.pth\")"
        ))
    })?;
    let pickle_name = archive
        .file_names()
        .filter_map(Result::ok)
        .find(|name| name.as_ref() == "data.pkl" || name.ends_with("/data.pkl"))
        .map(|name| name.into_owned());
    let Some(pickle_name) = pickle_name else {
        return malformed(
            "the archive has no data.pkl; save the state dict again: torch.save(model.state_dict(), \"x.pth\")",
        );
    };
    let folder = pickle_name.trim_end_matches("data.pkl");
    let order = entry(&mut archive, bytes, &format!("{folder}byteorder"));
    if order.is_ok_and(|order| order == "big") {
        return malformed("it is big-endian; save it again on a little-endian computer");
    }
    let pickle = entry(&mut archive, bytes, &pickle_name)?;
    let pickle = Pickle::read(&pickle)
        .or_else(|error| malformed(format!("data.pkl: {error}; save the state dict again")))?;
    let infos = tensor_infos(&pickle)?;
    let mut tensors = BTreeMap::new();
    // A small file could name one storage a million times.
    let mut budget = bytes.len().saturating_mul(4);
    for (name, info) in infos {
        if info.element == Element::NotFloat {
            continue;
        }
        let storage = entry(
            &mut archive,
            bytes,
            &format!("{folder}data/{}", info.storage),
        )?;
        let Some(left) = budget.checked_sub(storage.len()) else {
            return malformed(
                "many tensors share one storage; save the state dict again from clones",
            );
        };
        budget = left;
        let in_order = elements_in_order(&info, &storage)
            .zip(info.element.float_type())
            .and_then(|(elements, element_type)| {
                let shape = info.shape.clone();
                Initializer::stored(content.part(elements), element_type, shape)
            });
        let tensor = in_order.or_else(|| gather(&info, &storage).map(Initializer::from));
        let tensor = tensor.ok_or_else(|| LoadErrorKind::Malformed {
            format: "PyTorch zip checkpoint",
            reason: format!(
                "tensor {name:?} of shape {:?} does not fit its storage of {} bytes; save the state dict again",
                info.shape,
                storage.len()
            ),
        })?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn malformed<T>(reason: impl Into<String>) -> Result<T, LoadErrorKind> {
    Err(LoadErrorKind::Malformed {
        format: "PyTorch zip checkpoint",
        reason: reason.into(),
    })
}

/// A file of the archive `bytes`, checked but not copied.
///
/// It must be stored without compression, as PyTorch does.
fn entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    bytes: &Bytes,
    name: &str,
) -> Result<Bytes, LoadErrorKind> {
    let again = "save the state dict again: torch.save(model.state_dict(), \"x.pth\")";
    let cut_off = || malformed(format!("{name:?} in the archive is cut off; {again}"));
    let found = archive.by_name(name);
    let mut file =
        found.or_else(|error| malformed(format!("{name:?} in the archive: {error}; {again}")))?;
    if file.compression() != CompressionMethod::Stored {
        return malformed(format!("{name:?} in the archive is compressed; {again}"));
    }
    let Some(start) = file.data_start() else {
        return cut_off();
    };
    // Reading to the end compares the checksum.
    let length = io::copy(&mut file, &mut io::sink())
        .or_else(|error| malformed(format!("{name:?} in the archive: {error}; {again}")))?;
    match start.checked_add(length) {
        Some(end) if end <= bytes.len() as u64 => Ok(bytes.slice(start as usize..end as usize)),
        _ => cut_off(),
    }
}

/// The tensors of the state dict by name.
fn tensor_infos(pickle: &Pickle) -> Result<BTreeMap<String, TensorInfo>, LoadErrorKind> {
    let mut candidates = vec![pickle.root()];
    if let Object::Dict(pairs) = pickle.object(pickle.root()) {
        for key in STATE_DICT_KEYS {
            let found = pairs
                .iter()
                .filter(|(name, _)| pickle.text(*name) == Some(key));
            candidates.extend(found.map(|(_, value)| *value));
        }
    }
    for candidate in &candidates {
        if let Object::Dict(pairs) = pickle.object(*candidate) {
            let infos = tensors_of_dict(pickle, pairs)?;
            if !infos.is_empty() {
                return Ok(infos);
            }
        }
    }
    let class = candidates.iter().find_map(|id| match pickle.object(*id) {
        Object::Call { callable, .. } => pickle.global(*callable),
        _ => None,
    });
    match class {
        Some(class) => malformed(format!(
            "it holds a whole object of class {class:?}, whose code would have to be run; save only the \
             weights, torch.save(model.state_dict(), \"x.pth\"), or {EXPORT_HINT}"
        )),
        None => malformed(format!(
            "it holds no tensors, at the top or under {STATE_DICT_KEYS:?}; save the state dict: \
             torch.save(model.state_dict(), \"x.pth\")"
        )),
    }
}

fn tensors_of_dict(
    pickle: &Pickle,
    pairs: &[(ObjectId, ObjectId)],
) -> Result<BTreeMap<String, TensorInfo>, LoadErrorKind> {
    let mut infos = BTreeMap::new();
    for (name, value) in pairs {
        let (Some(name), Some(arguments)) = (pickle.text(*name), tensor_arguments(pickle, *value))
        else {
            continue;
        };
        let info = tensor_info(pickle, arguments)
            .or_else(|what| malformed(format!("tensor {name:?} {what}")))?;
        infos.insert(name.to_owned(), info);
    }
    Ok(infos)
}

/// Arguments of `torch._utils._rebuild_tensor_v2`, under the wrappers of parameters and subclasses.
fn tensor_arguments(pickle: &Pickle, id: ObjectId) -> Option<&[ObjectId]> {
    let mut id = id;
    for _ in 0..4 {
        let Object::Call {
            callable,
            arguments,
        } = pickle.object(id)
        else {
            return None;
        };
        let arguments = pickle.sequence(*arguments)?;
        match pickle.global(*callable)? {
            "torch._utils._rebuild_tensor_v2" => return Some(arguments),
            "torch._utils._rebuild_parameter" => id = *arguments.first()?,
            "torch._tensor._rebuild_from_type_v2" => {
                let is_tensor =
                    pickle.global(*arguments.first()?)? == "torch._utils._rebuild_tensor_v2";
                return is_tensor
                    .then(|| pickle.sequence(*arguments.get(2)?))
                    .flatten();
            }
            _ => return None,
        }
    }
    None
}

/// Reads `(storage, offset, shape, strides, …)`; the error says what is wrong and what to do.
fn tensor_info(pickle: &Pickle, arguments: &[ObjectId]) -> Result<TensorInfo, String> {
    let damaged = || "is not described as expected; save the state dict again".to_owned();
    let &[storage, offset, shape, strides, ..] = arguments else {
        return Err(damaged());
    };
    let Object::Persistent(storage) = pickle.object(storage) else {
        return Err(damaged());
    };
    let Some(&[_, class, key, ..]) = pickle.sequence(*storage) else {
        return Err(damaged());
    };
    let class = pickle.global(class).ok_or_else(damaged)?;
    let element = Element::of_storage(class).ok_or_else(|| {
        format!("has elements of type {class:?}, which is not supported; convert it with tensor.float() and save again")
    })?;
    Ok(TensorInfo {
        storage: pickle.text(key).ok_or_else(damaged)?.to_owned(),
        element,
        offset: pickle.length(offset).ok_or_else(damaged)?,
        shape: pickle.lengths(shape).ok_or_else(damaged)?,
        strides: pickle.lengths(strides).ok_or_else(damaged)?,
    })
}

/// The bytes of a tensor whose elements lie in row-major order without a gap, if they do.
fn elements_in_order(info: &TensorInfo, storage: &Bytes) -> Option<Bytes> {
    let mut count = 1usize;
    for (length, stride) in info.shape.iter().zip(&info.strides).rev() {
        if *length != 1 && *stride != count {
            return None;
        }
        count = count.checked_mul(*length)?;
    }
    let size = info.element.size_bytes();
    let begin = info.offset.checked_mul(size)?;
    let end = begin.checked_add(count.checked_mul(size)?)?;
    let whole = info.shape.len() == info.strides.len() && end <= storage.len();
    whole.then(|| storage.slice(begin..end))
}

/// Elements of a tensor in row-major order; `None` if they are not all in the storage.
fn gather(info: &TensorInfo, storage: &[u8]) -> Option<Tensor> {
    let size = info.element.size_bytes();
    let in_storage = storage.len() / size;
    let count = info
        .shape
        .iter()
        .try_fold(1usize, |product, length| product.checked_mul(*length))?;
    // A view never has more elements than its storage, unless it repeats them.
    if count > in_storage || info.shape.len() != info.strides.len() {
        return None;
    }
    let mut at = vec![0usize; info.shape.len()];
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let position = at
            .iter()
            .zip(&info.strides)
            .try_fold(info.offset, |sum, (index, stride)| {
                sum.checked_add(index.checked_mul(*stride)?)
            })?;
        let begin = position.checked_mul(size)?;
        values.push(
            info.element
                .decode(storage.get(begin..begin.checked_add(size)?)?)?,
        );
        for (index, length) in at.iter_mut().zip(&info.shape).rev() {
            *index += 1;
            if *index < *length {
                break;
            }
            *index = 0;
        }
    }
    Tensor::from_vec(values, info.shape.as_slice(), &Device::Cpu).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(offset: usize, shape: &[usize], strides: &[usize]) -> TensorInfo {
        TensorInfo {
            storage: "0".to_owned(),
            element: Element::F32,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn only_elements_in_order_stay_in_the_file() {
        let storage: Bytes = (0..12u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
        // Offset, shape, strides, and the elements if the tensor is a part of its storage as it lies.
        type Case<'a> = (usize, &'a [usize], &'a [usize], Option<&'a [f32]>);
        let cases: [Case<'_>; 10] = [
            (0, &[2, 3], &[3, 1], Some(&[0., 1., 2., 3., 4., 5.])),
            (4, &[2, 1, 2], &[2, 7, 1], Some(&[4., 5., 6., 7.])),
            (11, &[], &[], Some(&[11.])),
            (0, &[3, 2], &[1, 3], None),
            (0, &[2, 2], &[4, 1], None),
            (0, &[2, 2], &[0, 1], None),
            (8, &[5], &[1], None),
            (0, &[2, 2], &[1], None),
            (usize::MAX, &[2], &[1], None),
            (0, &[usize::MAX, 2], &[2, 1], None),
        ];
        for (offset, shape, strides, expected) in cases {
            let info = info(offset, shape, strides);
            let elements = elements_in_order(&info, &storage);
            let floats = elements.map(|bytes| {
                let words = bytes.as_chunks::<4>().0.iter();
                words
                    .map(|word| f32::from_le_bytes(*word))
                    .collect::<Vec<_>>()
            });
            assert_eq!(floats.as_deref(), expected, "{info:?}");
            if let Some(expected) = expected {
                let gathered = gather(&info, &storage).unwrap();
                let gathered: Vec<f32> = gathered.flatten_all().unwrap().to_vec1().unwrap();
                assert_eq!(gathered, expected, "{info:?}");
            }
        }
    }
}
