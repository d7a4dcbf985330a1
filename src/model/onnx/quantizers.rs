//! `QuantizeLinear` and `DequantizeLinear` of a file that was quantized before.
//!
//! The network is read as the float network that they approximate: a constant behind a `DequantizeLinear`
//! becomes the floats that it stands for, and a pair of both between two nodes becomes an `Identity`.
//! What they said is told by [`stored_grids`], so that a plan can say it again.
//!
//! Definitions: <https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html>.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message as _;

use super::external_data::ExternalData;
use super::names::node_names;
use super::proto::{
    DATA_LOCATION_EXTERNAL, GraphProto, ModelProto, NodeProto, TensorProto, data_type,
};
use super::tensor::read_tensor;
use super::{folder_of, is_default_domain, malformed};
use crate::model::error::LoadError;
use crate::model::file_content::FileContent;

/// Numbers of the types `uint4` and `int4`.
const FOUR_BITS: [i32; 2] = [21, 22];

/// Integer codes of a tensor and the grids that they lie on.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGrids {
    /// Bits of the type that codes are stored as: 4, 8, 16 or 32.
    pub bits: u8,
    /// Whether the type has negative codes.
    pub signed: bool,
    /// One scale, one for each channel, or one for each block.
    pub scales: Vec<f32>,
    /// As many zero points; one 0 where there are none.
    pub zero_points: Vec<i32>,
    /// Length of a block, where scales are for blocks.
    pub block: Option<usize>,
    /// Lowest and highest code of a constant; the limits of the type for a computed value.
    pub codes: (i32, i32),
}

/// How a file quantizes one node.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLayer {
    /// Name of the node.
    pub name: String,
    /// Its first input.
    pub input: Option<StoredGrids>,
    /// Its second input, a constant.
    pub weight: Option<StoredGrids>,
}

/// What the quantizers of an ONNX file say, for every node that reads one; empty for a float model.
///
/// # Errors
/// The file cannot be read.
pub fn stored_grids(path: &Path) -> Result<Vec<StoredLayer>, LoadError> {
    let failed = |error: std::io::Error| LoadError::new(path, error);
    let content = FileContent::open(path).map_err(failed)?;
    let model = ModelProto::decode(content.bytes().clone())
        .map_err(|error| LoadError::new(path, malformed(&error.to_string())))?;
    let graph = model.graph.unwrap_or_default();
    if !graph.node.iter().any(is_quantizer) {
        return Ok(Vec::new());
    }
    let mut external = ExternalData::in_folder(folder_of(path));
    let mut quantizers = Quantizers::of(&graph, &content, &mut external);
    let names = node_names(&graph.node);
    let mut layers = Vec::new();
    for (node, name) in graph.node.iter().zip(names) {
        if is_quantizer(node) || is_movement(node) {
            continue;
        }
        let input = node
            .input
            .first()
            .and_then(|name| quantizers.computed(name));
        let weight = node.input.get(1).and_then(|name| quantizers.constant(name));
        if input.is_some() || weight.is_some() {
            layers.push(StoredLayer {
                name,
                input,
                weight,
            });
        }
    }
    Ok(layers)
}

/// A quantized file, and in floats what its constants stand for.
#[derive(Debug)]
pub(crate) struct DequantizedFile {
    /// The file.
    pub(crate) model: ModelProto,
    /// Shape and floats that a node makes of a constant in integers or half precision, by the name of
    /// the node's output.
    pub(crate) constants: BTreeMap<String, (Vec<i64>, Vec<f32>)>,
    /// Codes and the number of their type, for every constant that is a zero point.
    pub(crate) zero_points: BTreeMap<String, (Vec<i32>, i32)>,
}

