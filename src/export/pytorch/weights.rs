//! Layers and constants as tensors of a `.safetensors` file.
//!
//! The names are those of the state dict of the module that the script builds. For a layer at the path `P`:
//!
//! | tensor | what it is |
//! |---|---|
//! | `P.weight.codes` | codes of an integer weight: `I8`, `U8`, `I16` or `U16` in its shape, or packed fields as `U8` (see [`CodeFields`]) |
//! | `P.weight.scale` | `F32`: `[]`, `[channels]`, or `[channels, groups]` |
//! | `P.weight.zero_point` | `U8` or `U16` in the shape of the scale; absent where all are 0 |
//! | `P.weight` | a weight that stays float: `F32`, `F16` or `BF16` |
//! | `P.bias` | `F32` |
//! | `P.input.scale`, `P.input.zero_point` | the grid of the input, of rank 0; the zero point is absent where it is 0 by the scheme |
//!
//! Other constants have their own paths. The metadata has one entry, `quantscope`, with a JSON document:
//! for every layer its name in the model, its path, and what a reader must know of the codes
//! (`tensor`, `bits`, `shape`, `axis`, `group`, `step`, `offset`) and of the input (`q_min`, `q_max`, or
//! `type` for half precision). A weight that several layers read in the same way is stored once.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::packing::CodeFields;
use crate::export::ExportError;
use crate::export::quantized::QuantizedLayer;
use crate::model::{Graph, Initializer, Layer, ValueId};
use crate::quant::{
    ActivationQuantizer, Granularity, Grid, HalfFormat, NumberFormat, QuantizedWeights,
};

/// Tensors to be written.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    by_name: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    layers: Vec<Value>,
    stored: BTreeMap<String, Value>,
}

impl Tensors {
    /// Adds a layer under its path.
    ///
    /// # Errors
    /// A weight or bias that cannot be read.
    pub(super) fn layer(
        &mut self,
        graph: &Graph,
        layer: &Layer,
        one: &QuantizedLayer,
        path: &str,
    ) -> Result<(), ExportError> {
        let weight = match (&one.weight, one.weight_spec.format) {
            (Some(weight), NumberFormat::Int(bits)) => {
                self.integer_weight(layer, one, weight, bits.get(), path)
            }
            (Some(weight), NumberFormat::F16) => {
                self.halves(&format!("{path}.weight"), layer, weight, HalfFormat::F16)
            }
            (Some(weight), _) => {
                self.halves(&format!("{path}.weight"), layer, weight, HalfFormat::BF16)
            }
            (None, _) => {
                self.constant(graph, layer.weight, &format!("{path}.weight"))?;
                Value::Null
            }
        };
        if let Some(bias) = layer.bias {
            self.constant(graph, bias, &format!("{path}.bias"))?;
        }
        let input = self.input(&one.activation, path);
        self.layers.push(json!({
            "name": layer.name, "module": path, "op": layer.op, "weight": weight, "input": input,
        }));
        Ok(())
    }

