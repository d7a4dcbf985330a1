//! Whole networks: forward passes, calibration, evaluation, sensitivity, on a synthetic residual network.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

mod residual_network;
mod synthetic;

use std::sync::{Arc, LazyLock};

use divan::Bencher;
use divan::counter::ItemsCount;
use quantscope::engine::{
    Batches, Executor, Keep, PreparedPlan, Protocol, Ranges, RunOptions, SensitivityRequest,
    Subject, calibrate, evaluate_plan, local_errors, sensitivity,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Widths};
use quantscope::quant::NumberFormat;
use quantscope::session::{DataRequest, OpenData, OpenModel};
use tempfile::TempDir;

const LAYERS: usize = 20;
const CHANNELS: usize = 16;
const SIDE: usize = 32;
const SAMPLES: usize = 64;

fn main() {
    divan::main();
}

/// The network with its samples in memory and its ranges.
struct Network {
    model: OpenModel,
    batches: Batches,
    ranges: Ranges,
    _folder: TempDir,
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    residual_network::residual_network(&path, LAYERS, CHANNELS, SIDE);
    let data = synthetic::random_data(folder.path(), SAMPLES, &[CHANNELS, SIDE, SIDE]);
    let model = OpenModel::open(&path).unwrap();
    let request = DataRequest {
        calibration: Some(data.clone()),
        batch_size: Some(32),
        ..DataRequest::new(data)
    };
    let data = OpenData::open(&model, request).unwrap();
    let batches = data.evaluation.in_memory().unwrap();
    let ranges = calibrate(
        &model.executor,
        &batches,
        &CancelToken::default(),
        &mut |_| {},
    )
    .unwrap();
    Network {
        model,
        batches,
        ranges,
        _folder: folder,
    }
});

fn widths(weight: &str, activation: &str) -> Widths {
    Widths {
        weight: weight.parse().unwrap(),
        activation: activation.parse().unwrap(),
    }
}

fn plan(widths: Widths) -> Plan {
    Plan::uniform(LAYERS, widths)
}

fn forward(prepared: &PreparedPlan) {
    let cancel = CancelToken::default();
    for batch in NETWORK.batches.iter() {
        let options = RunOptions {
            keep: Keep::Outputs,
            cancel: &cancel,
            tap: None,
        };
        let held = NETWORK
            .model
            .executor
            .run(prepared, &batch.unwrap().fed, options);
        divan::black_box(held.unwrap());
    }
}

/// An executor that has quantized and packed nothing.
fn cold_executor() -> Executor {
    Executor::new(Arc::clone(NETWORK.model.executor.graph()))
}

#[divan::bench]
fn float_forward(bencher: Bencher<'_, '_>) {
    let prepared = NETWORK.model.executor.prepare_float().unwrap();
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .bench_local(|| forward(&prepared));
}

#[divan::bench(args = [("8", "8"), ("4", "6"), ("3", "16"), ("4", "f32")])]
fn plan_forward(bencher: Bencher<'_, '_>, (weight, activation): (&str, &str)) {
    let prepared = NETWORK
        .model
        .executor
        .prepare(&plan(widths(weight, activation)), Some(&NETWORK.ranges))
        .unwrap();
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .bench_local(|| forward(&prepared));
}

#[divan::bench]
fn calibration(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(SAMPLES)).bench_local(|| {
        calibrate(
            &NETWORK.model.executor,
            &NETWORK.batches,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    });
}

/// Quantizing and packing all weights.
#[divan::bench]
fn preparing_a_plan(bencher: Bencher<'_, '_>) {
    let plan = plan(widths("4", "8"));
    bencher
        .with_inputs(cold_executor)
        .bench_local_refs(|executor| executor.prepare(&plan, Some(&NETWORK.ranges)).unwrap());
}

/// With layer errors on all samples, float beside the plan.
#[divan::bench(sample_count = 10)]
fn evaluation(bencher: Bencher<'_, '_>) {
    let executor = &NETWORK.model.executor;
    let prepared = executor
        .prepare(&plan(widths("4", "8")), Some(&NETWORK.ranges))
        .unwrap();
    bencher.counter(ItemsCount::new(SAMPLES)).bench_local(|| {
        evaluate_plan(
            executor,
            &prepared,
            &NETWORK.batches,
            None,
            usize::MAX,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    });
}

fn sweep_widths() -> Vec<NumberFormat> {
    ["8", "6", "4", "3", "2"]
        .map(|width| width.parse().unwrap())
        .to_vec()
}

#[divan::bench(args = ["weights", "activations"], sample_count = 5, sample_size = 1)]
fn only_one_sensitivity(bencher: Bencher<'_, '_>, subject: &str) {
    let request = SensitivityRequest {
        protocol: Protocol::OnlyOne,
        subject: if subject == "weights" {
            Subject::Weights
        } else {
            Subject::Activations
        },
        widths: sweep_widths(),
    };
    let plan = plan(Widths::FLOAT);
    bencher
        .counter(ItemsCount::new(LAYERS * request.widths.len()))
        .with_inputs(cold_executor)
        .bench_local_refs(|executor| {
            sensitivity(
                executor,
                &plan,
                Some(&NETWORK.ranges),
                &request,
                &NETWORK.batches,
                &CancelToken::default(),
                &mut |_| {},
            )
            .unwrap()
        });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn local_errors_of_weights(bencher: Bencher<'_, '_>) {
    let plan = plan(Widths::FLOAT);
    let widths = sweep_widths();
    bencher
        .counter(ItemsCount::new(LAYERS * widths.len()))
        .with_inputs(cold_executor)
        .bench_local_refs(|executor| {
            local_errors(
                executor,
                &plan,
                Some(&NETWORK.ranges),
                Subject::Weights,
                &widths,
                &NETWORK.batches,
                &CancelToken::default(),
                &mut |_| {},
            )
            .unwrap()
        });
}
