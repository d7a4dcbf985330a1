//! A sweep that goes on from what was measured gives the numbers of one in one go, and cheap scores
//! are the same on any number of threads.

use quantscope::engine::{
    LayerSettings, Protocol, SecondOrder, Sensitivity, SensitivityRequest, Subject, calibrate,
    resume_sensitivity, second_order, sensitivity, sensitivity_part,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::Plan;
use quantscope::quant::NumberFormat;
use quantscope::session::{Action, DataRequest, OpenData, OpenModel, SweepKey, SweepStore};

use crate::common::{quantscope, sample, session, shared, wait_until};

struct Study {
    model: OpenModel,
    data: OpenData,
    plan: Plan,
}

fn study() -> Study {
    let model = OpenModel::open(&sample("signs-resnet.onnx")).unwrap();
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        calibration_samples: 24,
        limit: Some(40),
        batch_size: Some(8),
        ..DataRequest::new(sample("signs/eval"))
    };
    let data = OpenData::open(&model, request).unwrap();
    let plan = Plan::uniform(model.layers().len(), "8/8".parse().unwrap());
    Study { model, data, plan }
}

fn request(protocol: Protocol, widths: &[&str]) -> SensitivityRequest {
    SensitivityRequest {
        protocol,
        subject: Subject::Weights,
        widths: widths.iter().map(|width| width.parse().unwrap()).collect(),
    }
}

impl Study {
    /// Goes on from what is kept and stops after some batches; what was measured is kept.
    fn run_for(&self, request: &SensitivityRequest, batches: usize, store: &mut SweepStore) {
        let key = SweepKey::new(
            request,
            &self.plan,
            &self.data.fingerprint,
            &self.data.evaluation,
        );
        let layers = self.model.layers();
        let (cancel, mut done) = (CancelToken::default(), 0);
        let known = store.known(&key, request, layers);
        let mut last = known.clone();
        let ended = resume_sensitivity(
            &self.model.executor,
            &self.plan,
            None,
            known,
            &self.data.evaluation,
            &cancel,
            &mut |so_far| {
                done += 1;
                last = so_far.clone();
                if done == batches {
                    cancel.cancel();
                }
            },
        );
        store.keep(&key, &ended.unwrap_or(last), layers);
    }

    fn in_one_go(&self, request: &SensitivityRequest) -> Sensitivity {
        sensitivity(
            &self.model.executor,
            &self.plan,
            None,
            request,
            &self.data.evaluation,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap()
    }

    fn key(&self, request: &SensitivityRequest) -> SweepKey {
        let (fingerprint, batches) = (&self.data.fingerprint, &self.data.evaluation);
        SweepKey::new(request, &self.plan, fingerprint, batches)
    }
}

#[test]
fn weights_and_inputs_apart_in_one_sweep_have_the_numbers_of_two() {
    let Study { model, data, plan } = study();
    let (executor, cancel) = (&model.executor, CancelToken::default());
    let calibrated = calibrate(executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
    let ranges = Some(&calibrated);
    let widths = ["4".parse().unwrap()];
    let swept = |subject: Subject, widths: &[NumberFormat], settings: &LayerSettings| {
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject,
            widths: widths.to_vec(),
        };
        let known = Sensitivity::new(request, model.layers().len(), data.evaluation.len());
        let (batches, all) = (&data.evaluation, |_| true);
        sensitivity_part(
            executor,
            settings,
            known,
            &all,
            batches,
            &cancel,
            &mut |_| {},
        )
        .unwrap()
        .cells
    };
    let [weights, inputs] = [Subject::Weights, Subject::Activations].map(|subject| {
        LayerSettings::new(executor, &plan, ranges, subject, &widths, &cancel).unwrap()
    });
    let alone = [
        swept(Subject::Weights, &widths, &weights),
        swept(Subject::Activations, &widths, &inputs),
    ];
    let apart = weights.beside(inputs);
    let together = swept(Subject::Both, &[widths[0], widths[0]], &apart);
    for (index, row) in together.iter().enumerate() {
        let expected = [alone[0][index][0], alone[1][index][0]];
        assert_eq!(row[..], expected, "layer {index}");
    }
    assert_ne!(alone[0], alone[1]);
}

/// As a file has it.
fn through_json(store: &SweepStore) -> SweepStore {
    serde_json::from_str(&serde_json::to_string(store).unwrap()).unwrap()
}

#[test]
fn stopped_sweeps_go_on_to_the_same_numbers() {
    let study = study();
    for protocol in [Protocol::OnlyOne, Protocol::AllButOne] {
        let mut store = SweepStore::default();
        // Two widths for two batches, one of them further with a new one, then everything.
        study.run_for(&request(protocol, &["8", "4"]), 2, &mut store);
        study.run_for(&request(protocol, &["4", "3"]), 1, &mut store);
        store = through_json(&store);
        let all = request(protocol, &["8", "4", "3"]);
        study.run_for(&all, usize::MAX, &mut store);
        let key = study.key(&all);
        let kept = through_json(&store).known(&key, &all, study.model.layers());
        assert_eq!(kept, study.in_one_go(&all), "{protocol:?}");
    }
}

#[test]
fn what_is_kept_belongs_to_data_schemes_and_protocol() {
    let mut study = study();
    let asked = request(Protocol::OnlyOne, &["4"]);
    let mut store = SweepStore::default();
    study.run_for(&asked, usize::MAX, &mut store);
    let known = |study: &Study, asked: &SensitivityRequest| {
        store
            .known(&study.key(asked), asked, study.model.layers())
            .samples
    };
    assert_eq!(known(&study, &asked), 40);
    assert_eq!(known(&study, &request(Protocol::AllButOne, &["4"])), 0);
    let other_calibrator = |plan: &mut Plan| {
        plan.edit(&[quantscope::model::LayerId(3)], |choice| {
            choice.weight.calibrator = quantscope::quant::Calibrator::Mse;
        });
    };
    other_calibrator(&mut study.plan);
    assert_eq!(known(&study, &asked), 0, "another calibrator");
    let newest = store.newest(&study.data.fingerprint, &study.plan, study.model.layers());
    assert_eq!(newest, None);
    study.plan = Plan::uniform(study.model.layers().len(), "4/4".parse().unwrap());
    assert_eq!(known(&study, &asked), 40, "widths do not matter");
    let newest = store.newest(&study.data.fingerprint, &study.plan, study.model.layers());
    assert_eq!(newest.unwrap().request, asked);
}

#[test]
fn the_command_line_goes_on_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sweep.json");
    let run = |bits: &str, model: &str| {
        quantscope(&[
            "sensitivity",
            sample(model).to_str().unwrap(),
            "--data",
            sample("signs/eval").to_str().unwrap(),
            "--calib",
            sample("signs/calib").to_str().unwrap(),
            "--limit",
            "24",
            "--calib-samples",
            "16",
            "--bits",
            bits,
            "--second-order",
            "--resume",
            file.to_str().unwrap(),
            "--json",
            "--quiet",
        ])
    };
    let (code, _, err) = run("4,3", "signs-mobilenet.onnx");
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run("4,3", "signs-mobilenet.onnx");
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["samples"], 24);
    let cell = &report["layers"][0]["bits"]["3"];
    for estimate in ["top1_drop", "loss_increase", "kl", "sqnr_db"] {
        let estimate = &cell["uncertainty"][estimate];
        let number = |key: &str| estimate[key].as_f64().unwrap();
        assert!(number("low") <= number("value") && number("value") <= number("high"));
    }
    assert!(cell["second_order"]["score"].as_f64().unwrap() >= 0.0);
    assert!(report["layers"][0]["screen"]["kurtosis"].as_f64().unwrap() > 1.0);
    let correlation = &report["correlation"]["3"]["second_order"]["kl"];
    assert!(correlation.as_f64().unwrap() > 0.5, "{correlation}");
    let (code, _, err) = run("4", "signs-resnet.onnx");
    assert_eq!(code, Some(2));
    assert!(err.contains("another model"), "{err}");
}