    fn integer_weight(
        &mut self,
        layer: &Layer,
        one: &QuantizedLayer,
        weight: &QuantizedWeights,
        bits: u8,
        path: &str,
    ) -> Value {
        let key = format!(
            "{} {:?} {}",
            layer.weight.0, one.weight_spec, layer.channel_axis
        );
        // Rounding on data can give the same weight other codes in another layer.
        if let Some(facts) = self.stored.get(&key)
            && self.has_codes(facts, weight, bits)
        {
            return facts.clone();
        }
        let fields = fields_of(weight, bits);
        let codes = weight.codes();
        let scales = scales(weight, fields, &codes);
        let dims = grid_dims(layer, one.weight_spec.granularity, weight.grids.len());
        let base = format!("{path}.weight");
        let (kind, shape) = match (fields.bits, fields.signed) {
            (8, true) => (Dtype::I8, layer.weight_shape.clone()),
            (8, false) => (Dtype::U8, layer.weight_shape.clone()),
            (16, true) => (Dtype::I16, layer.weight_shape.clone()),
            (16, false) => (Dtype::U16, layer.weight_shape.clone()),
            _ => (
                Dtype::U8,
                vec![(codes.len() * usize::from(bits)).div_ceil(8)],
            ),
        };
        self.add(format!("{base}.codes"), kind, shape, fields.bytes(&codes));
        self.add(
            format!("{base}.scale"),
            Dtype::F32,
            dims.clone(),
            floats(&scales),
        );
        if weight.grids.iter().any(|grid| grid.zero_point() != 0) {
            let points: Vec<i32> = weight.grids.iter().map(Grid::zero_point).collect();
            let (kind, bytes) = zero_points(&points, bits);
            self.add(format!("{base}.zero_point"), kind, dims, bytes);
        }
        let group = match one.weight_spec.granularity {
            Granularity::PerGroup(size) => json!(size.get()),
            Granularity::PerTensor | Granularity::PerChannel => Value::Null,
        };
        let facts = json!({
            "tensor": base, "bits": bits, "shape": layer.weight_shape, "axis": layer.channel_axis,
            "group": group, "step": fields.step(), "offset": fields.offset(),
        });
        self.stored.insert(key, facts.clone());
        facts
    }

    /// Whether the tensor of `facts` holds these codes.
    fn has_codes(&self, facts: &Value, weight: &QuantizedWeights, bits: u8) -> bool {
        let name = facts["tensor"].as_str().unwrap_or_default();
        let bytes = fields_of(weight, bits).bytes(&weight.codes());
        let stored = self.by_name.get(&format!("{name}.codes"));
        stored.is_some_and(|(_, _, stored)| *stored == bytes)
    }

    fn input(&mut self, quantizer: &ActivationQuantizer, path: &str) -> Value {
        match quantizer {
            ActivationQuantizer::Identity => Value::Null,
            ActivationQuantizer::Half(HalfFormat::F16) => json!({"type": "F16"}),
            ActivationQuantizer::Half(HalfFormat::BF16) => json!({"type": "BF16"}),
            ActivationQuantizer::Affine(grid) => {
                let scale = floats(&[grid.scale()]);
                self.add(format!("{path}.input.scale"), Dtype::F32, Vec::new(), scale);
                if grid.q_min() == 0 {
                    let bits = (grid.levels() - 1).ilog2() as u8 + 1;
                    let (kind, bytes) = zero_points(&[grid.zero_point()], bits);
                    self.add(format!("{path}.input.zero_point"), kind, Vec::new(), bytes);
                }
                json!({"q_min": grid.q_min(), "q_max": grid.q_max()})
            }
        }
    }

    fn halves(
        &mut self,
        name: &str,
        layer: &Layer,
        weight: &QuantizedWeights,
        format: HalfFormat,
    ) -> Value {
        let (kind, bits): (Dtype, fn(f32) -> u16) = match format {
            HalfFormat::F16 => (Dtype::F16, |value| f16::from_f32(value).to_bits()),
            HalfFormat::BF16 => (Dtype::BF16, |value| bf16::from_f32(value).to_bits()),
        };
        let values = weight.dequantized.iter();
        let bytes = values.flat_map(|value| bits(*value).to_le_bytes());
        self.add(
            name.to_owned(),
            kind,
            layer.weight_shape.clone(),
            bytes.collect(),
        );
        Value::Null
    }

    /// Adds a constant of the graph as it is.
    ///
    /// # Errors
    /// The model's file was changed since it was opened.
    pub(super) fn constant(
        &mut self,
        graph: &Graph,
        id: ValueId,
        path: &str,
    ) -> Result<(), ExportError> {
        let name = &graph.value(id).name;
        let failed = |error: &dyn std::fmt::Display| ExportError::node(name, error.to_string());
        let constant = graph
            .initializers()
            .get(&id)
            .ok_or_else(|| failed(&"it is not a constant of the network"))?;
        let dims = constant.dims().to_vec();
        let (kind, bytes) = bytes_of(constant).map_err(|error| failed(&error))?;
        self.add(path.to_owned(), kind, dims, bytes);
        Ok(())
    }

