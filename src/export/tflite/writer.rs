//! A `TFLite` model as the bytes of a flatbuffer.
//!
//! Equal models give equal bytes.

use std::collections::BTreeMap;

use flatbuffers::{
    FlatBufferBuilder, ForwardsUOffset, Push, TableFinishedWIPOffset, UnionWIPOffset, Vector,
    WIPOffset,
};

use super::file::{Operator, Options, Tensor, TfliteFile, Window};
use super::schema::{
    BUFFER_ALIGNMENT, Builtin, Fused, IDENTIFIER, VERSION, buffer, model, operator, operator_code,
    quantization, signature, slot, sub_graph, tensor,
};

type Builder = FlatBufferBuilder<'static>;
type Table = WIPOffset<TableFinishedWIPOffset>;
type Tables = Offsets<ForwardsUOffset<TableFinishedWIPOffset>>;
type Offsets<T> = WIPOffset<Vector<'static, T>>;

/// The content of the file.
pub(super) fn bytes(file: &TfliteFile) -> Vec<u8> {
    let mut writer = Writer {
        builder: Builder::new(),
    };
    let root = writer.model(file);
    // The header of 8 bytes ends where the buffers' alignment is counted from.
    writer.align_to_buffers(8);
    writer.builder.finish(root, Some(IDENTIFIER));
    writer.builder.finished_data().to_vec()
}

struct Writer {
    builder: Builder,
}

impl Writer {
    fn model(&mut self, file: &TfliteFile) -> Table {
        let codes = codes(file);
        let buffers = self.buffers(file);
        let tensors = self.tensors(file);
        let operators = self.operators(file, &codes);
        let subgraph = self.subgraph(file, &tensors, &operators);
        let subgraphs = self.builder.create_vector(&[subgraph]);
        let signatures = self.signatures(file);
        let codes: Vec<Table> = codes
            .keys()
            .map(|(builtin, version)| self.operator_code(*builtin, *version))
            .collect();
        let codes = self.builder.create_vector(&codes);
        let description = self.builder.create_string(&file.description);
        let table = self.builder.start_table();
        self.builder.push_slot_always(model::VERSION, VERSION);
        self.builder.push_slot_always(model::OPERATOR_CODES, codes);
        self.builder.push_slot_always(model::SUBGRAPHS, subgraphs);
        self.builder
            .push_slot_always(model::DESCRIPTION, description);
        self.builder.push_slot_always(model::BUFFERS, buffers);
        self.builder
            .push_slot_always(model::SIGNATURE_DEFS, signatures);
        self.builder.end_table(table)
    }

    /// Bytes of zero, so that what is written next and is `len` bytes long starts at a buffer's alignment.
    ///
    /// A flatbuffer is written from its end, which is at a multiple of the alignment.
    fn align_to_buffers(&mut self, len: usize) {
        while !(self.builder.unfinished_data().len() + len).is_multiple_of(BUFFER_ALIGNMENT) {
            self.builder.push(0u8);
        }
    }

    /// Buffer 0 is empty by convention; those of constants follow in the order of the tensors.
    fn buffers(&mut self, file: &TfliteFile) -> Tables {
        let empty = self.builder.start_table();
        let mut all = vec![self.builder.end_table(empty)];
        let constants = file.tensors.iter().filter_map(|one| one.data.as_ref());
        for data in constants {
            self.align_to_buffers(data.len());
            let data = self.builder.create_vector(data);
            let table = self.builder.start_table();
            self.builder.push_slot_always(buffer::DATA, data);
            all.push(self.builder.end_table(table));
        }
        self.builder.create_vector(&all)
    }

    fn tensors(&mut self, file: &TfliteFile) -> Vec<Table> {
        let mut buffers = 0;
        let mut tables = Vec::new();
        for one in &file.tensors {
            let own = if one.data.is_some() {
                buffers += 1;
                buffers
            } else {
                0
            };
            tables.push(self.tensor(one, own));
        }
        tables
    }