#[test]
fn a_project_brings_back_its_sweep() {
    let mut first = session();
    first.apply(Action::OpenSample(0));
    wait_until(&mut first, "the plan", |session| {
        session.result().is_some_and(|result| result.finished)
    });
    first.apply(Action::RunSensitivity(request(
        Protocol::OnlyOne,
        &["4", "3"],
    )));
    wait_until(&mut first, "a part of the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples >= 32)
    });
    first.apply(Action::CancelJobs);
    wait_until(&mut first, "the end", |session| {
        session.running_jobs().is_empty()
    });
    let measured = first.sensitivity().unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signs.qscope");
    first.apply(Action::SaveProject(path.clone()));
    wait_until(&mut first, "the project", |session| {
        session.project_path().is_some()
    });

    let mut again = session();
    again.apply(Action::OpenProject(path));
    wait_until(&mut again, "the sweep", |session| {
        session.sensitivity().is_some()
    });
    assert_eq!(again.sensitivity().unwrap().cells, measured.cells);
    again.apply(Action::RunSensitivity(request(
        Protocol::OnlyOne,
        &["4", "3"],
    )));
    let at_once = again.sensitivity().unwrap();
    assert_eq!(at_once.cells, measured.cells, "it goes on from there");
}

fn scores(model: &str, data: &std::path::Path, subject: Subject) -> Result<SecondOrder, String> {
    let model = shared(&format!("data/models/{model}")).unwrap_or_else(|| sample(model));
    let model = OpenModel::open(&model).unwrap();
    let request = DataRequest {
        calibration_samples: 4,
        limit: Some(2),
        batch_size: Some(4),
        ..DataRequest::new(data.to_owned())
    };
    let data = OpenData::open(&model, request).unwrap();
    let plan = Plan::uniform(model.layers().len(), "8/8".parse().unwrap());
    let cancel = CancelToken::default();
    let ranges = calibrate(&model.executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
    let widths = ["8", "4"].map(|width| width.parse().unwrap());
    second_order(
        &model.executor,
        &plan,
        Some(&ranges),
        subject,
        &widths,
        &data.calibration,
        &cancel,
        &mut |_| {},
    )
    .map_err(|error| error.to_string())
}

#[test]
fn every_real_network_is_scored() {
    for (model, data) in [
        ("vit-mnist.onnx", "mnist/test"),
        ("dscnn-kws.onnx", "kws"),
        ("mobilenetv1-025-imagenet.onnx", "imagenet500"),
        ("wnet-drive.onnx", "drive/images"),
        ("yolox-nano-coco.onnx", "coco128/images"),
    ] {
        let Some(data) = shared(&format!("data/{data}")) else {
            continue;
        };
        let found = scores(model, &data, Subject::Both).unwrap();
        for (layer, row) in found.cells.iter().enumerate() {
            let [eight, four] = [0, 1].map(|column| row[column].score().unwrap());
            // Four bits move an output about 16 times as far as eight do.
            assert!(
                eight > 0.0 && four > eight,
                "{model} {layer}: {eight} {four}"
            );
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_score() {
    let data = sample("signs/eval");
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| scores("signs-resnet.onnx", &data, Subject::Weights).unwrap())
    };
    assert_eq!(on(1), on(3));
}