    fn add(&mut self, name: String, kind: Dtype, dims: Vec<usize>, bytes: Vec<u8>) {
        self.by_name.insert(name, (kind, dims, bytes));
    }

    /// Bytes of all tensors together.
    pub(super) fn size_bytes(&self) -> u64 {
        self.by_name
            .values()
            .map(|(_, _, bytes)| bytes.len() as u64)
            .sum()
    }

    /// The file.
    ///
    /// # Errors
    /// A tensor whose bytes do not fit its shape.
    pub(super) fn file(&self, model: &str, origin: &str) -> Result<Vec<u8>, ExportError> {
        let failed = |error: safetensors::SafeTensorError| ExportError::Message(error.to_string());
        let mut views = Vec::with_capacity(self.by_name.len());
        for (name, (kind, dims, bytes)) in &self.by_name {
            let view = TensorView::new(*kind, dims.clone(), bytes).map_err(failed)?;
            views.push((name, view));
        }
        // One entry only: the order of several would change from run to run.
        let about = json!({
            "layout": 1,
            "program": format!("quantscope {}", env!("CARGO_PKG_VERSION")),
            "model": model,
            "origin": origin,
            "layers": self.layers,
        });
        let about = HashMap::from([("quantscope".to_owned(), about.to_string())]);
        safetensors::serialize(views, Some(about)).map_err(failed)
    }
}

fn fields_of(weight: &QuantizedWeights, bits: u8) -> CodeFields {
    CodeFields {
        bits,
        signed: weight.grids.iter().any(|grid| grid.q_min() < 0),
    }
}

/// The scales; 0 for a grid whose 1-bit weights are all zero, since such fields have no code for it.
fn scales(weight: &QuantizedWeights, fields: CodeFields, codes: &[i32]) -> Vec<f32> {
    let mut scales: Vec<f32> = weight.grids.iter().map(Grid::scale).collect();
    if fields.step() == 2 {
        for (index, code) in codes.iter().enumerate() {
            let grid = weight.grid_index_at(index);
            if let (0, Some(scale)) = (*code, grid.and_then(|grid| scales.get_mut(grid))) {
                *scale = 0.0;
            }
        }
    }
    scales
}

/// Shape of the scales.
fn grid_dims(layer: &Layer, granularity: Granularity, grids: usize) -> Vec<usize> {
    let channels = layer
        .weight_shape
        .get(layer.channel_axis)
        .copied()
        .unwrap_or(1);
    match granularity {
        _ if grids == 1 => Vec::new(),
        Granularity::PerGroup(_) => vec![channels, grids / channels.max(1)],
        Granularity::PerTensor | Granularity::PerChannel => vec![grids],
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Zero points in whole bytes that hold one code.
fn zero_points(points: &[i32], bits: u8) -> (Dtype, Vec<u8>) {
    if bits <= 8 {
        (Dtype::U8, points.iter().map(|point| *point as u8).collect())
    } else {
        let bytes = points
            .iter()
            .flat_map(|point| (*point as u16).to_le_bytes());
        (Dtype::U16, bytes.collect())
    }
}

fn bytes_of(constant: &Initializer) -> Result<(Dtype, Vec<u8>), ExportError> {
    let failed = |error: candle_core::Error| ExportError::Message(error.to_string());
    let tensor = constant
        .tensor()
        .map_err(|error| ExportError::Message(error.to_string()))?;
    let flat = tensor.flatten_all().map_err(failed)?;
    Ok(match constant.dtype() {
        candle_core::DType::F32 => (Dtype::F32, floats(&flat.to_vec1::<f32>().map_err(failed)?)),
        candle_core::DType::U8 => (Dtype::BOOL, flat.to_vec1::<u8>().map_err(failed)?),
        _ => {
            let values = flat.to_vec1::<i64>().map_err(failed)?;
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (Dtype::I64, bytes.collect())
        }
    })
}
