//! The profiles of the runtimes that plans are exported to.

use super::target::{
    ActivationCodes, BiasStorage, Claim, FileFormat, GranularityRule, OpRules, QuantizedTensors,
    TargetProfile, TensorRules,
};
use crate::quant::{NumberFormat, Scheme};

use GranularityRule::{PerChannel, PerGroup, PerTensor};
use NumberFormat::{BF16, F16, F32};
use Scheme::{Asymmetric, Symmetric};

/// All integer widths.
const ANY: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// Widths that are stored in a byte or less.
const NARROW: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];

/// An activation with one grid of either scheme.
const ANY_ACTIVATION: TensorRules = TensorRules {
    floats: &[F32, F16, BF16],
    schemes: &[Asymmetric, Symmetric],
    granularities: &[PerTensor],
    wide_is_symmetric: false,
};

/// A weight with any grids.
const ANY_WEIGHT: TensorRules = TensorRules {
    floats: &[F32, F16, BF16],
    schemes: &[Symmetric, Asymmetric],
    granularities: &[PerChannel, PerTensor, PerGroup],
    wide_is_symmetric: false,
};

/// Everything that ONNX can say.
const ONNX: OpRules = OpRules {
    ops: &[],
    activation_widths: ANY,
    weight_widths: ANY,
    weight_only_widths: ANY,
    float_weight_beside_integers: true,
    weight: ANY_WEIGHT,
    activation: ANY_ACTIVATION,
};

const ONNX_SPEC: &str = "https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html";
const ORT_DOC: &str =
    "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html";
const TENSORRT_DOC: &str = "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-with-quantized-types.html";
const OPENVINO_DOC: &str = "https://docs.openvino.ai/2024/documentation/openvino-ir-format/intermediate-representation-int8-inference.html";
const LITERT_DOC: &str = "https://developers.google.com/edge/litert/quantization/quantization_spec";
const TORCHAO_DOC: &str = "https://docs.pytorch.org/ao/stable/api_reference/generated/torchao.quantization.Int8WeightOnlyConfig.html";
const PT2E_DOC: &str =
    "https://docs.pytorch.org/ao/main/tutorials_source/pt2e_quant_x86_inductor.html";

const NARROW_WIDTHS: Claim = Claim {
    text: "Types are of 4, 8 and 16 bits; other widths are stored in the next larger one, and the narrower grid is kept by the codes of weights and by a Clip before the quantizer of an input",
    source: ONNX_SPEC,
};

impl TargetProfile {
    /// All profiles in the order of the menu.
    pub const ALL: [Self; 7] = [
        GENERIC,
        ONNX_RUNTIME,
        OPENVINO,
        TENSORRT,
        TFLITE,
        TFLITE_DYNAMIC,
        PYTORCH,
    ];
}

const GENERIC: TargetProfile = TargetProfile {
    name: "generic",
    label: "Generic ONNX",
    description: "ONNX with QuantizeLinear and DequantizeLinear, as it is computed here; any runtime that follows the specification",
    file: FileFormat::Onnx,
    rules: &[ONNX],
    own_grid_per_reader: true,
    bias: BiasStorage::Float,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Unsigned,
    packs_4_bits: true,
    fused_after_layer: &[],
    claims: &[
        NARROW_WIDTHS,
        Claim {
            text: "Types of 4 and 16 bits and grids per group need opset 21",
            source: ONNX_SPEC,
        },
    ],
};

const ONNX_RUNTIME: TargetProfile = TargetProfile {
    name: "onnxruntime",
    label: "ONNX Runtime",
    description: "QDQ model for the CPU provider",
    file: FileFormat::Onnx,
    rules: &[OpRules {
        float_weight_beside_integers: false,
        ..ONNX
    }],
    own_grid_per_reader: true,
    bias: BiasStorage::Int32,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Unsigned,
    packs_4_bits: true,
    fused_after_layer: &["Relu", "Clip"],
    claims: &[
        NARROW_WIDTHS,
        Claim {
            text: "Integer kernels take 8-bit weights and inputs with an int32 bias; every other width is dequantized and computed in float",
            source: ORT_DOC,
        },
        Claim {
            text: "Weights of 4 bits have integer kernels in MatMul only (MatMulNBits)",
            source: ORT_DOC,
        },
        Claim {
            text: "A float weight between a quantized input and a quantized output is quantized to 8 bits with one grid when a graph is optimised (WeightBiasQuantization)",
            source: "found by running ONNX Runtime 1.32",
        },
    ],
};

