//! Runs graphs: kernels, executor, calibration, evaluation.

mod activation_cache;
mod activations;
mod arithmetic;
mod backward;
mod batches;
mod beyond;
mod code_kernels;
mod code_sums;
mod cut_points;
mod edges;
mod error;

mod evaluate;
mod executor;
mod factor_rounding;
mod followers;
mod forward;
mod gradient_moments;
pub mod kernels;
mod layer_settings;
mod layer_weights;
mod local_error;
mod metrics;
mod ops;
mod pieces;
mod prediction;
mod prepare;
mod ranges;
mod rounding;
mod run_options;
mod sample_harms;
mod sample_predictions;
mod screens;
mod second_order;
mod sensitivity;
mod slices;
mod spread;
mod value;
mod weight_changes;

pub use activation_cache::ActivationCache;
pub use activations::Activations;
pub use arithmetic::Arithmetic;
pub use batches::{Batch, Batches};
pub use code_kernels::{CodeKernel, CodeOperator};
pub use code_sums::CodeSum;
pub use edges::{EdgeGrids, EdgePass, EdgeRounding, IntegerScaling, ProductRounding};
pub use error::{OpError, RunError, RunErrorKind, TensorSummary};
pub use evaluate::{
    Evaluation, FloatReference, LayerErrors, evaluate_float, evaluate_plan, evaluate_plan_cached,
    outputs_of,
};
pub use executor::Executor;
pub use factor_rounding::{ChannelForm, FactorForm};
pub use forward::{forward, run_batches};
pub use layer_settings::LayerSettings;
pub use layer_weights::{LayerWeights, WeightQuantization, quantize_layer_weight, weight_values};
pub use local_error::{LocalErrors, local_errors};
pub use metrics::{Classification, Comparison, class_count, predictions};
pub use ops::evaluate;
pub use prediction::{Known, Predicted, predict_sqnr_db, predict_top1};
pub use prepare::{PreparedLayer, PreparedPlan};
pub use ranges::{Ranges, calibrate, calibrate_values};
pub use rounding::{
    RoundedLayer, RoundedLayers, RoundedPlan, choose_calibrators, equalized, round_alone,
    round_plan, round_plan_knowing,
};
pub use run_options::{Keep, LayerTap, RunOptions, Tap};
pub use sample_harms::SampleHarms;
pub use sample_predictions::{OutputScale, Predictions, RankedClass, SamplePrediction};
pub use screens::{LayerScreen, Screens, screen_weights};
pub use second_order::{Objective, SecondOrder, SecondOrderCell, second_order};
pub use sensitivity::{
    Protocol, Sensitivity, SensitivityCell, SensitivityRequest, Subject, resume_sensitivity,
    sensitivity, sensitivity_bytes, sensitivity_part,
};
pub use slices::{compare, compare_values, with_f32};
pub use spread::{Estimate, Spread};
pub use value::Value;
