//! Integers, floats, whole batches and pieces of them give the same numbers.

use std::path::Path;

use quantscope::engine::{
    Activations, Arithmetic, Keep, LayerTap, PreparedPlan, RunOptions, calibrate, evaluate_float,
    evaluate_plan,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Widths};
use quantscope::session::{DataRequest, OpenData, OpenModel};

use crate::common::{sample, shared};

/// Logits of a plan on the first samples.
fn logits(model: &OpenModel, prepared: &PreparedPlan, fed: &Activations, tapped: bool) -> Vec<f32> {
    let mut ignore = |_: LayerTap<'_>| Ok(());
    let options = RunOptions {
        keep: Keep::Outputs,
        cancel: &CancelToken::default(),
        tap: tapped.then_some(&mut ignore),
    };
    let held = model.executor.run(prepared, fed, options).unwrap();
    let output = held.get(model.graph().outputs()[0]).unwrap();
    let flat = output.plain().unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(work)
}

fn check(model: &Path, request: &DataRequest, widths: &str) {
    let open = |arithmetic| OpenModel::open_with(model, arithmetic).unwrap();
    let (auto, float) = (open(Arithmetic::Auto), open(Arithmetic::Float));
    let data = OpenData::open(&auto, request.clone()).unwrap();
    let cancel = CancelToken::default();
    let ranges = calibrate(&auto.executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
    let widths: Widths = widths.parse().unwrap();
    let plan = Plan::uniform(auto.layers().len(), widths);
    let batch = data.evaluation.iter().next().unwrap().unwrap();
    let run = |model: &OpenModel, threads, tapped| {
        let prepared = model.executor.prepare(&plan, Some(&ranges)).unwrap();
        on_threads(threads, || logits(model, &prepared, &batch.fed, tapped))
    };
    let reference = run(&float, 2, false);
    let largest = reference.iter().fold(0f32, |most, y| most.max(y.abs()));
    for (what, other) in [
        ("integers", run(&auto, 2, false)),
        ("integers, every layer seen", run(&auto, 2, true)),
        ("floats, every layer seen", run(&float, 2, true)),
        ("floats on one thread", run(&float, 1, false)),
    ] {
        assert_eq!(reference.len(), other.len());
        for (a, b) in reference.iter().zip(&other) {
            let error = (a - b).abs();
            assert!(
                error <= 1e-4 * largest,
                "{what}, {}: {b} is not {a}",
                model.display()
            );
        }
    }
}

#[test]
fn integers_and_floats_give_the_same_outputs() {
    for model in ["signs-resnet.onnx", "signs-mobilenet.onnx"] {
        for widths in ["8/8", "4/6", "2/3"] {
            let request = DataRequest {
                calibration: Some(sample("signs/calib")),
                ..DataRequest::new(sample("signs/eval"))
            };
            check(&sample(model), &request, widths);
        }
    }
}

#[test]
fn integers_and_floats_give_the_same_outputs_of_real_models() {
    for (model, data) in [
        ("data/models/resnet20-cifar10.onnx", "data/cifar10/test"),
        (
            "data/models/mobilenetv1-025-imagenet.onnx",
            "data/imagenet500",
        ),
        ("data/models/wnet-drive.onnx", "data/drive"),
        ("data/models/yolox-nano-coco.onnx", "data/coco128"),
        ("data/models/dscnn-kws.onnx", "data/kws"),
    ] {
        if let (Some(model), Some(data)) = (shared(model), shared(data)) {
            let request = DataRequest {
                calibration_samples: 8,
                limit: Some(8),
                ..DataRequest::new(data)
            };
            check(&model, &request, "8/8");
        }
    }
}

#[test]
fn a_float_plan_has_no_error_however_it_is_run() {
    let model = OpenModel::open(&sample("signs-mobilenet.onnx")).unwrap();
    let data = OpenData::open(&model, DataRequest::new(sample("signs/eval"))).unwrap();
    let cancel = CancelToken::default();
    let (executor, batches) = (&model.executor, data.evaluation.first(100));
    let reference = evaluate_float(executor, &batches, &cancel, &mut |_| {}).unwrap();
    let plan = Plan::uniform(model.layers().len(), Widths::FLOAT);
    let prepared = executor.prepare(&plan, None).unwrap();
    // The first samples run layer by layer, the others with activations and sums joined.
    let evaluation = evaluate_plan(
        executor,
        &prepared,
        &batches,
        Some(&reference),
        40,
        &cancel,
        &mut |_| {},
    );
    assert_eq!(
        evaluation.unwrap().comparison.sqnr_db(),
        Some(f64::INFINITY)
    );
}
