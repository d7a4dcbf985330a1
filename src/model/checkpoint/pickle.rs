//! A reader of the part of Python's pickle format that PyTorch state dicts use.
//!
//! Objects are only described, never constructed: no code of the file is looked up or run.
//! They live in one list and refer to each other by index, so that neither memory nor the depth of
//! recursion depends on how a hostile file nests them.
//! Opcodes: `CPython` `Lib/pickletools.py`, protocols 0 to 5.

use std::collections::BTreeMap;

/// Index of an [`Object`] in [`Pickle`].
pub(super) type ObjectId = usize;

/// What an opcode put on the stack.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    /// Booleans are 0 and 1.
    Int(i64),
    Text(String),
    /// Tuples, lists and sets.
    Sequence(Vec<ObjectId>),
    Dict(Vec<(ObjectId, ObjectId)>),
    /// A class or function by name, for example `torch._utils._rebuild_tensor_v2`.
    Global(String),
    /// A call that is described, not made.
    Call {
        callable: ObjectId,
        arguments: ObjectId,
    },
    /// A reference to data outside of the pickle.
    Persistent(ObjectId),
    /// Floats, bytes and `None`, which state dicts do not need.
    Other,
}

/// A pickle in the form of a list of objects.
#[derive(Debug)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: ObjectId,
}

impl Pickle {
    /// Reads up to the `STOP` opcode.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            ..Machine::default()
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self {
            objects: machine.objects,
            root,
        })
    }

    pub(super) fn root(&self) -> ObjectId {
        self.root
    }

    pub(super) fn object(&self, id: ObjectId) -> &Object {
        self.objects.get(id).unwrap_or(&Object::Other)
    }

    pub(super) fn text(&self, id: ObjectId) -> Option<&str> {
        match self.object(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: ObjectId) -> Option<&[ObjectId]> {
        match self.object(id) {
            Object::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn global(&self, id: ObjectId) -> Option<&str> {
        match self.object(id) {
            Object::Global(name) => Some(name),
            _ => None,
        }
    }

    /// An integer that is a length or position.
    pub(super) fn length(&self, id: ObjectId) -> Option<usize> {
        match self.object(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn lengths(&self, id: ObjectId) -> Option<Vec<usize>> {
        self.sequence(id)?
            .iter()
            .map(|id| self.length(*id))
            .collect()
    }
}

#[derive(Debug, Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    objects: Vec<Object>,
    stack: Vec<ObjectId>,
    /// Heights of the stack at each `MARK`.
    marks: Vec<usize>,
    memo: BTreeMap<u64, ObjectId>,
}

impl Machine<'_> {
    /// Executes one opcode; `false` after `STOP`.
    fn step(&mut self) -> Result<bool, String> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            b'K' | b'M' | b'J' | 0x88 | 0x89 | 0x8a | 0x8b | b'N' | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'B' | b'C' | 0x8e => self.string(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memoize(opcode)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'a' | b'e' | 0x8f..=0x91 => {
                self.sequence(opcode)?;
            }
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            b'c' | 0x93 | b'Q' | b'R' | 0x81 | 0x92 | b'b' => self.object(opcode)?,
            other => return Err(format!("opcode {other:#04x} is not supported")),
        }
        Ok(true)
    }

    fn number(&mut self, opcode: u8) -> Result<(), String> {
        let object = match opcode {
            b'K' => Object::Int(self.unsigned(1)? as i64),
            b'M' => Object::Int(self.unsigned(2)? as i64),
            b'J' => Object::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            0x88 => Object::Int(1),
            0x89 => Object::Int(0),
            0x8a | 0x8b => {
                let length = self.unsigned(if opcode == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(length)?;
                little_endian(bytes).map_or(Object::Other, Object::Int)
            }
            b'G' => {
                self.take(8)?;
                Object::Other
            }
            _ => Object::Other,
        };
        self.push(object);
        Ok(())
    }

    fn string(&mut self, opcode: u8) -> Result<(), String> {
        let length_bytes = match opcode {
            0x8c | b'U' | b'C' => 1,
            0x8d | 0x8e => 8,
            _ => 4,
        };
        let length = self.unsigned(length_bytes)?;
        let bytes = self.take(length)?;
        let object = match opcode {
            b'B' | b'C' | 0x8e => Object::Other,
            _ => Object::Text(String::from_utf8_lossy(bytes).into_owned()),
        };
        self.push(object);
        Ok(())
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), String> {
        let key = match opcode {
            b'q' | b'h' => self.unsigned(1)?,
            b'r' | b'j' => self.unsigned(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'h' | b'j') {
            let id = self.memo.get(&key).ok_or("an unknown memo is read")?;
            self.stack.push(*id);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn sequence(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b')' | b']' | 0x8f => Vec::new(),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let from = self
                    .stack
                    .len()
                    .checked_sub(count)
                    .ok_or("the stack is empty")?;
                self.stack.split_off(from)
            }
            b'a' => vec![self.pop()?],
            _ => self.pop_to_mark()?,
        };
        if matches!(opcode, b'a' | b'e' | 0x90) {
            let top = self.top()?;
            return match self.objects.get_mut(top) {
                Some(Object::Sequence(list)) => {
                    list.extend(items);
                    Ok(())
                }
                _ => Err("an item is appended to something that is not a list".to_owned()),
            };
        }
        self.push(Object::Sequence(items));
        Ok(())
    }

    fn dict(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let pairs = items
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[key, value]| (*key, *value));
        if matches!(opcode, b'}' | b'd') {
            let pairs = pairs.collect();
            self.push(Object::Dict(pairs));
            return Ok(());
        }
        let top = self.top()?;
        match self.objects.get_mut(top) {
            Some(Object::Dict(entries)) => entries.extend(pairs),
            // Entries of an instance of another class are dropped like its other state.
            Some(Object::Call { .. }) => {}
            _ => return Err("an item is set on something that is not a dictionary".to_owned()),
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Result<(), String> {
        let object = match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Object::Global(format!("{module}.{name}"))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id| match self.objects.get(id) {
                    Some(Object::Text(text)) => text.as_str(),
                    _ => "?",
                };
                Object::Global(format!("{}.{}", text(module), text(name)))
            }
            b'Q' => Object::Persistent(self.pop()?),
            b'b' => {
                // The state of an ordered dictionary is its metadata; other instances are not built.
                self.pop()?;
                return Ok(());
            }
            _ => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                let (arguments, callable) = (self.pop()?, self.pop()?);
                match self.objects.get(callable) {
                    Some(Object::Global(name))
                        if name == "collections.OrderedDict"
                            || name == "collections.defaultdict" =>
                    {
                        Object::Dict(Vec::new())
                    }
                    _ => Object::Call {
                        callable,
                        arguments,
                    },
                }
            }
        };
        self.push(object);
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn top(&self) -> Result<ObjectId, String> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Result<ObjectId, String> {
        self.stack
            .pop()
            .ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ObjectId>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("a mark is missing")?))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn take(&mut self, length: impl TryInto<usize>) -> Result<&[u8], String> {
        let cut_off = || "the data is cut off".to_owned();
        let length = length.try_into().map_err(|_| cut_off())?;
        let end = self.position.checked_add(length).ok_or_else(cut_off)?;
        let bytes = self.bytes.get(self.position..end).ok_or_else(cut_off)?;
        self.position = end;
        Ok(bytes)
    }

    /// A little-endian number of at most 8 bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, String> {
        let bytes = self.take(bytes)?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("a line has no end")?;
        let line = self.take(length + 1)?;
        Ok(String::from_utf8_lossy(line).trim_end().to_owned())
    }
}