/// Reads a quantized file for programs that do not know all of its types.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn dequantized_file(path: &Path) -> Result<DequantizedFile, LoadError> {
    let failed = |error: std::io::Error| LoadError::new(path, error);
    let content = FileContent::open(path).map_err(failed)?;
    let model = ModelProto::decode(content.bytes().clone())
        .map_err(|error| LoadError::new(path, malformed(&error.to_string())))?;
    let graph = model.graph.clone().unwrap_or_default();
    let mut external = ExternalData::in_folder(folder_of(path));
    let mut quantizers = Quantizers::of(&graph, &content, &mut external);
    let mut constants = BTreeMap::new();
    let mut zero_points = BTreeMap::new();
    for node in graph
        .node
        .iter()
        .filter(|node| is_quantizer(node) || is(node, "Cast"))
    {
        if let Some(name) = node.input.get(2)
            && let Some(tensor) = quantizers.constants.get(name.as_str()).copied()
            && let Some(codes) = quantizers.codes(name)
        {
            zero_points.insert(name.clone(), (codes, tensor.data_type));
        }
        let found = if is(node, "Cast") {
            quantizers.widened(node)
        } else {
            quantizers.dequantized(node)
        };
        if let (Some(found), Some(output), false) =
            (found, node.output.first(), is(node, "QuantizeLinear"))
        {
            constants.insert(output.clone(), found);
        }
    }
    Ok(DequantizedFile {
        model,
        constants,
        zero_points,
    })
}

/// Lets a graph be read without its quantizers; those that cannot be taken out stay.
pub(super) fn without_quantizers(
    graph: &mut GraphProto,
    content: &FileContent,
    external: &mut ExternalData,
) {
    if !graph.node.iter().any(is_quantizer) {
        return;
    }
    let mut constants = Vec::new();
    let mut computed = BTreeSet::new();
    let mut passed = Vec::new();
    let mut quantizers = Quantizers::of(graph, content, external);
    for (at, node) in graph.node.iter().enumerate() {
        if !is(node, "DequantizeLinear") {
            continue;
        }
        let Some(output) = node.output.first() else {
            continue;
        };
        if let Some(values) = quantizers.dequantized(node) {
            constants.push(floats(output, values));
            computed.insert(at);
        } else if let Some(source) = quantizers.passed_through(node) {
            passed.push((at, source));
        }
    }
    for (at, source) in passed {
        let node = &mut graph.node[at];
        "Identity".clone_into(&mut node.op_type);
        node.domain.clear();
        node.input = vec![source];
        node.attribute.clear();
    }
    let mut at = 0;
    graph.node.retain(|_| {
        at += 1;
        !computed.contains(&(at - 1))
    });
    graph.initializer.extend(constants);
    drop_codes(graph);
}

/// Constants of types that nothing but quantizers reads.
fn drop_codes(graph: &mut GraphProto) {
    let read: BTreeSet<String> = graph
        .node
        .iter()
        .flat_map(|node| node.input.iter().cloned())
        .chain(graph.output.iter().map(|output| output.name.clone()))
        .collect();
    graph
        .initializer
        .retain(|tensor| read.contains(&tensor.name) || !FOUR_BITS.contains(&tensor.data_type));
}

fn is(node: &NodeProto, op_type: &str) -> bool {
    let domain = is_default_domain(&node.domain) || node.domain == "com.microsoft";
    node.op_type == op_type && domain
}

fn is_quantizer(node: &NodeProto) -> bool {
    is(node, "QuantizeLinear") || is(node, "DequantizeLinear")
}

/// Nodes that may stand between the codes of a weight and its layer.
fn is_movement(node: &NodeProto) -> bool {
    is(node, "Reshape") || is(node, "Transpose")
}

fn floats(name: &str, (dims, values): (Vec<i64>, Vec<f32>)) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims,
        data_type: data_type::FLOAT,
        float_data: values,
        ..TensorProto::default()
    }
}

/// Looks up constants and the nodes that write values.
struct Quantizers<'a> {
    constants: BTreeMap<&'a str, &'a TensorProto>,
    writers: BTreeMap<&'a str, &'a NodeProto>,
    content: &'a FileContent,
    external: &'a mut ExternalData,
}

impl<'a> Quantizers<'a> {
    fn of(graph: &'a GraphProto, content: &'a FileContent, external: &'a mut ExternalData) -> Self {
        let writers = graph.node.iter().flat_map(|node| {
            let outputs = node.output.iter().map(String::as_str);
            outputs.map(move |output| (output, node))
        });
        Self {
            constants: graph
                .initializer
                .iter()
                .map(|t| (t.name.as_str(), t))
                .collect(),
            writers: writers.collect(),
            content,
            external,
        }
    }