const OPENVINO: TargetProfile = TargetProfile {
    name: "openvino",
    label: "OpenVINO",
    description: "QDQ model that the ONNX reader turns into 8-bit kernels",
    file: FileFormat::Onnx,
    rules: &[OpRules {
        ops: &[],
        activation_widths: &[8],
        weight_widths: &[8],
        weight_only_widths: &[4, 8],
        float_weight_beside_integers: true,
        weight: TensorRules {
            floats: &[F32, F16, BF16],
            schemes: &[Symmetric],
            granularities: &[PerChannel, PerTensor],
            wide_is_symmetric: false,
        },
        activation: TensorRules {
            floats: &[F32, F16, BF16],
            schemes: &[Asymmetric, Symmetric],
            granularities: &[PerTensor],
            wide_is_symmetric: false,
        },
    }],
    own_grid_per_reader: false,
    bias: BiasStorage::Float,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Unsigned,
    packs_4_bits: true,
    fused_after_layer: &["Relu", "Clip", "Add"],
    claims: &[
        Claim {
            text: "A layer runs on 8 bits where both weight and input are quantized, with 255 or 256 levels",
            source: OPENVINO_DOC,
        },
        Claim {
            text: "A product of 8-bit weights and a float input (FullyConnected) quantizes the input while it runs, in groups of 32 and also with f32 as the precision asked for; the property DYNAMIC_QUANTIZATION_GROUP_SIZE = 0 keeps it in float",
            source: "found by running OpenVINO 2026.4",
        },
        Claim {
            text: "Weights of 4 bits are compression only: they are expanded beside a float input",
            source: "https://docs.openvino.ai/2024/openvino-workflow/model-optimization-guide/weight-compression.html",
        },
    ],
};

const TENSORRT: TargetProfile = TargetProfile {
    name: "tensorrt",
    label: "TensorRT",
    description: "Explicit QDQ model for strongly typed networks",
    file: FileFormat::Onnx,
    rules: &[
        OpRules {
            ops: &["Gemm", "MatMul"],
            weight_only_widths: &[4],
            weight: TensorRules {
                floats: &[F16, BF16, F32],
                schemes: &[Symmetric],
                granularities: &[PerChannel, PerTensor, PerGroup],
                wide_is_symmetric: false,
            },
            ..TENSORRT_CONV
        },
        TENSORRT_CONV,
    ],
    own_grid_per_reader: false,
    bias: BiasStorage::Float,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Signed,
    packs_4_bits: true,
    fused_after_layer: &["Relu", "Clip", "Add"],
    claims: &[
        Claim {
            text: "All grids are symmetric, scale = max|x| / 127, and a zero point other than 0 is refused",
            source: TENSORRT_DOC,
        },
        Claim {
            text: "Integers are int8 for weights with inputs, and int4 for weights alone; int16 is not a type",
            source: TENSORRT_DOC,
        },
        Claim {
            text: "Inputs have one scale; weights of convolutions have one for each output channel, those of matrix products may have blocks",
            source: TENSORRT_DOC,
        },
    ],
};

const TENSORRT_CONV: OpRules = OpRules {
    ops: &[],
    activation_widths: &[8],
    weight_widths: &[8],
    weight_only_widths: &[],
    float_weight_beside_integers: false,
    weight: TensorRules {
        floats: &[F16, BF16, F32],
        schemes: &[Symmetric],
        granularities: &[PerChannel, PerTensor],
        wide_is_symmetric: false,
    },
    activation: TensorRules {
        floats: &[F16, BF16, F32],
        schemes: &[Symmetric],
        granularities: &[PerTensor],
        wide_is_symmetric: false,
    },
};

