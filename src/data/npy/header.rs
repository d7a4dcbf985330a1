//! The head of a `.npy` file: version, element type and shape.

use std::io::Read;

/// Longest header text that is read; NumPy itself refuses more than 10,000 by default.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Element type of a `.npy` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it: kind and bits")]
pub enum NpyType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
}

impl NpyType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn from_descr(descr: &str) -> Result<Self, String> {
        let (order, kind) = match descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "|" | "="), kind)) => (order, kind),
            _ => ("<", descr),
        };
        let found = match kind {
            "b1" | "?" => Self::Bool,
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            _ => {
                return Err(format!(
                    "element type {descr:?} is not supported; expected floats of 16, 32 or 64 bits, integers or \
                     booleans. Save it again with numpy.save(path, array.astype(\"<f4\"))"
                ));
            }
        };
        if order == ">" && found.size_bytes() > 1 {
            return Err(format!(
                "element type {descr:?} is big-endian; expected little-endian. Save it again with numpy.save(path, \
                 array.astype(\"<{kind}\"))"
            ));
        }
        Ok(found)
    }
}

/// What the head of a file declares, checked against the file's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data) struct NpyHeader {
    pub(in crate::data) dtype: NpyType,
    pub(in crate::data) shape: Vec<usize>,
    /// Where the elements begin.
    pub(in crate::data) data_offset: u64,
    /// Length of all elements.
    pub(in crate::data) data_bytes: usize,
}

/// Reads and checks the head; the reader is left at the first element.
pub(super) fn read(reader: &mut impl Read, file_bytes: u64) -> Result<NpyHeader, String> {
    let short = |_| "the file ends within its header. Copy or save it again".to_owned();
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(short)?;
    let [magic @ .., major, _minor] = start;
    if magic != *MAGIC {
        return Err("it does not begin as a .npy file does. Save it with numpy.save".to_owned());
    }
    let (text_bytes, length_bytes) = match major {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(short)?;
            (u64::from(u16::from_le_bytes(length)), 2)
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(short)?;
            (u64::from(u32::from_le_bytes(length)), 4)
        }
        _ => {
            return Err(format!(
                "format version {major} is not supported; expected 1, 2 or 3"
            ));
        }
    };
    if text_bytes > HEADER_BYTES_MAX.min(file_bytes) {
        return Err(format!(
            "its header claims {text_bytes} bytes, more than the file or the limit allows"
        ));
    }
    let mut text = vec![0; text_bytes as usize];
    reader.read_exact(&mut text).map_err(short)?;
    let text = String::from_utf8(text).map_err(|_| "its header is not text".to_owned())?;
    let fields = Fields::parse(&text)
        .ok_or_else(|| format!("its header cannot be understood: {:?}", text.trim()))?;
    fields.check(8 + length_bytes + text_bytes, file_bytes)
}

/// The dictionary of the header, as far as it is used.
#[derive(Default)]
struct Fields {
    descr: Option<String>,
    fortran_order: Option<bool>,
    shape: Option<Vec<usize>>,
    structured: bool,
}

impl Fields {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = Self::default();
        let mut rest = text.trim().strip_prefix('{')?;
        loop {
            rest = rest.trim_start();
            if let Some(tail) = rest.strip_prefix('}') {
                return tail.trim().is_empty().then_some(fields);
            }
            let (key, tail) = quoted(rest)?;
            rest = fields
                .value(key, tail.trim_start().strip_prefix(':')?.trim_start())?
                .trim_start();
            rest = match rest.strip_prefix(',') {
                Some(tail) => tail,
                None if rest.starts_with('}') => rest,
                None => return None,
            };
        }
    }

    /// Takes the value of `key` from the start of `text` and gives what follows it.
    fn value<'t>(&mut self, key: &str, text: &'t str) -> Option<&'t str> {
        match key {
            "descr" if text.starts_with('[') => {
                self.structured = true;
                text.rfind(']').and_then(|end| text.get(end + 1..))
            }
            "descr" => {
                let (descr, tail) = quoted(text)?;
                self.descr = Some(descr.to_owned());
                Some(tail)
            }
            "fortran_order" => {
                let (flag, tail) = match (text.strip_prefix("True"), text.strip_prefix("False")) {
                    (Some(tail), _) => (true, tail),
                    (None, Some(tail)) => (false, tail),
                    (None, None) => return None,
                };
                self.fortran_order = Some(flag);
                Some(tail)
            }
            "shape" => {
                let (inside, tail) = text.strip_prefix('(')?.split_once(')')?;
                let inside = inside.trim();
                let inside = inside.strip_suffix(',').unwrap_or(inside);
                let dims = inside
                    .split(',')
                    .map(str::trim)
                    .filter(|_| !inside.is_empty());
                self.shape = Some(
                    dims.map(|dim| dim.trim_end_matches('L').parse().ok())
                        .collect::<Option<_>>()?,
                );
                Some(tail)
            }
            _ => None,
        }
    }

    fn check(self, data_offset: u64, file_bytes: u64) -> Result<NpyHeader, String> {
        if self.structured {
            return Err(
                "it holds records with named fields; expected plain numbers. Save each field alone"
                    .to_owned(),
            );
        }
        let (Some(descr), Some(fortran_order), Some(shape)) =
            (self.descr, self.fortran_order, self.shape)
        else {
            return Err("its header lacks 'descr', 'fortran_order' or 'shape'".to_owned());
        };
        let dtype = NpyType::from_descr(&descr)?;
        if fortran_order && shape.len() > 1 {
            return Err("its elements are in Fortran order; expected C order. Save it again with numpy.save(path, \
                        numpy.ascontiguousarray(array))"
                .to_owned());
        }
        let data_bytes = shape
            .iter()
            .try_fold(dtype.size_bytes(), |bytes, &dim| bytes.checked_mul(dim))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| format!("its shape {shape:?} is larger than any memory"))?;
        let held = file_bytes.saturating_sub(data_offset);
        if data_bytes as u64 > held {
            return Err(format!(
                "shape {shape:?} of {descr:?} needs {data_bytes} bytes, and the file holds {held}. It was cut short: \
                 copy or save it again"
            ));
        }
        Ok(NpyHeader {
            dtype,
            shape,
            data_offset,
            data_bytes,
        })
    }
}

/// The text in quotes at the start of `text`, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.get(1..)?.split_once(quote)
}
