//! Protocol buffers as lists of fields, so that what is not understood is kept byte for byte.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>.

use prost::bytes::{BufMut as _, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use super::error::ExportError;

/// Wire type of a varint.
const VARINT: u64 = 0;
/// Wire type of strings, bytes, messages and packed lists.
const LENGTH_DELIMITED: u64 = 2;

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Number of the field.
    pub number: u64,
    /// Tag and value as they are stored.
    raw: Bytes,
    /// The value of a field with a length, else nothing.
    pub content: Bytes,
}

impl Field {
    /// A string, bytes or a message.
    pub(super) fn of_bytes(number: u64, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let mut raw = BytesMut::with_capacity(content.len() + 12);
        encode_varint(number << 3 | LENGTH_DELIMITED, &mut raw);
        encode_varint(content.len() as u64, &mut raw);
        raw.put_slice(&content);
        Self {
            number,
            raw: raw.freeze(),
            content,
        }
    }

    /// A message.
    pub(super) fn of_message(number: u64, message: &impl prost::Message) -> Self {
        Self::of_bytes(number, message.encode_to_vec())
    }

    /// An integer.
    pub(super) fn of_integer(number: u64, value: i64) -> Self {
        let mut raw = BytesMut::new();
        encode_varint(number << 3 | VARINT, &mut raw);
        encode_varint(value as u64, &mut raw);
        Self {
            number,
            raw: raw.freeze(),
            content: Bytes::new(),
        }
    }
}

/// The fields of a message in their order.
///
/// # Errors
/// The bytes end within a field, or use the groups that the ONNX format does not have.
pub(super) fn fields(message: &Bytes) -> Result<Vec<Field>, ExportError> {
    let mut found = Vec::new();
    let mut rest = message.clone();
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let tag = varint(&mut rest)?;
        let content = match tag & 7 {
            VARINT => {
                varint(&mut rest)?;
                Bytes::new()
            }
            1 => take(&mut rest, 8)?,
            5 => take(&mut rest, 4)?,
            LENGTH_DELIMITED => {
                let length = varint(&mut rest)?;
                take(&mut rest, length)?
            }
            _ => return Err(ExportError::damaged()),
        };
        let end = message.len() - rest.len();
        found.push(Field {
            number: tag >> 3,
            raw: message.slice(start..end),
            content,
        });
    }
    Ok(found)
}

fn varint(rest: &mut Bytes) -> Result<u64, ExportError> {
    decode_varint(rest).map_err(|_cut_off| ExportError::damaged())
}

fn take(rest: &mut Bytes, length: u64) -> Result<Bytes, ExportError> {
    match usize::try_from(length) {
        Ok(length) if length <= rest.len() => Ok(rest.split_to(length)),
        _ => Err(ExportError::damaged()),
    }
}

/// The message that consists of these fields.
pub(super) fn message(fields: &[Field]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(fields.iter().map(|field| field.raw.len()).sum());
    for field in fields {
        bytes.put_slice(&field.raw);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_byte_for_byte() {
        // 1: varint 300, 2: "ab", 3: 4 bytes, 4: 8 bytes, 1000: "".
        let bytes = Bytes::from_static(
            b"\x08\xac\x02\x12\x02ab\x1d\x01\x02\x03\x04\x21abcdefgh\xc2\x3e\x00",
        );
        let found = fields(&bytes).unwrap();
        let numbers: Vec<u64> = found.iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 1000]);
        assert_eq!(&found[1].content[..], b"ab");
        assert_eq!(message(&found), bytes);
        assert_eq!(Field::of_bytes(2, "ab"), found[1]);
        assert_eq!(Field::of_integer(1, 300), found[0]);
        for end in [1, 2, 4, 6, 8, 14] {
            assert!(fields(&bytes.slice(..end)).is_err(), "{end}");
        }
    }
}
