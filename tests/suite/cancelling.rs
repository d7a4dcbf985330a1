//! Work that is cancelled stops before the next batch, the next node and the next samples to read.

use quantscope::engine::{
    Keep, Protocol, RunError, RunOptions, SensitivityRequest, Subject, calibrate, evaluate_float,
    evaluate_plan, local_errors, sensitivity,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::Plan;
use quantscope::session::{DataRequest, OpenData, OpenModel};

use crate::common::sample;

fn open() -> (OpenModel, OpenData) {
    let model = OpenModel::open(&sample("signs-resnet.onnx")).unwrap();
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        calibration_samples: 40,
        limit: Some(40),
        batch_size: Some(8),
        ..DataRequest::new(sample("signs/eval"))
    };
    let data = OpenData::open(&model, request).unwrap();
    (model, data)
}

/// Runs one kind of work, which reports every batch.
type Work<'a> = &'a dyn Fn(&CancelToken, &mut dyn FnMut()) -> Result<(), RunError>;

#[test]
fn every_kind_of_work_stops_after_the_batch_in_which_it_is_cancelled() {
    let (model, data) = open();
    let executor = &model.executor;
    let plan = Plan::uniform(model.layers().len(), "4/f32".parse().unwrap());
    let prepared = executor.prepare(&plan, None).unwrap();
    let request = SensitivityRequest {
        protocol: Protocol::OnlyOne,
        subject: Subject::Weights,
        widths: vec!["4".parse().unwrap()],
    };
    let (evaluation, calibration) = (&data.evaluation, &data.calibration);
    let works: [(&str, Work<'_>); 5] = [
        ("float", &|cancel, on_batch| {
            evaluate_float(executor, evaluation, cancel, &mut |_| on_batch()).map(|_| ())
        }),
        ("calibration", &|cancel, on_batch| {
            calibrate(executor, calibration, cancel, &mut |_| on_batch()).map(|_| ())
        }),
        ("evaluation", &|cancel, on_batch| {
            let on_batch = &mut |_: &_| on_batch();
            evaluate_plan(executor, &prepared, evaluation, None, 40, cancel, on_batch).map(|_| ())
        }),
        ("sensitivity", &|cancel, on_batch| {
            let on_batch = &mut |_: &_| on_batch();
            sensitivity(
                executor, &plan, None, &request, evaluation, cancel, on_batch,
            )
            .map(|_| ())
        }),
        ("local errors", &|cancel, on_batch| {
            let (subject, widths, on_batch) =
                (request.subject, &request.widths, &mut |_: &_| on_batch());
            local_errors(
                executor, &plan, None, subject, widths, evaluation, cancel, on_batch,
            )
            .map(|_| ())
        }),
    ];
    for (name, work) in works {
        let (cancel, mut batches) = (CancelToken::default(), 0);
        let stopped = work(&cancel, &mut || {
            batches += 1;
            if batches == 2 {
                cancel.cancel();
            }
        });
        assert!(
            stopped.is_err_and(|error| error.is_cancelled()),
            "{name} went on"
        );
        assert_eq!(batches, 2, "{name}");
    }
}

#[test]
fn a_run_stops_before_the_next_layer() {
    let (model, data) = open();
    let float = model.executor.prepare_float().unwrap();
    let batch = data.evaluation.get(0).unwrap();
    let (cancel, mut layers) = (CancelToken::default(), 0);
    let stopped = model.executor.run(
        &float,
        &batch.fed,
        RunOptions {
            keep: Keep::Outputs,
            cancel: &cancel,
            tap: Some(&mut |_| {
                layers += 1;
                if layers == 3 {
                    cancel.cancel();
                }
                Ok(())
            }),
        },
    );
    assert!(stopped.is_err_and(|error| error.is_cancelled()));
    assert_eq!(layers, 3);
}

#[test]
fn nothing_is_read_for_a_job_that_is_cancelled() {
    let (_, data) = open();
    let cancel = CancelToken::default();
    let batches = data.evaluation.stopped_by(&cancel);
    assert_eq!(batches.get(0).unwrap().len, 8);
    cancel.cancel();
    assert!(batches.get(1).is_err_and(|error| error.is_cancelled()));
    assert!(data.evaluation.get(1).is_ok(), "other jobs read on");
}