const TFLITE: TargetProfile = TargetProfile {
    name: "tflite",
    label: "TFLite integer-only",
    description: "Everything in integers: int8, or int16 activations with int8 weights",
    file: FileFormat::Tflite,
    rules: &[OpRules {
        ops: &[],
        activation_widths: &[8, 16],
        weight_widths: NARROW,
        weight_only_widths: &[],
        float_weight_beside_integers: false,
        weight: TensorRules {
            floats: &[],
            schemes: &[Symmetric],
            granularities: &[PerChannel, PerTensor],
            wide_is_symmetric: false,
        },
        activation: TensorRules {
            floats: &[],
            schemes: &[Asymmetric, Symmetric],
            granularities: &[PerTensor],
            wide_is_symmetric: true,
        },
    }],
    own_grid_per_reader: false,
    bias: BiasStorage::Int32,
    tensors: QuantizedTensors::EveryEdge,
    activation_codes: ActivationCodes::Signed,
    packs_4_bits: true,
    fused_after_layer: &["Relu", "Clip"],
    claims: &[
        Claim {
            text: "Weights are symmetric in −127..127 with zero point 0, per channel in convolutions",
            source: LITERT_DOC,
        },
        Claim {
            text: "Activations are asymmetric int8 with one grid; int16 ones are symmetric",
            source: LITERT_DOC,
        },
        Claim {
            text: "Weights of at most 4 bits beside int8 inputs are stored in int4 where the kernel takes that (Conv without groups, Gemm, MatMul), all others in int8; the narrower grid is kept by the codes",
            source: "single operators run in ai-edge-litert 2.3.0, which registers int4 weights for CONV_2D and FULLY_CONNECTED",
        },
        Claim {
            text: "The bias is int32 with scale s_x · s_w and zero point 0, int64 beside int16 inputs",
            source: LITERT_DOC,
        },
    ],
};

const TFLITE_DYNAMIC: TargetProfile = TargetProfile {
    name: "tflite-dynamic",
    label: "TFLite dynamic-range",
    description: "8-bit weights; activations are float in the file and quantized by the runtime",
    file: FileFormat::Tflite,
    rules: &[OpRules {
        ops: &["Conv", "Gemm", "MatMul"],
        activation_widths: &[],
        weight_widths: &[],
        weight_only_widths: NARROW,
        float_weight_beside_integers: false,
        weight: TensorRules {
            floats: &[F32],
            schemes: &[Symmetric],
            granularities: &[PerChannel, PerTensor],
            wide_is_symmetric: false,
        },
        activation: TensorRules {
            floats: &[F32],
            schemes: &[Asymmetric],
            granularities: &[PerTensor],
            wide_is_symmetric: false,
        },
    }],
    own_grid_per_reader: true,
    bias: BiasStorage::Float,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Signed,
    packs_4_bits: true,
    fused_after_layer: &["Relu", "Clip"],
    claims: &[Claim {
        text: "Only weights are integers in the file; kernels quantize activations while they run",
        source: "https://developers.google.com/edge/litert/conversion/tensorflow/quantization/post_training_quant",
    }],
};

const PYTORCH: TargetProfile = TargetProfile {
    name: "pytorch",
    label: "PyTorch",
    description: "Packed weights and a script that rebuilds the network and computes it as it is computed here; settings for PyTorch's own quantizers beside it",
    file: FileFormat::SafeTensors,
    rules: &[ONNX],
    own_grid_per_reader: true,
    bias: BiasStorage::Float,
    tensors: QuantizedTensors::LayerInputs,
    activation_codes: ActivationCodes::Unsigned,
    packs_4_bits: true,
    fused_after_layer: &[],
    claims: &[
        Claim {
            text: "Codes of every width are packed bit by bit; convolutions add up products of codes, and other layers compute in float with what the codes stand for",
            source: "the script that is exported",
        },
        Claim {
            text: "The x86 quantizer has kernels for uint8 activations with one grid and int8 weights with one scale per output channel",
            source: PT2E_DOC,
        },
        Claim {
            text: "Weight-only types of torchao are for linear layers: int8 per channel, int4 per group",
            source: TORCHAO_DOC,
        },
    ],
};
