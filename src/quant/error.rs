//! Errors of number formats, grids, observers and calibrators.

/// A request that the arithmetic of quantization cannot fulfil.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A text that is not a value of the type asked for.
    #[error("{text:?} is not a {what}. Expected {expected}")]
    Parse {
        /// The type asked for, for instance `number format`.
        what: &'static str,
        /// The text.
        text: String,
        /// The accepted forms.
        expected: &'static str,
    },
    /// A width outside `1..=16`.
    #[error("{0} bits are not supported. Choose 1 to 16 bits, or f16, bf16 or f32")]
    BitWidth(u32),
    /// A range with a NaN or infinite end, or with `min > max`.
    #[error(
        "[{min}, {max}] is not a range. Both ends must be finite and the first not above the second"
    )]
    Range {
        /// The lower end.
        min: f32,
        /// The upper end.
        max: f32,
    },
    /// A grid that breaks its own rules.
    #[error(
        "scale {scale}, zero point {zero_point}, codes {q_min}..={q_max} are not a grid. \
         The scale must be finite and above 0, and q_min <= zero_point <= q_max within 16 bits"
    )]
    Grid {
        /// The step between two levels.
        scale: f32,
        /// The code of zero.
        zero_point: i32,
        /// The lowest code.
        q_min: i32,
        /// The highest code.
        q_max: i32,
    },
    /// A percentile outside `50..=100`.
    #[error("percentile {0} is outside 50..=100. Choose for instance 99.99")]
    Percentile(f32),
    /// A symmetric grid of one bit has no level but zero.
    #[error(
        "a symmetric grid of 1 bit has no level but zero. \
         Choose 2 bits or more, or the asymmetric scheme"
    )]
    SymmetricOneBit,
    /// Weights that contain NaN or infinity.
    #[error(
        "{count} of the weights are NaN or infinite, the first is {value} at index {index}. \
         Repair the checkpoint, or exclude this layer"
    )]
    NonFiniteWeights {
        /// Position of the first such weight in memory order.
        index: usize,
        /// The first such weight.
        value: f32,
        /// How many there are.
        count: usize,
    },
    /// A weight whose shape does not fit its values or its channel axis.
    #[error(
        "a weight of shape {shape:?} with {elements} values has no channel axis {channel_axis}. \
         Expected as many values as the shape says and an axis within the shape"
    )]
    WeightShape {
        /// The shape given.
        shape: Vec<usize>,
        /// The number of values given.
        elements: usize,
        /// The channel axis asked for.
        channel_axis: usize,
    },
    /// A calibrator that is not defined for weights.
    #[error(
        "the calibrator {calibrator:?} is defined for activations only. \
         Choose minmax, percentile:P or mse for weights"
    )]
    WeightCalibrator {
        /// The calibrator, as it is written.
        calibrator: String,
    },
    /// A granularity that is not defined for activations.
    #[error(
        "the granularity {granularity:?} is defined for weights only. \
         Choose per-tensor for activations"
    )]
    ActivationGranularity {
        /// The granularity, as it is written.
        granularity: String,
    },
    /// Calibration without a single finite value.
    #[error(
        "no finite value was observed, so there is no range to calibrate. \
         Run calibration with at least one sample, or set the range by hand"
    )]
    NothingObserved,
    /// Sums over a layer's inputs that belong to another weight.
    #[error(
        "sums over windows of {sizes} numbers for {outputs} outputs do not fit a weight of {channels} channels \
         of {channel_len} numbers. Sum over the inputs of the same layer"
    )]
    RoundingSums {
        /// Output channels of the weight.
        channels: usize,
        /// Numbers of a channel of the weight.
        channel_len: usize,
        /// Output channels of the sums.
        outputs: usize,
        /// Numbers of a window of the sums.
        sizes: usize,
    },
    /// Sums over a layer's inputs that contain NaN or infinity.
    #[error(
        "the inputs on the calibration data are NaN, infinite or too large to be squared. \
         Check the samples, or choose nearest rounding for this layer"
    )]
    NonFiniteSums,
    /// Inputs that depend on each other, without damping.
    #[error(
        "the inputs on the calibration data depend on each other, so that their matrix is singular. \
         Calibrate on more samples, raise the damping, or choose nearest rounding for this layer"
    )]
    SingularSums,
}