/// A signed number of any length, if it fits.
fn little_endian(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut word = if negative { [0xff; 8] } else { [0; 8] };
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nested_containers_and_numbers() {
        // {"a": [1, 258, -2], "b": (True, 2**40)} with protocol 2.
        let bytes =
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01M\x02\x01J\xfe\xff\xff\xffe\
            X\x01\x00\x00\x00bq\x03\x88\x8a\x06\x00\x00\x00\x00\x00\x01\x86q\x04u.";
        let pickle = Pickle::read(bytes).unwrap();
        let Object::Dict(pairs) = pickle.object(pickle.root()) else {
            panic!("{pickle:?}");
        };
        let [(a, list), (b, tuple)] = pairs.as_slice() else {
            panic!("{pairs:?}");
        };
        assert_eq!((pickle.text(*a), pickle.text(*b)), (Some("a"), Some("b")));
        let integers = |id| {
            let items = pickle.sequence(id).unwrap();
            items
                .iter()
                .map(|id| pickle.object(*id).clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(integers(*list), [1, 258, -2].map(Object::Int));
        assert_eq!(integers(*tuple), [1, 1 << 40].map(Object::Int));
    }

    #[test]
    fn damaged_data_is_an_error() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"\x85.",
            b"h\x05.",
            b"]K\x01s.",
            b"X\xff\xff\xff\xffabc.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
            b"cno end",
            b"(]0e.",
            b"\xfe.",
        ] {
            assert!(Pickle::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn deep_nesting_needs_no_recursion() {
        let mut bytes = vec![b')'];
        bytes.resize(1_000_000, 0x85);
        bytes.push(b'.');
        let pickle = Pickle::read(&bytes).unwrap();
        assert!(pickle.sequence(pickle.root()).is_some());
    }
}