    fn tensor(&mut self, one: &Tensor, own_buffer: u32) -> Table {
        let lengths: Vec<i32> = one.shape.iter().map(|length| *length as i32).collect();
        let shape = self.builder.create_vector(&lengths);
        let free = |axis: usize| one.free_axes.contains(&axis);
        let declared = (0..).zip(&lengths);
        let declared: Vec<i32> = declared
            .map(|(axis, length)| if free(axis) { -1 } else { *length })
            .collect();
        let declared = (!one.free_axes.is_empty()).then(|| self.builder.create_vector(&declared));
        let name = self.builder.create_string(&one.name);
        let quantized = one.quantization.as_ref().map(|one| {
            let scales = self.builder.create_vector(&one.scales);
            let zero_points = self.builder.create_vector(&one.zero_points);
            let table = self.builder.start_table();
            self.builder.push_slot_always(quantization::SCALE, scales);
            self.builder
                .push_slot_always(quantization::ZERO_POINT, zero_points);
            self.builder
                .push_slot(quantization::QUANTIZED_DIMENSION, one.axis as i32, 0);
            self.builder.end_table(table)
        });
        let table = self.builder.start_table();
        self.builder.push_slot_always(tensor::SHAPE, shape);
        self.builder.push_slot(tensor::TYPE, one.kind as i8, 0);
        self.builder.push_slot(tensor::BUFFER, own_buffer, 0);
        self.builder.push_slot_always(tensor::NAME, name);
        if let Some(quantized) = quantized {
            self.builder
                .push_slot_always(tensor::QUANTIZATION, quantized);
        }
        if let Some(declared) = declared {
            self.builder
                .push_slot_always(tensor::SHAPE_SIGNATURE, declared);
        }
        self.builder.push_slot(tensor::HAS_RANK, true, false);
        self.builder.end_table(table)
    }

    fn operators(&mut self, file: &TfliteFile, codes: &Codes) -> Vec<Table> {
        let mut tables = Vec::new();
        for one in &file.operators {
            let index = codes.get(&(one.builtin, one.version)).copied();
            tables.push(self.operator(one, index.unwrap_or_default()));
        }
        tables
    }

    fn operator(&mut self, one: &Operator, code: u32) -> Table {
        let inputs: Vec<i32> = one
            .inputs
            .iter()
            .map(|input| input.map_or(-1, |index| index as i32))
            .collect();
        let inputs = self.builder.create_vector(&inputs);
        let outputs = self.indices(&one.outputs);
        let (kind, options) = self.options(one);
        let table = self.builder.start_table();
        self.builder.push_slot(operator::OPCODE_INDEX, code, 0);
        self.builder.push_slot_always(operator::INPUTS, inputs);
        self.builder.push_slot_always(operator::OUTPUTS, outputs);
        if kind > 0 {
            self.builder
                .push_slot_always(operator::BUILTIN_OPTIONS_TYPE, kind);
            self.builder.push_slot_always(
                operator::BUILTIN_OPTIONS,
                WIPOffset::<UnionWIPOffset>::new(options.value()),
            );
        }
        self.builder.end_table(table)
    }

