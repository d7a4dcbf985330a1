//! Errors of layers alone, found from one float pass, are those of running each layer.

use std::path::Path;

use quantscope::engine::{
    LocalErrors, Protocol, SensitivityRequest, Subject, calibrate, local_errors, sensitivity,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::Plan;
use quantscope::quant::{ErrorSum, NumberFormat};
use quantscope::session::{DataRequest, OpenData, OpenModel};

use crate::common::{sample, shared};

fn widths() -> Vec<NumberFormat> {
    ["8", "2", "bf16", "f32"]
        .iter()
        .map(|width| width.parse().unwrap())
        .collect()
}

struct Study {
    model: OpenModel,
    data: OpenData,
    plan: Plan,
}

impl Study {
    fn open(model: &Path, data: &Path, samples: usize) -> Self {
        let model = OpenModel::open(model).unwrap();
        let request = DataRequest {
            calibration_samples: samples,
            limit: Some(samples),
            batch_size: Some(samples.div_ceil(2)),
            ..DataRequest::new(data.to_owned())
        };
        let data = OpenData::open(&model, request).unwrap();
        let plan = Plan::uniform(model.layers().len(), "8/8".parse().unwrap());
        Self { model, data, plan }
    }

    fn local_errors(&self, subject: Subject) -> LocalErrors {
        let (executor, cancel) = (&self.model.executor, CancelToken::default());
        let ranges = calibrate(executor, &self.data.calibration, &cancel, &mut |_| {}).unwrap();
        let (batches, mut samples) = (&self.data.evaluation, Vec::new());
        let found = local_errors(
            executor,
            &self.plan,
            Some(&ranges),
            subject,
            &widths(),
            batches,
            &cancel,
            &mut |errors| samples.push(errors.samples),
        )
        .unwrap();
        assert_eq!(samples.len(), batches.count());
        assert_eq!(samples.last(), Some(&batches.len()));
        found
    }

    /// What a sweep measures by running every layer at every width.
    fn by_running(&self, subject: Subject) -> Vec<Vec<ErrorSum>> {
        let (executor, cancel) = (&self.model.executor, CancelToken::default());
        let ranges = calibrate(executor, &self.data.calibration, &cancel, &mut |_| {}).unwrap();
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject,
            widths: widths(),
        };
        let sweep = sensitivity(
            executor,
            &self.plan,
            Some(&ranges),
            &request,
            &self.data.evaluation,
            &cancel,
            &mut |_| {},
        )
        .unwrap();
        let locals = |row: &Vec<_>| -> Vec<ErrorSum> {
            row.iter()
                .map(|cell: &quantscope::engine::SensitivityCell| cell.local)
                .collect()
        };
        sweep.cells.iter().map(locals).collect()
    }

    #[track_caller]
    fn check(&self, subject: Subject, tolerance: f64) {
        let found = self.local_errors(subject);
        let expected = self.by_running(subject);
        assert_eq!(found.cells.len(), expected.len());
        let close = |own: f64, other: f64| (own - other).abs() <= tolerance * other;
        for (layer, (found, expected)) in found.cells.iter().zip(&expected).enumerate() {
            let name = &self.model.layers()[layer].name;
            for ((width, found), expected) in widths().iter().zip(found).zip(expected) {
                let context = format!("{name} at {width}: {found:?} is not {expected:?}");
                assert_eq!(found.count, expected.count, "{context}");
                assert!(close(found.signal, expected.signal), "{context}");
                assert!(close(found.noise, expected.noise), "{context}");
            }
        }
    }
}

#[test]
fn one_pass_finds_what_running_every_layer_finds() {
    for model in [
        "signs-resnet.onnx",
        "signs-mobilenet.onnx",
        "signs-resnet.safetensors",
    ] {
        let study = Study::open(&sample(model), &sample("signs/eval"), 20);
        study.check(Subject::Weights, 1e-4);
        study.check(Subject::Activations, 1e-12);
    }
}

#[test]
fn one_pass_finds_what_running_every_layer_of_real_models_finds() {
    for (model, data) in [
        ("data/models/resnet20-cifar10.onnx", "data/cifar10/test"),
        (
            "data/models/mobilenetv1-025-imagenet.onnx",
            "data/imagenet500",
        ),
        ("data/models/vit-mnist.onnx", "data/mnist/test"),
        ("data/models/dscnn-kws.onnx", "data/kws"),
        ("data/models/wnet-drive.onnx", "data/drive"),
    ] {
        if let (Some(model), Some(data)) = (shared(model), shared(data)) {
            // Less than a thousandth of a decibel.
            Study::open(&model, &data, 2).check(Subject::Weights, 2e-4);
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let study = Study::open(&sample("signs-mobilenet.onnx"), &sample("signs/eval"), 24);
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| study.local_errors(Subject::Weights))
    };
    assert_eq!(on(1), on(3));
}