    /// A constant of floats.
    fn scales(&mut self, name: &str) -> Option<Vec<f32>> {
        let tensor = *self.constants.get(name)?;
        let (found, _) = read_tensor(tensor.clone(), self.content, self.external).ok()?;
        found.to_floats().ok()
    }

    /// A constant of integer codes.
    fn codes(&mut self, name: &str) -> Option<Vec<i32>> {
        let tensor = *self.constants.get(name)?;
        let count = tensor.dims.iter().try_fold(1usize, |count, dim| {
            count.checked_mul(usize::try_from(*dim).ok()?)
        })?;
        let raw = if tensor.data_location == DATA_LOCATION_EXTERNAL {
            Some(
                self.external
                    .bytes(&tensor.external_data)
                    .ok()?
                    .bytes()
                    .clone(),
            )
        } else {
            tensor.raw_data.clone().filter(|bytes| !bytes.is_empty())
        };
        let Some(raw) = raw else {
            let codes = &tensor.int32_data;
            return (codes.len() == count).then(|| codes.clone());
        };
        let codes = decoded(tensor.data_type, &raw)?;
        // Four bits fill up the last byte.
        (codes.len() == count || codes.len() == count + 1 && FOUR_BITS.contains(&tensor.data_type))
            .then(|| codes[..count].to_vec())
    }

    /// Zero points, and the type of the codes.
    fn zero_points(&mut self, node: &NodeProto, codes: Option<i32>) -> Option<(Vec<i32>, i32)> {
        match node.input.get(2).filter(|name| !name.is_empty()) {
            None => Some((vec![0], codes.unwrap_or(data_type::UINT8))),
            Some(name) => {
                let number = self.constants.get(name.as_str())?.data_type;
                Some((self.codes(name)?, number))
            }
        }
    }

    fn grids(&mut self, node: &NodeProto, codes: Option<(i32, (i32, i32))>) -> Option<StoredGrids> {
        let scales = self.scales(node.input.get(1)?)?;
        let (zero_points, number) = self.zero_points(node, codes.map(|codes| codes.0))?;
        let (bits, signed) = type_of(number)?;
        let limits = if signed {
            (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1)
        } else {
            (0, (1i64 << bits) - 1)
        };
        let limits = (limits.0 as i32, limits.1.min(i64::from(i32::MAX)) as i32);
        Some(StoredGrids {
            bits,
            signed,
            scales,
            zero_points,
            block: block_size(node),
            codes: codes.map_or(limits, |codes| codes.1),
        })
    }

    /// Grids of a value that a pair of quantizers passes on.
    fn computed(&mut self, name: &str) -> Option<StoredGrids> {
        let node = *self.writers.get(name)?;
        self.passed_through(node)?;
        self.grids(node, None)
    }

    /// Grids of a constant behind a `DequantizeLinear`, moved or not.
    fn constant(&mut self, name: &str) -> Option<StoredGrids> {
        let mut node = *self.writers.get(name)?;
        while is_movement(node) {
            node = self.writers.get(node.input.first()?.as_str()).copied()?;
        }
        if !is(node, "DequantizeLinear") {
            return None;
        }
        let source = node.input.first()?;
        let number = self.constants.get(source.as_str())?.data_type;
        let codes = self.codes(source)?;
        let range = (codes.iter().min().copied()?, codes.iter().max().copied()?);
        self.grids(node, Some((number, range)))
    }

    /// What a `DequantizeLinear` gives that directly follows a `QuantizeLinear` with the same grid.
    fn passed_through(&self, node: &NodeProto) -> Option<String> {
        if !is(node, "DequantizeLinear") {
            return None;
        }
        let before = *self.writers.get(node.input.first()?.as_str())?;
        let same = before.input.get(1..) == node.input.get(1..);
        (is(before, "QuantizeLinear") && same).then(|| before.input.first().cloned())?
    }

    /// The floats of a constant in half precision that a `Cast` reads, with their shape.
    fn widened(&mut self, node: &NodeProto) -> Option<(Vec<i64>, Vec<f32>)> {
        let source = node.input.first()?;
        let tensor = *self.constants.get(source.as_str())?;
        let half = [data_type::FLOAT16, data_type::BFLOAT16].contains(&tensor.data_type);
        let values = if half { self.scales(source) } else { None };
        Some((tensor.dims.clone(), values?))
    }