    /// The type in the union `BuiltinOptions`, and the table.
    ///
    /// Fields are in the order of the table's definition in the schema.
    fn options(&mut self, one: &Operator) -> (u8, Table) {
        match &one.options {
            Options::Empty => (empty_options(one.builtin), self.table(&[])),
            Options::Conv {
                window,
                dilations,
                fused,
            } => {
                let [height, width] = *dilations;
                let mut fields = window_fields(window);
                fields.extend([(3, Field::Byte(*fused as i8))]);
                fields.extend([(4, length(width)), (5, length(height))]);
                (1, self.table(&fields))
            }
            Options::DepthwiseConv {
                window,
                multiplier,
                dilations,
                fused,
            } => {
                let [height, width] = *dilations;
                let mut fields = window_fields(window);
                fields.extend([(3, length(*multiplier)), (4, Field::Byte(*fused as i8))]);
                fields.extend([(5, length(width)), (6, length(height))]);
                (2, self.table(&fields))
            }
            Options::Pool { window, kernel } => {
                let [height, width] = *kernel;
                let mut fields = window_fields(window);
                fields.extend([(3, length(width)), (4, length(height))]);
                (5, self.table(&fields))
            }
            Options::FullyConnected { fused, asymmetric } => {
                // The rank of the input is kept (`keep_num_dims`).
                let fields = [
                    (0, Field::Byte(*fused as i8)),
                    (2, Field::Bool(true)),
                    (3, Field::Bool(*asymmetric)),
                ];
                (8, self.table(&fields))
            }
            Options::TransposeConv { window, fused } => {
                let mut fields = window_fields(window);
                fields.push((3, Field::Byte(*fused as i8)));
                (49, self.table(&fields))
            }
            Options::Softmax => (9, self.table(&[(0, Field::Float(1.0))])),
            Options::Concatenation { axis } => (10, self.table(&[(0, length(*axis))])),
            // Scales of 16 bits are no powers of two (`pot_scale_int16`), whose default is true.
            Options::Add { fused } => (11, self.sum(*fused)),
            Options::Sub { fused } => (28, self.sum(*fused)),
            Options::Mul { fused } => (21, self.table(&[(0, Field::Byte(*fused as i8))])),
            Options::Reshape { shape } => {
                let shape = self.builder.create_vector(shape);
                let table = self.builder.start_table();
                self.builder.push_slot_always(slot(0), shape);
                (17, self.builder.end_table(table))
            }
            Options::ResizeBilinear {
                align_corners,
                half_pixel_centers,
            } => {
                let fields = [
                    (2, Field::Bool(*align_corners)),
                    (3, Field::Bool(*half_pixel_centers)),
                ];
                (15, self.table(&fields))
            }
            Options::ResizeNearest {
                align_corners,
                half_pixel_centers,
            } => {
                let fields = [
                    (0, Field::Bool(*align_corners)),
                    (1, Field::Bool(*half_pixel_centers)),
                ];
                (74, self.table(&fields))
            }
            Options::Mean { keep_dims } => (27, self.table(&[(0, Field::Bool(*keep_dims))])),
            Options::StridedSlice {
                begin_mask,
                end_mask,
            } => {
                let fields = [(0, Field::Int(*begin_mask)), (1, Field::Int(*end_mask))];
                (32, self.table(&fields))
            }
            Options::LeakyRelu { alpha } => (75, self.table(&[(0, Field::Float(*alpha))])),
        }
    }

    fn sum(&mut self, fused: Fused) -> Table {
        self.table(&[(0, Field::Byte(fused as i8)), (1, Field::Bool(false))])
    }

    /// A table of plain fields, each with its id.
    fn table(&mut self, fields: &[(u16, Field)]) -> Table {
        let table = self.builder.start_table();
        for (id, field) in fields {
            match *field {
                Field::Byte(value) => self.builder.push_slot_always(slot(*id), value),
                Field::Bool(value) => self.builder.push_slot_always(slot(*id), value),
                Field::Int(value) => self.builder.push_slot_always(slot(*id), value),
                Field::Float(value) => self.builder.push_slot_always(slot(*id), value),
            }
        }
        self.builder.end_table(table)
    }

    fn indices(&mut self, tensors: &[usize]) -> Offsets<i32> {
        let indices: Vec<i32> = tensors.iter().map(|index| *index as i32).collect();
        self.vector(&indices)
    }

    fn vector<T: Push + Copy + 'static>(&mut self, items: &[T]) -> Offsets<T::Output>
    where
        T::Output: Push,
    {
        WIPOffset::new(self.builder.create_vector(items).value())
    }