    /// The floats that a constant stands for, with their shape.
    fn dequantized(&mut self, node: &NodeProto) -> Option<(Vec<i64>, Vec<f32>)> {
        let source = node.input.first()?;
        let dims = self.constants.get(source.as_str())?.dims.clone();
        let number = self.constants.get(source.as_str())?.data_type;
        let codes = self.codes(source)?;
        let scales = self.scales(node.input.get(1)?)?;
        let (zero_points, _) = self.zero_points(node, Some(number))?;
        let layout = GridLayout::of(node, &dims, scales.len())?;
        let values = codes.iter().enumerate().map(|(at, code)| {
            let grid = layout.grid_of(at);
            let zero_point = zero_points.get(grid).or(zero_points.first())?;
            Some(code.wrapping_sub(*zero_point) as f32 * scales.get(grid)?)
        });
        Some((dims, values.collect::<Option<Vec<f32>>>()?))
    }
}

/// Which scale an element has.
struct GridLayout {
    /// Elements between two of one axis.
    inner: usize,
    /// Length of the axis.
    length: usize,
    /// Elements of the axis that share a scale; 0 for one scale of the whole tensor.
    block: usize,
    /// Scales along the axis.
    blocks: usize,
    blocked: bool,
}

impl GridLayout {
    fn of(node: &NodeProto, dims: &[i64], scales: usize) -> Option<Self> {
        let rank = dims.len() as i64;
        let attribute = |name: &str| {
            let found = node
                .attribute
                .iter()
                .find(|attribute| attribute.name == name);
            found.map(|attribute| attribute.i)
        };
        if scales == 1 {
            return Some(Self {
                inner: 1,
                length: 1,
                block: 0,
                blocks: 1,
                blocked: false,
            });
        }
        let axis = attribute("axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
        let length = usize::try_from(*dims.get(axis)?).ok()?;
        let inner = dims.get(axis + 1..)?.iter().product::<i64>();
        let block = block_size(node);
        let size = block.unwrap_or(1).max(1);
        Some(Self {
            inner: usize::try_from(inner).ok()?,
            length,
            block: size,
            blocks: length.div_ceil(size),
            blocked: block.is_some(),
        })
    }

    fn grid_of(&self, at: usize) -> usize {
        if self.block == 0 {
            return 0;
        }
        let inner = self.inner.max(1);
        let (row, column) = (at / inner, at % inner);
        let (outer, place) = (row / self.length.max(1), row % self.length.max(1));
        if self.blocked {
            // Scales have the shape of the tensor, but for the shorter axis.
            (outer * self.blocks + place / self.block) * inner + column
        } else {
            place
        }
    }
}

fn block_size(node: &NodeProto) -> Option<usize> {
    let found = node
        .attribute
        .iter()
        .find(|attribute| attribute.name == "block_size");
    found
        .and_then(|attribute| usize::try_from(attribute.i).ok())
        .filter(|size| *size > 0)
}

/// Bits and sign of an integer type.
fn type_of(number: i32) -> Option<(u8, bool)> {
    Some(match number {
        21 => (4, false),
        22 => (4, true),
        data_type::UINT8 => (8, false),
        data_type::INT8 => (8, true),
        data_type::UINT16 => (16, false),
        data_type::INT16 => (16, true),
        data_type::INT32 => (32, true),
        _ => return None,
    })
}

fn decoded(number: i32, raw: &[u8]) -> Option<Vec<i32>> {
    let signed_nibble = |nibble: u8| i32::from((nibble << 4).cast_signed() >> 4);
    Some(match number {
        21 => raw
            .iter()
            .flat_map(|byte| [byte & 15, byte >> 4])
            .map(i32::from)
            .collect(),
        22 => raw
            .iter()
            .flat_map(|byte| [byte & 15, byte >> 4])
            .map(signed_nibble)
            .collect(),
        data_type::UINT8 => raw.iter().copied().map(i32::from).collect(),
        data_type::INT8 => raw
            .iter()
            .map(|byte| i32::from(byte.cast_signed()))
            .collect(),
        data_type::UINT16 | data_type::INT16 => raw
            .chunks_exact(2)
            .map(|pair| {
                let code = u16::from_le_bytes([pair[0], pair[1]]);
                if number == data_type::INT16 {
                    i32::from(code.cast_signed())
                } else {
                    i32::from(code)
                }
            })
            .collect(),
        data_type::INT32 => raw
            .chunks_exact(4)
            .map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx::tests::{WithAttribute as _, floats, graph_mut, model, node, read};

    fn codes(name: &str, dims: &[i64], number: i32, raw: &[u8]) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type: number,
            raw_data: Some(raw.to_vec().into()),
            ..TensorProto::default()
        }
    }

    #[test]
    fn codes_become_the_floats_that_they_stand_for() {
        struct Case {
            number: i32,
            raw: &'static [u8],
            scales: (&'static [i64], &'static [f32]),
            zero_points: Option<&'static [u8]>,
            axis: i64,
            block: i64,
            expected: [f32; 6],
        }
        // A tensor [2, 3].
        for case in [
            Case {
                number: data_type::INT8,
                raw: &[1, 0xFF, 2, 3, 4, 0x80],
                scales: (&[], &[0.5]),
                zero_points: None,
                axis: 1,
                block: 0,
                expected: [0.5, -0.5, 1.0, 1.5, 2.0, -64.0],
            },
            Case {
                number: 22,
                raw: &[0x21, 0xF3, 0x87],
                scales: (&[2], &[1.0, 10.0]),
                zero_points: None,
                axis: 0,
                block: 0,
                expected: [1.0, 2.0, 3.0, -10.0, 70.0, -80.0],
            },
            Case {
                number: data_type::UINT8,
                raw: &[0, 1, 2, 3, 4, 5],
                scales: (&[3], &[1.0, 2.0, 3.0]),
                zero_points: Some(&[1, 1, 2]),
                axis: -1,
                block: 0,
                expected: [-1.0, 0.0, 0.0, 2.0, 6.0, 9.0],
            },
            Case {
                number: data_type::INT8,
                raw: &[1, 1, 1, 1, 1, 1],
                scales: (&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
                zero_points: None,
                axis: 1,
                block: 2,
                expected: [1.0, 1.0, 2.0, 3.0, 3.0, 4.0],
            },
        ] {
            let mut inputs = vec!["w_q", "s"];
            let mut tensors = vec![
                codes("w_q", &[2, 3], case.number, case.raw),
                floats("s", case.scales.0, case.scales.1),
            ];
            if let Some(raw) = case.zero_points {
                inputs.push("z");
                tensors.push(codes("z", case.scales.0, case.number, raw));
            }
            let dequantize = node("DequantizeLinear", &inputs, &["w"])
                .int("axis", case.axis)
                .int("block_size", case.block);
            let graph = read(&model(
                21,
                vec![dequantize, node("MatMul", &["x", "w"], &["y"])],
                tensors,
            ));
            let graph = graph.unwrap();
            let weight = graph.node(crate::model::NodeId(0)).input(1).unwrap();
            let found = graph
                .initializers()
                .get(&weight)
                .unwrap()
                .to_floats()
                .unwrap();
            assert_eq!(found, case.expected, "{}", case.number);
        }
    }

    #[test]
    fn a_pair_between_nodes_is_told_and_taken_out() {
        let tensors = vec![
            floats("s", &[], &[0.25]),
            codes("z", &[], data_type::UINT8, &[7]),
            floats("w", &[3, 2], &[1.0; 6]),
        ];
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"]),
            node("DequantizeLinear", &["q", "s", "z"], &["d"]),
            node("MatMul", &["d", "w"], &["y"]),
        ];
        let mut proto = model(13, nodes, tensors);
        graph_mut(&mut proto).node[2].name = "product".to_owned();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, proto.encode_to_vec()).unwrap();
        let graph = crate::model::load(&path).unwrap();
        let [product] = graph.nodes() else {
            panic!("{:?}", graph.nodes());
        };
        assert_eq!(product.input(0), Some(graph.inputs()[0]));
        let stored = stored_grids(&path).unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].name, "product");
        let grids = stored[0].input.as_ref().unwrap();
        assert_eq!(
            (grids.bits, grids.signed, grids.codes),
            (8, false, (0, 255))
        );
        assert_eq!(
            (&grids.scales[..], &grids.zero_points[..]),
            (&[0.25][..], &[7][..])
        );
        assert_eq!(stored[0].weight, None);
    }
}