    fn subgraph(&mut self, file: &TfliteFile, tensors: &[Table], operators: &[Table]) -> Table {
        let tensors = self.builder.create_vector(tensors);
        let operators = self.builder.create_vector(operators);
        let inputs = self.indices(&file.inputs);
        let outputs = self.indices(&file.outputs);
        let name = self.builder.create_string(&file.name);
        let table = self.builder.start_table();
        self.builder.push_slot_always(sub_graph::TENSORS, tensors);
        self.builder.push_slot_always(sub_graph::INPUTS, inputs);
        self.builder.push_slot_always(sub_graph::OUTPUTS, outputs);
        self.builder
            .push_slot_always(sub_graph::OPERATORS, operators);
        self.builder.push_slot_always(sub_graph::NAME, name);
        self.builder.end_table(table)
    }

    /// One signature that gives inputs and outputs their names.
    fn signatures(&mut self, file: &TfliteFile) -> Tables {
        let inputs = self.tensor_maps(file, &file.inputs);
        let outputs = self.tensor_maps(file, &file.outputs);
        let key = self.builder.create_string("serving_default");
        let table = self.builder.start_table();
        self.builder.push_slot_always(signature::INPUTS, inputs);
        self.builder.push_slot_always(signature::OUTPUTS, outputs);
        self.builder.push_slot_always(signature::KEY, key);
        let table = self.builder.end_table(table);
        self.builder.create_vector(&[table])
    }

    fn tensor_maps(&mut self, file: &TfliteFile, tensors: &[usize]) -> Tables {
        let mut maps = Vec::new();
        for index in tensors {
            let name = file.tensors.get(*index).map(|one| one.name.as_str());
            let name = self.builder.create_string(name.unwrap_or_default());
            let table = self.builder.start_table();
            self.builder.push_slot_always(signature::MAP_NAME, name);
            self.builder
                .push_slot(signature::MAP_TENSOR, *index as u32, 0);
            maps.push(self.builder.end_table(table));
        }
        self.builder.create_vector(&maps)
    }

    fn operator_code(&mut self, builtin: Builtin, version: i32) -> Table {
        let table = self.builder.start_table();
        self.builder.push_slot(
            operator_code::DEPRECATED_BUILTIN_CODE,
            builtin as i32 as i8,
            0,
        );
        self.builder.push_slot(operator_code::VERSION, version, 1);
        self.builder
            .push_slot(operator_code::BUILTIN_CODE, builtin as i32, 0);
        self.builder.end_table(table)
    }
}

/// Index of every pair of operator and version.
type Codes = BTreeMap<(Builtin, i32), u32>;

fn codes(file: &TfliteFile) -> Codes {
    let pairs = file.operators.iter().map(|one| (one.builtin, one.version));
    let mut codes: Codes = pairs.map(|pair| (pair, 0)).collect();
    for (index, code) in (0..).zip(codes.values_mut()) {
        *code = index;
    }
    codes
}

/// A plain field of a table of options.
#[derive(Clone, Copy, Debug)]
enum Field {
    Byte(i8),
    Bool(bool),
    Int(i32),
    Float(f32),
}

fn length(value: usize) -> Field {
    Field::Int(value as i32)
}

/// `padding`, `stride_w` and `stride_h`, with which the options of all windows begin.
fn window_fields(window: &Window) -> Vec<(u16, Field)> {
    let [height, width] = window.strides;
    vec![
        (0, Field::Byte(window.padding as i8)),
        (1, length(width)),
        (2, length(height)),
    ]
}

/// Types of options without fields in the union `BuiltinOptions`; 0 where an operator has none.
fn empty_options(builtin: Builtin) -> u8 {
    match builtin {
        Builtin::Pad => 22,
        Builtin::Transpose => 26,
        Builtin::PadV2 => 43,
        Builtin::Quantize => 89,
        Builtin::HardSwish => 91,
        _ => 0,
    }
}
